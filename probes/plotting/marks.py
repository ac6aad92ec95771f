"""What is drawn: curves with their bands, points with their bars, theory, in colours that everybody can tell apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BAND", "BLUE", "GREEN", "OKABE_ITO", "ORANGE", "RULE", "Theory", "bars", "curve", "half_widths", "points",
    "shades", "theory_line",
]  # fmt: skip

# Okabe and Ito (2008), without yellow, which is too light for lines on white.
OKABE_ITO: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
BLUE, ORANGE, GREEN = OKABE_ITO[:3]
BAND: Final = 1.96  # standard errors
RULE: Final[dict[str, Any]] = {"color": "0.6", "lw": 0.8, "zorder": 0}  # a level that curves are held against
Theory = Callable[[np.ndarray], Any]  # what is expected, as a function of the abscissa


def shades(count: int) -> list[Any]:
    """So many colours of the viridis map, dark to light, without its palest end."""
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in np.linspace(0.0, 0.88, max(count, 1))]


def half_widths(dataset: xr.Dataset, name: str) -> np.ndarray:
    """Half of the 95 % interval of an estimate, or of one that has none its residual; NaN where none is known."""
    kind, factor = ("stderr", BAND) if f"{name}_stderr" in dataset else ("residual", 1.0)
    error = dataset.get(f"{name}_{kind}", np.nan * dataset[name])
    half = factor * error.to_numpy().astype(float)
    return np.where(np.isfinite(half), half, np.nan)


def curve(
    ax: Axes,
    x: Any,
    y: Any,
    half: Any,
    *,
    color: Any,
    label: str | None = None,
    band: str | None = None,
    least: float | None = None,
    **line: Any,
) -> None:
    """A line and a band of that half width about it, each with its name.

    The band stays above a fraction `least` of the line, for logarithmic axes.
    """
    x, y, half = (np.asarray(one, dtype=float) for one in (x, y, half))
    low = y - half if least is None else np.fmax(y - half, least * y)
    ax.plot(x, y, **{"color": color, "lw": 1.4, "label": label} | line)
    ax.fill_between(x, low, y + half, color=color, alpha=0.25, lw=0, label=band)


def bars(ax: Axes, x: Any, y: Any, half: Any, *, color: Any, marker: str = "o", **settings: Any) -> None:
    """Points with bars of half widths ``(points,)`` or ``(2, points)`` below and above; unconnected unless `ls` is."""
    usual = {"marker": marker, "ls": "none", "ms": 4, "lw": 1.2, "elinewidth": 0.9, "capsize": 2, "color": color}
    ax.errorbar(np.asarray(x), np.asarray(y), half, **usual | settings)


def points(
    ax: Axes, x: Any, y: Any, half: Any, good: np.ndarray, *, color: Any, marker: str = "o", label: str | None = None
) -> None:
    """Unconnected points with bars; hollow where they are not to be trusted."""
    x, y, half = np.asarray(x), np.asarray(y, dtype=float), np.asarray(half, dtype=float)
    for mask, face in ((good, color), (~good, "white")):
        if np.any(mask & np.isfinite(y)):
            bars(ax, x[mask], y[mask], half[..., mask], color=color, marker=marker, ms=5, mfc=face, label=label)
            label = None


def theory_line(ax: Axes, x: Any, y: Any, label: str | None = "theory") -> None:
    """What is expected, beside what was measured."""
    ax.plot(x, y, "--", color="black", lw=1.3, label=label)
