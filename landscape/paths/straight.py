"""Straight lines, and what may stand for the ends of a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from landscape.boundaries.domain import Domain
from landscape.checks import an_instance, whole_number
from landscape.common.arguments import guarded
from landscape.common.notices import warn
from landscape.common.positions import aligned, labelled
from landscape.errors import ConfigError, NonFiniteError, ShapeError
from landscape.paths.evaluation import working_dtype
from landscape.paths.path import Path, real_tensor
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy

__all__ = ["check_movable", "initial_pivots", "path_given", "straight_line"]


@guarded
def straight_line(start: Any, end: Any, pivots: int = 2) -> Path:
    """The straight line between two positions, p_i = start + i/(pivots - 1) (end - start).

    Parameters
    ----------
    start, end : tensor or array ``(coordinate,)``, or a minimum or run of one chain as a Dataset
    pivots : int
        Two or more, the ends among them.

    Returns
    -------
    Path
        Of labelled ends, with the names and the order of the coordinates of `start`.

    Raises
    ------
    ShapeError
        If the ends have different shapes, or labels.
    ConfigError
        If they coincide, or there are fewer than two pivots.
    NonFiniteError

    Examples
    --------
    >>> straight_line([0.0, 0.0], [2.0, 4.0], 3).pivots.tolist()
    [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]
    """
    whole_number("pivots", pivots, least=2)
    names = _labels(start)
    first, last = _end("start", start, names), _end("end", end, names)
    if first.shape != last.shape:
        raise ShapeError(
            f"the ends have different shapes, {tuple(first.shape)} and {tuple(last.shape)}: give two positions of one "
            "landscape"
        )
    t = torch.linspace(0, 1, pivots, dtype=torch.float64, device=first.device)[:, None]
    line = torch.lerp(first.expand(pivots, -1), last.to(first.device).expand(pivots, -1), t)
    return Path(line, names=names)


def initial_pivots(
    potential: Potential, start: Any, end: Any, pivots: int | None, *, domain: Domain, end_tolerance: float
) -> Tensor:
    """Pivots from which a search for a path begins, in the potential's own dtype and on its device, and in its domain.

    Warns
    -----
    UserWarning
        If the gradient at an end is longer than `end_tolerance`: then it is no minimum.
    """
    an_instance("potential", potential, Potential)
    needs_energy("a search for a path", potential)
    given = path_given(start)
    if given is not None:
        if end is not None:
            raise ConfigError("a Path stands for both ends: give no `end` beside it")
        path = given.ordered(potential.coordinates)
    else:
        if end is None:
            raise ConfigError("give two ends, or one Path")
        if pivots is None:
            raise ConfigError("the number of pivots is needed between two ends: pivots=17, say")
        names = potential.coordinates
        path = straight_line(_end("start", start, names), _end("end", end, names))
    if path.pivots.shape[1] != potential.dim:
        raise ShapeError(f"the ends have {path.pivots.shape[1]} coordinates, the potential has {potential.dim}")
    unfolded = domain.unfolded(path.pivots)
    if unfolded is not path.pivots:
        path = Path(unfolded, interpolation=path.interpolation)
    if given is None:
        path = straight_line(path.pivots[0], path.pivots[-1], 2 if pivots is None else pivots)
    elif pivots is not None and pivots != len(path):
        path = path.spline.resample(pivots)
    device = potential.device if potential.placed else path.pivots.device
    moving = path.pivots.to(device, working_dtype(potential))
    domain.check(potential, moving)
    moving = torch.cat([moving[:1], domain.inside(moving[1:-1]), moving[-1:]])
    for which, point in (("start", moving[0]), ("end", moving[-1])):
        norm = float(domain.inward(point[None], potential.gradient(point)[None]).norm())
        if not norm <= end_tolerance:
            warn(
                f"the {which} of the path is not a minimum: the gradient there has norm {norm:.3g}, more than "
                f"end_tolerance = {end_tolerance:g}. Minimise it first, or raise end_tolerance"
            )
    return moving


def check_movable(pivots: Tensor) -> Tensor:
    """Refuse a path of its ends alone, which no force can move.

    Raises
    ------
    ConfigError
    """
    if len(pivots) < 3:
        raise ConfigError("two pivots are the ends, which stay: give 3 pivots or more, pivots=17, say")
    return pivots


def path_given(start: Any) -> Path | None:
    """The path that stands for both ends, if `start` is one, stored or not."""
    if isinstance(start, xr.Dataset) and "pivots" in start:
        return Path.from_dataset(start)
    return start if isinstance(start, Path) else None


def _labels(value: Any) -> tuple[str, ...] | None:
    """Names of the coordinates that an end is labelled with."""
    labels = value.coords.get("coordinate") if isinstance(value, xr.DataArray | xr.Dataset) else None
    return None if labels is None or labels.dtype.kind not in "UO" else tuple(map(str, labels.values))


def _end(name: str, value: Any, names: Sequence[str] | None = None) -> Tensor:
    if isinstance(value, xr.Dataset):
        stored = next((key for key in ("last_position", "position") if key in value), None)
        if stored is None or "draw" in value[stored].dims:
            raise ConfigError(f"the Dataset given as {name} has no last_position: expected a run or a minimum")
        value = value[stored]
    if isinstance(value, xr.DataArray):
        if value.sizes.get("chain", 1) > 1:
            raise ShapeError(f"{name} holds {value.sizes['chain']} chains: choose one with .isel(chain=0)")
        value = value.squeeze("chain", drop=True) if "chain" in value.dims else value
    array = labelled(value)
    point = real_tensor(value if array is None else aligned(array, names).values)
    if point.ndim != 1 or not len(point):
        raise ShapeError(f"{name} must be one position (coordinate,), got shape {tuple(point.shape)}")
    point = point.double()
    bad = torch.nonzero(~torch.isfinite(point))
    if len(bad):
        index = int(bad[0])
        raise NonFiniteError(
            f"coordinate {index} of the {name} is {float(point[index])}; expected finite numbers", coordinate=index
        )
    return point
