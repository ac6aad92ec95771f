"""Going on with a run in a folder, and making one file of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import netCDF4
import xarray as xr

from landscape.boundaries.constraints import listed
from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.common.codec import plain
from landscape.common.tables import differences
from landscape.dynamics.train import train
from landscape.errors import CheckpointError, ConfigError, StorageError
from landscape.spec.building import is_known
from landscape.spec.own_objects import mentions_python
from landscape.storage.file_times import clear_times
from landscape.storage.files import CHECKED, path_of, replacing
from landscape.storage.folder import kind_of
from landscape.storage.library import one_thread
from landscape.storage.run_folder import PART_BYTES, RunFolder
from landscape.storage.training_folder import TrainingFolder
from landscape.workflows.opening import open as open_run
from landscape.workflows.specification import build

__all__ = ["consolidate", "resume"]

HEAD_BYTES = 1 << 17  # of a file, with the header of its root group


@guarded
def resume(
    folder: str | os.PathLike[str],
    *,
    steps: int | None = None,
    epochs: int | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
    **objects: Any,
) -> xr.Dataset:
    """Go on with a run that was written to a folder, to the same bits as if it had never stopped.

    Parameters
    ----------
    folder : path
        What was `output` of `simulate`, `replica_exchange`, `train` or `run`.
    steps : int, optional
        The total, counted from the start of the run; by default what the run was to make.
    epochs : int, optional
        The total of a training, the last factor of whose schedule holds on.
    checkpoint_every, progress : optional
        As for `simulate`.
    **objects
        What plain data cannot rebuild, by the name of its argument: ``potential=``, ``integrator=``, ``record=``,
        ``constraint=``, ``temperature=``. Their specifications must be those of the run.

    Returns
    -------
    xarray.Dataset
        As from `landscape.open`.

    Raises
    ------
    CheckpointError
        If no generation of the run can be read, if it has made more steps already, or if an object is not the one of
        the run; the message names file or key.
    StorageError
        If another process is writing there.
    ConfigError
        If the run needs an object that is not given.

    Examples
    --------
    >>> import landscape as ls, tempfile
    >>> spring = ls.potentials.Quadratic([1.0])
    >>> whole = ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=40, output=folder)
    ...     bool((ls.resume(folder, steps=100).position == whole.position).all())
    True
    """
    path = path_of(folder)
    if kind_of(path) == "training":
        if steps is not None:
            raise ConfigError("a training is counted in epochs: say epochs=TOTAL instead of steps")
        return _resume_training(TrainingFolder(path, resumed=True), epochs, checkpoint_every, progress, objects)
    if epochs is not None:
        raise ConfigError(f"{str(path)!r} is no training, which epochs count: say steps=TOTAL")
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {str(path)!r}: expected one that simulate(output=...) wrote")
    claimed = RunFolder(path)
    try:
        if claimed.manifest is None:
            raise CheckpointError(f"{str(path)!r} holds no run: expected a folder that simulate(output=...) wrote")
        claimed.spec = claimed.manifest.spec
        total = claimed.manifest.steps if steps is None else whole_number("steps", steps)
        function, arguments, settings = _call(claimed.spec, objects)
        settings |= {"steps": total, "checkpoint_every": checkpoint_every, "progress": progress}
        run: xr.Dataset = function(*arguments, **settings, output=claimed)
        return run
    finally:
        claimed.close()


def _resume_training(
    folder: TrainingFolder,
    epochs: int | None,
    checkpoint_every: int | None,
    progress: bool | None,
    objects: dict[str, Any],
) -> xr.Dataset:
    content = folder.read()
    _, arguments, settings = _call(content["settings"] | content["spec"], objects)
    if epochs is not None:
        if whole_number("epochs", epochs) < settings["epochs"]:
            raise CheckpointError(
                f"the training has {settings['epochs']} epochs, more than the {epochs} asked for: epochs is the total"
            )
        settings |= {"epochs": epochs}
    if "backend" not in content["settings"]:
        del settings["backend"]  # filled in, not given
    return train(*arguments, **settings, output=folder, checkpoint_every=checkpoint_every, progress=progress)


OBJECTS: Final = ("potential", "integrator", "record", "constraint", "temperature")


def _call(spec: Mapping[str, Any], objects: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Function, arguments and settings of a stored run; a start that is a file or a minimum is in the checkpoint."""
    _check_objects(spec, objects)
    known = {key: one for key, one in spec.items() if key not in ("start", "momentum") or isinstance(one, list)}
    prepared = build(known, given=objects)
    return prepared.function, prepared.arguments, prepared.settings


