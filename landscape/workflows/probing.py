"""A probe by its name on stored runs: what specifications and the command line call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
import xarray as xr

from landscape.common.provenance import measured_from, run_spec
from landscape.errors import ConfigError
from landscape.potentials.base import Potential
from landscape.probes.registry import ROOMS, Probe, registered
from landscape.recording.by_chain import by_chain
from landscape.spec import plugins
from landscape.spec.building import build_constraint, build_integrator, build_potential, suggest
from landscape.workflows.opening import stored_at

__all__ = ["known_probes", "named_probe", "probe"]


def known_probes() -> list[str]:
    """Names of all probes: those of this package, and those that other packages register."""
    return [*registered(), *plugins.names("probes")]


def named_probe(name: Any) -> Probe:
    """The probe called "room.function", such as "confinement.along_path", or that of another package.

    Raises
    ------
    ConfigError
    """
    ours = registered().get(str(name))
    if ours is not None:
        return ours
    plugin = plugins.find("probes", str(name))
    if plugin is not None:
        return Probe(plugin.name, plugin.load())
    raise ConfigError(
        f'unknown probe {name!r}: expected "room.function", the room one of {", ".join(ROOMS)}, such as '
        f'"confinement.along_path"{suggest(name, known_probes())}'
    )


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
        Such as "confinement.drift" or "curvature.trace", or the name of a probe of another package.
    variable : str, optional
        The variable of the run that the probe is given; left out, what the probe reads of it.
    settings : mapping, optional
        Further arguments of the probe; integrators and constraints may be their tables, a number type its name, and
        what is stored ``{"file": "reverse.nc"}``, or a ``variable`` of it. An integrator that is not given is that of
        the run.

    Returns
    -------
    xarray.Dataset
        With the `probe` and, as ``run_spec``, the specification of the run among its attributes.

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
    known = named_probe(probe)
    options = {name: _made(name, one) for name, one in _checked(known, settings or {}).items()}
    runs = list(run) if isinstance(run, list | tuple) else [run]
    if known.reads.one_temperature and "temperature" in options:
        runs = [_at(one, options["temperature"]) for one in runs]
    given = dict(zip(known.data, known.reads.of(runs, variable), strict=False))
    if known.landscape is not None:
        given[known.landscape] = build_potential(run_spec(runs[0])["potential"]) if potential is None else potential
    rule = known.settings.get("integrator")
    if rule is not None and rule.default is rule.empty and "integrator" not in options:
        options["integrator"] = build_integrator(run_spec(runs[0])["integrator"])
    missing = [
        name for name, one in known.settings.items() if one.default is one.empty and name not in {**options, **given}
    ]
    if missing:
        raise ConfigError(
            f"{probe} needs the setting {missing[0]!r}; on the command line --{missing[0].replace('_', '-')}"
        )
    try:
        found = known.function(**given, **options)
    except TypeError as error:  # of settings that one probe hands on to another
        if "keyword" not in str(error) and "argument:" not in str(error):
            raise
        raise ConfigError(f"{probe}: {error}") from error
    if not isinstance(found, xr.Dataset):
        raise ConfigError(f"the probe {probe} returned {type(found).__name__}; expected an xarray.Dataset")
    return measured_from(found, known.name, runs)


def _at(run: Any, temperature: Any) -> Any:
    """The chains at a temperature, of a run that has several."""
    several = isinstance(run, xr.Dataset) and "temperature" in run.coords and run.temperature.dims == ("chain",)
    return by_chain(run).sel(temperature=temperature) if several and np.ptp(run.temperature.values) > 0 else run


def _checked(known: Probe, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings that the probe has.

    Raises
    ------
    ConfigError
        Naming the nearest, and all others.
    """
    for name in settings:
        if name not in known.settings:
            expected = ", ".join(known.settings) or "none"
            raise ConfigError(
                f"{known.name} has no setting {name!r}: expected some of {expected}{suggest(name, known.settings)}"
            )
    return settings


def _made(name: str, given: Any) -> Any:
    """The object that a table, or the name of a number type, stands for."""
    if isinstance(given, Mapping) and "file" in given:
        return _stored(name, given)
    if isinstance(given, Mapping) and "kind" in given and name in _BUILDERS:
        return _BUILDERS[name](dict(given))
    if name == "dtype" and isinstance(given, str):
        return getattr(torch, given, given)
    return given


def _stored(name: str, table: Mapping[str, Any]) -> Any:
    if not set(table) <= {"file", "variable"}:
        raise ConfigError(f'settings.{name} must be {{file = "{name}.nc"}}, got {dict(table)!r}')
    stored = stored_at(f"settings.{name}.file", table["file"])
    variable = table.get("variable")
    if variable is not None and variable not in stored:
        raise ConfigError(f"settings.{name}: there is no variable {variable!r} in {table['file']!r}")
    return stored if variable is None else stored[variable]


_BUILDERS: Final[Mapping[str, Callable[[Any], Any]]] = {"integrator": build_integrator, "constraint": build_constraint}
