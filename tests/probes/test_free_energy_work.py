"""Works that meet and works that do not: errors cover just above the bound, below it there is none."""

import re

import numpy as np
import pytest

from landscape import potentials
from landscape.errors import OverlapError
from landscape.probes import free_energy
from landscape.probes.free_energy.work_averages import (
    FEWEST_EFFECTIVE,
    FEWEST_SHARED,
    MOST_OVERLAP,
    acceptance_ratio,
    check_overlap,
    exponential_average,
    overlap_of,
)

SHIFTED = potentials.Expression("(x-c)**2/2", ["x"], {"c": 0.0})  # F does not depend on c
SPRING = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})


def gaussian(rng, dissipated, chains):
    """Works of a shifted spring: variance twice the dissipation; the difference is 3."""
    size = np.sqrt(2.0 * dissipated)
    return rng.normal(3.0 + dissipated, size, chains), rng.normal(-3.0 + dissipated, size, chains), 3.0


def stiffened(rng, factor, chains):
    """Works of a spring made stiffer at once, T = 1."""
    soft, hard = rng.standard_normal(chains), rng.standard_normal(chains) / np.sqrt(factor)
    half = 0.5 * (factor - 1.0)
    return half * soft**2, -half * hard**2, 0.5 * np.log(factor)


def emptied(rng, height, chains):
    """Works of two wells, one of which is raised by `height`, then the other."""
    rare = 1.0 / (1.0 + np.exp(height))
    ahead, back = (np.where(rng.random(chains) < rare, -height, height) for _ in range(2))
    return ahead, back, 0.0


BORDER = [(gaussian, 1.0, 10), (gaussian, 5.0, 100), (gaussian, 9.0, 500), (stiffened, 100.0, 100),
          (stiffened, 1e4, 500), (emptied, 4.0, 500)]  # fmt: skip


@pytest.mark.parametrize(("works", "how_far", "chains"), BORDER)
def test_errors_cover_just_above_the_bound(works, how_far, chains):
    rng, kept = np.random.default_rng(chains), []
    bound = min(FEWEST_SHARED / chains, MOST_OVERLAP)
    while len(kept) < 300:
        forward, backward, truth = works(rng, how_far, chains)
        found, error = acceptance_ratio(forward, backward)
        overlap = overlap_of(forward, backward, found)
        if overlap >= bound:
            kept.append((found - truth, error, overlap))
    off, errors, overlaps = np.array(kept).T
    assert np.median(overlaps) < 2.0 * bound
    assert 0.90 <= (np.abs(off) < 1.96 * errors).mean() <= 0.985
    assert (np.abs(off) < 0.98 * errors).mean() < 0.85  # errors of half the size would be found out


@pytest.mark.parametrize(("works", "how_far", "chains"), [(gaussian, 32.0, 500), (stiffened, 1e6, 100),
                                                          (gaussian, 3.0, 8)])  # fmt: skip
def test_errors_far_below_it_would_not(works, how_far, chains):
    rng, refused, covered = np.random.default_rng(1), 0, 0
    for _ in range(200):
        forward, backward, truth = works(rng, how_far, chains)
        found, error = acceptance_ratio(forward, backward)
        overlap = overlap_of(forward, backward, found)
        covered += abs(found - truth) < 1.96 * error
        try:
            check_overlap(forward, backward, overlap, 1)
        except OverlapError:
            refused += 1
    assert refused >= 198
    assert covered < 0.8 * 200 or chains == 8


def test_the_stages_asked_for_are_enough():
    settings = {"steps": 2, "chains": 500, "equilibration": 40}
    with pytest.raises(OverlapError, match=r"stages=\d+") as refused:
        free_energy.nonequilibrium_work(SHIFTED, "c", 0.0, 8.0, 1.0, stages=1, **settings)
    stages = int(re.search(r"stages=(\d+)", str(refused.value))[1])
    assert 4 <= stages <= 60
    found = free_energy.nonequilibrium_work(SHIFTED, "c", 0.0, 8.0, 1.0, stages=stages, **settings)
    assert abs(float(found.free_energy)) < 4.5 * float(found.free_energy_stderr) < 1.5
    assert 0.02 <= float(found.overlap) <= 0.5
    with pytest.raises(OverlapError, match="overlap"):
        free_energy.nonequilibrium_work(SPRING, "k", 1.0, 1e4, 0.1, stages=1, chains=200, equilibration=60)


def test_nothing_to_do_is_full_overlap():
    found = free_energy.nonequilibrium_work(SHIFTED, "c", 1.0, 1.0, 1.0, stages=1, chains=8, equilibration=20)
    assert float(found.overlap) == pytest.approx(0.5)
    assert float(found.free_energy) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dissipated", [0.5, 1.0, 2.0, 3.0])
def test_jarzynski_by_works_of_the_other_direction(dissipated):
    """Where few works carry the average its own weights tell of too many; those backward know better."""
    rng, chains, rows = np.random.default_rng(2), 1000, []
    for _ in range(200):
        forward, backward, truth = gaussian(rng, dissipated, chains)
        value, own, carrying = exponential_average(forward)
        square = np.exp(backward + acceptance_ratio(forward, backward)[0]).mean()
        rows.append((value - truth, own, max(own, np.sqrt(max(square - 1, 0) / chains)), carrying, chains / square))
    off, own, error, carrying, fewer = np.array(rows).T
    given = np.minimum(carrying, fewer) >= FEWEST_EFFECTIVE
    if dissipated >= 3.0:
        assert given.mean() < 0.1
    else:
        assert given.mean() > (0.3 if dissipated > 1.0 else 0.9)
        assert (np.abs(off) < 1.96 * error)[given].mean() >= 0.90
