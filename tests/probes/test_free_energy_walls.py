"""Walls, ends of a range and periods: no half of a kernel or of a bin lies outside unseen."""

import numpy as np
import pytest

import landscape as ls
from landscape import potentials
from landscape.errors import ConfigError, ConvergenceError
from landscape.probes import free_energy
from landscape.probes.free_energy.smoothing import kernel
from tests.probes.test_free_energy_coverage import of_windows

BOX = potentials.Expression("0*x", ["x"], bounds={"x": (0.0, 1.0)})
LN2 = np.log(2.0)


def windows_in_a_box(rng, slope, walls=(0.0, 1.0)):
    """Umbrella windows on V = slope x between walls at T = 1, sampled exactly."""
    centers, k, grid = np.linspace(0.0, 1.0, 6), 25.0, np.linspace(0.0, 1.0, 4001)
    samples = []
    for center in centers:
        weight = np.exp(-0.5 * k * (grid - center) ** 2 - slope * grid)
        samples.append(grid[np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(12 * 100))])
    value, error = of_windows(np.array(samples), centers, k, 12, 0.2, walls)
    return value - slope * centers, error


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_umbrella_covers_at_walls(slope):
    rng = np.random.default_rng(3)
    off, errors = np.array([windows_in_a_box(rng, slope) for _ in range(200)]).transpose(1, 0, 2)[:, :, 1:]
    share = (np.abs(off) < 1.96 * errors).mean(axis=0)
    assert share.min() >= 0.90
    assert share.mean() <= 0.985
    open_walls = np.array([windows_in_a_box(rng, slope, (-np.inf, np.inf))[0] for _ in range(20)])
    assert np.abs(open_walls[:, 1:-1].mean(axis=0) + LN2).max() < 0.3  # all but the ends low by T ln 2


@pytest.mark.always
def test_umbrella_in_a_box():
    at = np.linspace(0.0, 1.0, 6)
    for coordinate in ("x", 0, [1.0], "2*x/2 + 0*x**2"):
        found = free_energy.umbrella(BOX, coordinate, at, 1.0, chains=16, steps=1500)
        z = (found.free_energy / found.free_energy_stderr)[1:]
        assert float(abs(z).max()) < 4.5
        assert float((LN2 / found.free_energy_stderr[1:-1]).min()) > 4.5
    with pytest.raises(ConfigError, match="beyond the walls"):
        free_energy.umbrella(BOX, "x", [0.0, 0.5, 1.1], 1.0, chains=8, steps=40, start=[0.5])


def test_kernels_have_their_moments():
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-0.3, 1.0), (-1.0, 0.5)):
        u = np.linspace(low, high, 20001)
        k = np.polynomial.polynomial.polyval(u, kernel(low, high))
        moments = [np.trapezoid(k * u**p, u) for p in range(3)]
        assert np.allclose(moments, [1.0, 0.0, 0.0], atol=1e-6)
    assert np.allclose(kernel(-1.0, 1.0), [9 / 8, 0.0, -15 / 8])


def test_each_window_may_have_its_stiffness():
    spring, at = potentials.Expression("x**2/2", ["x"]), [0.0, 0.5, 1.0, 1.5]
    found = free_energy.umbrella(spring, "x", at, 0.5, stiffness=[2.0, 3.0, 4.0, 2.0], chains=16, steps=1500)
    z = ((found.free_energy - 0.5 * found.x**2) / found.free_energy_stderr)[1:]
    assert float(abs(z).max()) < 4.5
    assert float(abs((found.free_energy - found.x**2) / found.free_energy_stderr)[-1]) > 4.5
    assert found.attrs["stiffness"].tolist() == [2.0, 3.0, 4.0, 2.0]


