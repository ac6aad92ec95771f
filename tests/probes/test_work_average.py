"""Averages of measured works: what is given covers at every width and number, what would not is NaN or an error."""

import numpy as np
import pytest

from landscape.errors import ConfigError, OverlapError, ShapeError
from landscape.probes import free_energy
from landscape.probes.free_energy.work_averages import FEWEST_EFFECTIVE, LONGEST_TAIL, exponential_average, lower_tail

VARIANCES = (0.25, 1.0, 2.0, 4.0, 6.0, 9.0)
NUMBERS = (10, 30, 100, 1000, 10_000)
REPEATS = 200


def one_sided(works, repeats=REPEATS):
    """Off the truth 0, errors, plain errors and whether they are given, of repeats of ``works()``."""
    rows = []
    for _ in range(repeats):
        work = works()
        value, error, carrying = exponential_average(work)
        weight = np.exp(-work)
        plain = weight.std(ddof=1) / weight.mean() / np.sqrt(len(work))
        rows.append((value, error, plain, carrying >= FEWEST_EFFECTIVE and lower_tail(work) <= LONGEST_TAIL))
    off, error, plain, given = np.array(rows).T
    return off, error, plain, given.astype(bool)


@pytest.mark.parametrize("variance", VARIANCES)
def test_two_errors_cover_gaussian_works_of_one_direction(variance):
    """Variance in T^2; the mean is such that the difference is 0."""
    rng, shares = np.random.default_rng(7), {}
    for number in NUMBERS:
        repeats = REPEATS if number < 10_000 else 60

        def draw(number=number):
            return rng.normal(0.5 * variance, np.sqrt(variance), number)

        off, error, _, given = one_sided(draw, repeats)
        shares[number] = given.mean()
        if given.sum() > 0.1 * repeats:
            assert (np.abs(off) < 2.0 * error)[given].mean() >= 0.90, number
    assert shares[10] == 0.0
    assert shares[10_000] > 0.8 if variance <= 6.0 else shares[10_000] < 0.05
    assert shares[1000] > 0.5 if variance <= 4.0 else shares[1000] < 0.05


def test_the_scatter_of_weights_alone_would_not_cover():
    """Control: a thousand works of variance 6 T^2 and 9 T^2."""
    rng = np.random.default_rng(8)
    for variance, most in ((6.0, 0.85), (9.0, 0.75)):
        off, _, plain, _ = one_sided(lambda variance=variance: rng.normal(0.5 * variance, np.sqrt(variance), 1000), 200)
        assert (np.abs(off) < 2.0 * plain).mean() < most


TAILS = {
    "a spring made softer": lambda rng, n: -0.375 * rng.standard_normal(n) ** 2 + 0.5 * np.log(4.0),
    "exponential": lambda rng, n: rng.laplace(0.0, 0.8, n) - np.log(1.0 - 0.64),
}


@pytest.mark.parametrize("name", TAILS)
def test_long_tails_are_for_both_directions(name):
    rng = np.random.default_rng(9)
    off, error, _, given = one_sided(lambda: TAILS[name](rng, 1000), 200)
    assert given.mean() < 0.03
    assert (np.abs(off) < 2.0 * error).mean() < 0.85  # they would not cover
    found = free_energy.work_average(TAILS[name](rng, 1000), temperature=1.0)
    assert np.isnan(found.free_energy_stderr) and not found.resolved and np.isfinite(found.gaussian_stderr)


