"""Stationary laws in a double well, exact in discrete time: their order in the step, and runs that have them.

The operator of one step of each scheme is a matrix on quadrature nodes (`tests.exact_laws`); its fixed point is the law
that the scheme samples. MALA and HMC sample exp(-V/T) at any step. BAOAB needs position and momentum: two dimensions.
"""

import math

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import toys
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, slope, time_average, z_score
from tests.exact_laws import (
    GAUSS_HERMITE,
    TWO_POINT,
    Line,
    acceptance,
    baoab_operator,
    boltzmann,
    euler_move,
    heun_move,
    hmc_move,
    leimkuhler_matthews_move,
    mala_move,
    normal_panels,
    operator,
    stationary,
)

HEATING = 1.05**2  # noise five percent too strong
PANELS = normal_panels()


class Well:
    """height ((x/width)^2 - 1)^2 by hand."""

    def __init__(self, height=1.0, width=1.0):
        self.height, self.width = height, width
        self.toy = toys.DoubleWell(height, width)

    def energy(self, x):
        return self.height * ((x / self.width) ** 2 - 1) ** 2

    def gradient(self, x):
        return 4 * self.height * x / self.width**2 * ((x / self.width) ** 2 - 1)

    def curvature(self, x):
        return 4 * self.height / self.width**2 * (3 * (x / self.width) ** 2 - 1)

    def line(self, reach=2.2):
        return Line(-reach * self.width, reach * self.width, 24, 12)


def law(name, well, temperature, h, friction=None, leapfrog_steps=None):
    """Nodes and stationary probabilities of a scheme."""
    line = well.line(2.0 if name in ("MALA", "HMC") else 2.3)
    if name == "LeimkuhlerMatthews":
        half = operator(line, lambda u, xi: u + math.sqrt(temperature * h / 2) * xi)
        hidden = operator(line, leimkuhler_matthews_move(well.gradient, temperature, h))
        return line.nodes, stationary(hidden) @ half
    if name == "BAOAB":
        far = 7 * math.sqrt(temperature)
        x_line, m_line = Line(-2.2 * well.width, 2.2 * well.width, 6, 11), Line(-far, far, 3, 12)
        joint = stationary(baoab_operator(x_line, m_line, well.gradient, temperature, h, friction))
        return x_line.nodes, joint.reshape(len(x_line.nodes), -1).sum(axis=1)
    move, rule = {
        "EulerMaruyama": lambda: (euler_move(well.gradient, temperature, h), GAUSS_HERMITE),
        "SGLD": lambda: (euler_move(well.gradient, temperature, h), GAUSS_HERMITE),
        "TwoPointNoise": lambda: (euler_move(well.gradient, temperature, h), TWO_POINT),
        "Heun": lambda: (heun_move(well.gradient, temperature, h), GAUSS_HERMITE),
        "MALA": lambda: (mala_move(well.energy, well.gradient, temperature, h), PANELS),
        "HMC": lambda: (hmc_move(well.energy, well.gradient, temperature, h, leapfrog_steps), PANELS),
    }[name]()
    return line.nodes, stationary(operator(line, move, rule))


def make(name, h, friction=None, leapfrog_steps=None):
    if name == "TwoPointNoise":
        return ls.EulerMaruyama(h, ls.TwoPointNoise())
    if name == "BAOAB":
        return ls.BAOAB(h, friction)
    if name == "HMC":
        return ls.HMC(h, leapfrog_steps)
    return getattr(ls, name)(h)


# -- the order of the exact laws --------------------------------------------------------------------------------------

ORDERS = {  # steps at which the leading error rules
    "EulerMaruyama": (0.008, 0.004, 0.002),
    "SGLD": (0.008, 0.004, 0.002),
    "TwoPointNoise": (0.008, 0.004, 0.002),
    "LeimkuhlerMatthews": (0.016, 0.012, 0.008),
    "Heun": (0.012, 0.008, 0.005),
    "BAOAB": (0.16, 0.13, 0.1),
}


