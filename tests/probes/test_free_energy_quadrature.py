"""Integrals of averages over few, uneven, many or decreasing values: errors that hold the truth."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from landscape import potentials
from landscape.errors import ShapeError
from landscape.probes import free_energy
from landscape.probes.free_energy.quadrature import bends, integrate

REPEATS, CHAINS, DRAWS, T = 200, 16, 60, 0.25
GRID = np.linspace(-6.0, 6.0, 6001)


class Family:
    """V(x; lambda) in one dimension with its derivatives; exact samples and free energies by sums over a grid."""

    def __init__(self, energy, slope, second, scale=1.0):
        self.energy, self.slope, self.second, self.grid = energy, slope, second, scale * GRID

    def law(self, value):
        energy = self.energy(self.grid, value)
        weight = np.exp(-(energy - energy.min()) / T)
        return np.cumsum(weight) / weight.sum(), -T * np.log(weight.sum()) + energy.min()

    def free_energy(self, values):
        return np.array([self.law(value)[1] for value in values])

    def samples(self, rng, value, repeats):
        cumulative = self.law(value)[0]
        return self.grid[np.searchsorted(cumulative, rng.random((repeats, CHAINS, DRAWS)))]


FAMILIES = {
    "spring": Family(lambda x, k: 0.5 * k * x**2, lambda x, k: 0.5 * x**2, lambda x, k: 0 * x, scale=3.0),
    "power": Family(lambda x, k: 0.5 * k**2 * x**2, lambda x, k: k * x**2, lambda x, k: x**2, scale=5.0),
    "well": Family(lambda x, b: x**4 - b * x**2, lambda x, b: -(x**2), lambda x, b: 0 * x, scale=0.5),
    "tilt": Family(lambda x, c: (x**2 - 1) ** 2 + c * x, lambda x, c: x, lambda x, c: 0 * x, scale=0.5),
    "center": Family(lambda x, c: 0.5 * (x - np.sin(c)) ** 2, lambda x, c: (np.sin(c) - x) * np.cos(c),
                     lambda x, c: np.cos(2 * c) + x * np.sin(c)),
}  # fmt: skip
CASES = {
    "uneven over decades": ("spring", [0.1, 0.5, 3.0, 10.0]),
    "uneven, five": ("spring", [0.1, 0.2, 1.0, 10.0, 20.0]),
    "two": ("spring", [0.2, 5.0]),
    "many": ("spring", np.geomspace(0.1, 10.0, 20)),
    "decreasing": ("power", [4.0, 2.5, 0.7, 0.3]),
    "evenly spaced, steep": ("power", np.linspace(0.1, 3.0, 6)),
    "across zero, few": ("well", [-2.0, 0.5, 3.0]),
    "across zero, uneven": ("well", [-2.0, -1.0, 0.2, 0.5, 2.0, 3.0]),
    "across zero, many": ("well", np.linspace(-2.0, 3.0, 15)),
    "negative": ("well", [-8.0, -2.0, -0.5, -0.1]),
    "a step between": ("tilt", [-1.0, -0.2, 0.7, 1.0]),
    "a step resolved": ("tilt", np.linspace(-1.0, 1.0, 11)),
    "free energy that does not change": ("center", np.linspace(0.0, 5.0, 9)),
}


BOUNDS = {"across zero, few", "a step between", "evenly spaced, steep"}  # where the spacing makes most of the error


def repeats(case, wrong=1.0):
    """Integrals of all repeats, and the exact one."""
    name, values = CASES[case]
    family, at, rng = FAMILIES[name], np.asarray(values, dtype=float), np.random.default_rng(0)
    x = np.stack([family.samples(rng, value, REPEATS) for value in at])
    along = at[:, None, None, None]
    slopes, seconds = family.slope(x, along), family.second(x, along)
    found = [
        integrate(at, slopes[:, r].mean(axis=2), bends(slopes[:, r], seconds[:, r], wrong * T)) for r in range(REPEATS)
    ]
    exact = family.free_energy(at)
    values, errors, spacing = (np.array([getattr(one, part)[1:] for one in found]) for part in INTEGRAL)
    return np.abs(values - (exact - exact[0])[1:]), errors, spacing


INTEGRAL = ("value", "stderr", "spacing")


@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_truth(case):
    off, errors, spacing = repeats(case)
    share = (off < 1.96 * errors).mean(axis=0)
    assert share.min() >= 0.90
    if case in BOUNDS:
        assert errors.mean() < 6.0 * off.mean()
    else:
        assert share.mean() <= 0.985
        assert (off < 0.98 * errors).mean() < 0.9  # errors of half the size would be found out
        assert (spacing.mean(axis=0) < 0.8 * errors.mean(axis=0)).all()


def test_fluctuations_of_another_temperature_are_found_out():
    """Derivatives whose variance is divided by 2 T: the truth is missed, and the spacing is blamed."""
    case = "across zero, uneven"
    off, errors, spacing = repeats(case, wrong=2.0)
    _, right, _ = repeats(case)
    assert (off < 1.96 * right).mean() < 0.8
    assert np.median(errors) > 1.5 * np.median(right)
    assert np.median(spacing) > 0.8 * np.median(errors)


def test_a_spline_through_the_averages_overshoots():
    """What 113 was for 2.30: a stiffness over decades, few and uneven."""
    spring, k = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0}), [0.1, 0.5, 3.0, 10.0]
    found = free_energy.thermodynamic_integration(spring, "k", k, 1.0, chains=32, steps=2000, seed=1)
    exact = 0.5 * np.log(np.array(k) / k[0])
    z = (found.free_energy - exact)[1:] / found.free_energy_stderr[1:]
    assert float(abs(z).max()) < 4.5
    assert float(found.free_energy_stderr[-1]) < 0.1
    assert np.isfinite(found.integration_error).all()
    spline = CubicSpline(k, found.slope.to_numpy()).integrate(k[0], k[-1])
    assert abs(spline - exact[-1]) > 50 * float(found.free_energy_stderr[-1])
    back = free_energy.thermodynamic_integration(spring, "k", k[::-1], 1.0, chains=32, steps=2000, seed=1)
    z = (back.free_energy - (exact - exact[-1])[::-1])[1:] / back.free_energy_stderr[1:]
    assert float(abs(z).max()) < 4.5
    assert float(abs(back.free_energy[-1] - exact[-1])) > 8 * float(back.free_energy_stderr[-1])  # the other sign


@pytest.mark.parametrize("at", [[0.7, 0.95, 1.3], [1.3, 1.1, 0.9, 0.7]])
def test_mean_force_at_few_radii(at):
    """The ring outwards: the derivative of the force has the bend of the coordinate in it."""
    ring, t = potentials.Ring(), 0.5
    found = free_energy.mean_force(ring, "sqrt(x**2 + y**2)", at, t, chains=16, steps=120)
    theory = -t * np.log(ring.radial_marginal(np.array(at), t))
    z = (found.free_energy - (theory - theory[0]))[1:] / found.free_energy_stderr[1:]
    assert float(abs(z).max()) < 4.5
    assert float(found.free_energy_stderr.max()) < 0.8
    flipped = (found.free_energy + 1.5 * (theory - theory[0]))[1:] / found.free_energy_stderr[1:]
    assert float(abs(flipped).max()) > 4.5


def test_temperatures_far_apart():
    """Energy of a spring: F(T) = -(T/2) ln(2 pi T), of five temperatures over two decades."""
    spring = potentials.Expression("x**2/2", ["x"])
    t = np.array([0.1, 0.15, 1.0, 3.0, 10.0])
    found = free_energy.thermodynamic_integration(
        spring, "temperature", t, chains=32, steps=2000, reference=-0.05 * np.log(0.2 * np.pi)
    )
    exact = -0.5 * t * np.log(2 * np.pi * t)
    z = (found.free_energy - exact)[1:] / found.free_energy_stderr[1:]
    assert float(abs(z).max()) < 4.5
    assert float((found.free_energy_stderr / t).max()) < 0.2
    assert float(abs((found.free_energy - 2.0 * exact) / found.free_energy_stderr)[1:].max()) > 4.5


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [1.0, 3.0, 2.0], [1.0, np.nan], "k", [[1.0, 2.0]]])
def test_values_that_make_no_curve(values):
    spring = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})
    with pytest.raises(ShapeError, match="ascending or descending"):
        free_energy.thermodynamic_integration(spring, "k", values, 1.0)
