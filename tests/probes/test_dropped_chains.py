"""What is left out of an average is counted, and what a run says of its chains stays with them."""

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.errors import ShapeError, StorageError
from landscape.probes import confinement, fluctuations

LINE = ls.paths.straight_line([0.0], [1.0])
SPRING = ls.potentials.Expression("y**2/2", ["y"])


def descent(rule, steps=600):
    """Chains that relax along a line, each at the temperature of its number so that they are kept apart."""
    return ls.simulate(
        SPRING, rule, start=[[0.5], [0.5], [0.5]], temperature=0.0, steps=steps, record=ls.Record(steps),
        constraint=ls.ProjectOntoPath(LINE, every=5), backend="batched",
    )  # fmt: skip


@pytest.fixture(scope="module")
def heavy():
    return descent(ls.SGD(lr=0.01, momentum=[0.0, 0.5, 0.75]))


@pytest.mark.parametrize(("chain", "momentum"), [(0, 0.0), (1, 0.5), (2, 0.75)])
def test_momentum_of_a_part_of_a_run(heavy, chain, momentum):
    """tau/(1 - m) is that of plain descent, whichever chains are taken; times 1 alone it is not."""
    found = confinement.relaxation(heavy.isel(chain=[chain])).isel(temperature=0)
    assert float(found.effective_relaxation_time / found.relaxation_time) == pytest.approx(1 / (1 - momentum))
    assert float(found.effective_relaxation_time) == pytest.approx(1.0, abs=0.05)
    assert momentum == 0.0 or abs(float(found.relaxation_time) - 1.0) > 0.4


def test_momentum_of_optimisers_of_torch_and_of_unknown_runs(heavy):
    run = descent(ls.Optimizer(torch.optim.SGD, lr=0.01, momentum=0.5), steps=300)
    found = confinement.relaxation(run).isel(temperature=0)
    assert float(found.effective_relaxation_time) == pytest.approx(2.0 * float(found.relaxation_time))
    one = heavy.isel(chain=[1])
    unknown = confinement.relaxation(one.assign_attrs({k: v for k, v in one.attrs.items() if k != "spec"}).drop_attrs())
    assert np.isnan(unknown.effective_relaxation_time).all() and np.isfinite(unknown.relaxation_time).all()
    with pytest.raises(ShapeError, match=r"momenta are of 3.*isel"):
        confinement.relaxation(one.assign_coords(chain=[7]))
    with pytest.raises(StorageError):
        confinement.relaxation(one.assign_attrs(spec="{"))


def test_chains_left_out_are_counted(heavy):
    same = descent(ls.SGD(lr=0.01, momentum=0.5), steps=300)
    broken = same.copy(deep=True)
    broken.arc_length.loc[{"chain": 1}] = np.where(np.arange(61) > 20, np.nan, broken.arc_length.sel(chain=1))
    for run, dropped in ((same, 0), (broken, 1)):
        found = confinement.relaxation(run)
        assert found.chains_dropped.item() == dropped and found.chains_used.item() == 3 - dropped
    places = same.last_position.expand_dims(draw=2).transpose("chain", "draw", "coordinate").copy()
    places[1, 1] = np.inf
    found = fluctuations.distance(places, np.zeros(1))
    assert found.chains_dropped.values.ravel().tolist() == [0, 1] and found.chains_used.values.ravel().tolist() == [
        3,
        2,
    ]
    assert found.mean_distance.values.ravel() == pytest.approx(
        np.abs(places.values[[0, 2], :, 0]).mean(0)
    )  # not infinite


def test_lost_chains_are_watched_only_while_they_are_there():
    """The rate is passages over the time watched: half of the chains are lost at a tenth of the run."""
    rng, count, steps, dt = np.random.default_rng(0), 4000, 400, 0.01
    walk = 0.5 + np.cumsum(rng.normal(0.0, np.sqrt(2 * 0.02 * dt), (count, steps + 1)), axis=1)
    walk = 1.0 - np.abs(1.0 - np.abs(walk))
    jump = rng.exponential(2.0, count)  # each goes to 0.99 at a time of rate 1/2
    arc = np.where(np.arange(steps + 1) * dt >= jump[:, None], 0.99, np.minimum(walk, 0.8))
    lost = np.arange(count) < count // 2
    arc[lost, 41:] = np.nan
    data = xr.Dataset(
        {"arc_length": (("chain", "projection"), arc)},
        {"projection_time": ("projection", dt * np.arange(steps + 1)), "temperature": ("chain", np.ones(count))},
        {"path_length": 1.0},
    )
    found = confinement.first_passage(data, 0.9, continuity=False)
    z = (found.first_passage_time.item() - 2.0) / found.first_passage_time_stderr.item()
    assert abs(z) < 4.5
    assert found.chains_lost.item() == int((lost & (jump > 0.4)).sum())
    as_before = (np.where(jump < np.where(lost, 0.4, 4.0), jump, 4.0).sum()) / (jump < np.where(lost, 0.4, 4.0)).sum()
    assert abs(as_before - 2.0) / found.first_passage_time_stderr.item() > 8  # the whole run for lost ones
