"""Mean velocity and diffusion from unwrapped positions.

Free motion exactly, in the discrete time of the integrators; a tilted washboard against the quadratures of Stratonovich
(velocity) and of Reimann et al., Phys. Rev. Lett. 87, 010602 (2001) (diffusion), over a decade of tilt; coverage.
"""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import Expression
from landscape.probes import fluctuations
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX

mpl.use("agg")

PERIOD = 2 * np.pi
CIRCLE = ls.Periodic({"x": (-np.pi, np.pi)})
REPEATS = 200


def deviation(found, name, exact):
    """How many of its errors an estimate is from the truth."""
    return ((found[name] - exact) / found[f"{name}_stderr"]).item()


def washboard(tilt, temperature, points=2048):
    """Velocity and diffusion in V = sin x - tilt x by quadrature: v = (1 - e^{-LF/T})/<I+>, D = T <I+^2 I->/<I+>^3."""
    x, z = np.arange(points)[:, None] * PERIOD / points, (np.arange(points) + 0.5) * PERIOD / points

    def barrier(shift, sign):
        rise = sign * (np.sin(x) - np.sin(x + shift) + tilt * shift)
        return np.exp(rise / temperature).mean(axis=1) * PERIOD / temperature

    ahead, back = barrier(-z, 1), barrier(z, -1)
    velocity = -np.expm1(-PERIOD * tilt / temperature) / ahead.mean()
    return velocity, temperature * (ahead**2 * back).mean() / ahead.mean() ** 3


def free(chains, draws, **settings):
    """Euler-Maruyama on a slope 1 at T = 0.5 around a circle: v = 1, D = T exactly, at any step."""
    return ls.simulate(
        Expression("-x", ["x"]), ls.EulerMaruyama(0.3), temperature=0.5, chains=chains, steps=draws, constraint=CIRCLE,
        record=ls.Record(1, ["position", "unwrapped"]), **{"seed": 4} | settings,
    )  # fmt: skip


def ballistic(chains, steps, every=1, dt=0.2, friction=0.25, seed=1, **settings):
    """Free BAOAB, whose moves are those of an autoregressive momentum."""
    return ls.simulate(
        Expression("0*x", ["x"]), ls.BAOAB(dt, friction), temperature=2.0, chains=chains, steps=steps, seed=seed,
        record=ls.Record(every), **settings,
    )  # fmt: skip


def spread_of_free_baoab(lag, temperature=2.0, dt=0.2, friction=0.25):
    """Variance of x over `lag` steps: moves (dt/2)(m + m'), m' = c m + sqrt(T (1 - c^2)) xi; and D."""
    c = np.exp(-friction * dt)
    j = np.arange(1, lag)
    one, more = dt**2 * temperature * (1 + c) / 2, dt**2 * temperature * (1 + c) ** 2 / 4
    return lag * one + 2 * ((lag - j) * more * c ** (j - 1)).sum(), temperature * dt * (1 + c) / (2 * (1 - c))


@pytest.mark.parametrize("backend", BACKENDS)
def test_free_diffusion_is_exact(backend):
    run = free(400, 60, backend=backend)
    found = fluctuations.diffusion(run, "x")
    assert found.resolved.item() and found.stationary.item() and found.chains_used.item() == 400
    assert abs(deviation(found, "velocity", 1.0)) < Z_MAX
    assert abs(deviation(found, "diffusion", 0.5)) < Z_MAX
    assert abs(deviation(found, "velocity", 1.0 + 0.2)) > Z_CONTROL
    assert abs(deviation(found, "diffusion", 0.5 * 2)) > Z_CONTROL
    time = found.lag_time.values
    for name, exact in (("displacement_variance", time), ("mean_squared_displacement", time + time**2)):
        curve = found[name].values[0]
        assert (np.abs(curve - exact) < Z_MAX * found[f"{name}_stderr"].values[0]).all()
    wrong = fluctuations.diffusion(run.position.assign_attrs(wrapped=""), "x")  # as if it were not wrapped
    assert not wrong.resolved.item() and np.isnan(wrong.diffusion.item())


