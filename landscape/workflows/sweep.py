"""A table of runs, on one core or on many machines."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from landscape.common.arguments import guarded
from landscape.common.provenance import global_attributes
from landscape.engine.progress import is_shown, progress_bar
from landscape.errors import ConfigError, FormulaError, ShapeError
from landscape.spec.own_objects import OwnObjects
from landscape.storage.files import path_of, write_atomically
from landscape.storage.folder import FORMAT
from landscape.storage.interruption import told
from landscape.workflows.points.engines import Engine, choose_engine
from landscape.workflows.points.results import FAILURES, MANIFEST, open_sweep, read_manifest
from landscape.workflows.points.table import Point, SweepTable, make_table
from landscape.workflows.points.tasks import is_complete, one_thread, run_point
from landscape.workflows.specification import build

__all__ = ["check_points", "missing_points", "sweep"]


@guarded
def sweep(
    spec: Mapping[str, Any],
    over: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    executor: Executor | int | None = None,
    output: str | os.PathLike[str] | None = None,
    checkpoints: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Run a specification for every combination of some values.

    Each point is a specification of its own and one file, ``<sha256 of its canonical JSON>.nc``. What is there already
    is not run again, so the same call after a crash runs only what is missing. The files are the same bytes whatever
    the executor, the number of workers and the order.

    Unless `seed` is swept, the seed of point i of the table is drawn from that of `spec`:
    ``numpy.random.SeedSequence(seed, spawn_key=(i,))``, 63 bits. A swept seed is used as it is, so that all other
    values ride on the same noise. The data and the weights of networks have seeds of their own, which do not change.

    Parameters
    ----------
    spec : mapping
        A specification, as `landscape.run` takes it, of any task. Objects may stand for their tables, those of one's
        own too: a potential, integrator, noise, observer or function of a script or notebook, whose code and settings
        are part of the name of the file. They go to worker processes by cloudpickle and are never on disk, so that
        the files say that this part was given from Python.
    over : mapping, or sequence of mappings
        Lists of values by dotted key, ``{"temperature": [0.1, 0.2], "integrator.dt": [1e-3, 1e-2]}``: every
        combination, the last key fastest. Keys that change together share an entry:
        ``{"temperature,integrator.dt": [[0.1, 1e-3], [0.2, 5e-4]]}``. Or the points one by one, each a table of the
        same keys: then the results have the dimension ``point``.
    executor : int or concurrent.futures.Executor, optional
        None runs in this process. A number starts so many worker processes on this machine; a script must then work
        under ``if __name__ == "__main__":``. Else any executor, such as Dask's ``Client.get_executor()``, whose
        workers have this package and see `output`. Every point runs on one thread.
    output : path, optional
        Folder of the results, which may serve again for the same table or one that contains it. Without one, the
        results are returned in memory.
    checkpoints : bool
        Whether a point that is interrupted goes on from its last checkpoint, one a minute; for points that take many
        minutes. The files in the end are the same.
    progress : bool, optional
        A bar over the table, which moves within points too unless an executor of the caller runs them; None shows it if
        the standard error is a terminal.

    Returns
    -------
    xarray.Dataset
        The variables of the points with the swept keys before their own dimensions, see
        `landscape.workflows.points.results.open_sweep`; read from `output` where and when it is indexed. A point that
        fails stops no other: it is True in ``failed``, NaN elsewhere, and the attribute ``failures`` (JSON) tells why,
        as does ``failures.json`` in `output`, with tracebacks. A point whose worker process dies is run again, and
        fails if three have died of it.

    Raises
    ------
    ConfigError
        For keys that no specification takes, empty lists, values that are neither plain data nor objects that a run
        takes, an `output` with another sweep; and if no point can be built, for the reason of the first.
    ShapeError
        If the results differ in shape, other than in the number of draws, iterations or pivots; they are kept in
        `output`.
    StorageError
        If `output` cannot be written or read.

    Examples
    --------
    Equipartition: <energy> = T/2 per coordinate, whatever the stiffness.

    >>> import landscape as ls
    >>> spec = {
    ...     "potential": {"kind": "Quadratic", "stiffness": [1.0]}, "steps": 2000, "chains": 50, "seed": 1,
    ...     "integrator": {"kind": "LeimkuhlerMatthews", "dt": 0.1}, "record": {"every": 50},
    ... }
    >>> table = ls.sweep(spec, {"temperature": [0.5, 2.0], "potential.stiffness": [[1.0], [4.0]]})
    >>> table.energy.sizes["temperature"], table.stiffness.values.tolist()
    (2, ['[1.0]', '[4.0]'])
    >>> mean = table.energy.mean(["chain", "draw"])
    >>> bool((abs(mean / (mean.temperature / 2) - 1) < 0.2).all())
    True
    """
    engine = choose_engine(executor)
    table = make_table(spec, over)
    if output is None:
        lost = "interrupted; a sweep without output keeps nothing"
        with told(lambda _: lost), tempfile.TemporaryDirectory(prefix="landscape-sweep-") as folder:
            return _run(table, engine, Path(folder), checkpoints, progress).load()
    return _run(table, engine, path_of(output).absolute(), checkpoints, progress)


