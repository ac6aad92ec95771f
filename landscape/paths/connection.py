"""A path by the name of its method: what specifications and the command line call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from landscape.checks import one_of
from landscape.errors import ConfigError
from landscape.paths.automated_band import auto_neb
from landscape.paths.elastic_band import neb
from landscape.paths.path import Path
from landscape.paths.simplified_string import string
from landscape.paths.trained_curves import bezier, polychain
from landscape.potentials.base import Potential

__all__ = ["METHODS", "connect"]

METHODS: dict[str, Callable[..., Path]] = {
    "auto_neb": auto_neb, "neb": neb, "string": string, "bezier": bezier, "polychain": polychain,
}  # fmt: skip


def connect(
    potential: Potential,
    start: Any,
    end: Any = None,
    *,
    method: str = "auto_neb",
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """A path between two minima as a Dataset.

    Parameters
    ----------
    potential : Potential
    start, end : as for `string`
        A stored path as `start` stands for both, and is where the search goes on.
    method : {"auto_neb", "neb", "string", "bezier", "polychain"}
    settings : mapping, optional
        Further arguments of the method.

    Returns
    -------
    xarray.Dataset
        As from `Path.to_dataset`.

    Raises
    ------
    ConfigError
        For unknown methods and settings, and what the method refuses.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2 + y**2", ["x", "y"])
    >>> settings = {"pivots": 5, "steps": 5, "lr": 0.1}
    >>> connect(well, [-1.0, 0.0], [1.0, 0.0], method="neb", settings=settings).sizes["pivot"]
    5
    """
    function = METHODS[one_of("method", method, METHODS)]
    options = dict(settings or {})
    known = [name for name in inspect.signature(function).parameters if name not in ("potential", "start", "end")]
    for name in options:
        if name not in known or name == "progress":
            raise ConfigError(f"{method} has no setting {name!r}: expected some of {', '.join(known[:-1])}")
    needed = [name for name in ("steps", "lr") if name in known and name not in options]
    if needed:
        raise ConfigError(f"{method} needs the settings {' and '.join(needed)}")
    return function(potential, start, end, progress=progress, **options).to_dataset()
