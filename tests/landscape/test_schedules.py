"""Schedules of temperature, step and rate: the value used at step n is that at t_n, the sum of the steps before it.

Noise is a function of (seed, chain, step), so on a flat landscape a scheduled run is a plain one with every kick scaled
by sqrt(T_n dt_n): a check without statistics. On a spring the moments obey the recursion with T_n and dt_n.
"""

import math

import numpy as np
import pytest

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import Expression
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score

FLAT = Expression("0*x", ["x"])


def ramp(start, end, duration):
    return lambda t: start + (end - start) * min(t / duration, 1.0)


def cycle(low, high, period):
    return lambda t: low + (high - low) * (1 - math.cos(2 * math.pi * t / period)) / 2


def piecewise(table):
    return lambda t: table[max(at for at in table if at <= t + 1e-12)]


def cosine(start, end, duration):
    return lambda t: end + (start - end) * (1 + math.cos(math.pi * min(t / duration, 1.0))) / 2


# By name: what is given to a run, made when it is needed, and the same by hand.
SCHEDULES = {
    "ramp": (lambda: ls.ramp(0.2, 1.5, 3.0), ramp(0.2, 1.5, 3.0)),
    "ramp down": (lambda: ls.ramp(2.0, 0.1, 9.0), ramp(2.0, 0.1, 9.0)),
    "cycle": (lambda: ls.cycle(0.3, 1.1, 2.5), cycle(0.3, 1.1, 2.5)),
    "piecewise": (
        lambda: ls.piecewise({0.0: 0.4, 1.05: 1.3, 2.35: 0.2}), piecewise({0.0: 0.4, 1.05: 1.3, 2.35: 0.2}),
    ),
    "cosine": (lambda: ls.cosine(1.4, 0.2, 2.2), cosine(1.4, 0.2, 2.2)),
    "callable": (lambda: lambda time: 0.3 + 0.1 * time**2, lambda t: 0.3 + 0.1 * t**2),
}  # fmt: skip
STEP_SCHEDULES = {
    "ramp": (lambda: ls.ramp(0.05, 0.3, 2.0), ramp(0.05, 0.3, 2.0)),
    "cosine": (lambda: ls.cosine(0.3, 0.02, 1.5), cosine(0.3, 0.02, 1.5)),
    "piecewise": (lambda: ls.piecewise({0.0: 0.1, 0.55: 0.25}), piecewise({0.0: 0.1, 0.55: 0.25})),
    "cycle": (lambda: ls.cycle(0.02, 0.2, 1.7), cycle(0.02, 0.2, 1.7)),
}


def history(temperature, step, steps):
    """T_n and dt_n of every step, and the time after it."""
    t, rows = 0.0, []
    for _ in range(steps):
        now = temperature(t), step(t)
        t += now[1]
        rows.append((*now, t))
    return np.array(rows).T


def kicks(run):
    return np.diff(run.position.values[..., 0], axis=1, prepend=0.0)


