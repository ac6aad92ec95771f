r"""Linear mode connectivity, of loss and of curvature
======================================================

Children share their training up to epoch k, weights and momenta to the last bit, and see different orders of the data
from then on. Split early, they end in minima between which the straight line leads over a barrier; split late, the
line is flat (Frankle et al. 2020). Di Carlo, Goddard and Schwab (P1, Fig. 5, 6 and 9) find that the *curvature* still
rises on that line when the loss no longer does: entropy confines children for longer than energy.

Of a quantity q on the line the instability is log(max q / min q). The statistic is that of the cross-entropy minus
that of lambda_max: positive where energy separates children, negative where only curvature does. Its error is that
over initialisations, each of which gives one pair. The ratio compares noise where a loss goes to 0, so the
differences max - mean of the ends stand beside it. Controls: a lower learning rate, and permutation alignment, since
children that differ by the order of their neurons alone would be the same network.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape.examples._digits import COLOURS, MARKERS, on_pairs
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.probes import confinement
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

QUANTITIES = ("energy", "largest_eigenvalue")

# %%
# Siblings
# --------
# Two for each initialisation, all trained as one batch. At size paper ResNet-20 on CIFAR-10 from the folder ``data``.


def network(size: str, *, seed: int = 0, training: bool = True) -> NetworkLoss:
    """A network on its data; for measurements all data, without weight decay."""
    batch_size, decay = (32, 5e-4) if training else (None, 0.0)
    if size == "paper":
        return NetworkLoss(
            architectures.resnet_cifar(20, seed=seed), datasets.cifar10("data", standardize=True),
            batch_size=256 if training else None, weight_decay=decay, batchnorm="reestimate", chunk_size=1000,
            augment=datasets.FlipCrop() if training else None, device="cuda" if torch.cuda.is_available() else "cpu",
        )  # fmt: skip
    data = datasets.digits(by_size(size, quick=300, small=1400, paper=1400))
    module = architectures.mlp([64, 16, 16, 16, 16, 10], seed=seed)
    return NetworkLoss(module, data, batch_size=batch_size, weight_decay=decay)


def siblings(size: str, split: int, lr: float, seed: int) -> Any:
    """Final weights ``(2 * initialisations, coordinate)``, children next to each other."""
    epochs, count = by_size(size, quick=(15, 4), small=(40, 20), paper=(200, 3))
    starts = torch.stack([network(size, seed=one).position().detach() for one in range(count)])
    run = ls.train(
        network(size), ls.SGD(lr=lr, momentum=0.9), epochs=epochs,
        schedule={0: 1.0, int(0.6 * epochs): 0.2, int(0.85 * epochs): 0.04}, split_epoch=split, siblings=2 * count,
        start=starts.repeat_interleave(2, dim=0), seed=seed, progress=False,
    )  # fmt: skip
    return run.last_position.values


def on_the_line(size: str, ends: Any) -> xr.Dataset:
    """Loss and lambda_max on the line between children, and how unstable each is."""
    pairs = [(i, i + 1) for i in range(0, len(ends), 2)]
    settings = {"largest_eigenvalue": {"rtol": 1e-2}}
    found = confinement.linear_connectivity(
        network(size, training=False), ends, QUANTITIES, points=11, pairs=pairs, settings=settings
    )
    kept = found[[*QUANTITIES, "distance"]].reset_coords(drop=True)
    for quantity in QUANTITIES:
        unstable = confinement.instability(found[quantity])
        kept[f"{quantity}_log_ratio"] = np.log(unstable.ratio)
        kept[f"{quantity}_difference"] = unstable.difference
    kept["statistic"] = kept.energy_log_ratio - kept.largest_eigenvalue_log_ratio
    return kept.drop_attrs()


# %%
# The reproduction
# ----------------


def reproduce(size: str, seed: int) -> Reproduction:
    """Children split at several epochs, on the line between them."""
    splits = by_size(size, quick=(0, 13), small=(0, 8, 20, 24, 28, 32), paper=(0, 2, 5, 10, 20, 50, 100, 150))
    rates = by_size(size, quick=(0.05,), small=(0.05, 0.02), paper=(0.1, 0.02))
    ends = {split: siblings(size, split, rates[0], seed) for split in splits}
    found = xr.concat([on_the_line(size, one) for one in ends.values()], "split").assign_coords(split=list(splits))
    slower = {
        rate: [on_the_line(size, siblings(size, split, rate, seed)) for split in splits[::3]] for rate in rates[1:]
    }
    stored = {"siblings": found}
    stored |= {
        f"siblings_lr_{rate:g}": xr.concat(rows, "split").assign_coords(split=list(splits[::3]))
        for rate, rows in slower.items()
    }
    stored["aligned"] = aligned(size, ends[splits[0]])
    return Reproduction(
        stored, draw(stored, rates), claims(stored, rates, late=by_size(size, quick=13, small=20, paper=50))
    )


def aligned(size: str, ends: Any) -> xr.Dataset:
    """Cross-entropy on the line after the neurons of the second child were matched with those of the first."""
    loss = network(size, training=False)
    matched = ends.copy()
    for i in range(0, len(ends), 2):
        matched[i + 1] = ls.paths.align(loss, ends[i], ends[i + 1])
    pairs = [(i, i + 1) for i in range(0, len(ends), 2)]
    found = confinement.linear_connectivity(loss, matched, ["energy"], points=11, pairs=pairs)
    barrier = confinement.instability(found.energy).difference
    return found[["energy"]].reset_coords(drop=True).drop_attrs().assign(energy_difference=barrier)


def claims(stored: dict[str, xr.Dataset], rates: tuple[float, ...], *, late: int) -> list[Verdict]:
    """The verdicts; late splits are averaged before their error is taken."""
    verdicts = []
    for rate, name in zip(rates, ("siblings", *(f"siblings_lr_{rate:g}" for rate in rates[1:])), strict=True):
        found = stored[name]
        splits = found.split.values
        early, after = found.isel(split=0), found.sel(split=splits[splits >= late]).mean("split")
        at = f"lr {rate:g}, split at {', '.join(str(k) for k in splits[splits >= late])}"
        note = f"{found.sizes['pair']} initialisations; log-ratio of cross-entropy minus that of lambda_max"
        barriers = [f"barrier {float(one.energy_difference.mean()):.2g}" for one in (early, after)]
        risen = on_pairs(after.largest_eigenvalue_difference)
        verdicts += [
            judge(f"lr {rate:g}, split at {splits[0]}: loss is the more unstable", *on_pairs(early.statistic),
                  above=0, source="P1 Fig. 6", note=f"{note}; {barriers[0]}"),
            judge(f"{at}: curvature is the more unstable", *on_pairs(after.statistic),
                  below=0, source="P1 Fig. 6", note=f"mean over these; {barriers[1]}"),
            judge(f"{at}: lambda_max above the mean of the ends", *risen, above=0, source="P1 Fig. 5"),
        ]  # fmt: skip
    left = stored["aligned"].energy_difference / stored["siblings"].energy_difference.isel(split=0)
    note = "a mere permutation would leave none; 1: the neurons still match from the common start"
    text = f"lr {rates[0]:g}, earliest split: barrier left after alignment, in units of that before"
    return [*verdicts, judge(text, *on_pairs(left), above=0.1, source="control", note=note)]


# %%
# The figure
# ----------


def draw(stored: dict[str, xr.Dataset], rates: tuple[float, ...]) -> Figure:
    """Profiles on the line, and both instabilities against the epoch of the split."""
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 7.6), layout="constrained")
    found = stored["siblings"]
    fraction = np.linspace(0, 1, found.sizes["pivot"])
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.88, found.sizes["split"]))
    for ax, quantity, label in zip(
        axes[0], QUANTITIES, ("cross-entropy", r"$\lambda_{\max}$ of the Hessian"), strict=True
    ):
        for colour, split in zip(colours, found.split.values, strict=True):
            ax.plot(fraction, found[quantity].sel(split=split).mean("pair"), color=colour, label=f"split at {split}")
        ax.set(xlabel="part of the way between siblings", ylabel=label, yscale="log")
    aligned = stored["aligned"].energy.mean("pair")
    axes[0, 0].plot(fraction, aligned, color=COLOURS[2], ls="--", label=f"split at {found.split.values[0]}, aligned")
    axes[0, 0].legend(fontsize=8)
    for i, (quantity, label) in enumerate(zip(QUANTITIES, ("cross-entropy", r"$\lambda_{\max}$"), strict=True), 1):
        mean, error = over_pairs(found[f"{quantity}_log_ratio"])
        axes[1, 0].errorbar(found.split, mean, error, color=COLOURS[i], marker=MARKERS[i], capsize=2, label=label)
    axes[1, 0].set(xlabel="epoch of the split", ylabel="log(max / min) on the line", yscale="log")
    for i, name in enumerate(name for name in stored if name.startswith("siblings")):
        mean, error = over_pairs(stored[name].statistic)
        style: Any = {"color": COLOURS[3 + i], "marker": MARKERS[3 + i], "label": f"lr {rates[i]:g}"}
        axes[1, 1].errorbar(stored[name].split, mean, 3 * error, capsize=2, **style)
    axes[1, 1].axhline(0, color="k", lw=0.8)
    axes[1, 1].set_yscale("symlog", linthresh=0.1)
    axes[1, 1].set(xlabel="epoch of the split", ylabel="log-ratio of loss - log-ratio of $\\lambda_{\\max}$, 3 errors")
    for ax in axes[1]:
        ax.legend(fontsize=8)
    return figure


def over_pairs(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean and standard error."""
    return values.mean("pair"), values.std("pair", ddof=1) / values.sizes["pair"] ** 0.5


if __name__ == "__main__":
    command_line(reproduce)
