"""Does a run sample the law it is meant to? Three checks, each a number with its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape import random
from landscape.boundaries.walls import SEAM_SHARE, Walls, seam_rises
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, described
from landscape.potentials.base import Potential
from landscape.recording.record import Record
from landscape.statistics import equal_rows

__all__ = ["certify", "check_certifiable", "with_samples"]

TOLERANCE = 0.02  # relative deviation from which on a run is not passed
Z_FAIL = 3.0  # number of standard errors that the deviation must have
SAMPLES = 200  # positions per chain that the checks look at
BATCHES = 16  # stretches of a single chain whose scatter gives the error
PROBES = 4  # random vectors for the Laplacian of a network

Estimate = tuple[NDArray[np.float64], NDArray[np.float64]]


def certify(run: xr.Dataset, halved: xr.Dataset, potential: Potential, walls: Walls, seed: int) -> xr.Dataset:
    """The run with its certificate: equipartition, configurational temperature, bias of the step size.

    equipartition_i = <(x_i - <x_i>) dV/dx_i>/T = 1
    configurational temperature = <sum_i (dV/dx_i)^2>/<sum_i d2V/dx_i^2> = T
    dt_bias = <V>_dt - <V>_(dt/2) = 0

    Averages are over the second half of a run, chains of equal temperature and step size taken together (dimension
    `setting` where there are several such groups); sums are over the coordinates without boundaries, for which alone
    the two identities hold. A run fails outright whose steps go far between boundaries that absorb, or whose energy
    jumps where a periodic coordinate closes. A check fails where it deviates by more than 2 % (the bias: of dim T/2)
    and by more than three standard errors; it is unresolved where it does not fail and its error is above 2 %.

    Parameters
    ----------
    run, halved : Dataset
        The run, and one of half the step size and twice the steps with other noise.
    seed : int
        Of the probes for the Laplacian of a network.

    References
    ----------
    Butler, Ayton, Jepps, Evans, "Configurational temperature: verification of Monte Carlo simulations", J. Chem. Phys.
    109, 6519 (1998).
    """
    wrong = _edges(run, potential, walls)
    groups = _groups(run)
    free = walls.free
    samples = _samples(run)
    gradient = np.asarray(potential.gradient(samples), dtype=float)[..., free]
    virial = (samples - samples.mean(axis=(0, 1)))[..., free] * gradient
    if potential.coordinates is None:
        virial = virial.mean(-1, keepdims=True)
    square, laplacian = (gradient**2).sum(-1), _laplacian(potential, samples, free, seed)
    energies = [_second_half(one.energy.values) for one in (run, halved)]
    equipartition, heat, bias = [], [], []
    for chains, temperature, _ in groups:
        equipartition.append(_mean(virial[chains] / temperature))
        heat.append(_ratio(square[chains], laplacian[chains]))
        (mean, error), (other, other_error) = (_mean(values[chains]) for values in energies)
        bias.append((mean - other, np.hypot(error, other_error)))
    return _attach(run, groups, potential, free, equipartition, heat, bias, wrong)


def _edges(run: xr.Dataset, potential: Potential, walls: Walls) -> list[str]:
    """What is wrong at the ends of coordinates: steps as long as the way between them, an energy without period."""
    found = []
    ratio, most = run.attrs.get("exit_step_ratio", 0.0), run.attrs.get("exit_step_ratio_bound", np.inf)
    if ratio > most:
        found.append(f"a step goes {ratio:.2g} of the way between the walls that absorb, more than {most:g}")
    last = torch.as_tensor(np.asarray(run.last_position.values, dtype=np.float64))
    for d, rise in seam_rises(potential, walls, last[torch.isfinite(last).all(1)][:SAMPLES]).items():
        worst = float(rise.abs().nan_to_num(0.0).max()) if len(rise) else 0.0
        if worst > SEAM_SHARE * float(run.temperature.values.min()):
            name = potential.coordinate_name(int(d))
            found.append(f"the energy jumps by {worst:.2g} where {name!r} closes, so that no law is Boltzmann's")
    return found


def check_certifiable(integrator: Integrator, temperature: Any, steps: int, record: Record) -> None:
    """Refuse runs that are not meant to sample the Boltzmann distribution at a constant temperature.

    Raises
    ------
    ConfigError
    """
    if not integrator.obeys_boltzmann:
        raise ConfigError(f"certify=True checks the Boltzmann law, which {described(integrator)} does not sample")
    if isinstance(temperature, Schedule) or isinstance(integrator.step_size, Schedule):
        raise ConfigError("certify=True needs a constant temperature and step size")
    if not np.all(np.asarray(temperature) > 0):
        raise ConfigError(f"certify=True needs a temperature above 0, got {temperature!r}")
    if steps // record.every < 2 * BATCHES:
        raise ConfigError(
            f"certify=True needs {2 * BATCHES} draws or more, got {steps // record.every}: lower Record(every=...)"
        )


def with_samples(record: Record, potential: Potential) -> Record:
    """The record with what a certificate needs: energies, and positions or snapshots."""
    given = record.observables
    names = list(given if given is not None else potential.recorded)
    snapshots = record.snapshots if "position" in names else max(record.snapshots or 0, SAMPLES)
    if "energy" in names:
        return replace(record, snapshots=snapshots)
    more = dict(given) | {"energy": None} if isinstance(given, dict) else [*names, "energy"]
    return replace(record, observables=more, snapshots=snapshots)


def _groups(run: xr.Dataset) -> list[tuple[NDArray[np.int64], float, float]]:
    """Chains of equal temperature and step size."""
    return [(chains, t, dt) for (t, dt), chains in equal_rows(run.temperature.values, run.dt.values)]


def _samples(run: xr.Dataset) -> NDArray[np.float64]:
    kept = _second_half((run.position if "position" in run else run.snapshot).values)
    chosen = np.linspace(0, kept.shape[1] - 1, min(SAMPLES, kept.shape[1])).round().astype(int)
    return np.asarray(kept[:, np.unique(chosen)])


def _second_half(values: NDArray[Any]) -> NDArray[Any]:
    return values[:, values.shape[1] // 2 :]


def _laplacian(potential: Potential, samples: NDArray[Any], free: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Sum of second derivatives along the free coordinates: exact where they have names, else by random vectors."""
    if potential.coordinates is not None:
        hessian = np.asarray(potential.hessian(samples), dtype=float)
        return np.asarray(hessian[..., free, free].sum(-1))
    total = np.zeros(samples.shape[:2])
    for probe in range(PROBES):
        signs = random.signs(seed, torch.tensor([probe]), 0, potential.dim)[0].numpy().astype(samples.dtype)
        total += np.asarray((potential.hvp(samples, signs) * signs).sum(-1), dtype=float)
    return total / PROBES


