r"""Free energy along a network's path, from thermal motion and from curvature
==========================================================================

At a temperature T a path between two minima of a network has a free energy of two parts: the energy along it, and the
room across it. Thermal motion measures both in two ways, at a T at which they are of one order, and curvature predicts
both:

* *Arc length held.* Chains are bound to a point c of the path by a spring of stiffness :math:`\epsilon`, weak across
  the path but far stiffer than the floor along it, so that the arc length is frozen while the rest is free. With
  t the tangent, the slope of the free energy :math:`F(c) = -T \ln \int e^{-(V + \epsilon |x - c|^2/2)/T} dx` is

  .. math:: \frac{dF}{ds} = \langle t \cdot \nabla V \rangle ;

  at T = 0 it is the energetic part, and what heat adds is the entropic part. The law of curvature is
  :math:`F = V + \frac{T}{2} \log \det(H_\perp + \epsilon)`, the effective potential of Di Carlo, Goddard and Schwab
  (2026), eq. 2, with the factor 1/2 that they leave out. The spring makes flat directions stationary, and is in both.
* *Projected dynamics*, their algorithm 1: k free steps of size :math:`\eta` from the path and back to it. The drift of
  the arc length is minus the slope of a free energy in which flat directions are missing, for which k steps are too
  short,

  .. math:: F_k = V + \frac{T}{k} \sum_{m=0}^{k-2} \frac{k - 1 - m}{2m + 1} \,
            \mathrm{tr}\left[1 - (1 - \eta H)^{2m+1}\right].

  Diffusion along the path is some hundred times this drift. Chains in pairs with opposite noise cancel it, to first
  order in the noise; only blocks that begin on the same point are used, where nothing is left of it.

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
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

STIFFNESS = 0.5  # epsilon
STEPS, DT = 20, 0.05  # k and eta of projected dynamics, which feel curvatures above 1/(2 k eta) = epsilon
TEMPERATURE = 4e-3
TEMPERATURES = (0.0, TEMPERATURE / 8, TEMPERATURE)
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.45"


def reproduce(size: str, seed: int) -> Reproduction:
    """One path, and the forces at its pivots at T, at T/8 and at zero."""
    loss = network(size, seed)
    path = connect(loss, size, seed)
    quantities = ["energy", "log_determinant", "eigenvalues"]
    curvature = probes.confinement.along_path(loss, path, quantities, epsilon=STIFFNESS)
    across = probes.confinement.barriers(curvature, TEMPERATURE)
    inner = curvature.isel(pivot=slice(1, -1))
    filtered = probes.confinement.barriers(inner, TEMPERATURE, every=STEPS, dt=DT)
    held = integrated(hold(loss, path, size, seed), path.arc_length.numpy())
    projected = integrated(project(loss, path, size, seed), path.arc_length.numpy()[1:-1])
    verdicts = [*judge_held(across, held), *judge_projected(across.isel(pivot=slice(1, -1)), filtered, projected)]
    datasets = {"curvature": across, "filtered": filtered, "held": held, "projected": projected}
    return Reproduction(datasets, draw(across, filtered, held, projected), verdicts)


# %%
# Two networks from different weights, trained to minima, and a string between them.


def network(size: str, seed: int) -> potentials.NetworkLoss:
    """A small perceptron with tanh on handwritten digits, with weight decay."""
    sizes = by_size(size, quick=[64, 16, 10], small=[64, 32, 32, 10], paper=[64, 32, 32, 10])
    digits = datasets.digits(by_size(size, quick=300, small=1400, paper=1400))
    return potentials.NetworkLoss(architectures.mlp(sizes, activation="tanh", seed=seed), digits, weight_decay=1e-3)


def connect(loss: potentials.NetworkLoss, size: str, seed: int) -> ls.paths.Path:
    """The spline through the string's pivots."""
    starts = [network(size, 2 * seed + k).position().detach().numpy() for k in (0, 1)]
    first, last = (ls.minimize(loss, start, method="lbfgs", steps=3000, tolerance=1e-4) for start in starts)
    line = ls.paths.straight_line(first, last, by_size(size, quick=9, small=15, paper=33))
    steps = by_size(size, quick=1500, small=4000, paper=30_000)
    return ls.paths.string(loss, line, steps=steps, lr=0.2, progress=False).spline


# %%
# Forces along the path, as a function of place and temperature.


def hold(loss: potentials.NetworkLoss, path: ls.paths.Path, size: str, seed: int) -> xr.Dataset:
    """Mean force at the pivots, with the arc length frozen by the spring, at T = 0, T/8 and T."""
    chains, steps = by_size(size, quick=(16, 200), small=(16, 300), paper=(64, 20_000))
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
    """Minus the drift of k projected steps from the inner pivots, away from the ends, at T = 0, T/8 and T."""
    pairs = by_size(size, quick=32, small=192, paper=10_000)
    inner = path.arc_length.numpy()[1:-1]

    def slopes(temperature: float, pairs: int) -> np.ndarray:
        run = ls.simulate(
            loss, ls.EulerMaruyama(dt=DT, noise=ls.ThermalNoise(antithetic=True)), temperature=temperature,
            start=np.float32(path.at(np.repeat(inner, 2 * pairs))), steps=STEPS, seed=seed, progress=False,
            constraint=ls.ProjectOntoPath(path, every=STEPS, update="tangent"), record=ls.Record(STEPS),
        )  # fmt: skip
        arc = run.arc_length.to_numpy()
        slope: np.ndarray = (arc[:, 0] - arc[:, -1]) / (STEPS * DT)
        means: np.ndarray = slope.reshape(len(inner), pairs, 2).mean(axis=2)
        return means

    rest = slopes(0.0, 1)
    heat = [slopes(temperature, pairs) - rest for temperature in TEMPERATURES[1:]]
    return forces(TEMPERATURES, np.stack([np.broadcast_to(rest, heat[0].shape), *heat]))