FEW = {
    "exponential both ways": lambda rng, b, n: rng.laplace(0.0, b, n) - np.log(1.0 - b**2),
    "exponential": lambda rng, b, n: -rng.exponential(b, n) - np.log(1.0 - b),
    "a spring made softer": lambda rng, b, n: -0.5 * b * rng.standard_normal(n) ** 2 - 0.5 * np.log(1.0 - b),
}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("scale", [0.5, 0.8])
def test_few_works_of_one_direction_do_not_pretend_to_know_their_tail(name, scale):
    """Sixty works that a tail of scale b T may lie under: of all runs few give an error that misses the truth 0.

    The control is the error without what such a tail would hide.
    """
    rng, repeats, wrong, plainly_wrong = np.random.default_rng(12), 100, 0, 0
    for _ in range(repeats):
        work = FEW[name](rng, scale, 60)
        found = free_energy.work_average(work, temperature=1.0)
        value, error, carrying = exponential_average(work)
        wrong += bool(abs(found.free_energy) > 1.96 * found.free_energy_stderr)
        plain = carrying >= FEWEST_EFFECTIVE and lower_tail(work) <= LONGEST_TAIL
        plainly_wrong += plain and abs(value) > 1.96 * error
    assert wrong <= 0.1 * repeats
    assert scale < 0.8 or plainly_wrong >= max(0.12 * repeats, 1.5 * wrong)


@pytest.mark.parametrize(("number", "least"), [(60, 0.5), (200, 0.9)])
def test_gaussian_works_of_one_direction_are_given(number, least):
    rng = np.random.default_rng(13)
    for variance in (0.25, 1.0):
        found = [free_energy.work_average(rng.normal(0.5 * variance, np.sqrt(variance), number), temperature=1.0)
                 for _ in range(60)]  # fmt: skip
        known = np.array([bool(one.resolved) for one in found])
        off = np.array([float(one.free_energy / one.free_energy_stderr) for one in found])[known]
        assert known.mean() >= (least if variance == 1.0 else 0.95)
        assert (np.abs(off) < 1.96).mean() >= 0.90


@pytest.mark.parametrize("number", [10, 100])
@pytest.mark.always
def test_both_directions_cover_or_refuse(number):
    """Bennett's ratio of Gaussian works of every width, a difference of 3 and T = 2; unequal numbers."""
    rng, t, refused = np.random.default_rng(10), 2.0, {}
    for variance in (0.25, 1.0, 4.0, 16.0):
        rows, refused[variance] = [], 0
        for _ in range(120):
            width = t * np.sqrt(variance)
            ahead = rng.normal(3.0 + 0.5 * t * variance, width, number)
            back = rng.normal(-3.0 + 0.5 * t * variance, width, 2 * number)
            try:
                found = free_energy.work_average(ahead, back, temperature=t)
            except OverlapError:
                refused[variance] += 1
                continue
            rows.append((float(found.free_energy) - 3.0, float(found.free_energy_stderr),
                         float(found.jarzynski) - 3.0, float(found.jarzynski_stderr)))  # fmt: skip
        if len(rows) > 40:
            off, error, alone, error_alone = np.array(rows).T
            assert (np.abs(off) < 1.96 * error).mean() >= 0.90, variance
            assert (np.abs(off) < 0.98 * error).mean() < 0.87, variance
            known = np.isfinite(error_alone)
            if known.sum() > 40:
                assert (np.abs(alone) < 2.0 * error_alone)[known].mean() >= 0.90, variance
    assert refused[0.25] == 0
    assert refused[16.0] > 60


def test_gaussian_works_however_wide():
    rng = np.random.default_rng(11)
    rows = []
    for _ in range(200):
        found = free_energy.work_average(rng.normal(3.0 + 10.0, np.sqrt(20.0), 100), temperature=1.0)
        assert np.isnan(found.free_energy_stderr)
        rows.append((float(found.gaussian) - 3.0, float(found.gaussian_stderr)))
    off, error = np.array(rows).T
    assert 0.90 <= (np.abs(off) < 1.96 * error).mean() <= 0.985
    assert (np.abs(off) < 0.98 * error).mean() < 0.85


def test_works_that_are_none():
    some = np.linspace(0.0, 1.0, 20)
    for works, error in ((some[:5], ShapeError), (some[None], ShapeError), (np.append(some, np.nan), ConfigError),
                         ("abc", ConfigError)):  # fmt: skip
        with pytest.raises(error):
            free_energy.work_average(works, temperature=1.0)
    with pytest.raises(ConfigError):
        free_energy.work_average(some, temperature=0.0)
    with pytest.raises(OverlapError, match="more slowly"):
        free_energy.work_average(some + 30.0, some + 30.0, temperature=1.0)