@pytest.mark.parametrize(
    "settings",
    [{"stiffness": [1.0, 2.0]}, {"stiffness": "k"}, {"stiffness": [[1.0]]}, {"stiffness": -1.0}, {"stiffness": np.nan},
     {"stiffness": {}}, {"width": [0.1]}, {"width": "wide"}, {"width": 9.0}, {"coordinate": ["x", "y"]},
     {"coordinate": ("x",)}],
)  # fmt: skip
def test_settings_of_umbrella_that_make_no_sense(settings):
    settings = {"coordinate": "x", "at": [0.1, 0.5, 0.9], "temperature": 1.0} | settings
    with pytest.raises(ConfigError, match=r"stiffness|width|one function"):
        free_energy.umbrella(BOX, **settings)


@pytest.fixture(scope="module")
def boxed():
    record = ls.Record(4, observables=["position", ls.Histogram("x", bins=11, range=(-0.05, 1.05))])
    return ls.simulate(BOX, ls.MALA(dt=0.1), temperature=1.0, chains=16, steps=12_000, record=record, seed=2)


def test_bins_cut_by_a_wall_count_with_what_is_inside(boxed):
    kwargs = {"bins": 11, "range": (-0.05, 1.05), "zero": "mean"}
    routes = [
        free_energy.profile(boxed, 1.0, coordinate="x", **kwargs),
        free_energy.profile(boxed.drop_vars("position"), 1.0, coordinate="x", zero="mean"),
        free_energy.profile(boxed.x_count, 1.0, bounds=(0.0, 1.0), zero="mean"),
        free_energy.profile(boxed.position.sel(coordinate="x")[:5], 1.0, bounds=(0.0, None), **kwargs).isel(
            x=slice(-1)
        ),
    ]
    for found in routes:
        flat = found.free_energy - found.free_energy.mean() if len(found.x) < 11 else found.free_energy
        assert float(abs(flat / found.free_energy_stderr).max()) < 4.5
        assert float(found.x[0]) == pytest.approx(0.025)
        assert float(abs(found.density - 1.0).max()) < 0.3
    told_nothing = free_energy.profile(boxed.x_count, 1.0, zero="mean")
    assert float((told_nothing.free_energy / told_nothing.free_energy_stderr)[[0, -1]].min()) > 4.5


def test_walls_of_a_constraint_are_known_too():
    flat = potentials.Expression("0*x", ["x", "y"])
    run = ls.simulate(
        flat, ls.Diffusion(dt=0.2), temperature=1.0, chains=10, steps=4000, start=[0.5, 0.5], seed=1,
        record=ls.Record(2), constraint=ls.Reflect({"x": (0.0, 1.0), "y": (0.0, 1.0)}),
    )  # fmt: skip
    found = free_energy.profile(
        run, 1.0, coordinate=("x", "y"), bins=(4, 5), range=((-0.2, 1.0), (0.0, 1.25)), zero="mean"
    )
    seen = found.free_energy.to_numpy()[:, :4]
    assert np.isfinite(seen).all()
    assert np.isnan(found.free_energy.to_numpy()[:, 4]).all()
    assert float(np.nanmax(abs(found.free_energy / found.free_energy_stderr))) < 4.5


CIRCLE = ls.Periodic({"phi": (0.0, 2 * np.pi)})


