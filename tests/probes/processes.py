"""Processes with known answers, and the share of 95 % intervals that hold the truth."""

import csv
import json
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.signal import lfilter

REFERENCE = Path(__file__).parents[1] / "reference" / "values.csv"
LOWEST, HIGHEST = 0.90, 0.985


def ar1(rng, shape, rho):
    """Stationary AR(1) of unit variance along the last axis; rho may be 0."""
    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=-1)


def energies(rng, chains, draws, stiffness, temperature=1.0, dt=1.0):
    """Energy 1/2 sum k_i x_i^2 of independent Ornstein-Uhlenbeck coordinates, sampled exactly every dt.

    Law Gamma(N_c / 2, 1 / T); connected autocorrelation (1 / N_c) sum exp(-2 k_i t).
    """
    shape = (chains, draws)
    total = sum(0.5 * ar1(rng, shape, np.exp(-k * dt)) ** 2 for k in stiffness)
    return np.asarray(temperature)[..., None] * total


def correlation(stiffness, time):
    """chi_L(t) = (1 / N_c) sum exp(-2 k_i t)."""
    return np.exp(-2 * np.multiply.outer(np.asarray(time, dtype=float), np.asarray(stiffness))).mean(axis=-1)


def truth(stiffness, temperature, dt=1.0):
    """What `summary` should find for `energies`."""
    count, squared = len(stiffness), np.exp(-2 * np.asarray(stiffness) * dt)
    return {
        "mean": count * temperature / 2,
        "variance": count * temperature**2 / 2,
        "heat_capacity": count / 2,
        "gamma_shape": count / 2,
        "gamma_shape_moments": count / 2,
        "constrained_directions": count,
        "gamma_rate": 1 / temperature,
        "rate_times_temperature": 1.0,
        "autocorrelation_time": dt * np.mean(0.5 * (1 + squared) / (1 - squared)),
        "half_time": brentq(lambda t: correlation(stiffness, t) - 0.5, 1e-9, 1e9),
    }


def labels(temperature, repeats, chains):
    """Temperatures that differ by one part in 10^9: so many groups of chains, summarised in one call."""
    return np.repeat(temperature * (1 + 1e-9 * np.arange(repeats)), chains)


def z_scores(dataset, name, expected):
    """(estimate - truth) / standard error."""
    return ((dataset[name] - expected) / dataset[f"{name}_stderr"]).to_numpy()


def coverage(dataset, name, expected):
    """Share of intervals estimate +- 1.96 standard errors that hold the truth; NaN counts as not."""
    return float(np.mean(np.abs(z_scores(dataset, name, expected)) < 1.96))


def reference(potential, quantity, temperature, **parameters):
    """One number of the table of references."""
    with REFERENCE.open() as file:
        for row in csv.DictReader(file):
            if (row["potential"], row["quantity"]) != (potential, quantity) or float(row["T"]) != temperature:
                continue
            if all(json.loads(row["parameters"]).get(k) == v for k, v in parameters.items()):
                return float(row["value"])
    raise KeyError((potential, quantity, temperature, parameters))


def wall_energies(rng, shape, temperature, a, prefactor, cutoff):
    """Independent energies l = B exp(a x) on an exponential wall in equilibrium, x > -cutoff: p(l) ~ exp(-l/T) / l."""
    lowest = prefactor * np.exp(-a * cutoff)
    grid = np.geomspace(lowest, 60 * temperature, 20_000)
    density = np.exp(-grid / temperature)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(np.log(grid))
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return np.exp(np.interp(rng.random(shape) * cumulative[-1], cumulative, np.log(grid)))


class OwnMBAR:
    """MBAR by its own iteration, for three windows faster than pymbar's robust solvers."""

    def __init__(self, energy, sizes, solver_protocol):
        assert solver_protocol == "robust"
        self.f_k = np.zeros(len(sizes))
        boltzmann = np.exp(-energy)
        for _ in range(200):
            total = (sizes * np.exp(self.f_k)) @ boltzmann
            self.f_k = -np.log((boltzmann / total).sum(axis=1))
            self.f_k -= self.f_k[0]
