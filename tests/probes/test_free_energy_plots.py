"""Pictures show what the datasets hold, and theory where the landscape carries it."""

import matplotlib as mpl
import numpy as np
import pytest

import landscape as ls
from landscape import potentials
from landscape.errors import ConfigError
from landscape.probes import free_energy

mpl.use("Agg")
T = 0.1
VALLEY = potentials.Valley("1 + y**2", bounds={"y": (-3, 3)})
SPRING = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})


@pytest.fixture(autouse=True)
def _close():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def labels(ax):
    return [line.get_label() for line in ax.get_lines()]


def run_of_valley():
    start = np.stack([np.zeros(64), np.linspace(-2.9, 2.9, 64)], axis=1)
    return ls.simulate(VALLEY, ls.HMC(0.3, 8), temperature=T, start=start, steps=2000, record=ls.Record(2), seed=1)


def test_profile_and_map():
    run = run_of_valley()
    found = free_energy.profile(run, T, coordinate="y", bins=30, range=(-3, 3), zero="mean")
    ax = free_energy.plot_profile(found, potential=VALLEY)
    measured, theory = ax.get_lines()
    assert np.array_equal(measured.get_ydata(), found.free_energy)
    assert np.abs(theory.get_ydata() - measured.get_ydata()).max() < 0.02
    both = free_energy.profile(run, T, coordinate=("x", "y"), bins=(10, 12), range=((-1, 1), (-3, 3)))
    assert both.free_energy.dims == ("x", "y") and both.free_energy.shape == (10, 12)
    assert free_energy.plot_profile(both).get_ylabel() == "y"
    radius = free_energy.profile(run, T, coordinate=lambda x: (x**2).sum(-1).sqrt(), bins=12)
    assert "measured" in labels(free_energy.plot_profile(radius))


def test_two_coordinates_from_samples_and_from_counts():
    run = run_of_valley()
    streamed = ls.Histogram(("x", "y"), bins=(6, 8), range=((-1, 1), (-3, 3))).apply(run.position)
    name = next(key for key in streamed if str(key).endswith("_count"))
    counted = free_energy.profile(streamed[name], T, zero=(0.1, 0.1))
    pair = [run.position.sel(coordinate=one) for one in ("x", "y")]
    sampled = free_energy.profile(pair, T, bins=(6, 8), range=((-1, 1), (-3, 3)), zero=(0.1, 0.1))
    assert np.allclose(counted.free_energy, sampled.free_energy, equal_nan=True)
    theory = 0.5 * T * np.log(1 + sampled.y**2)
    along = free_energy.profile(pair[1], T, bins=8, range=(-3, 3), zero="mean").free_energy
    assert np.abs(along - (theory - theory.mean())).max() < 0.02


def test_curves():
    at = np.linspace(0, 2, 5)
    for plot, found in (
        (free_energy.plot_mean_force, free_energy.mean_force(VALLEY, "y", at, T, chains=20, steps=60)),
        (free_energy.plot_effective_potential, free_energy.effective_potential(VALLEY, "y", at, T)),
        (free_energy.plot_umbrella, free_energy.umbrella(VALLEY, "y", at, T, chains=8, steps=1000)),
    ):
        assert {"measured", "theory"} <= set(labels(plot(found, potential=VALLEY)))
    values = np.geomspace(0.1, 1.0, 4)
    spring = potentials.Quadratic([1.0, 3.0])
    over = free_energy.thermodynamic_integration(spring, "temperature", values, steps=400, every=4)
    ax = free_energy.plot_thermodynamic_integration(over, potential=spring)
    assert ax.get_xscale() == "log" and "theory" in labels(ax)
    laplace = free_energy.harmonic(spring, [0.0, 0.0], values)
    assert "theory" in labels(free_energy.plot_harmonic(laplace, potential=spring))
    with pytest.raises(ConfigError, match="array of temperatures"):
        free_energy.plot_harmonic(free_energy.harmonic(spring, [0.0, 0.0], 0.1))
    run = ls.simulate(spring, ls.MALA(0.3), temperature=np.repeat([0.1, 1.0], 8), steps=2000, record=ls.Record(2))
    disorder = free_energy.entropy(run, spring.free_energy(np.array([0.1, 1.0])))
    assert bool((abs(disorder.entropy - spring.entropy(np.array([0.1, 1.0]))) < 4.5 * disorder.entropy_stderr).all())
    assert "theory" in labels(free_energy.plot_entropy(disorder, potential=spring))


def test_work_and_learning():
    work = free_energy.nonequilibrium_work(SPRING, "k", 1.0, 4.0, T, chains=100, stages=10, equilibration=40)
    assert "free energy difference" in free_energy.plot_nonequilibrium_work(work).get_lines()[0].get_label()
    found = free_energy.local_learning_coefficient(SPRING, [0.0], temperature=T, dt=0.5, steps=400, chains=10)
    ax = free_energy.plot_local_learning_coefficient(found)
    assert any("coefficient" in text for text in labels(ax))