def test_free_underdamped_motion_is_exact():
    run = ballistic(500, 1200)
    found = fluctuations.diffusion(run, "x")
    exact = [spread_of_free_baoab(lag)[0] for lag in found.lag.values]
    z = (found.displacement_variance.values[0] - exact) / found.displacement_variance_stderr.values[0]
    assert (np.abs(z) < Z_MAX).all()
    coefficient = spread_of_free_baoab(1)[1]
    assert coefficient == pytest.approx(8.0, rel=1e-3)  # T/friction
    assert found.resolved.item() and abs(deviation(found, "diffusion", coefficient)) < Z_MAX
    assert abs(deviation(found, "diffusion", coefficient * 1.5)) > Z_CONTROL
    assert found.fit_start.item() > 8.0  # two times over friction: not where it is ballistic
    short = fluctuations.diffusion(run.isel(draw=slice(0, 30)), "x")  # 6 in time, 1.5 over friction
    assert not short.resolved.item() and np.isnan(short.diffusion.item()) and np.isnan(short.fit_start.item())
    assert abs(deviation(short, "velocity", 0.0)) < Z_MAX  # which chains tell all the same


@pytest.mark.parametrize("backend", BACKENDS)
def test_tilted_washboard(backend):
    """Heun (weak order 2) over a decade of tilt: locked, critical (where diffusion is a giant), running."""
    cases = ((0.4, 200, 3000), (1.0, 100, 1500), (4.0, 100, 800))
    for tilt, chains, steps in cases[1 if backend == "batched" else 0 :]:
        run = ls.simulate(
            Expression("sin(x) - F*x", ["x"], {"F": tilt}), ls.Heun(0.1), temperature=np.repeat([0.2, 0.5], chains),
            steps=steps, constraint=CIRCLE, record=ls.Record(10, ["unwrapped"]), seed=2, backend=backend,
        )  # fmt: skip
        found = fluctuations.diffusion(run, "x")
        for temperature in (0.2, 0.5):
            one, (velocity, coefficient) = found.sel(temperature=temperature), washboard(tilt, temperature)
            assert one.resolved and one.stationary
            assert abs(deviation(one, "velocity", velocity)) < Z_MAX
            assert abs(deviation(one, "diffusion", coefficient)) < Z_MAX
            if temperature == 0.2:
                assert abs(deviation(one, "diffusion", temperature)) > (Z_CONTROL if tilt < 2 else 0)
                assert abs(deviation(one, "velocity", tilt)) > Z_CONTROL  # without the washboard
    assert washboard(1.0, 0.2)[1] > 2.6 * 0.2 and washboard(1.0, 0.05)[1] > 5 * 0.05


@pytest.mark.parametrize(("name", "chains", "draws"), [("free", 10, 100), ("free", 1, 2000), ("ballistic", 12, 400)])
@pytest.mark.always
def test_coverage(name, chains, draws):
    """Intervals of 1.96 errors hold the truth in 90 to 98.5 % of 200 runs; errors of half the size do not."""
    if name == "free":
        run, exact = free(REPEATS * chains, draws).unwrapped, {"velocity": 1.0, "diffusion": 0.5}
    else:
        run = ballistic(REPEATS * chains, 2 * draws, 2, friction=1.0).position
        exact = {"velocity": 0.0, "diffusion": spread_of_free_baoab(1, friction=1.0)[1]}
    held = {key: [] for key in exact}
    for repeat in range(REPEATS):
        found = fluctuations.diffusion(run[repeat * chains : (repeat + 1) * chains], "x")
        for key, truth in exact.items():
            if found.resolved:
                held[key].append(abs(deviation(found, key, truth)))
    for z in held.values():
        assert len(z) >= 0.95 * REPEATS  # the rest says that it does not know
        assert 0.90 <= np.mean(np.array(z) < 1.96) <= 0.985
        assert np.mean(np.array(z) < 0.98) < 0.85


def test_what_does_not_diffuse_is_not_resolved():
    spring = ls.simulate(
        Expression("x**2/2", ["x"]), ls.EulerMaruyama(0.1), temperature=1.0, chains=50, steps=500, seed=1
    )
    confined = fluctuations.diffusion(spring, "x")
    assert not confined.resolved and np.isnan(confined.diffusion).all() and np.isnan(confined.velocity_stderr).all()
    assert float(confined.displacement_variance[0, -1]) == pytest.approx(2.0, rel=0.5)
    deep = ls.simulate(  # barriers of 20 T: no chain jumps
        Expression("cos(x)", ["x"]), ls.EulerMaruyama(0.1), temperature=0.1, start=[np.pi - 0.1], chains=20, steps=2000,
        constraint=ls.Periodic({"x": (0.0, PERIOD)}), record=ls.Record(5, ["unwrapped"]), seed=1,
    )  # fmt: skip
    stuck = fluctuations.diffusion(deep, "x")
    assert not stuck.resolved and np.isnan(stuck.velocity_stderr).all()
    still = fluctuations.diffusion(np.zeros((10, 50)), temperature=1.0)
    assert not still.resolved and np.isnan(still.velocity_stderr).all() and float(still.velocity[0]) == 0.0


