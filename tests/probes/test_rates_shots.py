"""Committors and reactive fluxes by shooting: against quadrature and the exact rates, on both backends."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.probes import free_energy, rates
from tests.cases import Z_MAX
from tests.exact_rates import klein_kramers_rate

WELL = ls.potentials.DoubleWell()
CORES = {"A": "x < -0.8", "B": "x > 0.8"}
SHIFT = 0.5825971579390106  # a core that is looked at once a step seems further away by this times sqrt(2 T dt)


def splitting(x, temperature, edge):
    """Probability to be at `edge` before at -`edge`."""
    climb = lambda y: np.exp((y * y - 1.0) ** 2 / temperature)  # noqa: E731
    return quad(climb, -edge, x)[0] / quad(climb, -edge, edge)[0]


def test_committors_are_exact():
    at, dt = np.array([-0.4, 0.0, 0.3]), 5e-3
    exact = np.array([splitting(x, 0.4, 0.8 + SHIFT * np.sqrt(2 * 0.4 * dt)) for x in at])
    found = rates.committor(
        WELL, np.array([-1.0, *at, 0.9])[:, None], ls.EulerMaruyama(dt=dt), CORES, temperature=0.4, shots=4000, seed=2
    )
    inside = found.isel(position=slice(1, 4))
    z = (inside.committor - exact) / inside.committor_stderr
    assert (abs(z) < Z_MAX).all(), z.values
    assert (inside.committor_stderr < 0.009).all()
    hotter = np.array([splitting(x, 0.6, 0.8) for x in at])  # control: another temperature
    assert abs((inside.committor - hotter) / inside.committor_stderr).max() > Z_MAX
    assert found.committor[[0, -1]].values.tolist() == [0.0, 1.0]
    assert found.committor_stderr[[0, -1]].values.tolist() == [0.0, 0.0]
    assert not found.lost.any()
    few = {"temperature": 0.4, "shots": 40, "seed": 2}
    one, other = (
        rates.committor(WELL, [[0.1]], ls.EulerMaruyama(dt=dt), CORES, backend=backend, **few)
        for backend in ("compiled", "batched")
    )
    xr.testing.assert_equal(one, other)


def test_committors_between_circles():
    """In the plane, by level sets: q = ln(r/a)/ln(b/a)."""
    flat, dt = ls.potentials.Expression("0*x + 0*y", ["x", "y"]), 2e-4
    shift = SHIFT * np.sqrt(2 * dt)
    cores = {"inner": "x**2 + y**2 < 0.25", "outer": "x**2 + y**2 > 1"}
    found = rates.committor(flat, [0.6, 0.4], ls.EulerMaruyama(dt=dt), cores, temperature=1.0, shots=4000, seed=1)
    inner, outer = 0.5 - shift, 1.0 + shift
    exact = np.log(np.hypot(0.6, 0.4) / inner) / np.log(outer / inner)
    assert abs(found.committor - exact) < Z_MAX * found.committor_stderr
    assert found.committor.dims == ()


def test_momenta_decide_where_shots_go():
    rule = ls.BAOAB(dt=0.05, friction=0.2)
    found = [
        float(rates.committor(WELL, [0.0], rule, CORES, temperature=0.2, shots=400, momentum=[p]).committor)
        for p in (-1.0, 0.0, 1.0)
    ]
    assert found[0] < 0.05
    assert abs(found[1] - 0.5) < Z_MAX * 0.025
    assert found[2] > 0.95


def test_shots_that_are_lost_widen_the_interval():
    settings = {"temperature": 0.4, "shots": 200, "seed": 3}
    whole = rates.committor(WELL, [[0.2]], ls.EulerMaruyama(dt=5e-3), CORES, **settings).isel(position=0)
    short = rates.committor(WELL, [[0.2]], ls.EulerMaruyama(dt=5e-3), CORES, steps=60, **settings).isel(position=0)
    assert short.lost > 20
    assert short.arrived + short.lost == 200
    assert short.committor_low < whole.committor < short.committor_high
    assert short.committor_stderr > 1.5 * whole.committor_stderr
    none = rates.committor(WELL, [[0.2]], ls.EulerMaruyama(dt=5e-3), CORES, steps=1, **settings).isel(position=0)
    assert none.lost == 200
    assert np.isnan(none.committor)
    assert np.isnan(none.committor_stderr)


def test_the_spread_of_committors():
    """q = x on a flat line: positions drawn from 0.2 to 0.8 have the variance 0.03, those at 0.5 have none."""
    flat, cores = ls.potentials.Expression("0*x", ["x"]), {"A": "x < 0", "B": "x > 1"}
    drawn = np.random.default_rng(0).uniform(0.2, 0.8, (400, 1))
    settings = {"temperature": 1.0, "shots": 20, "seed": 1}
    spread, same = (
        rates.committor_test(rates.committor(flat, at, ls.EulerMaruyama(dt=2e-3), cores, **settings))
        for at in (drawn, np.full((400, 1), 0.5))
    )
    wider = (1.0 + 2.0 * SHIFT * np.sqrt(2 * 2e-3)) ** -2  # of the line between cores looked at once a step
    assert abs(spread.variance - wider * 0.03) < Z_MAX * spread.variance_stderr + 0.002
    assert spread.variance > 8 * spread.variance_stderr
    assert abs(same.variance) < Z_MAX * same.variance_stderr
    assert spread["count"].sum() == 400
    with pytest.raises(ConfigError, match="8 positions"):
        rates.committor_test(rates.committor(flat, drawn[:3], ls.EulerMaruyama(dt=2e-3), cores, **settings))


@pytest.mark.parametrize("friction", [0.5, 2.0, 8.0])
def test_inertial_fluxes_are_exact(friction):
    found = rates.reactive_flux(
        WELL, None, ls.BAOAB(dt=0.05, friction=friction), coordinate="x", at=0.0, temperature=0.2, shots=4000, steps=300
    )
    exact = 0.5 * klein_kramers_rate(0.2, friction)
    assert abs(found.rate - exact) < Z_MAX * found.rate_stderr
    assert found.rate_stderr < 0.05 * exact
    assert bool(found.plateau)
    ideal = np.sqrt(0.2 / (2 * np.pi)) * np.exp(-1 / 0.2) / quad(lambda x: np.exp(-((x * x - 1) ** 2) / 0.2), -4, 0)[0]
    np.testing.assert_allclose(found.transition_state_rate, ideal, rtol=1e-6)
    assert abs(found.transition_state_rate - exact) > 3 * found.rate_stderr  # control: without recrossing
    np.testing.assert_allclose(found.transmission, found.rate / ideal, rtol=1e-6)


def test_masses_only_slow_the_clock():
    """Time goes as sqrt(M), friction being a rate."""
    settings = {"coordinate": "x", "at": 0.0, "temperature": 0.2, "shots": 200, "steps": 100}
    light = rates.reactive_flux(WELL, None, ls.BAOAB(dt=0.05, friction=2.0), **settings)
    heavy = rates.reactive_flux(WELL, None, ls.BAOAB(dt=0.1, friction=1.0, mass=4.0), **settings)
    np.testing.assert_allclose(heavy.rate, light.rate / 2, rtol=1e-9)
    np.testing.assert_allclose(heavy.transmission, light.transmission, rtol=1e-9)


def test_overdamped_fluxes_are_exact():
    found = rates.reactive_flux(
        WELL, None, ls.EulerMaruyama(dt=0.01), coordinate="x", at=0.0, temperature=0.25, shots=8000, steps=200
    )
    exact = 0.5 * 0.029779593
    assert abs(found.rate - exact) < Z_MAX * found.rate_stderr
    assert found.rate_stderr < 0.05 * exact
    assert "transmission" not in found


def test_a_flux_that_still_falls_is_flagged():
    """At low friction most paths that cross have not yet come back."""
    found = rates.reactive_flux(
        WELL, None, ls.BAOAB(dt=0.05, friction=0.1), coordinate="x", at=0.0, temperature=0.2, shots=2000, steps=90
    )
    assert not bool(found.plateau)
    assert found.rate > 1.2 * 0.5 * klein_kramers_rate(0.2, 0.1)  # which is not yet the rate


def test_fluxes_over_a_curved_surface_with_a_profile():
    """Two coordinates, the second harmonic; q = x + 0.3 y^2 divides as badly as it does, and gives the same rate."""
    plane = ls.potentials.Expression("(x**2 - 1)**2 + 2*y**2", ["x", "y"])
    q, rule = "x + 0.3*y**2", ls.BAOAB(dt=0.05, friction=2.0)
    run = ls.simulate(
        plane, ls.BAOAB(dt=0.1, friction=1.0), temperature=0.25, steps=20_000, seed=1,
        record=ls.Record(20, ["position"]), start=[[1.0, 0.0], [-1.0, 0.0]] * 50,
    )  # fmt: skip
    x, y = (run.position.sel(coordinate=name, drop=True) for name in "xy")
    profile = free_energy.profile((x + 0.3 * y**2).rename("q"), 0.25, bins=50, range=(-1.9, 2.3))
    settings = {"coordinate": q, "at": 0.05, "temperature": 0.25}
    found = rates.reactive_flux(plane, profile, rule, shots=1000, steps=150, every=5, settling=100, **settings)
    exact = 0.5 * klein_kramers_rate(0.25, 2.0)
    assert abs(found.rate - exact) < Z_MAX * found.rate_stderr
    assert found.rate_stderr < 0.15 * exact
    with pytest.raises(ConfigError, match="inside the well"):
        rates.reactive_flux(plane, profile.isel(q=slice(10, None)), rule, **settings)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"integrator": ls.MALA(dt=0.1)}, "no thermal motion"),
        ({"integrator": ls.SGHMC(lr=0.01, friction=0.1)}, "no thermal motion"),
        ({"coordinate": "x**2"}, "profile"),
        ({"integrator": ls.BAOAB(dt=0.05, friction=[1.0, 2.0])}, "one rule"),
        ({"integrator": ls.EulerMaruyama(dt=0.01), "offset": "far"}, "offset"),
        ({"integrator": ls.EulerMaruyama(dt=0.01, mobility=ls.Mobility("1 + x**2"))}, "mobility 1"),
        ({"at": np.nan}, "finite"),
        ({"steps": 20, "every": 10}, "8 or more"),
        ({"profile": xr.Dataset({"count": ("x", [1.0])})}, "free_energy"),
    ],
)
def test_fluxes_that_make_no_sense_are_refused(given, words):
    settings = {"profile": None, "integrator": ls.BAOAB(dt=0.05, friction=1.0), "coordinate": "x", "at": 0.0} | given
    with pytest.raises(ConfigError, match=words):
        rates.reactive_flux(WELL, temperature=0.2, **settings)


def test_committors_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="two cores"):
        rates.committor(WELL, [[0.0]], ls.EulerMaruyama(dt=0.1), CORES | {"C": "x > 9"}, temperature=0.2)
    with pytest.raises(ConfigError, match="not finite"):
        rates.committor(WELL, [[np.nan]], ls.EulerMaruyama(dt=0.1), CORES, temperature=0.2)
    rule = ls.BAOAB(dt=0.05, friction=1.0)
    with pytest.raises(ShapeError, match="momentum"):
        rates.committor(WELL, [[0.0]], rule, CORES, temperature=0.2, momentum=[1.0, 2.0])
    with pytest.raises(ConfigError, match="one rule"):
        rates.committor(WELL, [[0.0]], ls.EulerMaruyama(dt=[0.1, 0.2]), CORES, temperature=0.2, shots=2)
    with pytest.raises(ConfigError, match="Integrator"):
        rates.committor(WELL, [[0.0]], "fast", CORES, temperature=0.2)


def test_results_have_their_pictures():
    """Each is drawn in a report by its own plot function, and no other."""
    from landscape.report.figures import pictures
    from landscape.report.page import Picture

    rule = ls.EulerMaruyama(dt=0.01)
    run = ls.simulate(WELL, rule, temperature=0.5, chains=8, steps=4000, record=ls.Record(20, ["position"]))
    q = rates.committor(WELL, np.linspace(-0.7, 0.7, 9)[:, None], rule, CORES, temperature=0.5, shots=20)
    flux = {"coordinate": "x", "at": 0.0, "temperature": 0.3, "shots": 50, "steps": 20}
    for plot, found in {
        rates.plot_core_sets: rates.core_sets(run, CORES),
        rates.plot_escape_rate: rates.escape_rate(run, CORES),
        rates.plot_committor: q,
        rates.plot_committor_test: rates.committor_test(q),
        rates.plot_reactive_flux: rates.reactive_flux(WELL, None, rule, **flux),
    }.items():
        drawn = [one.description for one in pictures(found) if isinstance(one, Picture)]
        assert drawn == [plot.__doc__.partition("\n")[0]], plot.__name__
        with pytest.raises(ConfigError, match="no"):
            plot(xr.Dataset())
