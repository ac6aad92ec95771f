"""Stated facts of the integrators: strong and weak order, order of the stationary law, cost, specification, refusals.

Orders at fixed time come from exact recursions for the moments on a spring, which runs are held against at every step
size; strong orders from one Brownian path ridden at several steps.
"""

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import integrators
from landscape.errors import LandscapeError
from landscape.potentials import Expression, Function
from landscape.spec.building import build_integrator
from tests.cases import BACKENDS, INTEGRATORS, REFINED, THERMAL, Z_CONTROL, Z_MAX, slope, z_score

CLASSES = {
    name: getattr(integrators, name)
    for name in integrators.__all__
    if inspect.isclass(getattr(integrators, name))
    and issubclass(getattr(integrators, name), integrators.Integrator)
    and name not in ("Integrator", "Preconditioned", "Optimizer")  # wrappers have tests of their own
}
NEEDED = {
    "BAOAB": {"friction": 1.0},
    "HMC": {"leapfrog_steps": 2},
    "SGHMC": {"friction": 0.3},
    "NUTS": {"max_tree_depth": 3},
}
SCHEMES = {"EulerMaruyama": ls.EulerMaruyama, "LeimkuhlerMatthews": ls.LeimkuhlerMatthews}
NUMBER = (int, float)


# -- weak order: moments of a spring at a fixed time ------------------------------------------------------------------


def transient(scheme, k, temperature, dt, start, steps):
    """Exact mean and variance of x after `steps` steps from a fixed start."""
    rho, kick = 1 - dt * k, 2 * temperature * dt
    mean, variance, shared = start, 0.0, 0.0  # shared: covariance of x_n with the noise that the next step repeats
    for _ in range(steps):
        mean = rho * mean
        if scheme == "EulerMaruyama":
            variance = rho**2 * variance + kick
        else:  # x' = rho x + s (xi_n + xi_{n+1})/2, s^2 = kick, <x_n s xi_n> = shared
            variance = rho**2 * variance + rho * shared + kick / 2
            shared = kick / 2
    return mean, variance


def ornstein_uhlenbeck(k, temperature, start, time):
    return start * math.exp(-k * time), temperature / k * (1 - math.exp(-2 * k * time))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weak_order_of_the_recursions(scheme):
    time, k, temperature, start = 0.6, 1.7, 0.4, 1.2
    counts = np.array([12, 24, 48, 96])
    exact = ornstein_uhlenbeck(k, temperature, start, time)
    errors = np.array([transient(scheme, k, temperature, time / n, start, n) for n in counts]) - exact
    assert abs(slope(1 / counts, errors[:, 0]) - SCHEMES[scheme].weak_order) < 0.15
    second = errors[:, 1] + 2 * exact[0] * errors[:, 0] + errors[:, 0] ** 2  # error of <x^2>
    assert abs(slope(1 / counts, second) - SCHEMES[scheme].weak_order) < 0.15


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_transient_of_a_spring(scheme, backend):
    """Runs follow the recursions at every step size, and not the continuum."""
    chains = {"compiled": 200_000, "batched": 100_000}[backend]
    for k, temperature, start, time, count in (
        (1.7, 0.4, 1.2, 0.6, 3),
        (1.7, 0.4, 1.2, 0.6, 8),
        (0.6, 2.0, -3.0, 2.0, 4),
    ):
        spring, dt = Expression("k*x**2/2", ["x"], {"k": k}), time / count
        run = ls.simulate(
            spring,
            SCHEMES[scheme](dt),
            temperature=temperature,
            start=[start],
            chains=chains,
            steps=count,
            record=ls.Record(1, ["position"]),
            seed=17,
            backend=backend,
        )
        for n in range(count):
            x = run.position.values[:, n, 0]
            mean, variance = transient(scheme, k, temperature, dt, start, n + 1)
            assert abs(z_score(x, mean)) < Z_MAX
            assert abs(z_score((x - mean) ** 2, variance)) < Z_MAX
            assert abs(z_score((x - mean) ** 4, 3 * variance**2)) < Z_MAX
        assert abs(z_score((x - mean) ** 2, variance / 2)) > Z_CONTROL
        assert abs(z_score(1.1025 * (x - mean) ** 2, variance)) > Z_CONTROL
        assert abs(z_score(x, ornstein_uhlenbeck(k, temperature, start, time)[0])) > Z_CONTROL
        other = "EulerMaruyama" if scheme != "EulerMaruyama" else "LeimkuhlerMatthews"
        assert abs(z_score((x - mean) ** 2, transient(other, k, temperature, dt, start, count)[1])) > Z_CONTROL