def _independent(values: NDArray[Any]) -> NDArray[Any]:
    """Averages that are nearly independent: one per chain, or per stretch of a single chain."""
    if len(values) > 1:
        return np.asarray(values.mean(axis=1))
    return np.stack([part.mean(axis=0) for part in np.array_split(values[0], BATCHES)])


def _mean(values: NDArray[Any]) -> Estimate:
    parts = _independent(values)
    return parts.mean(axis=0), parts.std(axis=0, ddof=1) / math.sqrt(len(parts))


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Estimate:
    """Ratio of means, its error by the delta method."""
    top, bottom = _independent(above), _independent(below)
    if not bottom.any():  # no coordinate is free
        return np.array(np.nan), np.array(np.nan)
    ratio = top.mean() / bottom.mean()
    scatter = (top - ratio * bottom).std(ddof=1) / math.sqrt(len(top)) / abs(bottom.mean())
    return ratio, scatter


def _attach(
    run: xr.Dataset, groups: Sequence[tuple[NDArray[np.int64], float, float]], potential: Potential,
    free: NDArray[np.int64], equipartition: list[Estimate], heat: list[Estimate], bias: list[Estimate],
    wrong: list[str],
) -> xr.Dataset:  # fmt: skip
    temperature = np.array([group[1] for group in groups])
    named = potential.coordinates is not None
    pairs = np.stack([np.stack(pair) for pair in equipartition])  # (settings, 2, coordinates)
    if named:
        full = np.full((len(groups), 2, potential.dim), np.nan)
        full[..., free] = pairs
        pairs = full
    dims = ("setting", "coordinate") if named else ("setting",)
    table = {
        "equipartition": (dims, pairs if named else pairs[..., 0], "<(x - <x>) dV/dx>/T; 1 in equilibrium", "1"),
        "configurational_temperature": (
            ("setting",),
            np.array(heat),
            "<|grad V|^2>/<lap V>; T in equilibrium",
            "energy",
        ),
        "dt_bias": (("setting",), np.array(bias), "mean energy minus that at half the step size", "energy"),
    }
    variables: dict[str, Any] = {}
    for name, (over, values, about, units) in table.items():
        values = np.asarray(values, dtype=float).reshape(len(groups), 2, *values.shape[2:])
        variables[name] = (over, values[:, 0], {"long_name": about, "units": units})
        error = {"long_name": f"standard error of {name}", "units": units}
        variables[f"{name}_stderr"] = (over, values[:, 1], error)
    found = xr.Dataset(variables)
    certificate = _verdict(found, temperature, potential.dim, wrong)
    if len(groups) == 1:
        found = found.isel(setting=0)
    else:
        found = found.assign_coords(
            setting_temperature=("setting", temperature, {"long_name": "temperature of the group", "units": "energy"}),
            setting_dt=("setting", [g[2] for g in groups], {"long_name": "step size of the group", "units": "time"}),
        )
    return run.assign(found.variables).assign_attrs(certificate=certificate)


def _verdict(found: xr.Dataset, temperature: NDArray[np.float64], dim: int, wrong: list[str]) -> str:
    """ "passed", or what failed and what is unresolved."""
    scale = xr.DataArray(temperature, dims="setting")
    deviations = {
        "equipartition": (found.equipartition - 1, found.equipartition_stderr),
        "configurational_temperature": (
            found.configurational_temperature / scale - 1, found.configurational_temperature_stderr / scale,
        ),
        "dt_bias": (found.dt_bias / (scale * dim / 2), found.dt_bias_stderr / (scale * dim / 2)),
    }  # fmt: skip
    failed, unresolved = list(wrong), []
    for name, (deviation, error) in deviations.items():
        bad = (abs(deviation) > TOLERANCE) & (abs(deviation) > Z_FAIL * error)
        if bool(bad.any()):
            worst = float(abs(deviation).where(bad).max())
            failed.append(f"{name} is off by {100 * worst:.1f} %")
        elif bool((error > TOLERANCE).any()):
            unresolved.append(f"{name} is known to {100 * float(error.max()):.1f} % only")
    if bool(found.configurational_temperature.isnull().all()):
        unresolved.append(
            "equipartition and configurational_temperature need a coordinate without walls that feels a force"
        )
    if failed:
        return "failed: " + "; ".join(failed) + ". Try a smaller step size"
    return "unresolved: " + "; ".join(unresolved) + ". Run longer" if unresolved else "passed"
