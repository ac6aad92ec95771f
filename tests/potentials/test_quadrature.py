"""Quadrature of Boltzmann weights: against integrals known in closed form, at every scale."""

import math

import numpy as np
import pytest
from scipy.special import erf, gamma, kv

from landscape.errors import ConfigError, ConvergenceError, LandscapeError
from landscape.potentials.expression.quadrature import (
    average,
    average_in_box,
    find_peaks,
    graded_edges,
    truncated_gaussian,
)
from landscape.potentials.toys.first_passage import mean_first_passage_time


@pytest.mark.parametrize(("low", "high"), [(-2.0, 3.0), (-math.inf, 1.0), (0.5, math.inf), (-math.inf, math.inf)])
def test_edges_cover_the_interval_and_shrink_towards_points(low, high):
    edges = graded_edges(low, high, [0.75, 100.0])
    assert np.all(np.diff(edges) > 0)
    assert edges[0] == max(low, -1e30) and edges[-1] == min(high, 1e30)
    at = np.flatnonzero(edges == 0.75)
    assert len(at) == 1
    assert edges[at[0] + 1] - 0.75 < 1e-13
    assert (100.0 in edges) == (low <= 100.0 <= high)


def test_edges_leave_ends_coarse_on_request():
    assert np.diff(graded_edges(0.0, 1.0, [0.5], finest=1e-6))[0] < 1e-5
    assert np.diff(graded_edges(0.0, 1.0, [0.5], finest=1e-6, ends=False))[0] > 1e-3


def test_peaks_are_found_highest_first_and_interpolated():
    peaks = find_peaks(lambda x: np.log(np.exp(-((x + 1.2345) ** 2)) + 2 * np.exp(-((x - 2.3456) ** 2))), -9.0, 9.0)
    assert len(peaks) == 2
    assert peaks == pytest.approx([2.3456, -1.2345], abs=1e-4)
    assert find_peaks(lambda x: x, 0.0, 1.0) == [1.0]
    assert find_peaks(lambda x: -((x - 1e6) ** 2), -math.inf, math.inf) == pytest.approx([1e6], rel=1e-2)


@pytest.mark.parametrize(("width", "centre"), [(1e-9, 0.0), (1e-3, -3.7), (1.0, 0.3), (1e4, 50.0)])
@pytest.mark.parametrize("height", [-5e3, 0.0, 5e3])
def test_gaussian_of_any_width_and_height(width, centre, height):
    log_norm, (mean, square) = average(
        lambda x: height - 0.5 * ((x - centre) / width) ** 2,
        lambda x: [(x - centre) / width, ((x - centre) / width) ** 2],
        points=[centre],
    )
    assert log_norm == pytest.approx(height + 0.5 * math.log(2 * math.pi) + math.log(width), abs=1e-11, rel=1e-14)
    assert mean == pytest.approx(0.0, abs=1e-11)
    assert square == pytest.approx(1.0, rel=1e-11)


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0, 8.0])
def test_power_tails(power):
    log_norm, _ = average(lambda x: -0.5 * power * np.log1p(x**2))
    exact = math.sqrt(math.pi) * gamma((power - 1) / 2) / gamma(power / 2)
    assert math.exp(log_norm) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("b", [1e-3, 1.0, 50.0])
def test_half_open_and_bounded(b):
    log_norm, _ = average(lambda x: -0.5 * np.log1p(x**2) - b * x**2 / 2, points=[0.0])
    assert log_norm == pytest.approx(b / 4 + math.log(kv(0, b / 4)), rel=1e-11)
    log_norm, (mean,) = average(lambda x: -b * x, lambda x: [x], low=0.0)
    assert (math.exp(log_norm), mean) == pytest.approx((1 / b, 1 / b), rel=1e-11)
    log_norm, _ = average(lambda x: -(b**2) * x**2, low=-1.0, high=2.0)
    exact = math.sqrt(math.pi) / (2 * b) * (erf(2 * b) + erf(b))
    assert math.exp(log_norm) == pytest.approx(exact, rel=1e-11)


def test_two_peaks_of_very_different_width():
    def log_weight(x):
        return np.logaddexp(-0.5 * ((x - 1.0) / 1e-5) ** 2, math.log(1e-5) - 0.5 * (x + 2.0) ** 2)

    log_norm, (right,) = average(log_weight, lambda x: [x > 0.9], points=[1.0])
    assert log_norm == pytest.approx(math.log(2e-5 * math.sqrt(2 * math.pi)), abs=1e-10)
    tail = 0.5 * math.erfc(2.9 / math.sqrt(2))
    assert right == pytest.approx(0.5 + 0.5 * tail, rel=1e-8)


def test_integrable_singularity():
    log_norm, _ = average(lambda x: -0.5 * np.log(x), low=0.0, high=4.0)
    assert math.exp(log_norm) == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize(
    ("log_weight", "observables"),
    [
        (lambda x: -np.abs(x) * 0.0, None),
        (lambda x: -0.5 * np.log1p(x**2), None),
        (lambda x: -np.log1p(x**2), lambda x: [x**2]),
    ],
    ids=["constant", "1/x", "second moment of 1/x^2"],
)
def test_what_does_not_converge_is_refused(log_weight, observables):
    with pytest.raises(ConfigError, match="bounds"):
        average(log_weight, observables)


def test_infinite_or_vanishing_weights_are_refused():
    with pytest.raises(ConvergenceError):
        average(lambda x: np.where(x > 0.5, np.inf, 0.0), low=0.0, high=1.0)
    with pytest.raises(ConvergenceError):
        average(lambda x: np.full_like(x, -np.inf), low=0.0, high=1.0)


