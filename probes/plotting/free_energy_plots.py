"""Pictures of free energies, with 95 % bands, and theory beside them where the landscape carries it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.common.positions import plain_array
from landscape.common.text import measured
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.probes.plotting.marks import BLUE, GREEN, OKABE_ITO, bars, curve, half_widths, theory_line
from landscape.probes.plotting.picture import axes, finished, label, picture, right_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_effective_potential",
    "plot_entropy",
    "plot_harmonic",
    "plot_local_learning_coefficient",
    "plot_mbar",
    "plot_mean_force",
    "plot_metadynamics",
    "plot_nonequilibrium_work",
    "plot_overlap",
    "plot_profile",
    "plot_thermodynamic_integration",
    "plot_umbrella",
]


@picture()
def plot_profile(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy with its error band, or as a map of two coordinates.

    Parameters
    ----------
    theory : DataArray or array, optional
        On the same bins; shifted to the same average.
    """
    if dataset.free_energy.ndim == 2:
        return _map(dataset, axes(ax))
    return _curve(dataset, "free_energy", ax, theory, potential)


@picture()
def plot_mean_force(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy from `mean_force` with its error band; `theory` and `potential` as for `plot_profile`."""
    return _curve(dataset, "free_energy", ax, theory, potential)


@picture()
def plot_metadynamics(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy by reweighting with its error band, and from the hills, or as a map of two coordinates."""
    if dataset.free_energy.ndim == 2:
        return _map(dataset, axes(ax))
    seen = dataset.isel({dataset.free_energy.dims[0]: np.flatnonzero(np.isfinite(dataset.free_energy))})
    ax = _curve(seen, "free_energy", ax, theory, potential)
    name = _along(dataset, "free_energy")
    bars(
        ax, seen[name], seen.free_energy_from_bias, half_widths(seen, "free_energy_from_bias"), color=GREEN,
        marker="s", ms=3, label="from the hills, 95 %",
    )  # fmt: skip
    return finished(ax, None, None)


@picture()
def plot_umbrella(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy from `umbrella` with its error band and the overlap of each window with the next."""
    ax = _curve(dataset, "free_energy", ax, theory, potential)
    name = _along(dataset, "free_energy")
    at = dataset[name].to_numpy()
    right = right_axis(ax, "overlap of neighbours", GREEN)
    right.bar(0.5 * (at[1:] + at[:-1]), dataset.overlap[:-1], 0.6 * np.diff(at), color=GREEN, alpha=0.2)
    right.set_ylim(0.0, 1.0)
    return ax


@picture()
def plot_mbar(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Profiles from `mbar` with their bands, one for each target, or a map of two coordinates; else free energies.

    Free energies of the states (reduced ones where temperatures differ) are drawn against what tells the states apart,
    or their number.

    Parameters
    ----------
    theory, potential : optional
        As for `plot_profile`, for a profile at one target.

    Raises
    ------
    ConfigError
        If the result holds maps at several targets: choose one.
    """
    if "profile" not in dataset:
        return _states(dataset, axes(ax))
    if "target" not in dataset.profile.dims:
        if dataset.profile.ndim == 2:
            return _map(dataset, axes(ax), "profile")
        return _curve(dataset, "profile", ax, theory, potential)
    if dataset.profile.ndim == 3:
        raise ConfigError("a map is of one target: choose one, such as found.isel(target=0)")
    ax = axes(ax)
    name = str(dataset.profile.dims[-1])
    told = [str(key) for key, one in dataset.coords.items() if one.dims == ("target",) and len(np.unique(one)) > 1]
    for number, color in zip(range(dataset.sizes["target"]), OKABE_ITO * dataset.sizes["target"], strict=False):
        one = dataset.isel(target=number)
        text = ", ".join(f"{key} {float(one[key]):.4g}" for key in told) or str(number)
        curve(ax, one[name], one.profile, half_widths(one, "profile"), color=color, ls="-", marker=".", label=text)
    return finished(ax, name, label("free energy $F$", "energy"))


@picture()
def plot_overlap(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Overlap matrix of `mbar` or `umbrella`: the chance that a sample of one state is one of another, in the cells.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `mbar` or `umbrella`.
    """
    ax = axes(ax)
    matrix = dataset.overlap_matrix.to_numpy()
    (row, _), count = dataset.overlap_matrix.dims, len(matrix)
    shown = ax.imshow(matrix, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    size = max(min(9.0, 90.0 / count), 3.0)
    for (i, j), value in np.ndenumerate(matrix):
        text = f"{value:.2f}".removeprefix("0") if value >= 0.005 else ""
        if count <= 30:
            ax.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if value > 0.6 else "black")
    names = [str(name) for name in dataset.label.to_numpy()] if "label" in dataset.coords else None
    every = range(0, count, max(count // 12, 1))
    told = [names[i] if names else str(i) for i in every]
    ax.set_xticks(list(every), told, rotation=90 if names else 0, fontsize=8)
    ax.set_yticks(list(every), told, fontsize=8)
    ax.figure.colorbar(shown, ax=ax, label="overlap")
    return finished(ax, f"is one of {row}", f"sample of {row}")


@picture()
def plot_effective_potential(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Effective potential and its energetic and entropic parts, each from its first value on."""
    ax = _curve(dataset, "free_energy", ax, theory, potential)
    at = dataset[dataset.free_energy.dims[0]]
    for part, style, color in (("energetic", "--", GREEN), ("entropic", ":", OKABE_ITO[3])):
        ax.plot(at, dataset[part] - dataset[part][0], style, color=color, label=f"{part} part")
    return finished(ax, None, None)


@picture()
def plot_thermodynamic_integration(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy against the parameter, or against temperature (on a logarithmic axis)."""
    if theory is None and potential is not None and "temperature" in dataset.dims:
        theory = _closed_form(potential, "free_energy", dataset.temperature.to_numpy())
    ax = _curve(dataset, "free_energy", ax, theory, None)
    return finished(ax, None, None, logarithmic="x" if "temperature" in dataset.dims else "")


@picture()
def plot_harmonic(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Laplace's free energy against temperature.

    Raises
    ------
    ConfigError
        If the result is for one temperature alone.
    """
    if "temperature" not in dataset.free_energy.dims:
        raise ConfigError("plot_harmonic draws against temperature: give harmonic(...) an array of temperatures")
    return plot_thermodynamic_integration(dataset, ax, theory=theory, potential=potential)


@picture()
def plot_entropy(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Entropy against temperature."""
    if theory is None and potential is not None:
        theory = _closed_form(potential, "entropy", dataset.temperature.to_numpy())
    ax = _curve(dataset, "entropy", ax, theory, None)
    return finished(ax, None, None, logarithmic="x" if dataset.sizes["temperature"] > 1 else "")


@picture()
def plot_nonequilibrium_work(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Distributions of the forward work and of minus the backward work, which cross at the free energy difference."""
    ax = axes(ax)
    directions = (("forward", 1), ("minus backward", -1))  # of works of one direction the first alone
    works = {name: sign * work for (name, sign), work in zip(directions, dataset.work.to_numpy(), strict=False)}
    edges = np.histogram_bin_edges(np.concatenate(list(works.values())), 60)
    for (name, work), color in zip(works.items(), OKABE_ITO, strict=False):
        usual: dict[str, Any] = {"density": True, "histtype": "stepfilled", "alpha": 0.35}
        ax.hist(work, edges.tolist(), color=color, label=f"{name} work", **usual)
    value, half, text = _measured(dataset, "free_energy")
    ax.axvspan(value - half, value + half, color="black", alpha=0.25, lw=0)
    ax.axvline(value, color="black", label=f"free energy difference {text}")
    return finished(ax, label("work $W$", "energy"), "probability density")


@picture()
def plot_local_learning_coefficient(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Traces of all chains, their average, and the coefficient with its band; those that left the basin in red."""
    ax = axes(ax)
    step, trace = dataset.step.to_numpy(), dataset.trace.to_numpy()
    for values, left in zip(trace, dataset.left.to_numpy(), strict=True):
        ax.plot(step, values, color=OKABE_ITO[1] if left else "0.8", lw=0.4, zorder=1)
    ax.plot(step, trace.mean(axis=0), color=BLUE, lw=1.2, label="average over chains")
    value, half, text = _measured(dataset, "local_learning_coefficient")
    kept = [step[int(dataset.attrs["discard"] * len(step))], step[-1]]
    curve(ax, kept, [value, value], [half, half], color="black", label=f"coefficient {text}")
    ax.set_ylim(min(0.0, 3.0 * value), max(3.0 * value, 0.1))
    notes = dataset.attrs["warnings"]
    if notes != "none":
        ax.set_title(notes, fontsize="small", wrap=True)
    return finished(ax, "step", "$(V - V(w)) / T$")


def _measured(dataset: xr.Dataset, name: str) -> tuple[float, float, str]:
    """One estimate, half of its 95 % interval, and both in words."""
    value, error = float(dataset[name]), float(dataset[f"{name}_stderr"])
    return value, float(half_widths(dataset, name)), measured(value, error, sign="±")


def _along(dataset: xr.Dataset, variable: str) -> Hashable:
    """What a quantity is a curve over."""
    dims = dataset[variable].dims
    if len(dims) != 1:
        raise ShapeError(f"{variable} with dimensions {dims} is no curve: give the result that the plot is named after")
    return dims[0]


def _curve(dataset: xr.Dataset, variable: str, ax: Axes | None, theory: Any, potential: Potential | None) -> Axes:
    """A quantity with its band, and theory: from the same zero, shifted to the same average, or as it is against T."""
    ax = axes(ax)
    name = _along(dataset, variable)
    x, value = dataset[name].to_numpy(), dataset[variable]
    curve(
        ax, x, value, half_widths(dataset, variable), color=BLUE, ls="none", marker=".", ms=4, label="measured",
        band="95 % band",
    )  # fmt: skip
    if theory is None and potential is not None:
        theory = _closed_form(potential, "effective_potential", x, float(dataset.attrs["temperature"]))
    if theory is not None:
        expected = plain_array(theory, "theory").astype(float)
        if expected.shape != x.shape:
            raise ShapeError(
                f"theory has shape {expected.shape}, expected one value at each of the {len(x)} of {name!r}"
            )
        if dataset.attrs.get("zero") == "first value":
            expected = expected - expected[0] + float(value[0])
        elif name != "temperature":
            expected = expected + float((value - expected).mean())
        theory_line(ax, x, expected)
    return finished(ax, str(name), label("entropy $S$" if variable == "entropy" else "free energy $F$", value))


def _states(dataset: xr.Dataset, ax: Axes) -> Axes:
    """Free energies of states with 95 % bars."""
    told = [str(key) for key, one in dataset.coords.items() if one.dims == ("state",) and one.dtype.kind == "f"]
    told = [key for key in told if len(np.unique(dataset[key])) > 1]
    one = len(told) == 1 and bool(np.isfinite(dataset[told[0]]).all())
    energies = "free_energy" in dataset and len(np.unique(dataset.temperature)) == 1
    name = "free_energy" if energies else "reduced_free_energy"
    x = dataset[told[0]].to_numpy() if one else np.arange(dataset.sizes["state"])
    bars(ax, x, dataset[name], half_widths(dataset, name), color=BLUE, label="measured, 95 %")
    text = label("free energy $F$", "energy") if energies else "reduced free energy $f$"
    return finished(ax, told[0] if one else "state", text)


def _map(dataset: xr.Dataset, ax: Axes, variable: str = "free_energy") -> Axes:
    """Free energy over two coordinates."""
    shown_on = dataset[variable]
    first, second = map(str, shown_on.dims)
    shown = ax.pcolormesh(dataset[first], dataset[second], shown_on.T, cmap="viridis", shading="nearest")
    ax.figure.colorbar(shown, ax=ax, label="free energy $F$")
    return finished(ax, first, second)


def _closed_form(potential: Potential, name: str, *arguments: Any) -> Any:
    """A closed form of the landscape, None where it has none."""
    try:
        return getattr(potential, name)(*arguments)
    except NotImplementedError:
        return None
