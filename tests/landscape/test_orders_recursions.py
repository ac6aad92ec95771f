"""Stationary moments on springs: every linear scheme against the fixed point of its own recursion, at any step.

The step of each scheme, written as a matrix on (x, memory), gives its covariance by a discrete Lyapunov equation; its
distance from T/k over the step size gives the order, and runs at large steps have to have that covariance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import Expression
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, slope, z_score
from tests.exact_laws import Linear, baoab, euler, heun, leimkuhler_matthews, sghmc

K = np.array([0.5, 2.0, 3.5])
TEMPERATURES, STEPS, FRICTIONS = [0.3, 1.4], [0.1, 0.4], [0.3, 0.8]
HEATING = 1.05**2  # noise five percent too strong


@dataclass(frozen=True)
class Scheme:
    """An integrator, made from a step and a friction per chain, and its matrices on a spring."""

    make: Callable
    exact: Callable[..., Linear]  # of k, T, step and, where there is one, friction
    frictions: tuple = (None,)
    lag: Callable | None = None  # gradients, of step and friction, that a momentum lacks at the time of the position

    def linear(self, k, temperature, h, friction) -> Linear:
        return self.exact(k, temperature, h, *(() if friction is None else (friction,)))

    @property
    def momentum(self) -> bool:
        return self.lag is not None

    def covariance(self, k, temperature, h, friction) -> np.ndarray:
        """Of position and momentum at one time."""
        both = self.linear(k, temperature, h, friction).covariance
        if self.lag is None:
            return both
        kick = np.array([[1.0, 0.0], [-k * self.lag(h, friction), 1.0]])
        return kick @ both @ kick.T


SCHEMES = {
    "EulerMaruyama": Scheme(lambda h, _: ls.EulerMaruyama(h), euler),
    "SGLD": Scheme(lambda h, _: ls.SGLD(h), euler),
    "LeimkuhlerMatthews": Scheme(lambda h, _: ls.LeimkuhlerMatthews(h), leimkuhler_matthews),
    "Heun": Scheme(lambda h, _: ls.Heun(h), heun),
    "BAOAB": Scheme(lambda h, f: ls.BAOAB(h, f), baoab, tuple(FRICTIONS), lambda h, f: h / 2),
    "SGHMC": Scheme(lambda h, f: ls.SGHMC(h, f), sghmc, tuple(FRICTIONS), lambda h, f: h / (2 - f)),
}
EXACT_ON_SPRINGS = ("LeimkuhlerMatthews", "BAOAB")


def combinations(scheme: Scheme):
    return [(t, h, f) for t in TEMPERATURES for h in STEPS for f in scheme.frictions]


@pytest.mark.parametrize("name", SCHEMES)
def test_order_of_the_stationary_variance(name):
    """<x^2> - T/k falls as the declared power of the step; where it is zero at any step, wells decide (elsewhere)."""
    scheme, declared = SCHEMES[name], getattr(ls, name).stationary_order
    steps = np.array([0.04, 0.02, 0.01])
    for k, temperature, friction in ((1.0, 0.5, 0.4), (2.7, 0.5, 0.4), (1.0, 1.9, 0.4), (1.0, 0.5, 0.9)):
        friction = friction if scheme.frictions != (None,) else None
        errors = [scheme.linear(k, temperature, h, friction).covariance[0, 0] - temperature / k for h in steps]
        if name in EXACT_ON_SPRINGS:
            assert np.max(np.abs(errors)) < 1e-12
        else:
            assert abs(slope(steps, errors) - declared) < 0.1


@pytest.mark.parametrize(
    ("k", "temperature", "h"), [(1.7, 0.4, 0.3), (0.6, 0.4, 0.3), (1.7, 2.0, 0.3), (1.7, 0.4, 0.9)]
)
def test_closed_forms_of_the_recursions(k, temperature, h):
    """The fixed points as formulas."""
    u, spring = h * k, temperature / k
    for friction in (0.2, 0.7, 1.0):
        for linear, variance in (
            (euler(k, temperature, h), spring / (1 - u / 2)),
            (leimkuhler_matthews(k, temperature, h), spring),
            (heun(k, temperature, h), spring * (1 - u / 2) / (1 - u / 2 + u**2 / 4)),
            (baoab(k, temperature, h, friction), spring),
            (sghmc(k, temperature, h, friction), spring / (1 - u / (2 * (2 - friction)))),
        ):
            assert math.isclose(linear.covariance[0, 0], variance, rel_tol=1e-10)


def springs():
    return Expression("(a*x**2 + b*y**2 + c*z**2)/2", ["x", "y", "z"], dict(zip("abc", K, strict=True)))


def scan(scheme: Scheme, backend, heating):
    """All combinations in one run: coordinates (and momenta), ``(combination, replica, draw, 3 or 6)``."""
    replicas, warm, steps = {"compiled": (800, 300, 600), "batched": (300, 300, 300)}[backend]
    temperature, h, friction = (np.repeat(column, replicas) for column in zip(*combinations(scheme), strict=True))
    rule = scheme.make(h, friction)
    names = ["position", "momentum"] if scheme.momentum else ["position"]
    settings = {"temperature": heating * temperature, "seed": 41, "backend": backend}
    first = ls.simulate(springs(), rule, start=[0.2, -0.1, 0.1], steps=warm, record=ls.Record(warm), **settings)
    run = ls.simulate(springs(), rule, start=first, state="keep", steps=steps, record=ls.Record(8, names), **settings)
    values = np.concatenate([run[name].values for name in names], axis=-1)
    return values.reshape(len(combinations(scheme)), replicas, -1, values.shape[-1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SCHEMES)
def test_stationary_covariance(name, backend):
    scheme = SCHEMES[name]
    found = {heating: scan(scheme, backend, heating) for heating in (1.0, HEATING)}
    for settings, z in zip(combinations(scheme), found[1.0], strict=True):
        temperature, h, _ = settings
        exact = [scheme.covariance(k, *settings) for k in K]
        variance = np.array([c[0, 0] for c in exact])
        x = z[..., :3]
        assert np.all(np.abs(z_score((x**2).mean(axis=1), variance)) < Z_MAX)
        assert np.all(np.abs(z_score((x**4).mean(axis=1), 3 * variance**2)) < Z_MAX)
        assert np.all(np.abs(z_score(x.mean(axis=1), 0.0)) < Z_MAX)
        if scheme.momentum:
            m = z[..., 3:]
            assert np.all(np.abs(z_score((m**2).mean(axis=1), [c[1, 1] for c in exact])) < Z_MAX)
            assert np.all(np.abs(z_score((x * m).mean(axis=1), [c[0, 1] for c in exact])) < Z_MAX)
        total = (K / 2 * x**2).sum(-1).mean(axis=1)
        mean = (K / 2 * variance).sum()
        assert abs(z_score(total, 2 * mean)) > Z_CONTROL  # T per spring instead of T/2
        if h == max(STEPS) and name not in EXACT_ON_SPRINGS:
            assert abs(z_score((x[..., 2] ** 2).mean(axis=1), temperature / K[2])) > Z_CONTROL  # the continuum

    # All combinations together, as multiples of what they should be: noise five percent too strong is noticed.
    for heating in (1.0, HEATING):
        ratios = []
        for settings, z in zip(combinations(scheme), found[heating], strict=True):
            variance = np.array([scheme.linear(k, *settings).covariance[0, 0] for k in K])
            ratios.append((z[..., :3] ** 2 / variance).mean(axis=(1, 2)))
        z = abs(z_score(np.concatenate(ratios), 1.0))
        assert z < Z_MAX if heating == 1.0 else z > Z_CONTROL


@pytest.mark.parametrize(("name", "h", "steps"), [("BAOAB", 0.4, 5), ("SGHMC", 1.0, 400)])
def test_one_friction_for_another_is_noticed(name, h, steps):
    """It shows in the stationary law of SGHMC, and in how fast BAOAB reaches its own."""
    scheme, k, temperature = SCHEMES[name], 2.0, 0.7
    spring = Expression("k*x**2/2", ["x"], {"k": k})
    settings = {"temperature": temperature, "start": [0.0], "chains": 40_000, "seed": 42, "backend": "compiled"}
    for friction, other in ((0.3, 0.6), (0.9, 0.5)):
        run = ls.simulate(spring, scheme.make(h, friction), steps=steps, record=ls.Record(steps), **settings)
        for value, right in ((friction, True), (other, False)):
            linear = scheme.linear(k, temperature, h, value)
            covariance = np.diag([0.0, temperature])  # at x = 0 the first kick is none
            for _ in range(steps):
                _, covariance = linear.evolve(np.zeros(2), covariance)
            z = abs(z_score(run.last_position.values[:, 0] ** 2, covariance[0, 0]))
            assert z < Z_MAX if right else z > Z_CONTROL
