"""Pictures of results: by the plot functions of the probe that a result names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from landscape.probes.registry import registered
from landscape.report.page import Block, Note, draw

__all__ = ["picture", "pictures", "plots_of"]


def pictures(dataset: xr.Dataset) -> list[Block]:
    """A picture by every plot function of the probes whose result this is."""
    return [
        picture((plot.__doc__ or plot.__name__).partition("\n")[0], partial(plot, dataset))
        for plot in plots_of(dataset)
    ]


def plots_of(dataset: xr.Dataset) -> list[Callable[..., Any]]:
    """The plot functions of the probes that a result names, one or several; none of probes of other packages."""
    known = registered()
    named = [known[name] for name in str(dataset.attrs.get("probe", "")).split() if name in known]
    return [plot for one in named for plot in one.plots]


def picture(description: str, plot: Callable[..., Any]) -> Block:
    """What ``plot(ax=...)`` draws; where it fails, a sentence in place of the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")  # small, so that a phone shows its letters large
    FigureCanvasAgg(figure)
    try:
        plot(ax=figure.subplots())
        return draw(figure, description)
    except Exception as error:  # the rest of a report is worth having without one of its pictures
        return Note(f"No picture ({description.rstrip('.')}): {type(error).__name__}: {error}")
