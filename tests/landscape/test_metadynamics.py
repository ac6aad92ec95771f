"""Metadynamics: the bias as a sum of hills, its force, periods and mirrors; free energies and their errors."""

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.boundaries.hills import Axis, Bias
from landscape.boundaries.restraints import scalar_field
from landscape.errors import ConfigError
from landscape.potentials import DoubleWell, Expression
from landscape.probes import free_energy
from tests.cases import Z_MAX

T = 0.25
WELL = DoubleWell(height=2.0)  # a barrier of 8 T
PLANE = Expression("2*(x**2 - 1)**2 + (y - x/2)**2", ["x", "y"])
WALLS = ls.Reflect({"x": (-1.5, 1.5)})


def plane_bias(periodic=False, mirrors=(False, False), chains=3):
    axes = [Axis(-2.0, 2.0, 80, periodic, mirrors), Axis(-1.0, 2.0, 60, False, (False, False))]
    return Bias([scalar_field(PLANE, "x"), scalar_field(PLANE, "sin(y) + x/5")], axes, torch.arange(chains))


def test_hills_add_up():
    """At first whole, then lower by exp(-V_b/(g - 1)T); between nodes right to a thousandth."""
    bias, heights = plane_bias(), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    at = torch.tensor([[0.3, 0.4], [-1.0, 0.1], [1.2, 0.9]], dtype=torch.float64)
    there = at + torch.tensor([0.1, -0.2])
    for _ in range(2):
        bias.add(heights, [0.3, 0.3], torch.full((3,), 0.5), at)
    q, p = ([values.numpy() for values in bias.values(x)] for x in (at, there))
    shape = np.exp(-sum((a - b) ** 2 for a, b in zip(q, p, strict=True)) / (2 * 0.3**2))
    h = heights.numpy()
    exact = h * (1 + np.exp(-h / 0.5)) * shape
    np.testing.assert_allclose(bias.energy(there), exact, rtol=3e-3)


@pytest.mark.parametrize("kind", ["open", "periodic", "mirrors"])
def test_the_force_is_that_of_the_bias(kind):
    bias = plane_bias(kind == "periodic", (kind == "mirrors",) * 2, chains=40)
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1.9, 1.9, (40, 2)))
    for _ in range(5):
        bias.add(torch.full((40,), 0.2), [0.3, 0.2], torch.full((40,), 0.5), x + 0.1)
    small = 1e-6
    for d in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[d] = small
        difference = (bias.energy(x + step) - bias.energy(x - step)) / (2 * small)
        np.testing.assert_allclose(bias.gradient(x)[:, d], difference, atol=1e-7)


def test_periods_and_mirrors():
    """A hill at the seam is on both sides of it; one at a mirror is flat there; beyond an end there is no force."""
    flat, one = Expression("0*x", ["x"]), torch.ones(1, dtype=torch.float64)

    def after(axis, center):
        bias = Bias([scalar_field(flat, "x")], [axis], torch.zeros(1, dtype=torch.long))
        bias.add(one, [0.3], one, torch.tensor([[center]], dtype=torch.float64))
        return lambda x: [float(part) for part in (bias.energy(x), bias.gradient(x))]

    def point(x):
        return torch.tensor([[x]], dtype=torch.float64)

    seam = after(Axis(-1.0, 1.0, 40, True, (False, False)), 0.95)
    assert seam(point(-0.9))[0] == pytest.approx(np.exp(-(0.15**2) / 0.18), rel=2e-3)
    assert seam(point(1.0)) == pytest.approx(seam(point(-1.0)))
    mirror = after(Axis(-1.0, 1.0, 40, False, (True, False)), -0.95)
    assert mirror(point(-1.0))[0] == pytest.approx(2 * np.exp(-(0.05**2) / 0.18), rel=2e-3)
    assert abs(mirror(point(-1.0))[1]) < 0.02
    assert mirror(point(-1.5)) == pytest.approx([mirror(point(-1.0))[0], 0.0])


