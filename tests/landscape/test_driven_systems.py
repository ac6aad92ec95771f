"""Energies that change in time: dragged, breathing and shaken systems by their exact laws, work and heat."""

import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials import Expression
from landscape.probes import free_energy
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score

K, V, T, DT, STEPS = 2.0, 1.5, 0.5, 0.1, 30
HEATED = T / (1.0 - 0.5 * K * DT)  # of the law that Euler's method keeps
FREE = Expression("0*x", ["x"])
DRAGGED = Expression("k*(x - v*t)**2/2", ["x"], {"k": K, "v": V})
WORK = ["energy", "work", "heat"]


def worked(potential, *, dt=DT, steps=STEPS, chains=4000, start=None, seed=1, rule=ls.EulerMaruyama, **settings):
    record = settings.pop("record", ls.Record(steps, WORK))
    return ls.simulate(potential, rule(dt=dt), steps=steps, chains=chains, temperature=settings.pop("temperature", T),
                       start=start, seed=seed, record=record, **settings)  # fmt: skip


def dragged_work(velocity=V):
    """Mean and variance of the work, by y = x - v t: y' = (1 - k dt) y - v dt + noise, dW = -k v dt (y' + v dt/2)."""
    decay, noise, drift = 1.0 - K * DT, 2.0 * T * DT, velocity * DT
    mean, cov = np.zeros(2), np.diag([HEATED / K, 0.0])  # of (y, W)
    step = np.array([[decay, 0.0], [-K * drift * decay, 1.0]])
    push, kick = np.array([-drift, 0.5 * K * drift**2]), np.array([1.0, -K * drift])
    for _ in range(STEPS):
        mean, cov = step @ mean + push, step @ cov @ step.T + noise * np.outer(kick, kick)
    return mean[1], cov[1, 1]


def equilibrium(chains, width=HEATED / K, seed=3, center=0.0):
    return center + np.sqrt(width) * np.random.default_rng(seed).standard_normal((chains, 1))


def spring(velocity=V, start=0.0):
    """Springs that move as `DRAGGED`, on a landscape of their own: the same energy."""
    return ls.Restrain("x", lambda time: start + velocity * time, K)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dragged_trap_does_gaussian_work(backend):
    start = equilibrium(4000)
    by_formula = worked(DRAGGED, start=start, backend=backend)
    by_spring = worked(FREE, start=start, constraint=spring(), backend=backend)
    np.testing.assert_allclose(by_formula.work, by_spring.work, rtol=1e-10, atol=1e-12)
    assert float(abs(by_spring.energy).max()) == 0.0  # recorded energies leave springs out, work does not
    mean, variance = dragged_work()
    work = by_formula.work.values[:, -1]
    assert abs(z_score(work, mean)) < Z_MAX
    assert abs(z_score((work - mean) ** 2, variance)) < Z_MAX
    assert abs(z_score(((work - mean) ** 2 / variance) ** 2, 3.0)) < Z_MAX  # Gaussian
    assert mean == pytest.approx(variance / (2.0 * HEATED))  # Jarzynski's relation, exact at any step
    assert abs(z_score(np.exp(-work / HEATED), 1.0)) < Z_MAX
    assert abs(z_score(work, dragged_work(1.3 * V)[0])) > Z_CONTROL
    assert abs(z_score(work - variance / (2.0 * T), 0.0)) > Z_CONTROL  # not the temperature of the bath


def test_crooks_relation_at_any_step():
    """P(W)/P(-W backward) = e^{(W - dF)/T}: slope and zero of the logarithm of the ratio of two histograms."""
    ahead = worked(DRAGGED, start=equilibrium(20_000), chains=20_000).work.values[:, -1]
    end = V * STEPS * DT
    back = worked(FREE, start=equilibrium(20_000, seed=5, center=end), chains=20_000, seed=6,
                  constraint=spring(-V, end)).work.values[:, -1]  # fmt: skip
    edges = np.linspace(-0.5, 1.5, 9)
    there, here = np.histogram(ahead, edges)[0], np.histogram(-back, edges)[0]
    middle, ratio = 0.5 * (edges[1:] + edges[:-1]), np.log(there / here)
    z = (ratio - middle / HEATED) / np.sqrt(1.0 / there + 1.0 / here)
    assert np.abs(z).max() < Z_MAX
    off = (ratio - 2.0 * middle / HEATED) / np.sqrt(1.0 / there + 1.0 / here)
    assert np.abs(off).max() > Z_CONTROL
    found = free_energy.work_average(ahead, back, temperature=HEATED)
    assert abs(float(found.free_energy)) < Z_MAX * float(found.free_energy_stderr)


