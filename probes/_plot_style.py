"""Shared by the plots: axes, colours that colour-blind readers can tell apart, labels with units."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np
import xarray as xr

from landscape.flags import remarks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "OKABE_ITO", "abscissa", "along", "axes", "beside", "chosen", "flagged", "label", "legend", "name_ticks",
    "names_along", "shades", "trust",
]  # fmt: skip

P = ParamSpec("P")

# Okabe and Ito (2008), without yellow, which is too light for lines on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_OWN = ("1", "", "time", "energy", "temperature", "length")  # dimensions where a model has no units


def axes(ax: Axes | None) -> Axes:
    """The axes given, or new ones in a figure of their own."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6.0, 4.2), layout="constrained")[1]


def flagged(plot: Callable[P, Axes]) -> Callable[P, Axes]:
    """A plot function that writes above its picture what the flags of its results say against them.

    Its docstring tells what is particular to it; the parameters that all of them have, and what they return, are added.
    """

    @wraps(plot)
    def draw(*arguments: P.args, **named: P.kwargs) -> Axes:
        ax = plot(*arguments, **named)
        results = [one for one in (*arguments, *named.values()) if isinstance(one, xr.Dataset)]
        against = list(dict.fromkeys(text for one in results for text in remarks(one)))
        if against:
            ax.annotate(
                "; ".join(against), (1.0, 1.0), (0, 2), "axes fraction", "offset points", ha="right", va="bottom",
                fontsize="x-small", color=OKABE_ITO[1], gid="flags",
            )  # fmt: skip
            if ax.get_title():
                ax.set_title(ax.get_title(), fontsize=ax.title.get_fontsize(), pad=14.0, wrap=ax.title.get_wrap())
        return ax

    draw.__doc__ = _completed(plot)
    return draw


_USUAL: Final = {
    "dataset": ("xarray.Dataset", "Result of `{probe}`."),
    "ax": ("matplotlib axes, optional", "Where to draw; new axes by default."),
    "theory": ("DataArray or array, optional", "Expected values on the same points, drawn beside the measured ones."),
    "potential": ("Potential, optional", "Its closed form is drawn as theory, where it has one."),
}


def _completed(plot: Callable[..., Any]) -> str:
    """The docstring of a plot function with the parameters of `_USUAL` that it has, in their order, and `Returns`."""
    head, *sections = re.split(r"\n\n(?=[A-Z][a-z]+\n-+\n)", inspect.getdoc(plot) or "")
    probe = plot.__name__.removeprefix("plot_")
    entries = {name: f"{name} : {kind}\n    {text.format(probe=probe)}" for name, (kind, text) in _USUAL.items()}
    if sections and sections[0].startswith("Parameters\n"):
        for entry in re.split(r"\n(?=\S)", sections.pop(0).split("\n", 2)[2]):
            entries |= dict.fromkeys(entry.partition(" : ")[0].split(", "), entry)
    told = dict.fromkeys(entries[name] for name in inspect.signature(plot).parameters if name in entries)
    parameters = "\n".join(["Parameters", "----------", *told])
    return "\n\n".join([head, parameters, "Returns\n-------\nmatplotlib axes", *sections]) + "\n"


def legend(ax: Axes, **settings: Any) -> None:
    """A legend, where anything is drawn that has a name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**settings)


def shades(count: int) -> list[Any]:
    """So many colours of the viridis map, dark to light, without its palest end."""
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in np.linspace(0.0, 0.88, max(count, 1))]


def label(text: str, units: str) -> str:
    """Axis label; quantities in the units of the model itself need none."""
    return text if units in _OWN else f"{text} [{units}]"


def chosen(count: int, most: int) -> np.ndarray:
    """At most so many indices, evenly spread, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def abscissa(dataset: xr.Dataset, dim: str) -> tuple[np.ndarray, str, bool]:
    """What to plot rows of a result against: their temperature where it varies, else their number.

    Returns values, label and whether a logarithmic axis suits them.
    """
    if "temperature" in dataset.coords and dataset.coords["temperature"].dims == (dim,):
        t = dataset.coords["temperature"]
        values = t.to_numpy().astype(float)
        if np.unique(values).size > 1 or dim == "temperature":
            return values, label("temperature $T$", str(t.attrs.get("units", "1"))), bool(np.all(values > 0))
    return np.arange(dataset.sizes[dim]), dim, False


def along(ax: Axes, name: str, logarithmic: bool, *, whole: bool) -> None:
    """Set up the abscissa: logarithmic for temperatures, whole numbers for chains."""
    if logarithmic:
        ax.set_xscale("log")
    elif whole:
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(name)


def names_along(dataset: xr.Dataset, dim: str) -> list[str] | None:
    """Names of the entries of a dimension that has names and no numbers, such as layers; else None."""
    if dim not in dataset.coords or dataset.coords[dim].dims != (dim,):
        return None
    values = dataset.coords[dim].to_numpy()
    return [str(value) for value in values] if values.dtype.kind in "OSU" else None


def beside(number: int, count: int) -> float:
    """Shift of one of several points that share a name on the axis."""
    return 0.6 * ((number + 0.5) / count - 0.5)


def name_ticks(ax: Axes, names: Sequence[str]) -> None:
    """Names at 0, 1, 2, ... of the abscissa, slanted where they are many or long."""
    slanted = len(names) > 6 or sum(map(len, names)) > 60
    ax.set_xticks(
        np.arange(len(names)), list(names), rotation=45 if slanted else 0, ha="right" if slanted else "center",
    )  # fmt: skip
    ax.set_xlim(-0.6, len(names) - 0.4)


def trust(dataset: xr.Dataset, count: int) -> np.ndarray:
    """Rows that are resolved and stationary, as far as the result knows."""
    good = np.ones(count, dtype=bool)
    for flag in ("resolved", "stationary"):
        if flag in dataset:
            good &= dataset[flag].to_numpy().astype(bool)
    return good
