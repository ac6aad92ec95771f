r"""Free energy along a network's path, from thermal motion and from curvature
==========================================================================

At a temperature T a path between two minima of a network has a free energy of two parts: the energy along it, and the
room across it. Both are measured in two ways that share no formula, at a T at which they are of one order:

* by *thermal motion*. Chains are held to a point c of the path by a spring of stiffness :math:`\epsilon`, weak across
  the path but far stiffer than the floor along it, so that the arc length is frozen while the rest is free. With
  t the tangent, the slope of the free energy :math:`F(c) = -T \ln \int e^{-(V + \epsilon |x - c|^2/2)/T} dx` is

  .. math:: \frac{dF}{ds} = \langle t \cdot \nabla V \rangle ;

  at T = 0 it is the energetic part, and what heat adds is the entropic part;
* by *curvature*, :math:`F = V + \frac{T}{2} \log \det(H_\perp + \epsilon)`, the effective potential of Di Carlo,
  Goddard and Schwab (2026), eq. 2, with the factor 1/2 that they leave out.

The spring makes flat directions stationary, and is in both. Beside them stands projected dynamics, k free steps from
the path and back, with :math:`1/(2 k \eta) = \epsilon`: its drift is nearly the same force, but it carries the whole
diffusion along the path, and would need some thousand times the steps to show it.

The network has smooth units. With ReLU the energy has kinks, of which the Hessian at a point knows nothing: there the
thermal part is another one as soon as chains cross them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.interpolate import CubicSpline

import landscape as ls
from landscape import potentials, probes
from landscape.potentials import architectures, datasets
from landscape.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

STIFFNESS = 0.5  # epsilon
TEMPERATURE = 4e-3
TEMPERATURES = (0.0, TEMPERATURE / 8, TEMPERATURE)
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.45"


def reproduce(size: str, seed: int) -> Reproduction:
    """One path, and the forces at its pivots at T, at T/8 and at zero."""
    loss = network(seed)
    path = connect(loss, size, seed)
    curvature = probes.confinement.along_path(loss, path, ["energy", "log_determinant"], epsilon=STIFFNESS)
    theory = probes.confinement.barriers(curvature, TEMPERATURE)
    held = integrated(hold(loss, path, size, seed), path.arc_length.numpy())
    free = integrated(project(loss, path, size, seed), path.arc_length.numpy()[1:-1])
    verdicts = [*judge_held(theory, held), judge_projected(theory, free)]
    return Reproduction({"curvature": theory, "held": held, "projected": free}, draw(theory, held, free), verdicts)


# %%
# Two networks from different weights, trained to minima, and a string between them.


def network(seed: int) -> potentials.NetworkLoss:
    """A small perceptron with tanh on 300 handwritten digits, with weight decay."""
    return potentials.NetworkLoss(
        architectures.mlp([64, 16, 10], activation="tanh", seed=seed), datasets.digits(300), weight_decay=1e-3
    )


def connect(loss: potentials.NetworkLoss, size: str, seed: int) -> ls.paths.Path:
    """The spline through the string's pivots."""
    starts = [network(2 * seed + k).position().detach().numpy() for k in (0, 1)]
    first, last = (ls.minimize(loss, start, method="lbfgs", steps=3000, tolerance=1e-4) for start in starts)
    line = ls.paths.straight_line(first, last, by_size(size, quick=9, small=17, paper=33))
    steps = by_size(size, quick=1500, small=4000, paper=30_000)
    return ls.paths.string(loss, line, steps=steps, lr=0.2, progress=False).spline


# %%
# Forces along the path, as a function of place and temperature.


