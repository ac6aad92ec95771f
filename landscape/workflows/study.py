"""`study`: several tasks from one specification, each of which may start from what others have found."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from landscape.common.arguments import guarded
from landscape.common.tables import differences, overlaid
from landscape.common.text import duration
from landscape.errors import ConfigError, StorageError
from landscape.spec.building import Table
from landscape.storage.files import path_of, save
from landscape.storage.folder import locked
from landscape.storage.interruption import told
from landscape.workflows import presets
from landscape.workflows.opening import open as open_run
from landscape.workflows.specification import STEPWISE, TASKS, build, resolve

__all__ = ["Stage", "stages_of", "study"]

_LOCK: Final = ".lock"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Stage:
    """One task of a study.

    Attributes
    ----------
    name : str
        Also of its file.
    spec : dict
        Every key, defaults filled in; a reference to an earlier stage is ``{"stage": name, "sha256": ...}``.
    sha256 : str
        Of the specification, and so of all that the stage rests on.
    """

    name: str
    spec: Table
    sha256: str

    def task(self, folder: Path) -> Table:
        """The specification with files in place of references."""
        task: Table = _with_references(self.spec, partial(_as_file, folder=folder))
        return task


@guarded
def study(
    spec: Mapping[str, Any] | str,
    *,
    output: str | os.PathLike[str],
    redo: bool = False,
    checkpoint_every: int | None = None,
    note: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> dict[str, Path]:
    """Run the stages of a study in their order; each writes one file, complete or not at all.

    A stage whose file is there is skipped, so that the same call goes on after an interruption; runs, trainings and
    automated bands also from their last checkpoint, to the same bits.

    Parameters
    ----------
    spec : mapping, or name of a preset
        ``stage``, a list of tables, each the specification of a task (see `run`) with a ``name``; in place of a file a
        stage may name an earlier one: ``start = {stage = "minimum-a"}``. ``defaults``, the ``potential`` of all
        stages, and under the name of a task what all stages of that task share; a stage's own keys come on top, table
        by table. ``base``, the name of a preset that says the rest.
    output : path
        The folder of the files NAME.nc.
    redo : bool
        Whether stages whose specification is not that of their file are run again, with all that rests on them; they
        are refused otherwise.
    checkpoint_every : int, optional
        Steps between the checkpoints of runs, trainings and automated bands; by default they go by the clock.
    note : callable, optional
        Takes a line about each stage.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.

    Returns
    -------
    dict of str to pathlib.Path
        The files by the names of the stages.

    Raises
    ------
    ConfigError
        For unknown keys and names; also if a file was written with another specification, naming the keys.
    StorageError
        Also if another process runs a study in this folder.

    Examples
    --------
    >>> import landscape as ls, tempfile
    >>> well = {"kind": "Expression", "energy": "(x**2 - 1)**2 + y**2", "coordinates": ["x", "y"]}
    >>> spec = {
    ...     "defaults": {"potential": well},
    ...     "stage": [
    ...         {"name": "left", "task": "minimize", "start": [-0.8, 0.3], "method": "lbfgs"},
    ...         {"name": "right", "task": "minimize", "start": [0.8, 0.3], "method": "lbfgs"},
    ...         {"name": "path", "task": "connect", "start": {"stage": "left"}, "end": {"stage": "right"},
    ...          "settings": {"cycles": [[0.05, 20]]}},
    ...     ],
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = study(spec, output=folder)
    ...     with ls.open(files["path"]) as path:
    ...         round(float(path.energy.max()), 6)
    1.0
    """
    folder, say = path_of(output), note or (lambda line: None)
    stages = list(stages_of(presets.load(spec) if isinstance(spec, str) else presets.complete(spec)))
    files = {stage.name: folder / f"{stage.name}.nc" for stage in stages}
    with locked(folder, _LOCK):
        for number, stage in enumerate(stages, start=1):
            title = f"{number}/{len(stages)} {stage.name} ({stage.spec['task']})"
            if _is_complete(stage, files[stage.name], redo=redo):
                say(f"{title}: complete")
                continue
            say(f"{title} ...")
            began = time.perf_counter()
            with told(partial(_way_on, title, _keeps(stage))):
                _run(stage, folder, checkpoint_every, progress)
            say(f"{title}: done in {duration(time.perf_counter() - began)}")
    return files


def stages_of(spec: Mapping[str, Any]) -> Iterator[Stage]:
    """The stages of a study, checked.

    Raises
    ------
    ConfigError
    """
    if not isinstance(spec, Mapping) or set(spec) - {"title", "defaults", "stage"}:
        wrong = sorted(set(spec) - {"title", "defaults", "stage"}) if isinstance(spec, Mapping) else spec
        raise ConfigError(f"a study has `title`, `defaults` and a list `stage`; got {wrong!r}")
    defaults, tables = spec.get("defaults", {}), spec.get("stage", [])
    unknown = sorted(set(defaults) - {"potential", *TASKS})
    if unknown:
        raise ConfigError(f"defaults are of the potential or of a task ({', '.join(TASKS)}); got {unknown}")
    if not (isinstance(tables, list) and tables and all(isinstance(one, Mapping) for one in tables)):
        raise ConfigError("a study needs stages: [[stage]] tables with a name, a task and its keys")
    earlier: dict[str, str] = {}
    for table in tables:
        stage = _stage(table, defaults, earlier)
        earlier[stage.name] = stage.sha256
        yield stage


def _stage(table: Mapping[str, Any], defaults: Mapping[str, Any], earlier: Mapping[str, str]) -> Stage:
    own = dict(table)
    name, task = own.pop("name", None), own.get("task")
    if not (isinstance(name, str) and _NAME.fullmatch(name)) or name in earlier:
        raise ConfigError(f"the name of a stage is made of letters, digits, - and _, and its own; got {name!r}")
    if name in TASKS or name in ("potential", "defaults"):
        raise ConfigError(f"a stage cannot be called {name!r}, which is a word of specifications")
    if task not in TASKS:
        raise ConfigError(f"stage {name!r}: unknown task {task!r}; expected one of {sorted(TASKS)}")
    shared = {key: defaults[key] for key in ("potential",) if key in defaults}
    merged = overlaid(overlaid(shared, defaults.get(task, {})), own)
    try:
        full = resolve(merged).model_dump(exclude_none=True, mode="json")
        spec = _with_references(full, partial(_with_hash, earlier=earlier))
    except ConfigError as error:
        raise ConfigError(f"stage {name!r}: {error}") from None
    content = json.dumps(spec, sort_keys=True)
    return Stage(name, spec, hashlib.sha256(content.encode()).hexdigest())


def _with_references(value: Any, changed: Callable[[Table], Table]) -> Any:
    """Plain data in which every table that refers to a stage is another one."""
    if isinstance(value, list):
        return [_with_references(one, changed) for one in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: _with_references(one, changed) for key, one in value.items()}
    return changed(found) if "stage" in found else found


def _with_hash(reference: Table, earlier: Mapping[str, str]) -> Table:
    """A reference to a stage with the hash of what it refers to."""
    if reference["stage"] not in earlier:
        raise ConfigError(f"there is no earlier stage {reference['stage']!r}; those before it are {list(earlier)}")
    return reference | {"sha256": earlier[reference["stage"]]}


def _as_file(reference: Table, folder: Path) -> Table:
    rest = {key: value for key, value in reference.items() if key not in ("stage", "sha256")}
    return rest | {"file": str(folder / f"{reference['stage']}.nc")}


def _is_complete(stage: Stage, file: Path, *, redo: bool) -> bool:
    """Whether the stage's file is there, and was written with its specification."""
    if not file.exists():
        return False
    with open_run(file) as stored:
        try:
            former = json.loads(stored.attrs["stage"])
        except (KeyError, ValueError):
            raise StorageError(f"{str(file)!r} was not written by a study: choose another folder") from None
    if former["sha256"] == stage.sha256:
        return True
    if redo:
        return False
    changed = "; ".join(differences(former["spec"], stage.spec))
    raise ConfigError(
        f"stage {stage.name!r} was run with another specification: {changed}. Have it and what rests on it run again "
        "(redo=True, --redo), or choose another folder"
    )


def _way_on(title: str, keeps: bool, inside: str) -> str:
    """What to say where a stage is interrupted: `inside` speaks of a file of which the study takes care."""
    where = inside.partition(";")[0] or "interrupted"
    again = "" if keeps else "; this stage begins again"
    return f"{where} in stage {title}; the same command goes on from there{again}"


def _keeps(stage: Stage) -> bool:
    """Whether a stage that is interrupted leaves something to go on from."""
    task = stage.spec["task"]
    return task in STEPWISE or (task == "connect" and stage.spec["method"] == "auto_neb")


def _run(stage: Stage, folder: Path, checkpoint_every: int | None, progress: bool | None) -> None:
    task = stage.task(folder)
    unfinished = folder / f"{stage.name}.{stage.sha256[:12]}.unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    if task["task"] == "connect" and _keeps(stage):
        own = {"checkpoint": f"{unfinished}.nc", "checkpoint_every": checkpoint_every}
        task["settings"] = own | task["settings"]
    stepwise = task["task"] in STEPWISE
    with build(task).call(
        output=unfinished if stepwise else None, checkpoint_every=checkpoint_every if stepwise else None,
        progress=progress, resumed=True,  # the name of the folder says from what it started, wherever that is now
    ) as result:  # fmt: skip
        found = result.load()
    found.attrs["stage"] = json.dumps({"sha256": stage.sha256, "spec": stage.spec}, sort_keys=True)
    save(found, folder / f"{stage.name}.nc")
    for left in folder.glob(f"{stage.name}.*.unfinished*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