def steered(steps, start=(-1.0,), chains=4, state="fresh", potential=WELL, **settings):
    hills = {"height": 0.25, "width": 0.15, "every": 10, "bias_factor": 8.0, "range": (-1.6, 1.6)} | settings
    output, given = hills.pop("output", None), hills.pop("constraint", [])
    return ls.simulate(
        potential, ls.MALA(dt=0.03), temperature=T, chains=chains, steps=steps, start=start, state=state,
        record=ls.Record(5), constraint=[*given, ls.Metadynamics(hills.pop("coordinate", "x"), **hills)], seed=3,
        output=output, checkpoint_every=None if output is None else 35,
    )  # fmt: skip


@pytest.mark.always
def test_a_run_in_parts_is_the_whole(tmp_path):
    whole = steered(120)
    first = steered(50)
    rest = steered(70, start=first, state="keep")
    for name in ("position", "bias", "bias_offset", "collective"):
        joined = xr.concat([first[name], rest[name]], "draw")
        np.testing.assert_array_equal(joined, whole[name])
    np.testing.assert_array_equal(rest.hills, whole.hills)
    steered(50, output=tmp_path / "run")
    resumed = ls.resume(tmp_path / "run", steps=120)
    for name in ("position", "bias", "bias_offset", "hills"):
        np.testing.assert_array_equal(resumed[name], whole[name])


def test_energies_are_without_the_bias_and_the_bias_is_that_before_the_hill():
    run = steered(40)
    np.testing.assert_allclose(run.energy, WELL.energy(run.position.values[..., :1]))
    assert (run.bias[:, :2] == 0).all() and (run.bias[:, 2:] > 0).all()
    assert (run.bias_offset[:, 4] > run.bias_offset[:, 2]).all()
    still = steered(40, stop=10)
    assert (still.bias_offset[:, 2:] == still.bias_offset[:, 2]).all()


def test_walkers_build_one_bias():
    alone, together = steered(10, chains=4), steered(10, chains=4, walkers=2)
    assert together.hills.shape[0] == 2
    np.testing.assert_allclose(together.hills[0], alone.hills[0] + alone.hills[1], rtol=1e-12)


def bins_of(energy, x, t, sub=64):
    """-T ln of the mean of exp(-V/T) in each bin, less its mean."""
    fine = x[:, None] + (x[1] - x[0]) * ((np.arange(sub) + 0.5) / sub - 0.5)
    f = -t * np.log(np.exp(-energy(fine) / t).mean(axis=1))
    return f - f.mean()


def test_intervals_cover_both_ways():
    """Runs of eight chains over a barrier of 8 T, read by reweighting and from the hills."""
    run = steered(1600, chains=240)
    inside: dict[str, list] = {"free_energy": [], "free_energy_from_bias": []}
    narrow, known = [], []
    for first in range(0, 240, 8):
        one = slice(first, first + 8)
        found = free_energy.metadynamics(run.isel(chain=one, bias_group=one), bins=16).sel(x=slice(-1.4, 1.4))
        exact = bins_of(lambda x: 2.0 * (x**2 - 1) ** 2, found.x.values, T)
        known.append(bool(found.agree or found.resolved))
        for name, hits in inside.items():
            error = found[f"{name}_stderr"].values
            if np.isfinite(error).all():
                away = np.abs(found[name] - found[name].mean() - exact).values
                hits.append(away < 1.96 * error)
                if name == "free_energy":
                    narrow.append(away < 0.98 * error)
    for hits in inside.values():
        assert len(hits) > 20 and 0.90 <= np.mean(hits) <= 0.985
    assert np.mean(narrow) < 0.85  # half the error does not cover
    assert np.mean(known) > 0.8
    pooled = free_energy.metadynamics(run, bins=16).sel(x=slice(-1.4, 1.4))
    away = pooled.free_energy - pooled.free_energy.mean() - exact
    assert float(np.abs(away).max()) < 0.07  # T/4, of a barrier of 8 T
    wrong = pooled.free_energy_from_bias * 7.0 / 8.0  # without g/(g - 1)
    assert float(np.abs(wrong - wrong.mean() - exact).max()) > 0.11
    short = free_energy.metadynamics(run.isel(draw=slice(0, 80)), bins=16)  # not yet over the barrier and back
    for name in inside:
        error = short[f"{name}_stderr"].values
        assert np.isnan(error).all() and not short.resolved