def hold(loss: potentials.NetworkLoss, path: ls.paths.Path, size: str, seed: int) -> xr.Dataset:
    """Mean force at the pivots, with the arc length frozen by the spring, at T = 0, T/8 and T."""
    chains, steps = by_size(size, quick=(16, 200), small=(32, 600), paper=(64, 20_000))
    rows = []
    for number, s in enumerate(path.arc_length.tolist()):
        center, tangent = (torch.as_tensor(along(s)).to(loss.dtype) for along in (path.at, path.tangent))
        run = ls.simulate(
            loss, ls.LeimkuhlerMatthews(dt=0.2), start=center.numpy(), temperature=np.repeat(TEMPERATURES, chains),
            steps=steps, constraint=spring(center), seed=1000 * seed + number, progress=False,
            record=ls.Record(5, {"force": force_along(tangent)}),
        )  # fmt: skip
        # the slowest direction forgets its start in 1/epsilon, ten steps
        force = run.force.isel(draw=slice(12, None)).mean("draw").to_numpy().astype(float)
        rows.append(force.reshape(len(TEMPERATURES), chains))
    force = np.stack(rows, axis=1)
    force[1:] -= force[:1].mean(axis=2, keepdims=True)
    return forces(TEMPERATURES, force)


def spring(center: torch.Tensor) -> ls.Restrain:
    """Of stiffness epsilon in all directions."""

    def distance(x: torch.Tensor) -> torch.Tensor:
        length: torch.Tensor = torch.linalg.vector_norm(x - center, dim=-1)
        return length

    return ls.Restrain(distance, 0.0, STIFFNESS)


def force_along(tangent: torch.Tensor) -> Any:
    """The slope of the energy in one direction, without the spring."""

    def force(potential: potentials.Potential, x: torch.Tensor) -> torch.Tensor:
        along: torch.Tensor = potential.gradient(x) @ tangent
        return along

    return force


