"""Several walls crossed within one step: the earliest counts, at a time drawn from the law of the Brownian path.

Free diffusion is exact at any step: its ends are Gaussian, and between them the path is a bridge whose first passages
are drawn. From the middle of (-1, 1)^n at T = 1 the mean exit time is the integral of S(t)^n, with the survival of one
coordinate S(t) = sum_k 2 (-1)^k exp(-a_k^2 t)/a_k, a_k = (k + 1/2) pi.
"""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.boundaries.bridges import Draws, first_crossing, when
from landscape.potentials import Expression
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, gauss, z_score

NAMES = [f"x{i}" for i in range(5)]
STEPS = (0.01, 0.05, 0.1, 0.5)


def survival(t):
    a = (np.arange(400) + 0.5) * math.pi
    return np.exp(-np.outer(t, a**2)) @ (2 * (-1.0) ** np.arange(400) / a)


def mean_exit_time(dim):
    t, w = gauss(math.log(1e-4), math.log(14.0), 60, 12)
    return 1e-4 + float((w * np.exp(t)) @ survival(np.exp(t)) ** dim)


def leave(dim, dt, chains, backend="compiled", seed=1, **settings):
    names, steps = NAMES[:dim], math.ceil(9 / dt)
    return ls.simulate(
        Expression("0*x0", names), ls.EulerMaruyama(dt=dt), temperature=1.0, chains=chains, steps=steps, seed=seed,
        start=[0.0] * dim, constraint=ls.Absorb(dict.fromkeys(names, (-1, 1))), backend=backend,
        record=ls.Record(steps, ["energy"]), **settings,
    )  # fmt: skip


def test_mean_exit_times():
    assert abs(mean_exit_time(1) - 0.5) < 1e-9
    assert abs(mean_exit_time(2) - 0.29468541) < 1e-7  # the torsion function of a square in its middle


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_boxes_at_any_step(dim, dt):
    """Shares of the coordinates and of the two sides, mean and second moment of the time: all exact."""
    run = leave(dim, dt, 4000 if dt < 0.02 else 20_000)
    times, exact = run.exit_time.values, mean_exit_time(dim)
    assert abs(z_score(times, exact)) < Z_MAX
    assert abs(z_score(times + 0.25 * exact, exact)) > Z_CONTROL
    assert abs(z_score(run.exit_side.values < 0, 0.5)) < Z_MAX
    for name in NAMES[:dim] if dim > 1 else ():
        assert abs(z_score(run.exit_coordinate.values == name, 1 / dim)) < Z_MAX
    if dim == 1:  # exp(-t) has the mean 1/cosh(1), t^2 the mean 5/12
        assert abs(z_score(np.exp(-times), 1 / math.cosh(1.0))) < Z_MAX
        assert abs(z_score(times**2, 5 / 12)) < Z_MAX
    x = run.last_position.values
    assert np.abs(x).max() <= 1.0 and np.array_equal((np.abs(x) == 1.0).any(axis=1), np.ones(len(x), bool))


@pytest.mark.parametrize("dt", [0.1, 0.5])
def test_backends_leave_boxes_alike(dt):
    one, other = (leave(3, dt, 300, backend) for backend in BACKENDS)
    assert np.array_equal(one.exit_coordinate, other.exit_coordinate)
    assert np.array_equal(one.exit_side, other.exit_side)
    assert np.allclose(one.exit_time, other.exit_time, rtol=1e-9, atol=0)
    assert np.allclose(one.last_position, other.last_position, rtol=0, atol=1e-9)


def test_the_walls_order_does_not_matter():
    """With a wall that is met in half the time, the share is not that of the name that comes first."""
    shares = []
    for names in (["a", "b"], ["b", "a"]):
        run = ls.simulate(
            Expression(f"0*{names[0]}", names), ls.EulerMaruyama(dt=0.3), temperature=1.0, chains=20_000, steps=60,
            start=[0.0, 0.0], constraint=ls.Absorb({"a": (-1, 1), "b": (-0.5, 1.3)}), seed=5,
            record=ls.Record(60, ["energy"]), backend="compiled",
        )  # fmt: skip
        shares.append(run.exit_coordinate.values == "a")
    error = math.hypot(*(share.std() / len(share) ** 0.5 for share in shares))
    assert abs(shares[0].mean() - shares[1].mean()) < Z_MAX * error
    assert abs(shares[0].mean() - 0.5) > Z_CONTROL * error