def test_a_run_that_changes_says_so():
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((30, 400))
    steps[:, 250:] += 0.3
    assert not fluctuations.diffusion(steps.cumsum(axis=1), temperature=1.0).stationary
    steps[:, 250:] -= 0.3
    assert fluctuations.diffusion(steps.cumsum(axis=1), temperature=1.0).stationary
    steps[:, :200] *= 1.5
    assert not fluctuations.diffusion(steps.cumsum(axis=1), temperature=1.0).stationary


def test_coordinates_groups_and_windows():
    run = ls.simulate(
        Expression("-x + 0*y", ["x", "y"]), ls.EulerMaruyama(0.3), temperature=[0.1] * 20 + [1.0] * 20, steps=200,
        seed=1,
    )  # fmt: skip
    both = fluctuations.diffusion(run)
    assert both.diffusion.dims == ("coordinate", "temperature") and both.lag_time[0] == pytest.approx(0.3)
    one = fluctuations.diffusion(run, "y")
    assert np.array_equal(both.diffusion.sel(coordinate="y"), one.diffusion)
    assert np.array_equal(both.velocity[1], fluctuations.diffusion(run.position[..., 1]).velocity)
    single = fluctuations.diffusion(run, "y", by="chain")
    assert single.diffusion.dims == ("chain",) and np.isfinite(single.velocity).all()
    given = fluctuations.diffusion(run, "y", fit=(0.6, 2.4))
    assert given.fit_start.values.tolist() == pytest.approx([0.6, 0.6]) and given.resolved.all()
    assert np.abs((given.diffusion - one.temperature) / given.diffusion_stderr).max() < Z_MAX
    early = fluctuations.diffusion(ballistic(200, 1200), "x", fit=(0.2, 0.4))
    assert not early.resolved and np.isnan(early.diffusion).all()
    ax = fluctuations.plot_diffusion(both)
    assert ax.get_xscale() == "log" and len(ax.get_legend().get_texts()) == 4


def test_bad_input():
    run = free(10, 60)
    for blind in (run.drop_vars("unwrapped"), run.position):
        with pytest.raises(ConfigError, match=r"wrapped along x.*unwrapped"):
            fluctuations.diffusion(blind)
    with pytest.raises(ConfigError, match="no coordinate 'z'; there are x"):
        fluctuations.diffusion(run, "z")
    with pytest.raises(ConfigError, match="fit must be"):
        fluctuations.diffusion(run, fit=(3.0, 1.0))
    with pytest.raises(ConfigError, match="one on the grid"):
        fluctuations.diffusion(run, fit=(2.9, 3.0))
    with pytest.raises(ConfigError, match="discard"):
        fluctuations.diffusion(run, discard=1.5)
    with pytest.raises(ConfigError, match="keep 9"):
        fluctuations.diffusion(run, discard=55)
    left = run.assign(exit_time=("chain", [1.0] + [np.nan] * 9))
    with pytest.raises(ConfigError, match="absorbing"):
        fluctuations.diffusion(left)
    with pytest.raises(ShapeError):
        fluctuations.diffusion(xr.Dataset())


def test_from_a_specification_and_the_command_line(tmp_path, capsys):
    from landscape.cli.app import run as command

    spec = {
        "potential": {"kind": "Expression", "energy": "-x", "coordinates": ["x"]},
        "integrator": {"kind": "EulerMaruyama", "dt": 0.3}, "steps": 200, "chains": 20, "temperature": 0.5,
        "constraint": {"kind": "Periodic", "periods": {"x": [0.0, 1.0]}},
        "record": {"every": 2, "observables": ["unwrapped"]},
    }  # fmt: skip
    run = ls.run(spec, progress=False)
    file = tmp_path / "run.nc"
    ls.save(run, file)
    task = {"task": "probe", "probe": "fluctuations.diffusion", "settings": {"coordinate": "x"}}
    probed = ls.run(task | {"run": {"file": str(file)}})
    direct = fluctuations.diffusion(run, "x")
    assert np.array_equal(probed.diffusion, direct.diffusion) and probed.resolved.all()
    target = tmp_path / "diffusion.nc"
    assert command(["probe", "fluctuations", str(file), "-q", "diffusion", "-c", "x", "-o", str(target)]) == 0
    assert "diffusion" in capsys.readouterr().out
    with ls.open(target) as stored:
        assert np.array_equal(stored.velocity, direct.velocity)