def missing_points(table: SweepTable, folder: Path) -> list[Point]:
    """Points that have no readable result in the folder."""
    return [point for point in table.points if not is_complete(folder / point.file)]


def _run(table: SweepTable, engine: Engine, folder: Path, checkpoints: bool, progress: bool | None) -> xr.Dataset:
    missing = missing_points(table, folder)
    if len(missing) == len(table.points):
        check_points(missing, table.own)
    _write_manifest(table, folder)
    jobs = {point.index: (point.text, str(folder / point.file)) for point in missing}
    done = len(table.points) - len(missing)
    failures: list[dict[str, Any]] = []

    def way_on(inside: str) -> str:
        again = "" if not checkpoints else ", and the point under way goes on from its checkpoint"
        return (
            f"interrupted with {done} of {len(table.points)} points done; the same call and output run only "
            f"what is missing{again}: {folder}"
        )

    with told(way_on), one_thread(), progress_bar(len(table.points), "sweep", show=progress) as show:
        show(done)
        options: dict[str, Any] = ({"checkpoints": True} if checkpoints else {}) | (
            {"own": table.own} if table.own else {}
        )
        task = partial(run_point, **options) if options else run_point
        parts: dict[int, float] = {}

        def within(index: int, part: float) -> None:
            parts[index] = part
            show(done + sum(parts.values()))

        with closing(engine(task, jobs, within if is_shown(progress) else None)) as outcomes:
            for index, failure in outcomes:
                done += 1
                parts.pop(index, None)
                show(done + sum(parts.values()))
                if failure is not None:
                    failures.append({"index": index, "values": table.points[index].values} | failure)
    failures.sort(key=lambda failure: failure["index"])
    write_atomically(folder / FAILURES, json.dumps(failures, indent=1).encode())
    return open_sweep(folder)


def check_points(points: Sequence[Point], own: OwnObjects) -> None:
    """Raise what is wrong with the first point, if it is wrong with all: then it is the sweep that is wrong."""
    first: Exception | None = None
    for point in points:
        try:
            build(json.loads(point.text), own)
        except (ConfigError, FormulaError, ShapeError) as error:
            first = first or error
        except Exception:
            return  # such as data that are not on this machine; the workers will see
        else:
            return
    if first is not None:
        raise first


def _write_manifest(table: SweepTable, folder: Path) -> None:
    files = [point.file for point in table.points]
    if (folder / MANIFEST).exists():
        known = read_manifest(folder)
        if known["files"] == files:
            return
        if not set(known["files"]) <= set(files):
            swept = [key for axis in known["axes"] for key in axis["keys"]]
            raise ConfigError(
                f"{str(folder)!r} holds another sweep, of {len(known['files'])} points over {', '.join(swept)}, which "
                "this table does not contain: give another output, or the same specification and values"
            )
    keys = [key for axis in table.axes for key in axis.keys]
    title = f"Sweep of {table.spec.get('task', 'simulate')} over {', '.join(keys)}"
    manifest = {
        "format": FORMAT,
        "attributes": global_attributes(title, table.spec),
        "axes": [{"name": axis.name, "keys": axis.keys, "values": axis.values} for axis in table.axes],
        "files": files,
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
