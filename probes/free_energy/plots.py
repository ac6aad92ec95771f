"""Pictures of free energies, with 95 % bands, and theory beside them where the landscape carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.potentials.positions import plain_array
from landscape.probes._plot_style import OKABE_ITO, axes, flagged, label
from landscape.text import measured

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

BAND = 1.96  # standard errors


@guarded
@flagged
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


@guarded
@flagged
def plot_mean_force(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy from `mean_force` with its error band; `theory` and `potential` as for `plot_profile`."""
    return _curve(dataset, "free_energy", ax, theory, potential)


@guarded
@flagged
def plot_metadynamics(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy by reweighting with its error band, and from the hills, or as a map of two coordinates."""
    if dataset.free_energy.ndim == 2:
        return _map(dataset, axes(ax))
    seen = dataset.isel({dataset.free_energy.dims[0]: np.flatnonzero(np.isfinite(dataset.free_energy))})
    ax = _curve(seen, "free_energy", ax, theory, potential)
    (name,) = dataset.free_energy.dims
    value, error = seen.free_energy_from_bias, BAND * seen.free_energy_from_bias_stderr
    ax.errorbar(seen[name], value, error, fmt="s", ms=3, lw=0.8, color=OKABE_ITO[2], label="from the hills, 95 %")
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
def plot_umbrella(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy from `umbrella` with its error band and the overlap of each window with the next."""
    ax = _curve(dataset, "free_energy", ax, theory, potential)
    (name,) = dataset.free_energy.dims
    at = dataset[name].to_numpy()
    beside = ax.twinx()
    beside.bar(0.5 * (at[1:] + at[:-1]), dataset.overlap[:-1], 0.6 * np.diff(at), color=OKABE_ITO[2], alpha=0.2)
    beside.set_ylim(0.0, 1.0)
    beside.set_ylabel("overlap of neighbours", color=OKABE_ITO[2])
    return ax


@guarded
@flagged
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
        band = BAND * one.profile_stderr
        ax.fill_between(one[name], one.profile - band, one.profile + band, color=color, alpha=0.3, lw=0)
        ax.plot(one[name], one.profile, ".-", color=color, ms=4, lw=0.8, label=text)
    ax.set_xlabel(name)
    ax.set_ylabel(label("free energy $F$", "energy"))
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
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
    ax.set_xlabel(f"is one of {row}")
    ax.set_ylabel(f"sample of {row}")
    ax.figure.colorbar(shown, ax=ax, label="overlap")
    return ax


@guarded
@flagged
def plot_effective_potential(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Effective potential and its energetic and entropic parts, each from its first value on."""
    ax = _curve(dataset, "free_energy", ax, theory, potential)
    (name,) = dataset.free_energy.dims
    for part, style, color in (("energetic", "--", OKABE_ITO[2]), ("entropic", ":", OKABE_ITO[3])):
        ax.plot(dataset[name], dataset[part] - dataset[part][0], style, color=color, label=f"{part} part")
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
def plot_thermodynamic_integration(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Free energy against the parameter, or against temperature (on a logarithmic axis)."""
    if theory is None and potential is not None and "temperature" in dataset.dims:
        theory = _closed_form(potential, "free_energy", dataset.temperature.to_numpy())
    ax = _curve(dataset, "free_energy", ax, theory, None)
    if "temperature" in dataset.dims:
        ax.set_xscale("log")
    return ax


@guarded
@flagged
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


@guarded
@flagged
def plot_entropy(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Any = None, potential: Potential | None = None
) -> Axes:
    """Entropy against temperature."""
    if theory is None and potential is not None:
        theory = _closed_form(potential, "entropy", dataset.temperature.to_numpy())
    ax = _curve(dataset, "entropy", ax, theory, None)
    if dataset.sizes["temperature"] > 1:
        ax.set_xscale("log")
    return ax


@guarded
@flagged
def plot_nonequilibrium_work(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Distributions of the forward work and of minus the backward work, which cross at the free energy difference."""
    ax = axes(ax)
    works = {"forward": dataset.work[0].to_numpy(), "minus backward": -dataset.work[1].to_numpy()}
    edges = np.histogram_bin_edges(np.concatenate(list(works.values())), 60)
    for (name, work), color in zip(works.items(), OKABE_ITO, strict=False):
        ax.hist(
            work, edges.tolist(), density=True, histtype="stepfilled", alpha=0.35, color=color, label=f"{name} work"
        )
    value, error = float(dataset.free_energy), float(dataset.free_energy_stderr)
    ax.axvspan(value - BAND * error, value + BAND * error, color=OKABE_ITO[6], alpha=0.25, lw=0)
    ax.axvline(value, color=OKABE_ITO[6], label=f"free energy difference {measured(value, error, sign='±')}")
    ax.set_xlabel(label("work $W$", "energy"))
    ax.set_ylabel("probability density")
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
def plot_local_learning_coefficient(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Traces of all chains, their average, and the coefficient with its band; chains that left are drawn in red."""
    ax = axes(ax)
    step, trace = dataset.step.to_numpy(), dataset.trace.to_numpy()
    for values, left in zip(trace, dataset.left.to_numpy(), strict=True):
        ax.plot(step, values, color=OKABE_ITO[1] if left else "0.8", lw=0.4, zorder=1)
    ax.plot(step, trace.mean(axis=0), color=OKABE_ITO[0], lw=1.2, label="average over chains")
    value, error = float(dataset.local_learning_coefficient), float(dataset.local_learning_coefficient_stderr)
    first = step[int(dataset.attrs["discard"] * len(step))]
    ax.fill_between([first, step[-1]], value - BAND * error, value + BAND * error, color=OKABE_ITO[6], alpha=0.3, lw=0)
    ax.plot(
        [first, step[-1]], [value, value], color=OKABE_ITO[6], label=f"coefficient {measured(value, error, sign='±')}"
    )
    ax.set_ylim(min(0.0, 3.0 * value), max(3.0 * value, 0.1))
    ax.set_xlabel("step")
    ax.set_ylabel("$(V - V(w)) / T$")
    notes = dataset.attrs["warnings"]
    if notes != "none":
        ax.set_title(notes, fontsize="small", wrap=True)
    ax.legend(frameon=False)
    return ax


def _curve(dataset: xr.Dataset, variable: str, ax: Axes | None, theory: Any, potential: Potential | None) -> Axes:
    """A quantity with its band, and theory: from the same zero, shifted to the same average, or as it is against T."""
    ax = axes(ax)
    (name,) = dataset[variable].dims
    x, value, error = dataset[name].to_numpy(), dataset[variable], dataset[f"{variable}_stderr"]
    ax.fill_between(
        x, value - BAND * error, value + BAND * error, color=OKABE_ITO[0], alpha=0.3, lw=0, label="95 % band"
    )
    ax.plot(x, value, ".", color=OKABE_ITO[0], ms=4, label="measured")
    if theory is None and potential is not None:
        theory = _closed_form(potential, "effective_potential", x, float(dataset.attrs["temperature"]))
    if theory is not None:
        curve = plain_array(theory, "theory").astype(float)
        if curve.shape != x.shape:
            raise ShapeError(f"theory has shape {curve.shape}, expected one value at each of the {len(x)} of {name!r}")
        if dataset.attrs.get("zero") == "first value":
            curve = curve - curve[0] + float(value[0])
        elif name != "temperature":
            curve = curve + float((value - curve).mean())
        ax.plot(x, curve, color=OKABE_ITO[1], label="theory")
    ax.set_xlabel(str(name))
    symbol = "entropy $S$" if variable == "entropy" else "free energy $F$"
    ax.set_ylabel(label(symbol, str(value.attrs.get("units", "1"))))
    ax.legend(frameon=False)
    return ax


def _states(dataset: xr.Dataset, ax: Axes) -> Axes:
    """Free energies of states with 95 % bars."""
    told = [str(key) for key, one in dataset.coords.items() if one.dims == ("state",) and one.dtype.kind == "f"]
    told = [key for key in told if len(np.unique(dataset[key])) > 1]
    one = len(told) == 1 and bool(np.isfinite(dataset[told[0]]).all())
    energies = "free_energy" in dataset and len(np.unique(dataset.temperature)) == 1
    name = "free_energy" if energies else "reduced_free_energy"
    x = dataset[told[0]].to_numpy() if one else np.arange(dataset.sizes["state"])
    error = BAND * dataset[f"{name}_stderr"].to_numpy()
    ax.errorbar(x, dataset[name], error, fmt="o", ms=4, color=OKABE_ITO[0], label="measured, 95 %")
    ax.set_xlabel(told[0] if one else "state")
    ax.set_ylabel(label("free energy $F$", "energy") if energies else "reduced free energy $f$")
    ax.legend(frameon=False)
    return ax


def _map(dataset: xr.Dataset, ax: Axes, variable: str = "free_energy") -> Axes:
    """Free energy over two coordinates."""
    shown_on = dataset[variable]
    first, second = map(str, shown_on.dims)
    shown = ax.pcolormesh(dataset[first], dataset[second], shown_on.T, cmap="viridis", shading="nearest")
    ax.figure.colorbar(shown, ax=ax, label="free energy $F$")
    ax.set_xlabel(first)
    ax.set_ylabel(second)
    return ax


def _closed_form(potential: Potential, name: str, *arguments: Any) -> Any:
    """A closed form of the landscape, None where it has none."""
    try:
        return getattr(potential, name)(*arguments)
    except NotImplementedError:
        return None