def _check_objects(spec: Mapping[str, Any], objects: Mapping[str, Any]) -> None:
    """Refuse objects that are not those of the run, and a run of which one is lacking."""
    for name, given in objects.items():
        if name not in OBJECTS:
            raise ConfigError(f"resume takes no {name!r}; objects are {', '.join(OBJECTS)}")
        now = json.loads(json.dumps(plain(listed(given) if name == "constraint" else given)))
        changed = differences({name: spec.get(name)}, {name: now})
        if changed:
            raise CheckpointError(f"this is not the {name} of the run: {'; '.join(changed)}")
    lacking = [name for name in OBJECTS if name not in objects and _from_python(spec.get(name), name)]
    if lacking:
        named = [f"{name} ({', '.join(_names(spec[name])) or spec[name]['kind']})" for name in lacking]
        call, one = ", ".join(f"{name}=..." for name in [*lacking, *objects]), len(lacking) == 1
        raise ConfigError(
            f"the {' and the '.join(named)} of this run {'was' if one else 'were'} given from Python, and resume needs "
            f"{'it' if one else 'them'} again: landscape.resume(folder, {call})"
        )


def _from_python(table: Any, argument: str) -> bool:
    """Whether plain data name something that they cannot rebuild, or a class that nobody registers."""
    group = f"{argument}s"
    unknown = group in ("potentials", "integrators") and isinstance(table, Mapping) and not is_known(
        table.get("kind"), group
    )  # fmt: skip
    return unknown or mentions_python(table)


def _names(table: Any) -> list[str]:
    """What it is called that plain data cannot rebuild."""
    if isinstance(table, list):
        return [name for one in table for name in _names(one)]
    if not isinstance(table, Mapping):
        return []
    own = [str(table["name"])] if table.get("kind") == "python" and "name" in table else []
    return own + [name for value in table.values() for name in _names(value)]


@guarded
def consolidate(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Make one netCDF file of a run in a folder, part by part: memory does not grow with its length.

    Parameters
    ----------
    folder : path
    path : path ending in ``.nc``
        It appears complete or not at all; the folder is left as it is.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    StorageError
        If the file cannot be written.
    CheckpointError
        If the folder holds no run, or a file of it is damaged.

    Examples
    --------
    >>> import landscape as ls, tempfile, os
    >>> spring = ls.potentials.Quadratic([1.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept, file = os.path.join(folder, "run"), os.path.join(folder, "run.nc")
    ...     run = ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=40, output=kept)
    ...     with ls.open(ls.consolidate(kept, file)) as whole:
    ...         bool((whole.position == run.position).all())
    True
    """
    target = path_of(path)
    with open_run(folder) as run:
        growing = [dim for dim in ("draw", "snapshot", "projection") if run.sizes.get(dim)]
        try:
            _write(run, growing, target)
        except StorageError:
            raise
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"cannot write {run.nbytes} bytes to {str(target)!r} ({error}): free some space or choose another path"
            ) from error
    return target


def _write(run: xr.Dataset, growing: list[str], target: Path) -> None:
    """The file with everything, first what does not grow."""
    with replacing(target) as temporary:
        first = run.isel(dict.fromkeys(growing, slice(0)))
        encoding = {name: CHECKED for name, one in first.variables.items() if one.dtype.kind in "fiu" and one.dims}
        with one_thread:
            first.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", unlimited_dims=growing, encoding=encoding)
            with netCDF4.Dataset(temporary, "a") as file:
                for dim in growing:
                    _append(file, run, dim)
        with open(temporary, "r+b") as content:
            head = bytearray(content.read(HEAD_BYTES))
            clear_times(head)
            content.seek(0)
            content.write(head)


def _append(file: Any, run: xr.Dataset, dim: str) -> None:
    """Copy all variables along a dimension, a part at a time."""
    for name, variable in run.variables.items():
        if dim not in variable.dims:
            continue
        axis = variable.dims.index(dim)
        rows = max(1, PART_BYTES * variable.sizes[dim] // max(variable.nbytes, 1))
        stored = file.variables[name]
        stored.set_auto_maskandscale(False)
        for start in range(0, variable.sizes[dim], rows):
            part = slice(start, min(start + rows, variable.sizes[dim]))
            where = (slice(None),) * axis + (part,)
            stored[where] = variable[where].values