def test_bins_of_a_periodic_coordinate_wrap():
    """exp(-cos(phi + 1)/T), wrapped into [0, 2 pi), seen from -pi to pi; by bins that the seam cuts as well."""
    wheel = potentials.Expression("cos(phi + 1)", ["phi"])
    record = ls.Record(
        2, observables=["position", ls.Histogram("phi", bins=12, range=(-np.pi, np.pi), period=2 * np.pi)]
    )
    run = ls.simulate(
        wheel, ls.HMC(dt=0.4, leapfrog_steps=4), temperature=1.0, chains=16, steps=4000, start=[2.0], seed=1,
        record=record, constraint=CIRCLE,
    )  # fmt: skip
    theory = np.cos(np.linspace(-np.pi, np.pi, 241) + 1.0)
    fine = np.exp(-theory).reshape(-1)
    masses = np.array([np.trapezoid(fine[20 * i : 20 * i + 21]) for i in range(12)])
    theory = -np.log(masses) - (-np.log(masses)).mean()
    samples = run.position.sel(coordinate="phi")
    for found in (
        free_energy.profile(run, 1.0, coordinate="phi", bins=12, range=(-np.pi, np.pi), zero="mean"),
        free_energy.profile(run.phi_count, 1.0, zero="mean"),
        free_energy.profile(samples[:5], 1.0, bins=12, range=(-np.pi, np.pi), periods=(0.0, 2 * np.pi), zero="mean"),
    ):
        assert np.isfinite(found.free_energy).all()
        z = (found.free_energy - theory) / found.free_energy_stderr
        assert float(abs(z).max()) < 4.5
        assert float(abs((found.free_energy + theory) / found.free_energy_stderr).max()) > 8
    assert int(run.phi_below.sum() + run.phi_above.sum()) == 0
    lost = free_energy.profile(samples, 1.0, bins=12, range=(-np.pi, np.pi))
    assert bool(np.isnan(lost.free_energy[:6]).all())  # what a range means without a period
    with pytest.raises(ConfigError, match="more than its period"):
        free_energy.profile(run, 1.0, coordinate="phi", range=(0.0, 7.0))


@pytest.mark.parametrize("settings", [{"bounds": (1.0, 0.0)}, {"bounds": 3.0}, {"periods": [(0, 1), (0, 1)]},
                                      {"periods": "x"}, {"periods": (None, 1.0)}])  # fmt: skip
def test_walls_that_make_no_sense(settings):
    with pytest.raises(ConfigError, match=r"bounds|periods"):
        free_energy.profile(np.random.default_rng(0).random((8, 200)), 1.0, **settings)


@pytest.mark.parametrize("period", [0.5, "x", np.inf, (1.0, 2.0), True])
def test_periods_of_a_histogram_that_make_no_sense(period):
    with pytest.raises(ConfigError, match="period"):
        ls.Histogram("x", range=(0.0, 1.0), period=period)


@pytest.mark.parametrize("period", [2 * np.pi, None])
def test_umbrella_around_a_ring(period):
    """Windows on the angle atan2(y, x), on both sides of its seam: the last one's springs reach around it."""
    ring = potentials.Expression("10*(sqrt(x**2 + y**2) - 1)**2 + 0.5*x/sqrt(x**2 + y**2)", ["x", "y"])
    at = np.linspace(2.2, 4.0, 5)
    settings = {"start": [1.0, 0.1], "chains": 8, "steps": 1200, "every": 8, "dt": 0.02, "stiffness": 3.0}
    if period is None:  # control: no angle is beyond pi then
        with pytest.raises(ConvergenceError):
            free_energy.umbrella(ring, "atan2(y, x)", at, 0.2, **settings)
        return
    found = free_energy.umbrella(ring, "atan2(y, x)", at, 0.2, period=period, **settings)
    theory = 0.5 * (np.cos(at) - np.cos(at[0]))
    z = ((found.free_energy - theory) / found.free_energy_stderr)[1:]
    assert float(abs(z).max()) < 4.5
    assert found.attrs["period"] == 2 * np.pi


@pytest.mark.parametrize("period", [-1.0, 0.0, "x", True, np.inf, (0.0, 1.0)])
def test_periods_of_umbrella_that_make_no_sense(period):
    with pytest.raises(ConfigError, match="period"):
        free_energy.umbrella(BOX, "x", [0.1, 0.5, 0.9], 1.0, period=period)
    with pytest.raises(ConfigError, match="period"):
        ls.simulate(BOX, ls.MALA(dt=0.1), temperature=1.0, steps=1, constraint=ls.Restrain("x", 0.5, 1.0, period))