def test_two_coordinates():
    run = steered(
        1500, start=(-1.0, 0.0), chains=48, potential=PLANE, coordinate=["x", "y"], width=[0.2, 0.4],
        range=[(-1.5, 1.5), (-2.0, 2.0)], constraint=[WALLS], every=10, height=0.25,
    )  # fmt: skip
    found = free_energy.metadynamics(run, bins=10)
    assert found.free_energy.dims == ("x", "y") and run.hills.ndim == 3
    x, y = (np.asarray(found[name]) for name in ("x", "y"))
    sub = (np.arange(16) + 0.5) / 16 - 0.5
    fine_x, fine_y = (v[:, None] + (v[1] - v[0]) * sub for v in (x, y))
    v = PLANE.energy(
        torch.from_numpy(np.stack(np.broadcast_arrays(fine_x[:, :, None, None], fine_y[None, None]), -1))
    ).numpy()
    exact = -T * np.log(np.exp(-v / T).mean(axis=(1, 3)))
    low = (exact - exact.min() < 10 * T) & np.isfinite(found.free_energy.values)
    away = (found.free_energy.values - exact)[low]
    error = found.free_energy_stderr.values[low]
    assert np.isfinite(error).all() and low.sum() > 25
    z = (away - np.average(away, weights=error**-2)) / error
    assert np.abs(z).max() < Z_MAX + 0.5  # of some fifty bins with Student's tails
    assert np.mean(z**2) < 3.0  # bins share their chains, so that one run tells no coverage
    wrong = away + exact[low]  # twice the free energy
    assert np.mean(((wrong - np.average(wrong, weights=error**-2)) / error) ** 2) > 1.2 * np.mean(z**2)


def test_from_plain_data():
    given = ls.Metadynamics("x", 0.25, 0.15, every=10, bias_factor=8.0, range=(-1.6, 1.6), walkers=2)
    spec = {
        "task": "simulate", "potential": {"kind": "DoubleWell", "height": 2.0}, "start": [-1.0], "seed": 3, "steps": 60,
        "integrator": {"kind": "MALA", "dt": 0.03}, "temperature": T, "chains": 4, "record": {"every": 5},
        "constraint": [given.spec()],
    }  # fmt: skip
    np.testing.assert_array_equal(ls.run(spec).position, steered(60, walkers=2).position)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bias_factor": 1.0}, "more than 1"), ({"height": 0.0}, "more than 0"), ({"every": 0}, "whole number"),
        ({"range": None}, "needs a range"), ({"range": (1.0, -1.0)}, "range"), ({"walkers": 3}, "divide"),
        ({"coordinate": ["x", "x", "x"]}, "one collective coordinate or two"), ({"width": 3.0}, "lower it"),
    ],
)  # fmt: skip
def test_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        steered(10, **settings)


def test_what_has_no_free_energy_is_refused():
    hills = ls.Metadynamics("x", 0.1, 0.1, every=5, range=(-1.0, 1.0))
    run = {"steps": 5, "constraint": hills, "start": [-1.0]}
    with pytest.raises(ConfigError, match="positive temperature"):
        ls.simulate(WELL, ls.EulerMaruyama(dt=1e-3), **run)
    with pytest.raises(ConfigError, match="compiled"):
        ls.simulate(WELL, ls.EulerMaruyama(dt=1e-3), temperature=T, backend="compiled", **run)
    with pytest.raises(ConfigError, match="hills"):
        ls.simulate(WELL, ls.EulerMaruyama(dt=1e-3), temperature=T, certify=True, **(run | {"steps": 64}))
    with pytest.raises(ConfigError, match="expected a run with Metadynamics"):
        free_energy.metadynamics(ls.simulate(WELL, ls.MALA(dt=0.03), temperature=T, steps=5))
