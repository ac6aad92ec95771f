"""Valley g = 1 + y^2 at T = 0.1: F(2) - F(0) = (T/2) ln 5, seen by six routes that share no formula."""

import numpy as np
import pytest

import landscape as ls
from landscape import potentials
from landscape.probes import free_energy

T = 0.1
TRUTH = 0.05 * np.log(5.0)
PRINTED = 2.0 * TRUTH  # eqs. (2) and (3) of Di Carlo et al., without the factor 1/2
VALLEY = potentials.Valley("1 + y**2", bounds={"y": (-3, 3)})
ACROSS = potentials.Expression("(1 + y**2)*x**2/2", ["x"], {"y": 0.0})


def by_profile():
    start = np.stack([np.zeros(1000), np.linspace(-2.9, 2.9, 1000)], axis=1)
    record = ls.Record(10_000, observables=["energy", ls.Histogram("y", bins=60, range=(-3.05, 2.95), every=2)])
    run = ls.simulate(
        VALLEY, ls.HMC(dt=0.3, leapfrog_steps=8), temperature=T, start=start, steps=10_000, record=record, seed=3
    )
    return free_energy.profile(run.y_count, T, zero=0.0).sel(y=2.0, method="nearest")


def by_mean_force():
    return free_energy.mean_force(VALLEY, "y", np.linspace(0, 2, 11), T, chains=100, steps=200).isel(y=-1)


def by_umbrella():
    return free_energy.umbrella(
        VALLEY, "y", np.linspace(0, 2, 6), T, width=0.7, chains=48, steps=70_000, every=70
    ).isel(y=-1)


def by_integration():
    found = free_energy.thermodynamic_integration(ACROSS, "y", np.linspace(0, 2, 11), T, steps=1000, every=2)
    return found.isel(y=-1)


def by_work():
    return free_energy.nonequilibrium_work(ACROSS, "y", 0.0, 2.0, T)


def by_curvature():
    return free_energy.effective_potential(VALLEY, "y", [0.0, 2.0], T).isel(y=-1)


ROUTES = [by_profile, by_mean_force, by_umbrella, by_integration, by_work, by_curvature]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.__name__)
@pytest.mark.always
def test_six_routes_agree(route):
    found = route()
    value, error = float(found.free_energy), float(found.free_energy_stderr)
    assert 0 < error < 0.02 * TRUTH
    assert abs(value - TRUTH) < 4.5 * error
    assert abs(value - PRINTED) > 8.0 * error


def test_other_noise_is_another_law():
    found = free_energy.effective_potential(VALLEY, "y", [0.0, 2.0], T, noise="hessian")
    assert float(found.free_energy[1]) == pytest.approx(0.5 * T * 4.0, rel=1e-9)  # (T/2) g
    slopes = free_energy.effective_potential(VALLEY, "y", [1.999, 2.001], T, noise="hessian").free_energy
    assert -float(slopes[1]) / 0.002 == pytest.approx(-0.2, rel=1e-4)  # the force at y = 2