def free(temperature, step, backend, chains=5, **settings):
    settings = {"start": np.zeros((chains, 1)), "steps": 40, "seed": 101, "backend": backend} | settings
    return ls.simulate(FLAT, ls.EulerMaruyama(step), temperature=temperature, **settings)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_temperature_of_every_step(name, backend):
    make, by_hand = SCHEDULES[name]
    unit = kicks(free(1.0, 0.1, backend))
    run = free(make(), 0.1, backend)
    temperature, _, time = history(by_hand, lambda t: 0.1, 40)
    assert np.allclose(kicks(run), np.sqrt(temperature) * unit, rtol=1e-9, atol=1e-12)
    assert np.allclose(run.time, time)
    assert run.temperature.dims == ("chain", "draw")
    shifted = np.append(temperature[1:], temperature[-1])  # the value of the end of the step
    assert not np.allclose(kicks(run), np.sqrt(shifted) * unit, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", STEP_SCHEDULES)
def test_step_size_of_every_step(name, backend):
    make, by_hand = STEP_SCHEDULES[name]
    unit = kicks(free(1.0, 1.0, backend))
    run = free(0.7, make(), backend)
    _, step, time = history(lambda t: 0.7, by_hand, 40)
    assert np.allclose(kicks(run), np.sqrt(0.7 * step) * unit, rtol=1e-9, atol=1e-12)
    assert np.allclose(np.broadcast_to(run.time.values, (5, 40)), time)
    assert np.ptp(step) > 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_at_once_and_rare_records(backend):
    (hot, hot_by_hand), (step, step_by_hand) = SCHEDULES["cycle"], STEP_SCHEDULES["ramp"]
    unit = kicks(free(1.0, 1.0, backend))
    temperature, dt, time = history(hot_by_hand, step_by_hand, 40)
    exact = np.cumsum(np.sqrt(temperature * dt) * unit, axis=1)[:, 7::8]
    run = free(hot(), step(), backend, record=ls.Record(8))
    assert np.allclose(run.position[..., 0], exact, rtol=1e-9)
    assert np.allclose(np.broadcast_to(run.time.values, (5, 5)), time[7::8])


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_schedule_per_chain(backend):
    starts, ends, lows = [0.2, 0.9, 1.4], [1.0, 0.1, 1.4], [0.1, 0.2, 0.3]
    unit = kicks(free(1.0, 0.1, backend, chains=3))
    cases = (
        (ls.ramp(starts, ends, 2.0), [ramp(a, b, 2.0) for a, b in zip(starts, ends, strict=True)]),
        (ls.cosine(starts, 0.5, 2.0), [cosine(a, 0.5, 2.0) for a in starts]),
        (ls.cycle(lows, 1.0, 1.7), [cycle(a, 1.0, 1.7) for a in lows]),
        (ls.piecewise({0.0: starts, 1.05: 0.3}), [piecewise({0.0: a, 1.05: 0.3}) for a in starts]),
        (lambda time: np.array(starts) * (1 + time), [lambda t, a=a: a * (1 + t) for a in starts]),
    )
    for given, by_hand in cases:
        run = free(given, 0.1, backend, chains=3)
        temperature = np.array([history(one, lambda t: 0.1, 40)[0] for one in by_hand])
        assert np.allclose(kicks(run), np.sqrt(temperature) * unit, rtol=1e-9, atol=1e-12)
    run = free(0.7, ls.ramp([0.05, 0.1, 0.2], [0.3, 0.1, 0.05], 2.0), backend, chains=3)
    ends = zip([0.05, 0.1, 0.2], [0.3, 0.1, 0.05], strict=True)
    table = [history(lambda t: 0.7, ramp(a, b, 2.0), 40) for a, b in ends]
    one = kicks(free(1.0, 1.0, backend, chains=3))
    assert np.allclose(kicks(run), np.sqrt([0.7 * row[1] for row in table]) * one, rtol=1e-9, atol=1e-12)
    assert run.time.dims == ("chain", "draw")
    assert np.allclose(run.time, [row[2] for row in table])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "make", [lambda lr: ls.SGD(lr), lambda lr: ls.SGD(lr, momentum=0.8)], ids=["plain", "momentum"]
)
def test_rate_of_every_step(make, backend):
    """x' = x - lr_n k x, and v' = mu v + g, x' = x - lr_n v: a product and a recursion by hand."""
    k, momentum = 1.3, getattr(make(0.1), "momentum", 0.0)
    spring = Expression("k*x**2/2", ["x"], {"k": k})
    for name, (schedule, by_hand) in STEP_SCHEDULES.items():
        run = ls.simulate(spring, make(schedule()), start=[0.8], steps=30, backend=backend)
        _, rates, time = history(lambda t: 0.0, by_hand, 30)
        x, v, exact = 0.8, 0.0, []
        for rate in rates:
            v = momentum * v + k * x
            x -= rate * v
            exact.append(x)
        assert np.allclose(run.position[0, :, 0], exact, rtol=1e-9, atol=1e-14), name
        assert np.allclose(np.ravel(run.time), time)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_moments_on_a_spring(name, backend):
    """Mean and variance with T_n and dt_n together; not those of the mean temperature, nor of equilibrium."""
    (hot, hot_by_hand), (step, step_by_hand) = SCHEDULES[name], STEP_SCHEDULES["piecewise"]
    chains, steps = {"compiled": 60_000, "batched": 30_000}[backend], 24
    for k in (0.8, 2.5):
        run = ls.simulate(
            Expression("k*x**2/2", ["x"], {"k": k}), ls.EulerMaruyama(step()), temperature=hot(), start=[0.6],
            chains=chains, steps=steps, record=ls.Record(6), seed=102, backend=backend,
        )  # fmt: skip
        mean, variance, exact = 0.6, 0.0, []
        temperatures, dts, _ = history(hot_by_hand, step_by_hand, steps)
        for temperature, dt in zip(temperatures, dts, strict=True):
            mean, variance = (1 - dt * k) * mean, (1 - dt * k) ** 2 * variance + 2 * temperature * dt
            exact.append((mean, variance))
        x = run.position.values[..., 0]
        for draw, (mean, variance) in enumerate(exact[5::6]):
            assert abs(z_score(x[:, draw], mean)) < Z_MAX
            assert abs(z_score((x[:, draw] - mean) ** 2, variance)) < Z_MAX
        assert abs(z_score(1.05**2 * (x[:, -1] - mean) ** 2, variance)) > Z_CONTROL
        still = temperatures.mean() / k / (1 - dts[-1] * k / 2)
        if abs(still / variance - 1) > 0.1:
            assert abs(z_score((x[:, -1] - mean) ** 2, still)) > Z_CONTROL


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "make",
    [
        lambda h: ls.EulerMaruyama(h),
        lambda h: ls.LeimkuhlerMatthews(h),
        lambda h: ls.BAOAB(h, 0.7),
        lambda h: ls.Heun(h),
    ],
    ids=["EulerMaruyama", "LeimkuhlerMatthews", "BAOAB", "Heun"],
)
def test_two_runs_are_one(make, backend):
    """A schedule goes on where the first run ended: the same bits."""
    well = Expression("(x**2 - 1)**2/4", ["x"])
    for hot, step in ((SCHEDULES["cycle"][0], lambda: 0.07), (lambda: 0.4, STEP_SCHEDULES["ramp"][0])):
        settings = {"temperature": hot(), "seed": 103, "backend": backend}
        whole = ls.simulate(well, make(step()), start=[0.3], chains=6, steps=50, **settings)
        first = ls.simulate(well, make(step()), start=[0.3], chains=6, steps=23, **settings)
        second = ls.simulate(well, make(step()), start=first, state="keep", steps=27, **settings)
        assert whole.position.values[:, :23].tobytes() == first.position.values.tobytes()
        assert whole.position.values[:, 23:].tobytes() == second.position.values.tobytes()
        assert np.array_equal(np.asarray(whole.time)[..., 23:], np.asarray(second.time))
        fresh = ls.simulate(well, make(step()), start=first, steps=27, **settings)
        assert fresh.position.values.tobytes() != second.position.values.tobytes()


def test_schedules_are_kept_with_the_run():
    run = free(ls.ramp(0.2, 1.5, 3.0), ls.cosine(0.3, 0.02, 1.5), "auto")
    assert "ramp" in run.attrs["spec"] and "cosine" in run.attrs["spec"]
    assert np.allclose(run.temperature, [ramp(0.2, 1.5, 3.0)(t) for t in np.ravel(run.time)[:40]])


def test_bad_schedules_are_refused():
    for make in (
        lambda: ls.ramp(0.1, math.nan, 1.0),
        lambda: ls.ramp(0.1, 0.2, 0.0),
        lambda: ls.cycle(0.1, 0.2, -1.0),
        lambda: ls.cosine(0.1, 0.2, 0.0),
        lambda: ls.piecewise({}),
        lambda: ls.piecewise({1.0: 0.3}),
    ):
        with pytest.raises(LandscapeError):
            free(make(), 0.1, "auto")
    for make in (lambda: ls.ramp(0.1, -0.2, 1.0), lambda: lambda t: -1.0 + 0 * t, lambda: lambda t: math.nan + 0 * t):
        with pytest.raises(LandscapeError):
            free(make(), 0.1, "auto")
