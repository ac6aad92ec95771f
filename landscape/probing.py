"""A probe by its name on a stored run: what specifications call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import xarray as xr

from landscape import probes
from landscape.building import build_integrator, build_potential
from landscape.errors import ConfigError
from landscape.opening import stored_at
from landscape.potentials.base import Potential
from landscape.storage.files import read_spec

__all__ = ["MODULES", "named_probe", "probe", "takes_potential"]

MODULES: Final = ("confinement", "curvature", "fluctuations", "free_energy", "rates")


def named_probe(name: Any) -> Callable[..., xr.Dataset]:
    """The probe called "module.function", such as "confinement.along_path".

    Raises
    ------
    ConfigError
    """
    module, _, function = str(name).partition(".")
    known = getattr(probes, module).__all__ if module in MODULES else []
    found = getattr(getattr(probes, module), function) if function in known else None
    if not inspect.isfunction(found) or function.startswith("plot_"):
        raise ConfigError(
            f'unknown probe {name!r}: expected "module.function", the module one of {", ".join(MODULES)}, such as '
            '"confinement.along_path"'
        )
    return found


def takes_potential(function: Callable[..., xr.Dataset]) -> bool:
    """Whether a probe is one of a landscape, and not of a run alone."""
    return next(iter(inspect.signature(function).parameters)) in ("potential", "loss")


def probe(
    potential: Potential | None,
    run: Any,
    *,
    probe: str,
    variable: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """What a probe says of a stored run.

    Parameters
    ----------
    potential : Potential, optional
        For probes that take one; left out, that which the specification of the run describes.
    run : xarray.Dataset, or a list of them
        A run, path or other result.
    probe : str
        Such as "confinement.drift" or "curvature.trace".
    variable : str, optional
        The variable of the run that the probe is given; left out, the whole of it.
    settings : mapping, optional
        Further arguments of the probe; an integrator may be its table, and the reverse runs of a work
        ``{"file": "reverse.nc"}``.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> import landscape as ls
    >>> valley = ls.potentials.Valley("1 + y**2")
    >>> axis = ls.paths.straight_line([0.0, -2.0], [0.0, -1.0], 2).to_dataset()
    >>> probe(valley, axis, probe="confinement.along_path", settings={"quantities": ["log_determinant"]})[
    ...     "log_determinant"].values.round(6)  # ln g
    array([1.609438, 0.693147])
    """
    function = named_probe(probe)
    of_landscape = takes_potential(function)
    known = list(inspect.signature(function).parameters)[2 if of_landscape else 1 :]
    options = dict(settings or {})
    for name in options:
        if name not in known:
            raise ConfigError(f"{probe} has no setting {name!r}: expected some of {', '.join(known)}")
    if isinstance(options.get("integrator"), Mapping):
        options["integrator"] = build_integrator(options["integrator"])
    if isinstance(options.get("reverse"), Mapping):
        options["reverse"] = _stored(options["reverse"])
    data = run if variable is None else _variable(run, variable)
    if not of_landscape:
        return function(data, **options)
    if potential is None:
        potential = build_potential(read_spec(run)["potential"])
    return function(potential, data, **options)


def _stored(table: Mapping[str, Any]) -> xr.Dataset:
    if set(table) != {"file"}:
        raise ConfigError(f'settings.reverse must be {{file = "reverse.nc"}}, got {dict(table)!r}')
    return stored_at("settings.reverse.file", table["file"])


def _variable(run: Any, name: str) -> xr.DataArray:
    if not isinstance(run, xr.Dataset) or name not in run:
        held = list(run.data_vars) if isinstance(run, xr.Dataset) else f"{len(run)} runs"
        raise ConfigError(f"there is no variable {name!r} to probe: it holds {held}")
    return run[name]