@pytest.mark.parametrize("name", ORDERS)
def test_stationary_order(name):
    """By <V>, at temperatures where the leading coefficient is not small by accident."""
    declared = 1 if name == "TwoPointNoise" else getattr(ls, name).stationary_order
    for well, temperature, friction in ((Well(), 0.25, 2.0), (Well(0.6, 1.2), 0.35 if name == "BAOAB" else 0.25, 1.5)):
        errors = []
        for h in ORDERS[name]:
            nodes, found = law(name, well, temperature, h, friction)
            errors.append(found @ well.energy(nodes) - well.toy.mean_energy(temperature))
        assert abs(slope(ORDERS[name], errors) - declared) < 0.1


@pytest.mark.parametrize(("name", "h", "leapfrog_steps"), [("MALA", 0.1, None), ("HMC", 0.2, 1), ("HMC", 0.25, 4)])
def test_metropolis_has_the_boltzmann_law(name, h, leapfrog_steps):
    """The matrix of the formulas has the fixed point exp(-V/T), where the unadjusted step is far from it."""
    for well, temperature in ((Well(), 0.5), (Well(0.7, 1.2), 0.4)):
        nodes, found = law(name, well, temperature, h, leapfrog_steps=leapfrog_steps)
        exact = boltzmann(well.line(2.0), well.energy, temperature)
        for power in (2, 4):
            assert abs((found - exact) @ nodes**power) < 1e-5
        unadjusted = law("EulerMaruyama", well, temperature, h)[1] @ well.energy(well.line(2.3).nodes)
        assert abs(unadjusted - exact @ well.energy(nodes)) > 0.02
    assert getattr(ls, name).stationary_order == math.inf
    assert getattr(ls, name).samples_boltzmann


def test_the_laws_differ():
    """Enough for runs to tell them apart: mean energies at one step."""
    well, temperature, h = Well(), 0.5, 0.04
    found = {}
    for name in ORDERS:
        nodes, weights = law(name, well, temperature, h, friction=1.0)
        found[name] = weights @ well.energy(nodes)
    assert found["EulerMaruyama"] == found["SGLD"]
    exact = well.toy.mean_energy(temperature)
    assert found["EulerMaruyama"] - exact > 0.03
    assert found["TwoPointNoise"] - found["EulerMaruyama"] > 0.004
    assert found["Heun"] - exact < -0.005


# -- runs -------------------------------------------------------------------------------------------------------------

# Scheme, height, width, temperature, step, friction, leapfrog steps
RUNS = [
    ("Heun", 1.0, 1.0, 0.5, 0.06, None, None),
    ("Heun", 0.6, 1.4, 0.4, 0.1, None, None),
    ("SGLD", 0.6, 1.4, 0.4, 0.06, None, None),
    ("TwoPointNoise", 1.0, 1.0, 0.5, 0.04, None, None),
    ("BAOAB", 1.0, 1.0, 0.5, 0.25, 1.0, None),
    ("BAOAB", 0.6, 1.2, 0.35, 0.4, 2.0, None),
    ("MALA", 1.0, 1.0, 0.5, 0.08, None, None),
    ("MALA", 0.6, 1.4, 0.4, 0.3, None, None),
    ("HMC", 1.0, 1.0, 0.5, 0.2, None, 3),
    ("HMC", 0.6, 1.4, 0.4, 0.5, None, 2),
]


def run_of(name, well, temperature, rule, backend, every):
    chains, steps = {"compiled": (4000, 2000), "batched": (2000, 400)}[backend]
    start = well.width * np.tile([-1.0, 1.0], chains // 2)[:, None]
    settings = {"temperature": temperature, "seed": 51, "backend": backend}
    warm = ls.simulate(well.toy, rule, start=start, steps=200, record=ls.Record(200), **settings)
    return ls.simulate(well.toy, rule, start=warm, state="keep", steps=steps, record=ls.Record(every), **settings)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "height", "width", "temperature", "h", "friction", "leapfrog_steps"), RUNS)
