"""What every plot function shares: axes, what the result must hold, flags, labels with units, legend, docstring."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import xarray as xr

from landscape.common.arguments import guarded
from landscape.common.docstrings import completed
from landscape.common.flags import remarks
from landscape.errors import ConfigError
from landscape.probes.plotting.marks import ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes", "finished", "label", "needed", "picture", "right_axis"]

P = ParamSpec("P")

_OWN = ("1", "", "time", "energy", "temperature", "length")  # dimensions where a model has no units
_USUAL: Final = {
    "dataset": "xarray.Dataset\n    Result of `{probe}`.",
    "ax": "matplotlib axes, optional\n    Where to draw; new axes by default.",
    "theory": "DataArray or array, optional\n    Expected values on the same points, drawn beside the measured ones.",
    "potential": "Potential, optional\n    Its closed form is drawn as theory, where it has one.",
}


def picture(*names: str) -> Callable[[Callable[P, Axes]], Callable[P, Axes]]:
    """A plot function of a result that holds these variables; above its picture stands what the flags say against it.

    Its docstring tells what is particular to it; the parameters that all of them have, what they return and what they
    raise where the variables are missing are added.
    """

    def decorated(plot: Callable[P, Axes]) -> Callable[P, Axes]:
        @wraps(plot)
        def draw(*arguments: P.args, **named: P.kwargs) -> Axes:
            results = [one for one in (*arguments, *named.values()) if isinstance(one, xr.Dataset)]
            first = arguments[0] if arguments else named.get("dataset")
            if isinstance(first, xr.Dataset):
                needed(first, *names)
            ax = plot(*arguments, **named)
            against = list(dict.fromkeys(text for one in results for text in remarks(one)))
            if against:
                ax.annotate(
                    "; ".join(against), (1.0, 1.0), (0, 2), "axes fraction", "offset points", ha="right", va="bottom",
                    fontsize="x-small", color=ORANGE, gid="flags",
                )  # fmt: skip
                if ax.get_title():
                    ax.set_title(ax.get_title(), fontsize=ax.title.get_fontsize(), pad=14.0, wrap=ax.title.get_wrap())
            return ax

        probe, lacks = plot.__name__.removeprefix("plot_"), " or ".join(f"`{name}`" for name in names)
        draw.__doc__ = completed(
            plot,
            {name: f"{name} : {text.format(probe=probe)}" for name, text in _USUAL.items()},
            {"Returns": "matplotlib axes"}
            | ({"Raises": f"ConfigError\n    If the dataset has no {lacks}."} if names else {}),
        )
        return guarded(draw)

    return decorated


def needed(dataset: xr.Dataset, *names: str) -> None:
    """Refuse a dataset without these variables."""
    missing = [name for name in names if name not in dataset.variables]
    if missing:
        has = sorted(map(str, dataset.data_vars))
        raise ConfigError(f"the dataset has no {missing}; it has {has}: give what the probe of the same name returns")


def axes(ax: Axes | None) -> Axes:
    """The axes given, or new ones in a figure of their own."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6.0, 4.2), layout="constrained")[1]


def right_axis(ax: Axes, text: str, color: str) -> Axes:
    """A second ordinate at the right, its label in the colour of what is drawn against it."""
    right = ax.twinx()
    right.set_ylabel(text, color=color)
    return right


def label(text: str, units: str | xr.DataArray) -> str:
    """Axis label with the units, or those of a variable; quantities in the units of the model itself need none."""
    told = units if isinstance(units, str) else str(units.attrs.get("units", "1"))
    return text if told in _OWN else f"{text} [{told}]"


def finished(ax: Axes, x: str | None, y: str | None, *, logarithmic: str = "", **legend: Any) -> Axes:
    """The axes with their labels (None: as they are), logarithmic ones named, and a legend of all that has a name."""
    for axis, text in (("x", x), ("y", y)):
        if axis in logarithmic:
            ax.set(**{f"{axis}scale": "log"})
        if text is not None:
            ax.set(**{f"{axis}label": text})
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**{"frameon": False, "fontsize": "small", "title_fontsize": "small"} | legend)
    return ax