def test_pole_is_a_convergence_error_with_estimate():
    with pytest.raises(ConvergenceError, match="singularity") as caught:
        average(lambda x: -2.0 * np.log(np.abs(x - 0.3)), low=0.0, high=1.0)
    assert isinstance(caught.value, LandscapeError)
    assert caught.value.estimate > math.log(1e3)


@pytest.mark.parametrize(("dim", "width"), [(1, 0.01), (2, 0.01), (2, 1.0), (3, 1.0)])
def test_box(dim, width):
    centre = np.linspace(-0.3, 0.4, dim)
    every = 1 if dim < 3 else 2
    edges = [graded_edges(-20.0 * width, 20.0 * width, [c], finest=0.1, ends=False)[::every] for c in centre]

    def log_weight(x):
        return -0.5 * (((x - centre * width) / width) ** 2).sum(-1)

    for axis in edges:
        axis[[0, -1]] = -20.0 * width, 20.0 * width
    log_norm, (first, energy) = average_in_box(log_weight, lambda x, w: [x[:, -1] / width, -w], edges)
    assert log_norm == pytest.approx(dim * (0.5 * math.log(2 * math.pi) + math.log(width)), abs=1e-10)
    assert first == pytest.approx(centre[-1], abs=1e-10)
    assert energy == pytest.approx(dim / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1.0, 2.0), (0.0, 1e-6), (-1e-5, 2e-5), (3.0, 4.0), (-9.0, -7.0), (2.0, np.inf), (-np.inf, 0.5), (-40, 40)],
)
def test_truncated_gaussian(low, high):
    log_mass, second, fourth = truncated_gaussian(np.array([low]), np.array([high]))
    grid, weight = np.polynomial.legendre.leggauss(400)
    a, b = max(low, -12.0), min(high, 12.0)
    z, w = 0.5 * (a + b) + 0.5 * (b - a) * grid, 0.5 * (b - a) * weight
    density = w * np.exp(-0.5 * z**2)
    mass = density.sum()
    assert log_mass[0] == pytest.approx(math.log(mass / math.sqrt(2 * math.pi)), rel=1e-10, abs=1e-12)
    assert second[0] == pytest.approx((density * z**2).sum() / mass, rel=1e-10)
    assert fourth[0] == pytest.approx((density * z**4).sum() / mass, rel=1e-10)


def test_truncated_gaussian_far_out():
    log_mass, second, _ = truncated_gaussian(np.array([60.0]), np.array([np.inf]))
    # Mills ratio: ln Q(z) = -z^2/2 - ln(z sqrt(2 pi)) + ln(1 - 1/z^2 + 3/z^4 - ...)
    exact = -1800.0 - math.log(60.0 * math.sqrt(2 * math.pi)) + math.log1p(-1 / 60**2 + 3 / 60**4)
    assert log_mass[0] == pytest.approx(exact, abs=1e-9)
    assert second[0] == pytest.approx(60.0**2 + 2.0, rel=1e-6)


# -- mean first passage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.3, 2.0])
@pytest.mark.parametrize(("start", "target", "mirror"), [(0.5, 2.0, 0.0), (2.0, -1.0, 3.0)])
def test_free_diffusion(temperature, start, target, mirror):
    walls = {"low": mirror} if start < target else {"high": mirror}
    tau = mean_first_passage_time(np.zeros_like, start, target, temperature=temperature, **walls)
    exact = ((mirror - target) ** 2 - (mirror - start) ** 2) / (2 * temperature)
    assert tau == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("slope", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_constant_force_uphill_against_a_mirror(slope, temperature):
    # tau = (T/f^2)(e^{fL/T} - 1) - L/f, from the mirror at 0 up a slope f to L.
    length = 1.5
    tau = mean_first_passage_time(lambda x: slope * x, 0.0, length, temperature=temperature, low=0.0)
    ratio = slope * length / temperature
    exact = temperature / slope**2 * math.expm1(ratio) - length / slope
    assert tau == pytest.approx(exact, rel=1e-10)


def test_constant_force_downhill_from_the_open():
    tau = mean_first_passage_time(lambda x: -3.0 * x + 10 * (x < -50) * x**2, 0.0, 2.0, temperature=0.1, low=-40.0)
    assert tau == pytest.approx(2.0 / 3.0, rel=1e-3)


def test_additivity_and_mirror():
    def energy(x):
        return x**4 - x**2 + 0.2 * x

    def tau(a, b):
        return mean_first_passage_time(energy, a, b, temperature=0.2)

    assert tau(-1.0, 0.3) + tau(0.3, 0.9) == pytest.approx(tau(-1.0, 0.9), rel=1e-10)
    back = mean_first_passage_time(lambda x: energy(-x), 1.0, -0.9, temperature=0.2)
    assert back == pytest.approx(tau(-1.0, 0.9), rel=1e-10)
    assert tau(0.4, 0.4) == 0.0


def test_first_passage_refuses_and_overflows_cleanly():
    with pytest.raises(ConfigError, match="between the ends"):
        mean_first_passage_time(np.zeros_like, -1.0, 1.0, temperature=1.0, low=0.0)
    with pytest.raises(ConfigError, match="open side"):
        mean_first_passage_time(np.zeros_like, 0.0, 1.0, temperature=1.0)
    assert mean_first_passage_time(lambda x: x, 0.0, 2000.0, temperature=1.0, low=0.0) == math.inf