@pytest.mark.always
def test_runs_have_the_exact_law(name, height, width, temperature, h, friction, leapfrog_steps, backend):
    well = Well(height, width)
    rule = make(name, h, friction, leapfrog_steps)
    nodes, weights = law(name, well, temperature, h, friction, leapfrog_steps)
    run = run_of(name, well, temperature, rule, backend, 4)
    x, energy = run.position.values[..., 0], run.energy.values
    mean = weights @ well.energy(nodes)
    scores = [z_score(time_average(energy), mean)]
    scores += [z_score(time_average(energy**2), weights @ well.energy(nodes) ** 2)]
    scores += [z_score(time_average(x**power), weights @ nodes**power) for power in (1, 2, 4)]
    assert np.max(np.abs(scores)) < Z_MAX
    if name in ("Heun", "SGLD", "TwoPointNoise"):
        assert abs(z_score(time_average(energy), well.toy.mean_energy(temperature))) > Z_CONTROL
    elif name in ("MALA", "HMC"):
        assert run.acceptance.dims == ("chain",)
        move = (
            mala_move(well.energy, well.gradient, temperature, h)
            if name == "MALA"
            else hmc_move(well.energy, well.gradient, temperature, h, leapfrog_steps)
        )
        exact = boltzmann(well.line(2.0), well.energy, temperature)
        rate = acceptance(well.line(2.0), move, exact, PANELS)
        assert abs(z_score(run.acceptance.values, rate)) < Z_MAX
        assert abs(z_score(run.acceptance.values, (1 + rate) / 2)) > Z_CONTROL
        assert run.acceptance.min() >= 0 and run.acceptance.max() <= 1
    if backend == "compiled":
        hot = run_of(name, well, HEATING * temperature, rule, backend, 4)
        assert abs(z_score(time_average(hot.energy), mean)) > Z_CONTROL


@pytest.mark.parametrize("backend", BACKENDS)
def test_metropolis_at_zero_temperature_never_climbs(backend):
    for rule in (ls.MALA(0.05), ls.MALA(0.45), ls.HMC(0.3, 2)):
        start = np.linspace(-2.0, 2.0, 21)[:, None]
        run = ls.simulate(toys.DoubleWell(), rule, temperature=0.0, start=start, steps=50, seed=52, backend=backend)
        energy = np.concatenate([Well().energy(start), run.energy.values], axis=1)
        assert np.all(np.diff(energy, axis=1) <= 0)
        if rule == ls.MALA(0.05):
            assert np.all(energy[np.abs(start[:, 0]) > 0.1, -1] < 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["MALA", "HMC"])
def test_metropolis_between_walls(name, backend):
    """exp(-V/T) on the interval, also where V is steep at the wall."""
    low, high, temperature, k = -0.3, 0.8, 0.4, 1.5
    slope_of_v = ls.potentials.Expression("f*x + k*x**2/2", ["x"], {"f": -1.0, "k": k}, {"x": (low, high)})
    chains, steps = {"compiled": (4000, 1000), "batched": (5000, 400)}[backend]
    rule, start = make(name, 0.1, leapfrog_steps=3), np.linspace(low, high, chains)[:, None]
    settings = {"temperature": temperature, "start": start, "steps": steps, "seed": 53, "backend": backend}
    run = ls.simulate(slope_of_v, rule, record=ls.Record(4), **settings)
    x = run.position.values[:, steps // 16 :, 0]
    assert x.min() >= low and x.max() <= high
    line = Line(low, high)
    exact = boltzmann(line, lambda q: -q + k * q**2 / 2, temperature)
    for observable in (lambda q: q, lambda q: q**2, lambda q: np.clip(q - high + 0.1, 0, None)):
        assert abs(z_score(time_average(observable(x)), exact @ observable(line.nodes))) < Z_MAX
    hot = boltzmann(line, lambda q: -q + k * q**2 / 2, HEATING * temperature)
    assert abs(z_score(time_average(x), hot @ line.nodes)) > Z_CONTROL