@pytest.mark.parametrize("backend", BACKENDS)
def test_breathing_trap(backend):
    """W = sum (k' - k) x^2/2 of Gaussian x with the correlations of the recursion; var from pairs of products."""
    schedule = ls.cycle(1.0, 4.0, period=2.5)
    run = worked(Expression("k*x**2/2", ["x"], {"k": schedule}), start=equilibrium(4000, T), backend=backend)
    k = schedule.at(DT * np.arange(STEPS + 1)[:, None], 1)[:, 0]
    covariance = np.empty((STEPS, STEPS))
    before = np.array([T])
    row = np.zeros(0)
    for n in range(STEPS):
        decay = 1.0 - k[n] * DT
        row = decay * row  # with earlier positions
        own = decay**2 * before[-1] + 2.0 * T * DT
        row = np.append(row, own)
        covariance[n, : n + 1] = covariance[: n + 1, n] = row
        before = np.append(before, own)
    weights = 0.5 * np.diff(k)
    mean, variance = weights @ np.diag(covariance), 2.0 * weights @ covariance**2 @ weights
    work = run.work.values[:, -1]
    assert abs(z_score(work, mean)) < Z_MAX
    assert abs(z_score((work - mean) ** 2, variance)) < Z_MAX
    early = 0.5 * np.diff(k, prepend=k[0])[:-1] @ np.diag(covariance)  # stiffness that changes before the step
    assert abs(z_score(work, early)) > Z_CONTROL


SHAKEN = Expression("x**4/4 - x**2/2 - a*sin(w*t)*x + b*y**2*x", ["x", "y"],
                    {"a": [0.4, 0.8], "w": ls.ramp(1.0, -2.0, 3.0), "b": 0.3})  # fmt: skip