def test_weak_order_from_runs():
    """The error of <x> at fixed time, measured: steps over one Brownian path share most of their noise."""
    k, temperature, start, time = 1.0, 0.02, 1.0, 1.0
    spring = Expression("k*x**2/2", ["x"], {"k": k})
    counts = np.array([2, 4, 8])
    for scheme in SCHEMES:
        errors = []
        for count in counts:
            rule = SCHEMES[scheme](time / count, ls.ThermalNoise("float64", 16 // int(count)))
            run = ls.simulate(
                spring, rule, temperature=temperature, start=[start], chains=100_000, steps=int(count), seed=18,
                record=ls.Record(int(count)), backend="compiled",
            )  # fmt: skip
            errors.append(float(run.last_position.mean()) - math.exp(-k * time) * start)
        assert abs(slope(1 / counts, errors) - SCHEMES[scheme].weak_order) < 0.25


def exact_stationary_variance(scheme, k, temperature, dt):
    return transient(scheme, k, temperature, dt, 0.0, 4000)[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_recursions_reach_the_stationary_law(scheme):
    """T/[k (1 - dt k/2)] and T/k; the stationary orders beyond springs are in test_laws_wells."""
    for k, temperature, dt in ((1.0, 0.5, 0.1), (4.0, 0.5, 0.1), (1.0, 2.0, 0.4)):
        exact = temperature / k / (1 - dt * k / 2 if scheme == "EulerMaruyama" else 1)
        assert math.isclose(exact_stationary_variance(scheme, k, temperature, dt), exact, rel_tol=1e-12)


# -- strong order: one path at several steps --------------------------------------------------------------------------

LANDSCAPES = {
    "double well": (lambda: Expression("(x**2 - 1)**2/4", ["x"]), [0.3], 0.5),
    "valley": (lambda: Expression("(1 + y**2)*x**2/2 + y**2/4", ["x", "y"]), [0.8, 0.6], 0.3),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("landscape", LANDSCAPES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_strong_order(scheme, landscape, backend):
    make, start, temperature = LANDSCAPES[landscape]
    finest, time = 1024, 1.0
    chains = {"compiled": 2000, "batched": 300}[backend]
    settings = {"temperature": temperature, "start": start, "chains": chains, "seed": 19, "backend": backend}

    def end(rule, count):
        return ls.simulate(make(), rule, steps=count, record=ls.Record(count), **settings).last_position.values

    truth = end(ls.EulerMaruyama(time / finest, ls.ThermalNoise("float64")), finest)
    counts = np.array([16, 32, 64, 128])
    errors = []
    for count in counts:
        rule = SCHEMES[scheme](time / count, ls.ThermalNoise("float64", finest // int(count)))
        errors.append(math.sqrt(np.mean((end(rule, int(count)) - truth) ** 2)))
    assert abs(slope(1 / counts, errors) - SCHEMES[scheme].strong_order) < 0.15
    unrelated = end(SCHEMES[scheme](time / 128, ls.ThermalNoise("float64")), 128)  # another path: no convergence
    assert math.sqrt(np.mean((unrelated - truth) ** 2)) > 3 * errors[-1]


# -- every integrator -------------------------------------------------------------------------------------------------


def rebuild(spec):
    """An integrator from its plain data."""
    return build_integrator(json.loads(json.dumps(spec)))


def make(cls, step, **settings):
    """An integrator of a class, with the settings that it cannot do without."""
    return cls(step, **NEEDED.get(cls.__name__, {}), **settings)


def step_name(cls):
    names = [field.name for field in dataclasses.fields(cls)]
    return "dt" if "dt" in names else "lr"


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_facts_are_stated(cls):
    assert cls.__name__ in ls.__all__
    assert cls.weak_order is None or isinstance(cls.weak_order, int)
    assert cls.stationary_order is None or isinstance(cls.stationary_order, NUMBER)
    assert cls.strong_order is None or isinstance(cls.strong_order, NUMBER)
    gradients = make(cls, 0.1).gradients_per_step
    assert isinstance(gradients, int) and gradients >= 0
    assert isinstance(cls.samples_boltzmann, bool) and isinstance(cls.thermal, bool)
    assert cls.thermal or not cls.samples_boltzmann
    assert (cls.stationary_order is not None) == cls.samples_boltzmann
    assert cls.__doc__ and "Examples" in cls.__doc__


def test_facts_are_the_known_ones():
    facts = {
        name: (c.weak_order, c.stationary_order, c.strong_order, c.samples_boltzmann) for name, c in CLASSES.items()
    }
    assert facts["EulerMaruyama"] == (1, 1, 1, True)
    assert facts["LeimkuhlerMatthews"] == (1, 2, 0.5, True)
    assert facts["Heun"] == (2, 2, 1, True)
    assert facts["BAOAB"] == (2, 2, 1, True)
    assert facts["MALA"] == (1, math.inf, 0.75, True)
    assert facts["HMC"] == (None, math.inf, None, True)
    assert facts["SGLD"] == (1, 1, 1, True)
    assert facts["SGHMC"] == (None, 1, None, True)
    for name in ("Diffusion", "SGD", "Adam", "AdamW"):
        assert facts[name] == (None, None, None, False)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_settings_are_frozen(cls):
    rule = make(cls, 0.1)
    assert dataclasses.is_dataclass(cls)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        setattr(rule, step_name(cls), 0.2)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_specification_round_trip(name):
    rule = INTEGRATORS[name](0.05)
    spec = rule.spec()
    assert json.loads(json.dumps(spec)) == spec
    assert spec["kind"] == type(rule).__name__
    again = rebuild(spec)
    assert again.spec() == spec
    bowl = Expression("x**2/2 + y**4", ["x", "y"])
    settings = {"start": [0.5, 0.4], "steps": 20, "seed": 1, "temperature": 0.2 if rule.thermal else 0.0}
    one, other = (ls.simulate(bowl, r, **settings) for r in (rule, again))
    assert one.position.values.tobytes() == other.position.values.tobytes()
    assert json.loads(one.attrs["spec"])["integrator"] == spec


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_specification_of_one_step_per_chain(cls):
    for given in ([0.1, 0.2], np.array([0.1, 0.2]), torch.tensor([0.1, 0.2], dtype=torch.float64)):
        spec = make(cls, given).spec()
        assert json.loads(json.dumps(spec)) == spec
        assert spec[step_name(cls)] == [0.1, 0.2]
        assert rebuild(spec).spec() == spec


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize(
    "bad",
    [0, 0.0, -0.1, math.nan, math.inf, -math.inf, "fast", None, [], [[0.1]], [0.1, 0.0], [0.1, math.nan], 1j, {}],
    ids=repr,
)
def test_bad_steps_are_refused(cls, bad):
    with pytest.raises(LandscapeError, match=step_name(cls)):
        make(cls, bad)


@pytest.mark.parametrize("bad", [True, "0.1"], ids=repr)
@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_truth_values_and_text_are_no_steps(cls, bad):
    with pytest.raises(LandscapeError):
        make(cls, bad)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: ls.SGD(0.1, momentum=1.0), "momentum"),
        (lambda: ls.SGD(0.1, momentum=-0.1), "momentum"),
        (lambda: ls.SGD(0.1, momentum=math.nan), "momentum"),
        (lambda: ls.SGD(0.1, weight_decay=-1.0), "weight_decay"),
        (lambda: ls.SGD(0.1, weight_decay=math.inf), "weight_decay"),
        (lambda: ls.Adam(0.1, betas=(1.0, 0.9)), "betas"),
        (lambda: ls.Adam(0.1, betas=(0.9, -0.1)), "betas"),
        (lambda: ls.Adam(0.1, betas=(0.9,)), "betas"),
        (lambda: ls.Adam(0.1, betas=0.9), "betas"),
        (lambda: ls.Adam(0.1, eps=-1e-8), "eps"),
        (lambda: ls.Adam(0.1, eps=math.nan), "eps"),
        (lambda: ls.AdamW(0.1, weight_decay=-0.1), "weight_decay"),
        (lambda: ls.AdamW(0.1, betas=(0.9, math.nan)), "betas"),
    ],
)
def test_bad_settings_are_refused(make, word):
    with pytest.raises(LandscapeError, match=word):
        make()


@pytest.mark.parametrize("cls", [c for c in CLASSES.values() if c.thermal], ids=lambda c: c.__name__)
def test_bad_noise_is_refused(cls):
    for noise in ("float64", 3, ls.ThermalNoise):
        with pytest.raises(LandscapeError):
            ls.simulate(Expression("x**2", ["x"]), make(cls, 0.1, noise=noise), temperature=1.0, steps=2)


def test_refinement_may_be_a_numpy_integer():
    assert ls.ThermalNoise("float32", np.int64(4)) == ls.ThermalNoise("float32", 4)


class _Counted(torch.autograd.Function):
    """Half a square, counting how often its gradient is asked for."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * x.square()

    @staticmethod
    def backward(ctx, upstream):
        _Counted.calls += 1
        (x,) = ctx.saved_tensors
        return upstream * x


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_gradients_per_step(cls):
    bowl = Function(lambda x: _Counted.apply(x).sum(-1), 2)
    settings = {"start": [0.3, 0.2], "record": ls.Record(50), "temperature": 0.1 if cls.thermal else 0.0}
    ls.simulate(bowl, make(cls, 0.01), steps=1, **settings)
    counts, stated = [], []
    for steps in (50, 150):
        _Counted.calls = 0
        run = ls.simulate(bowl, make(cls, 0.01), steps=steps, **settings)
        counts.append(_Counted.calls)
        # trees grow as they do, and count
        stated.append(int(run.gradients[0]) if "gradients" in run else steps * make(cls, 0.01).gradients_per_step)
    assert counts[1] - counts[0] == stated[1] - stated[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", THERMAL | REFINED)
def test_temperature_scales_the_noise_alone(name, backend):
    """Without force x - x0 is proportional to sqrt(T dt); at T = 0 the noise is off."""
    flat = Expression("0*x + 0*y", ["x", "y"])
    settings = {"start": [0.0, 0.0], "chains": 4, "steps": 7, "seed": 2, "backend": backend}
    base = ls.simulate(flat, INTEGRATORS[name](0.1), temperature=0.3, **settings).position.values
    hotter = ls.simulate(flat, INTEGRATORS[name](0.1), temperature=1.2, **settings).position.values
    longer = ls.simulate(flat, INTEGRATORS[name](0.9), temperature=0.3, **settings).position.values
    assert np.allclose(hotter, 2 * base, rtol=1e-12, atol=1e-12)
    assert np.allclose(longer, 3 * base, rtol=1e-12, atol=1e-12)
    assert np.all(ls.simulate(flat, INTEGRATORS[name](0.1), temperature=0.0, **settings).position == 0)
