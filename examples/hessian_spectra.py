r"""Hessian spectra of a network that fluctuates: eigenvalues proportional to the temperature
=========================================================================================

On an exponential wall the mean curvature is :math:`a^2 \langle \ell \rangle`, proportional to T. Jules, Brenner,
Kachman, Levi and Bar-Sinai (2023), Fig. 3, find the same for a network: the distribution of the Hessian's eigenvalues
at snapshots of the dynamics collapses as a function of :math:`\lambda/T`, apart from a few outliers, about one a
class. The logarithmic plot leaves out the negative eigenvalues; their share is given here. A quadratic would have
eigenvalues that do not know the temperature (see ``quadratic_loss``).

That the weights are confined by walls and not by springs shows in how far they go: at the same distance from the
minimum Langevin dynamics has a loss of a few dozen T, while free diffusion, which takes no notice of the gradient, has
climbed out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

import landscape as ls
from landscape import potentials, probes
from landscape.examples._random_labels import CLASSES, REACH, network
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
TOP = 12  # eigenvalues among which the gap below the outliers is looked for


def reproduce(size: str, seed: int) -> Reproduction:
    """Spectra at snapshots, their scaling, and the way from the minimum."""
    temperatures = np.geomspace(*by_size(size, quick=(1e-6, 5e-5, 2), small=(1e-7, 5e-5, 5), paper=(1e-7, 5e-5, 12)))
    steps = by_size(size, quick=5_000, small=30_000, paper=1_000_000)
    snapshots = by_size(size, quick=4, small=10, paper=1000)
    loss = network(seed)
    run, free = simulate(loss, temperatures, steps, snapshots, seed)
    spectrum = probes.curvature.eigenvalues(loss, run.snapshot)
    scaling, outliers = probes.curvature.temperature_scaling(spectrum), count_outliers(spectrum)
    verdicts = [*judge_scaling(scaling), *judge_outliers(outliers), *judge_distance(run, free)]
    datasets_ = {"spectrum": spectrum, "scaling": scaling, "outliers": outliers.to_dataset(name="outliers")}
    datasets_ |= {"run": run[["energy", "distance"]], "free_diffusion": free[["energy", "distance"]]}
    return Reproduction(datasets_, draw(spectrum, scaling, outliers, run, free), verdicts)


def simulate(
    loss: potentials.NetworkLoss, temperatures: Any, steps: int, snapshots: int, seed: int
) -> tuple[xr.Dataset, xr.Dataset]:
    """Langevin dynamics from the minimum, three chains a temperature, and free diffusion from the same place."""
    minimum = ls.minimize(loss, steps=60_000, tolerance=1e-8)
    chains = ls.grid(temperature=temperatures, replicas=3)["temperature"].values
    dt, record = REACH / chains, ["energy", "distance"]
    run = ls.simulate(
        loss, ls.EulerMaruyama(dt=dt), start=minimum, temperature=chains, steps=steps,
        record=ls.Record(20, record, snapshots=2 * snapshots), seed=seed,
    )  # fmt: skip
    free = ls.simulate(
        loss,
        ls.Diffusion(dt=dt),
        start=minimum,
        temperature=chains,
        steps=steps,
        record=ls.Record(20, record),
        seed=seed,
    )
    settled = run.isel(snapshot=slice(snapshots, None))  # the first half finds its way into equilibrium
    return settled, free


# %%
# Collapse in lambda/T, and what the logarithmic plot leaves out.


def judge_scaling(scaling: xr.Dataset) -> list[Verdict]:
    """Exponent of the median positive eigenvalue, the collapse (bounds of our own), and the share of negative ones."""
    collapse = float(scaling.scaled_distance / scaling.distance)
    return [
        judge("median positive eigenvalue ~ T^1", scaling.exponent, scaling.exponent_stderr, expected=1,
              source="P2 Fig. 3"),
        judge("distributions of lambda/T coincide: largest distance between them", scaling.scaled_distance, 0,
              below=0.1, source="P2 Fig. 3",
              note=f"Kolmogorov-Smirnov; {float(scaling.distance):.2f} for lambda itself"),
        judge("collapse: distance in lambda/T over distance in lambda", collapse, 0, below=0.25, source="P2 Fig. 3"),
        judge("the plot shows most eigenvalues: share of negative ones, which it leaves out",
              scaling.negative_fraction.mean(),
              scaling.negative_fraction.std(ddof=1) / scaling.sizes["temperature"] ** 0.5, below=0.5,
              source="P2 Fig. 3"),
    ]  # fmt: skip


def count_outliers(spectrum: xr.Dataset) -> xr.DataArray:
    """Eigenvalues above the widest gap, in the logarithm, among the largest twelve; mean over snapshots."""
    logs = np.log(spectrum.eigenvalue.isel(eigenvalue=slice(-TOP, None)).to_numpy())
    above = TOP - 1 - np.diff(logs, axis=-1).argmax(axis=-1)
    counts: xr.DataArray = spectrum.eigenvalue[..., 0].copy(data=above.astype(float)).drop_attrs()
    return counts.mean("snapshot")


def judge_outliers(outliers: xr.DataArray) -> list[Verdict]:
    """One a class."""
    error = float(outliers.std(ddof=1)) / outliers.size**0.5
    return [
        judge("outliers above the widest gap: one a class", outliers.mean(), error, expected=CLASSES, resolve=1,
              source="P2 Fig. 3")
    ]  # fmt: skip


# %%
# How far, and at what loss.


def judge_distance(run: xr.Dataset, free: xr.Dataset) -> list[Verdict]:
    """The mean loss of the second half, and that of free diffusion at the same distance; and how distances compare."""
    late = slice(run.sizes["draw"] // 2, None)
    loss, reach = run.energy.isel(draw=late).mean("draw"), float(run.distance.isel(draw=-1).mean())
    at = np.abs(free.distance - reach).argmin("draw")
    ratio = np.log(free.energy.isel(draw=at) / loss)
    travelled = run.distance.isel(draw=-1) / free.distance.isel(draw=-1)
    count = ratio.size**0.5
    return [
        judge("free diffusion at the same distance: ln of its loss over that of the dynamics", ratio.mean(),
              ratio.std(ddof=1) / count, above=0, source="P2 Fig. 3, control"),
        judge("nearly all directions are free: distance over that of free diffusion", travelled.mean(),
              travelled.std(ddof=1) / count, above=0.9, source="P2 Fig. 3"),
    ]  # fmt: skip


# %%
# The figure.


def draw(spectrum: xr.Dataset, scaling: xr.Dataset, outliers: xr.DataArray, run: xr.Dataset, free: xr.Dataset) -> Any:
    """Spectra as they are and divided by T, the median against T, and loss against distance."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 8), layout="constrained")
    (a, b), (c, d) = axes
    for ax, scaled, text in ((a, False, "eigenvalues"), (b, True, "eigenvalues divided by T")):
        probes.curvature.plot_eigenvalues(spectrum, ax=ax, scaled=scaled)
        ax.axhline(CLASSES / spectrum.sizes["eigenvalue"], color="0.45", ls=":", lw=1)
        ax.set_title(f"{text}; dotted: {CLASSES} of them")
    t = scaling.temperature
    c.errorbar(
        t, scaling["median"], 1.96 * scaling.median_stderr, fmt="o", color="#0072B2", label="median positive eigenvalue"
    )
    c.plot(t, float((scaling["median"] / t).mean()) * t, color="#D55E00", label="$\\propto T$")
    c.set(xscale="log", yscale="log", xlabel="temperature $T$", ylabel="eigenvalue", title="median against temperature")
    c.legend(frameon=False, fontsize=8)
    for one, style, text in ((run, "-", "Langevin"), (free, ":", "free diffusion")):
        for i in range(0, one.sizes["chain"], 3):
            color = COLORS[i // 3 % len(COLORS)]
            temperature = float(one.temperature[i])
            d.plot(one.distance[i, ::5], one.energy[i, ::5] / temperature, style, lw=0.9, color=color,
                   label=f"{text}, T = {temperature:.1e}" if i in (0, one.sizes["chain"] - 3) else None)  # fmt: skip
    d.set(yscale="log", xlabel="distance from the minimum", ylabel="loss / T", title="loss against distance")
    d.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