def project(loss: potentials.NetworkLoss, path: ls.paths.Path, size: str, seed: int) -> xr.Dataset:
    """Minus the drift, beyond that at T = 0, of projected dynamics from the inner pivots, away from the ends."""
    chains, steps = by_size(size, quick=(16, 100), small=(32, 400), paper=(64, 20_000))
    temperatures = (0.0, TEMPERATURE)
    every, dt = 20, 1 / (2 * 20 * STIFFNESS)
    start = np.tile(np.repeat(path.arc_length.numpy()[1:-1], chains), 2)
    run = ls.simulate(
        loss, ls.EulerMaruyama(dt=dt), start=np.float32(path.at(start)),
        temperature=np.repeat(temperatures, len(start) // 2), steps=steps, seed=seed, progress=False,
        constraint=ls.ProjectOntoPath(path, every=every, update="tangent"), record=ls.Record(steps),
    )  # fmt: skip
    drift = (run.arc_length[:, -1] - run.arc_length[:, 0]).to_numpy() / (dt * steps)
    force = -drift.reshape(2, -1, chains)
    force[1] -= force[0].mean(axis=1, keepdims=True)
    return forces(temperatures, force)


def forces(temperatures: tuple[float, ...], force: np.ndarray) -> xr.Dataset:
    """Mean and standard error over the chains of forces ``(temperature, pivot, chain)``."""
    both = ("temperature", "pivot")
    about = {"long_name": "force along the path: at T = 0, and what heat adds", "units": "energy"}
    error = force.std(axis=2, ddof=1) / force.shape[2] ** 0.5
    return xr.Dataset(
        {"force": (both, force.mean(axis=2), about), "force_stderr": (both, error)}, {"temperature": list(temperatures)}
    )


def integrals(s: np.ndarray) -> np.ndarray:
    """Matrix ``(force, profile)`` that takes forces at s to the integral of the cubic spline through them."""
    return np.stack([CubicSpline(s, unit).antiderivative()(s) for unit in np.eye(len(s))])


def integrated(found: xr.Dataset, s: np.ndarray) -> xr.Dataset:
    """Free energies with zero as their mean over the pivots, from a cubic spline through the forces."""
    weights = integrals(s)
    weights -= weights.mean(axis=1, keepdims=True)
    value, error = found.force.to_numpy() @ weights, np.sqrt(found.force_stderr.to_numpy() ** 2 @ weights**2)
    both, about = ("temperature", "pivot"), {"long_name": "free energy along the path", "units": "energy"}
    return found.assign(free_energy=(both, value, about), free_energy_stderr=(both, error)).assign_coords(
        arc_length=("pivot", s)
    )


# %%
# One number each: how far the profile follows the one from curvature.


def share(found: xr.Dataset, theory: xr.DataArray, temperature: float) -> tuple[float, float]:
    """Factor on the theory that fits the forces best, by least squares in the profile, with its error."""
    s, row = found.arc_length.to_numpy(), found.sel(temperature=temperature)
    shape = (theory - theory.mean()).to_numpy()
    weights = integrals(s) @ shape / (shape @ shape)
    return float(row.force.to_numpy() @ weights), float(np.sqrt(row.force_stderr.to_numpy() ** 2 @ weights**2))


def judge_held(theory: xr.Dataset, held: xr.Dataset) -> list[Verdict]:
    """Energetic and entropic part of the frozen arc length against curvature."""
    cold, warm = (share(held, theory.entropic_profile * (t / TEMPERATURE), t) for t in TEMPERATURES[1:])
    energetic = share(held, theory.energetic_profile, 0.0)
    law, source = "in units of (T/2) log det (H + epsilon)", "P1 eq. 2 with the factor 1/2"
    return [
        judge("energetic part: integral of the force at T = 0 over V along the path", *energetic, expected=1.0,
              tolerance=0.05, note="tolerance: the spline between pivots, and how far the string is from converged"),
        judge(f"entropic part at T/8, {law}", *cold, expected=1.0, tolerance=0.05, source=source),
        judge(f"entropic part at T/8, {law}, as printed", *cold, expected=2.0, source="P1 eq. 2 as printed"),
        judge(f"entropic part at T, {law}", *warm, expected=1.0, tolerance=0.05, source=source,
              note="where it falls short, the law is the limit of low temperature"),
    ]  # fmt: skip


def judge_projected(theory: xr.Dataset, free: xr.Dataset) -> Verdict:
    """The same from drift, whose error is that of the diffusion along the path."""
    return judge(
        "entropic part at T from projected dynamics, in the same units",
        *share(free, theory.entropic_profile.isel(pivot=slice(1, -1)), TEMPERATURE), expected=1.0,
        note="the drift carries the diffusion along the path, which the frozen arc length does not",
    )  # fmt: skip


# %%
# Both parts in one figure.


def draw(theory: xr.Dataset, held: xr.Dataset, free: xr.Dataset) -> Any:
    """Energetic part, entropic part and their sum, as lines from curvature and points from thermal motion."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained", sharex=True)
    s = theory.arc_length.to_numpy()
    energetic, entropic = held.sel(temperature=0.0), held.sel(temperature=TEMPERATURE)
    total = {
        "free_energy": energetic.free_energy + entropic.free_energy,
        "free_energy_stderr": np.hypot(energetic.free_energy_stderr, entropic.free_energy_stderr),
    }
    lines = [theory.energetic_profile, theory.entropic_profile, theory.energetic_profile + theory.entropic_profile]
    titles = ["energetic part", f"entropic part at T = {TEMPERATURE:g}", "free energy"]
    parts: tuple[Any, ...] = (energetic, entropic, total)
    for ax, line, points, title in zip(axes, lines, parts, titles, strict=True):
        ax.plot(s, line - line.mean(), color=ORANGE, label="energy and curvature")
        ax.errorbar(s, points["free_energy"], 1.96 * points["free_energy_stderr"], fmt="o", ms=4, color=BLUE,
                    label="thermal motion, 95 %")  # fmt: skip
        ax.set(xlabel="arc length [1]", ylabel="energy", title=title)
    axes[1].plot(s, 2 * (lines[1] - lines[1].mean()), ":", color=GREY, label="as printed, without 1/2")
    drift = free.sel(temperature=TEMPERATURE)
    spread = float(drift.free_energy_stderr.mean() / theory.entropic_profile.std())
    axes[1].text(0.03, 0.95, f"projected dynamics: errors {spread:.0f} times this profile",
                 transform=axes[1].transAxes, fontsize=8)  # fmt: skip
    for ax in axes:
        ax.legend(frameon=False, fontsize=8, loc="lower center")
    return figure


if __name__ == "__main__":
    command_line(reproduce)
