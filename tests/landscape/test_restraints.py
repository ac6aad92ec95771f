"""`Restrain`: springs in the dynamics, not in the energy; on both backends the same."""

import json

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import potentials
from landscape.errors import ConfigError, ShapeError

SPRING = potentials.Quadratic([1.0, 2.0])
T = 0.5


def sampled(constraint, *, chains=1000, potential=SPRING, **settings):
    options = {"steps": 300, "record": ls.Record(15), "seed": 2, "temperature": T} | settings
    run = ls.simulate(potential, ls.MALA(dt=0.15), chains=chains, constraint=constraint, **options)
    return run.isel(draw=slice(4, None))


@pytest.mark.parametrize("stiffness", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("center", [0.0, 1.5])
def test_two_springs_in_parallel(center, stiffness):
    """Mean k c/(k + 1), variance T/(k + 1); the recorded energy is the landscape's alone."""
    first = SPRING.coordinates[0]
    run = sampled(ls.Restrain(first, center, stiffness))
    x = run.position.sel(coordinate=first).to_numpy()
    means = x.mean(axis=1)
    error = means.std() / np.sqrt(len(means))
    assert abs(means.mean() - stiffness * center / (stiffness + 1)) < 4.5 * error
    squares = ((x - stiffness * center / (stiffness + 1)) ** 2).mean(axis=1)
    assert abs(squares.mean() - T / (stiffness + 1)) < 4.5 * squares.std() / np.sqrt(len(squares))
    assert np.allclose(run.energy, SPRING.energy(run.position.to_numpy()))


RULES = [ls.MALA(0.1), ls.EulerMaruyama(0.01), ls.BAOAB(0.1, 1.0), ls.HMC(0.2, 3), ls.Heun(0.02)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_backends_agree(rule):
    centers, stiffness = np.repeat([0.0, 0.5, -1.0], 4), np.repeat([1.0, 2.0, 3.0], 4)
    runs = [
        ls.simulate(
            SPRING, rule, temperature=T, steps=20, seed=3, backend=backend,
            constraint=[ls.Restrain(0, centers, stiffness), ls.Restrain([1.0, -1.0], 0.3, stiffness)],
        )
        for backend in ("compiled", "batched")
    ]  # fmt: skip
    assert np.allclose(runs[0].position, runs[1].position, rtol=1e-9, atol=1e-12)
    assert np.allclose(runs[0].energy, runs[1].energy, rtol=1e-9)


def test_chains_do_not_depend_on_their_neighbours():
    """The same bits whatever the blocks: a chain beside others of other centers, and alone."""
    centers = np.array([0.0, 1.0, 1.0, 2.0])
    both = ls.simulate(SPRING, ls.MALA(0.1), temperature=T, steps=50, constraint=ls.Restrain(0, centers, 2.0))
    same = ls.simulate(SPRING, ls.MALA(0.1), temperature=T, steps=50, chains=4, constraint=ls.Restrain(0, 1.0, 2.0))
    assert np.array_equal(both.position[1:3], same.position[1:3])
    assert not np.array_equal(both.position[0], same.position[0])


def test_every_kind_of_coordinate():
    first = SPRING.coordinates[0]
    kinds = [first, 0, [1.0, 0.0], f"{first} + 0*{SPRING.coordinates[1]}", lambda x: x[..., 0]]
    runs = [sampled(ls.Restrain(kind, 0.7, 2.0), chains=3, steps=60) for kind in kinds]
    for run in runs[1:]:
        assert np.allclose(run.position, runs[0].position, rtol=1e-9)
    assert [run.attrs["backend"] for run in runs] == ["compiled"] * 4 + ["batched"]


def test_a_network_is_held():
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2)).double()
    inputs = torch.randn(10, 2, dtype=torch.float64)
    loss = potentials.NetworkLoss(module, inputs, torch.zeros(10, dtype=torch.long))
    start = loss.position()
    hold = ls.Restrain(lambda x: torch.linalg.vector_norm(x - start.to(x), dim=-1), 0.0, 100.0)
    held = ls.simulate(loss, ls.EulerMaruyama(1e-3), temperature=0.1, chains=4, steps=400, constraint=hold,
                       record=ls.Record(10, observables=["distance"]))  # fmt: skip
    square = float((held.distance[:, 10:] ** 2).mean())
    assert square == pytest.approx(loss.dim * 0.1 / 100.0, rel=0.3)  # N T/k


def test_the_specification_holds_it():
    run = ls.simulate(SPRING, ls.MALA(0.1), temperature=T, steps=4, constraint=ls.Restrain(0, [0.0, 1.0], 2.0))
    again = ls.run(json.loads(run.attrs["spec"]))
    assert np.array_equal(run.position, again.position)
    assert '"Restrain"' in run.attrs["spec"]


@pytest.mark.parametrize(
    ("constraint", "error"),
    [
        (ls.Restrain("nothing", 0.0, 1.0), ConfigError),
        (ls.Restrain([1.0], 0.0, 1.0), ShapeError),
        (ls.Restrain(0, 0.0, -1.0), ConfigError),
        (ls.Restrain(0, np.nan, 1.0), ConfigError),
        (ls.Restrain(0, [0.0, 1.0, 2.0], 1.0), ShapeError),
    ],
)
def test_restraints_that_make_no_sense(constraint, error):
    with pytest.raises((error, ls.errors.FormulaError)):
        ls.simulate(SPRING, ls.MALA(0.1), temperature=T, steps=2, chains=2, constraint=constraint)
    with pytest.raises(ConfigError, match="without restraints"):
        ls.replica_exchange(
            SPRING, ls.MALA(0.1), [0.1, 0.2], steps=4, swap_every=2, constraint=ls.Restrain(0, 0.0, 1.0)
        )