def forces(temperatures: tuple[float, ...], force: np.ndarray) -> xr.Dataset:
    """Mean and standard error over chains or pairs of forces ``(temperature, pivot, chain or pair)``."""
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
    cold, warm = entropic_shares(held, theory)
    law, source = "in units of (T/2) log det (H + epsilon)", "P1 eq. 2 with the factor 1/2"
    return [
        judge("arc length held, energetic part: integral of the force at T = 0 over V along the path",
              *share(held, theory.energetic_profile, 0.0), expected=1.0, tolerance=0.05,
              note="tolerance: the spline between pivots, and how far the string is from converged"),
        judge(f"arc length held, entropic part at T/8, {law}", *cold, expected=1.0, tolerance=0.05, source=source),
        judge(f"arc length held, entropic part at T/8, {law}, as printed", *cold, expected=2.0,
              source="P1 eq. 2 as printed"),
        judge(f"arc length held, entropic part at T, {law}", *warm, expected=1.0, tolerance=0.05, source=source,
              note="where it falls short, the law is the limit of low temperature"),
    ]  # fmt: skip


def judge_projected(theory: xr.Dataset, filtered: xr.Dataset, projected: xr.Dataset) -> list[Verdict]:
    """The same of projected steps, whose law leaves out what they cannot feel."""
    cold, warm = entropic_shares(projected, filtered)
    law, source = f"in units of the law of {STEPS} steps", "P1 algorithm 1; the drift of a block to first order in T"
    return [
        judge("projected steps, energetic part: integral of minus the drift at T = 0 over V along the path",
              *share(projected, theory.energetic_profile, 0.0), expected=1.0, tolerance=0.05),
        judge(f"projected steps, entropic part at T/8, {law}", *cold, expected=1.0, tolerance=0.05, source=source),
        judge("projected steps, entropic part at T/8, in units of (T/2) log det (H + epsilon)",
              *entropic_shares(projected, theory)[0], expected=1.0, source=source,
              note="k steps do not feel all of it"),
        judge(f"projected steps, entropic part at T, {law}", *warm, expected=1.0, tolerance=0.05, source=source,
              note="the law is the limit of low temperature"),
    ]  # fmt: skip


def entropic_shares(found: xr.Dataset, theory: xr.Dataset) -> list[tuple[float, float]]:
    """At T/8 and at T; the theory is proportional to the temperature."""
    return [share(found, theory.entropic_profile * (t / TEMPERATURE), t) for t in TEMPERATURES[1:]]


# %%
# Both parts in one figure.


def draw(across: xr.Dataset, filtered: xr.Dataset, held: xr.Dataset, projected: xr.Dataset) -> Any:
    """Parts and sum, as lines from energy and curvature and as points from thermal motion."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.5), layout="constrained", sharex=True)
    energetic, entropic = held.sel(temperature=0.0), held.sel(temperature=TEMPERATURE)
    total = energetic[["free_energy"]] + entropic[["free_energy"]]
    total["free_energy_stderr"] = np.hypot(energetic.free_energy_stderr, entropic.free_energy_stderr)
    energy, entropy = across.energetic_profile, across.entropic_profile
    panels: tuple[tuple[str, xr.DataArray, xr.Dataset], ...] = (
        ("energetic part, T = 0", energy, energetic),
        (f"entropic part, T = {TEMPERATURE:g}, arc length held", entropy, entropic),
        (f"free energy, T = {TEMPERATURE:g}, arc length held", energy + entropy, total),
        (f"entropic part, T = {TEMPERATURE:g}, {STEPS} projected steps", filtered.entropic_profile,
         projected.sel(temperature=TEMPERATURE)),
    )  # fmt: skip
    for ax, (title, line, points) in zip(axes.flat, panels, strict=True):
        ax.plot(line.arc_length, line - line.mean(), color=ORANGE, label="energy and curvature")
        ax.errorbar(line.arc_length, points.free_energy, 1.96 * points.free_energy_stderr, fmt="o", ms=4, color=BLUE,
                    label="thermal motion, 95 %")  # fmt: skip
        ax.set_title(title, fontsize=10)
        ax.set_ylabel("energy")
    axes[0, 1].plot(
        entropy.arc_length, 2 * (entropy - entropy.mean()), ":", color=GREY, label="as printed, without 1/2"
    )
    axes[1, 1].plot(
        entropy.arc_length[1:-1],
        entropy[1:-1] - entropy[1:-1].mean(),
        "--",
        color=GREY,
        label="law of the arc length held",
    )
    axes[1, 1].set_ylim(axes[0, 1].get_ylim())
    for ax in axes.flat:
        ax.legend(frameon=False, fontsize=8, loc="lower center")
    for ax in axes[1]:
        ax.set_xlabel("arc length [1]")
    return figure


if __name__ == "__main__":
    command_line(reproduce)