def test_where_the_others_are():
    """On leaving at time t an unbounded coordinate is Gaussian of variance 2 T t, not of a step's end later."""
    run = ls.simulate(
        Expression("0*x + 0*y", ["x", "y"]), ls.EulerMaruyama(dt=0.5), temperature=1.0, chains=20_000, steps=30,
        start=[0.0, 0.0], constraint=ls.Absorb({"x": (-1, 1)}), seed=2, record=ls.Record(30, ["energy"]),
        backend="compiled",
    )  # fmt: skip
    scaled = run.last_position.values[:, 1] ** 2 / (2 * run.exit_time.values)
    assert abs(z_score(scaled, 1.0)) < Z_MAX
    late = np.ceil(run.exit_time.values / 0.5) * 0.5
    assert abs(z_score(run.last_position.values[:, 1] ** 2 / (2 * late), 1.0)) > Z_CONTROL


def test_correlated_noise_at_the_exit():
    """y follows x: given that x is on its wall, y has the mean rho x and the variance 2 T t (1 - rho^2)."""
    rule = ls.EulerMaruyama(dt=0.2, noise=ls.CovarianceNoise([[1.0, 0.6], [0.6, 1.0]]))
    run = ls.simulate(
        Expression("0*x + 0*y", ["x", "y"]), rule, temperature=1.0, chains=4000, steps=60, start=[0.0, 0.0], seed=2,
        constraint=ls.Absorb({"x": (-1, 1)}), record=ls.Record(60, ["energy"]), backend="batched",
    )  # fmt: skip
    (x, y), t = run.last_position.values.T, run.exit_time.values
    assert abs(z_score(y * x, 0.6)) < Z_MAX
    assert abs(z_score((y - 0.6 * x) ** 2 / (2 * t), 1 - 0.36)) < Z_MAX
    assert abs(z_score(y**2 / (2 * t), 1.0)) > Z_CONTROL


# -- the bridge itself ------------------------------------------------------------------------------------------------


def test_the_time_of_a_crossing():
    """Its density on (0, 1), by quadrature, for ends inside the wall, on it and beyond."""
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(40_000, generator=generator, dtype=torch.float64)
    chance = torch.rand(40_000, generator=generator, dtype=torch.float64)
    for near, far, variance in ((1.0, 1.0, 1.0), (0.3, 1.2, 0.7), (1.2, 0.3, 0.7), (0.5, 0.0, 2.0), (0.0, 1.0, 1.0)):
        full = [torch.full((40_000,), value, dtype=torch.float64) for value in (near, far, variance)]
        share = when(*full, normal, chance).numpy()
        assert share.min() >= 0 and share.max() <= 1
        if near == 0:
            assert share.max() < 1e-6
            continue
        angle, w = gauss(0.0, math.pi / 2, 60, 12)
        t = np.sin(angle) ** 2
        log = -1.5 * np.log(t) - 0.5 * np.log1p(-t) - near**2 / (2 * variance * t) - far**2 / (2 * variance * (1 - t))
        density = w * 2 * np.sin(angle) * np.cos(angle) * np.exp(log - log.max())
        density /= density.sum()
        mean = float(density @ t)
        assert abs(z_score(share, mean)) < Z_MAX
        assert abs(z_score(share**2, float(density @ t**2))) < Z_MAX
        straight = near / (near + far)
        if abs(straight - mean) > 0.02:
            assert abs(z_score(share, straight)) > Z_CONTROL  # the straight line is late or early


def test_two_walls_in_one_step():
    """A path of a long step between two walls: its chance to leave against the series of images."""
    start, end, variance, width = 0.4, 0.7, 0.6, 1.0
    k = np.arange(-40, 41)
    inside = np.exp(-((end - start + 2 * k * width) ** 2) / (2 * variance))
    mirrored = np.exp(-((end + start + 2 * k * width) ** 2) / (2 * variance))
    exact = 1 - float((inside - mirrored).sum() / math.exp(-((end - start) ** 2) / (2 * variance)))
    full = [torch.full((20_000,), value, dtype=torch.float64) for value in (start, end, variance)]
    draws = Draws(3, torch.arange(20_000), 7)
    share, _ = first_crossing(*full, [(0, 0.0, 0), (1, width, 1)], draws, (1, 0), bridge=True)
    left = (share <= 1).numpy()
    assert abs(z_score(left, exact)) < Z_MAX
    single = [math.exp(-2 * start * end / variance), math.exp(-2 * (1 - start) * (1 - end) / variance)]
    assert abs(z_score(left, 1 - (1 - single[0]) * (1 - single[1]))) > Z_CONTROL  # as if the walls did not know
    back = first_crossing(full[1], full[0], full[2], [(0, 0.0, 0), (1, width, 1)], draws, (1, 0), bridge=True)
    assert abs((back[0] <= 1).double().mean() - exact) < 0.02