RULES = {
    "EulerMaruyama": lambda dt: ls.EulerMaruyama(dt=dt),
    "LeimkuhlerMatthews": lambda dt: ls.LeimkuhlerMatthews(dt=ls.ramp(dt, 0.5 * dt, 1.0)),
    "Heun": lambda dt: ls.Heun(dt=[dt, 0.8 * dt]),
    "BAOAB": lambda dt: ls.BAOAB(dt=dt, friction=0.7),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.always
def test_energy_is_work_and_heat_in_every_step(rule):
    moved = ls.Restrain("x*y", ls.cosine(-1.0, 2.0, 1.5), ls.piecewise({0: 0.0, 0.5: [1.0, 2.0]}))
    names = ["position", *WORK, *(["momentum"] if rule == "BAOAB" else [])]
    runs = [
        worked(SHAKEN, rule=RULES[rule], chains=2, constraint=moved, backend=backend, record=ls.Record(1, names))
        for backend in BACKENDS
    ]
    for name in names:
        np.testing.assert_allclose(runs[0][name], runs[1][name], rtol=1e-9, atol=1e-12)
    run = runs[0]
    x = np.concatenate([np.zeros((2, 1, 2)), run.position], axis=1)
    times = np.broadcast_to(run.time, (2, STEPS))
    for chain in (0, 1):
        moments = [0.0, *times[chain]]
        center = ls.cosine(-1.0, 2.0, 1.5).at(np.array(moments)[:, None], 1, signed=True)[:, 0]
        stiffness = ls.piecewise({0: 0.0, 0.5: [1.0, 2.0]}).at(np.array(moments)[:, None], 2)[:, chain]

        def energy(at, when, chain=chain, moments=moments, center=center, stiffness=stiffness):
            q = x[chain, at].prod()
            own = float(SHAKEN.at(moments[when], chain=chain).energy(x[chain, at]))
            return own, own + 0.5 * stiffness[when] * (q - center[when]) ** 2

        work = np.cumsum([energy(n + 1, n + 1)[1] - energy(n + 1, n)[1] for n in range(STEPS)])
        np.testing.assert_allclose(run.work[chain], work, atol=1e-12)
        total = np.array([energy(n + 1, n + 1)[1] for n in range(STEPS)])
        if rule == "BAOAB":
            total += 0.5 * (run.momentum[chain].values ** 2).sum(axis=-1)
        risen = total - float(run.start_energy[chain])
        np.testing.assert_allclose(run.work[chain] + run.heat[chain], risen, atol=1e-12)
        assert np.ptp(run.heat[chain].values) > 0.1 < np.ptp(run.work[chain].values)
        np.testing.assert_allclose(run.energy[chain], [energy(n + 1, n + 1)[0] for n in range(STEPS)], atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parameter_per_chain_is_a_run_of_its_own(backend):
    """To the bit, also beside numbers that change in time, and for springs."""
    stiff, tilt = [0.5, 1.0, 3.0], [0.1, -0.2, 0.4]

    def run(k, a, center, chains=3):
        formula = Expression("k*x**2/2 + x**4/4 - a*cos(2*t)*x", ["x"], {"k": k, "a": a})
        return worked(formula, chains=chains, record=ls.Record(5, ["position", *WORK]), backend=backend,
                      constraint=ls.Restrain("x", center, 1.0))  # fmt: skip

    joint = run(stiff, tilt, ls.ramp([0.0, 1.0, 2.0], -1.0, 2.0))
    for chain in range(3):
        alone = run(stiff[chain], tilt[chain], ls.ramp(float(chain), -1.0, 2.0))
        for name in ("position", *WORK):
            assert (joint[name][chain].values == alone[name][chain].values).all(), name
    assert (joint.position[0, -1] != run(stiff[1], tilt[0], 0.0).position[0, -1]).all()


def test_metropolis_rules_take_one_energy_per_chain():
    formula = Expression("k*x**2/2", ["x"], {"k": np.repeat([1.0, 4.0], 1000)})
    run = ls.simulate(formula, ls.MALA(dt=0.2), temperature=1.0, steps=60, record=ls.Record(60, ["position"]), seed=2)
    square = run.position.values[:, 0, 0] ** 2
    assert abs(z_score(square[:1000], 1.0)) < Z_MAX and abs(z_score(square[1000:], 0.25)) < Z_MAX
    assert abs(z_score(square[1000:], 0.5)) > Z_CONTROL


@pytest.mark.parametrize("backend", BACKENDS)
def test_driven_oscillator_answers_as_its_recursion(backend):
    """Amplitude and phase of the linear response of the map itself: no error of the step size is left."""
    dt, friction, stiffness, force, w, steps = 0.2, 0.5, 1.0, 0.7, 1.1, 600
    formula = Expression("k*x**2/2 - f*cos(w*t)*x", ["x"], {"k": stiffness, "f": force, "w": w})
    settings = {"chains": 2, "temperature": 0.0, "record": ls.Record(1, ["position"]), "steps": steps,
                "backend": backend}  # fmt: skip
    run = ls.simulate(formula, ls.BAOAB(dt=dt, friction=friction), **settings)
    decay = np.exp(-friction * dt)

    def step(x, m, kick):
        m = m - dt * (stiffness * x - kick)
        return x + 0.5 * dt * (1.0 + decay) * m, decay * m

    columns = [step(1.0, 0.0, 0.0), step(0.0, 1.0, 0.0)]
    matrix, push = np.array(columns).T, np.array(step(0.0, 0.0, force))
    answer = np.linalg.solve(np.exp(1j * w * dt) * np.eye(2) - matrix, push)[0]
    times = run.time.values[400:]  # e^{-friction t/2} is forgotten
    np.testing.assert_allclose(run.position[0, 400:, 0], (answer * np.exp(1j * w * times)).real, atol=1e-8)
    late = (answer * np.exp(1j * w * (times - dt))).real  # the force of the end of the step
    assert np.abs(run.position[0, 400:, 0] - late).max() > 0.1
    continuum = force / np.hypot(stiffness - w**2, friction * w)
    assert abs(answer) == pytest.approx(continuum, rel=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_duffing_oscillator_step_by_step(backend):
    dt, friction, steps = 0.05, 0.3, 300
    duffing = Expression("x**4/4 - x**2/2 - f*cos(w*t)*x", ["x"], {"f": 0.5, "w": 1.2})
    run = ls.simulate(duffing, ls.BAOAB(dt=dt, friction=friction), chains=2, steps=steps, start=[1.0],
                      record=ls.Record(1, ["position"]), backend=backend, temperature=0.0)  # fmt: skip
    x, m, decay = 1.0, 0.0, np.exp(-friction * dt)
    path = []
    for n in range(steps):
        m -= (0.5 if n == 0 else 1.0) * dt * (x**3 - x - 0.5 * np.cos(1.2 * n * dt))
        x += 0.5 * dt * m
        m *= decay
        x += 0.5 * dt * m
        path.append(x)
    np.testing.assert_allclose(run.position[0, :, 0], path, rtol=1e-9)
    assert np.ptp(path) > 1.0


def test_second_order_where_the_force_depends_on_time():
    """Heun's second slope is that of the end of the step: x' = -x + cos(3t), at T = 0."""
    formula = Expression("x**2/2 - cos(3*t)*x", ["x"])
    exact = (np.cos(6.0) + 3.0 * np.sin(6.0) - np.exp(-2.0)) / 10.0
    errors = [
        float(ls.simulate(formula, ls.Heun(dt=dt), chains=2, steps=round(2.0 / dt), temperature=0.0, backend=backend)
              .last_position[0, 0]) - exact
        for backend in BACKENDS for dt in (0.1, 0.05)
    ]  # fmt: skip
    assert errors[:2] == pytest.approx(errors[2:], rel=1e-9)
    assert 3.4 < errors[0] / errors[1] < 4.6


def test_stochastic_resonance_against_the_law_of_the_steps():
    """Response of a double well at the drive's frequency: Euler's own Markov kernel, period after period, on a grid."""
    dt, heat, a, period = 0.05, 0.25, 0.15, 160
    w = 2.0 * np.pi / (period * dt)
    well = Expression("x**4/4 - x**2/2 - a*cos(w*t)*x", ["x"], {"a": a, "w": w})
    run = ls.simulate(well, ls.EulerMaruyama(dt=dt), temperature=heat, chains=3000, steps=5 * period, seed=4,
                      start=equilibrium(3000, 1.0), record=ls.Record(1, ["position"]))  # fmt: skip
    grid = np.linspace(-2.6, 2.6, 161)
    density = np.exp(-0.5 * grid**2)
    density /= density.sum()
    means = []
    for n in range(5 * period):
        goal = grid - dt * (grid**3 - grid - a * np.cos(w * n * dt))
        kernel = np.exp(-((grid[:, None] - goal) ** 2) / (4.0 * heat * dt))
        density = (kernel / kernel.sum(axis=0)) @ density
        means.append(grid @ density)
    wave = 2.0 / period * np.exp(-1j * w * dt * np.arange(4 * period + 1, 5 * period + 1))
    exact = np.array(means[4 * period :]) @ wave
    found = run.position.values[:, 4 * period :, 0] @ wave
    for part in ("real", "imag"):
        assert abs(z_score(getattr(found, part), getattr(exact, part))) < Z_MAX
    assert abs(exact) > 0.1 and np.angle(exact) < -0.3  # the two states lag behind
    assert abs(z_score(found.imag, -exact.imag)) > Z_CONTROL


def test_a_run_in_parts_is_the_whole(tmp_path):
    settings = {"temperature": T, "seed": 3, "record": ls.Record(4, ["position", *WORK]), "chains": 2,
                "constraint": spring(0.3)}  # fmt: skip
    for backend, dt in (("compiled", 0.1), ("batched", ls.ramp(0.05, 0.1, 2.0))):
        rule = ls.EulerMaruyama(dt=dt)
        whole = ls.simulate(DRAGGED, rule, steps=40, backend=backend, **settings)
        first = ls.simulate(DRAGGED, rule, steps=16, backend=backend, output=tmp_path / backend, **settings)
        second = ls.simulate(DRAGGED, rule, steps=24, start=first, state="keep", backend=backend, **settings)
        resumed = ls.resume(tmp_path / backend, steps=40, constraint=settings["constraint"])
        for name in ("position", *WORK):
            assert (second[name].values == whole[name].values[:, 4:]).all(), name
            assert (resumed[name].values == whole[name].values).all(), name


SPEC = {
    "task": "simulate", "steps": 20, "chains": 2, "temperature": 0.5, "seed": 1,
    "potential": {"kind": "Expression", "energy": "k*x**2/2 - a*cos(w*t)*x", "coordinates": ["x"],
                  "parameters": {"k": {"kind": "ramp", "start": 1.0, "end": -0.5, "duration": 4.0}, "a": [1.0, 2.0],
                                 "w": 2.0}},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
    "constraint": [{"kind": "Restrain", "coordinate": "x", "stiffness": 1.0,
                    "center": {"kind": "piecewise", "table": {"0": 0.0, "1.0": -1.0}}}],
    "record": {"every": 5, "observables": ["position", "energy", "work", "heat"]},
}  # fmt: skip


def test_a_specification_says_it_all():
    formula = Expression("k*x**2/2 - a*cos(w*t)*x", ["x"], {"k": ls.ramp(1.0, -0.5, 4.0), "a": [1.0, 2.0], "w": 2.0})
    held = ls.Restrain("x", ls.piecewise({0: 0.0, 1.0: -1.0}), 1.0)
    direct = worked(formula, steps=20, chains=2, constraint=held, record=ls.Record(5, ["position", *WORK]))
    by_table = ls.run(SPEC)
    for name in ("position", *WORK):
        assert (direct[name].values == by_table[name].values).all()
    assert "ramp" in repr(formula) and "'a': [1.0, 2.0]" in repr(formula)


def test_the_letter_t():
    assert Expression("t*x", ["x"], {"t": 2.0}).energy([3.0]) == 6.0
    assert Expression("t*x", ["x", "t"]).energy([3.0, 5.0]) == 15.0
    assert Expression("t*x", ["x"]).at(2.0).energy([3.0]) == 6.0
    assert not Expression("x", ["x"]).varying
    with pytest.raises(LandscapeError, match="t, which changes in time"):
        ls.potentials.Valley("1 + y**2*t")
    with pytest.raises(LandscapeError, match="t, which changes in time"):
        worked(FREE, chains=2, constraint=ls.Restrain("x - t", 0.0, 1.0))


def test_observables_see_the_energy_of_their_time():
    slope = {"slope": lambda potential, x: potential.gradient(x)[:, 0], "gradient_norm": None, "position": None}
    run = worked(DRAGGED, chains=2, record=ls.Record(10, slope))
    expected = K * (run.position[:, :, 0] - V * run.time)
    np.testing.assert_allclose(run.slope, expected, atol=1e-12)
    np.testing.assert_allclose(run.gradient_norm, abs(expected), atol=1e-12)


REFUSED = {
    "energy": lambda: DRAGGED.energy([1.0]),
    "minimize": lambda: ls.minimize(DRAGGED),
    "MALA": lambda: worked(DRAGGED, rule=ls.MALA),
    "HMC": lambda: ls.simulate(DRAGGED, ls.HMC(dt=0.1, leapfrog_steps=3), steps=2, temperature=1.0),
    "a spring that moves": lambda: worked(FREE, rule=ls.MALA, constraint=spring()),
    "replicas": lambda: ls.replica_exchange(DRAGGED, ls.EulerMaruyama(dt=0.1), [0.1, 0.2], steps=10, swap_every=5),
    "umbrella": lambda: free_energy.umbrella(DRAGGED, "x", [0.0, 0.1], 1.0),
    "mean_force": lambda: free_energy.mean_force(DRAGGED, "x", [0.0, 0.1], 1.0),
    "harmonic": lambda: free_energy.harmonic(DRAGGED, [0.0], 1.0),
    "certify": lambda: worked(DRAGGED, certify=True, steps=4000),
    "negative stiffness": lambda: worked(FREE, chains=2, constraint=ls.Restrain("x", 0.0, ls.ramp(1.0, -1.0, 1.0))),
    "a negative temperature": lambda: worked(FREE, temperature=ls.ramp(1.0, -1.0, 1.0)),
    "not finite": lambda: worked(Expression("k*x", ["x"], {"k": lambda time: np.inf + time}), chains=2),
    "heat of those that leave": lambda: worked(DRAGGED, constraint=ls.Absorb({"x": (-1.0, 1.0)})),
    "a tilted circle": lambda: worked(Expression("-x*t", ["x"]), constraint=ls.Periodic({"x": (-1.0, 1.0)})),
    "heat of a heavy ball": lambda: worked(DRAGGED, rule=lambda dt: ls.SGHMC(lr=dt, friction=0.5)),
    "no such chain": lambda: SHAKEN.at(0.0, chain=2),
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_needs_one_energy_says_so(call):
    with pytest.raises(ConfigError):
        REFUSED[call]()


def test_numbers_for_other_chains():
    with pytest.raises(ShapeError, match="'a'"):
        worked(SHAKEN, chains=3)
    with pytest.raises(ShapeError, match="2 chains"):
        SHAKEN.at(1.0).energy([[0.0, 0.0]])
    with pytest.raises(ShapeError):
        Expression("a*b*x", ["x"], {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]})


def test_work_stops_where_chains_leave():
    absorbed = {"constraint": ls.Absorb({"x": (None, 0.5)}), "record": ls.Record(1, ["work", "position"]), "chains": 60}
    for backend in BACKENDS:
        run = worked(DRAGGED, backend=backend, **absorbed)
        left = run.exit_time.values
        gone = (run.time.values[None] > left[:, None] + 1.5 * DT) & np.isfinite(left)[:, None]
        still = np.diff(run.work.values, axis=1) == 0.0
        assert gone.any() and still[gone[:, 1:]].all() and not still[~np.isfinite(left)].any()
