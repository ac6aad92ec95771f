"""A run on disk while it goes on: parts of what it records, the state to go on from, and a manifest that commits them.

How files are written and committed is the `Folder`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import xarray as xr

from landscape.common.notices import warn
from landscape.common.tables import differences
from landscape.engine.driver import Driver
from landscape.engine.pace import Clock
from landscape.errors import CheckpointError
from landscape.storage.checkpoint import Arrays, capture, encode, read_arrays, restore
from landscape.storage.files import serialise
from landscape.storage.folder import Entry, Folder, kind_of, read_entry
from landscape.storage.interruption import Interruption
from landscape.storage.manifest import Manifest, generations

__all__ = ["PART_BYTES", "RunFolder"]

PART_BYTES = 1 << 26  # of what is recorded along one dimension, in memory and in one file

Status: TypeAlias = Literal["running", "interrupted", "diverged", "complete"]
Describe: TypeAlias = Callable[[Driver, bool], xr.Dataset]


class RunFolder:
    """The folder of one run, which no other process writes as long as this object is open.

    Parameters
    ----------
    path : path
    spec : dict, optional
        The specification to store and to compare with, where it is not the one that `simulate` makes of its arguments.
    resumed : bool
        Whether the start is the one of the stored run, whatever is given.

    Raises
    ------
    StorageError
        If another process writes there, or the folder holds something else.
    CheckpointError
        If it holds a run of which no generation can be read.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, spec: dict[str, Any] | None = None, resumed: bool = False
    ) -> None:
        self.folder, self.spec = Folder(path, "run"), spec or {}
        self.path, self.resumed = self.folder.path, resumed
        self.interruption = Interruption()
        self.clock = Clock()
        self.manifest: Manifest | None = None
        self._arrays: Arrays = {}
        try:
            if kind_of(self.path) == "run":
                self.manifest, self._arrays = self._last_good()
                self.folder.holds(self.manifest.names)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write."""
        self.folder.close()

    @property
    def complete(self) -> bool:
        """Whether the whole run is there."""
        found = self.manifest
        return found is not None and found.status == "complete" and found.done == self.steps

    def compare(self, spec: dict[str, Any], *, ignored: Sequence[str] = ("steps",)) -> None:
        """Refuse another specification than that of the stored run.

        Raises
        ------
        CheckpointError
            The message names the keys.
        """
        ignored = [*ignored, *(["start"] if self.resumed else [])]
        changed = differences(self.manifest.spec, self.spec or spec, ignored=ignored) if self.manifest else []
        if changed:
            raise CheckpointError(
                f"{str(self.path)!r} holds a run of another specification: {'; '.join(changed)}. Give what was given "
                "before, or another folder"
            )

    def begin(self, spec: dict[str, Any], steps: int, describe: Describe) -> None:
        """Take the settings of the run that is to be written, or to go on.

        `describe` makes the Dataset of a driver, and is told whether the run ends there.

        Raises
        ------
        CheckpointError
            If the folder holds a run of another specification; the message names the keys.
        """
        self.steps, self._describe = steps, describe
        self.spec = (self.spec or spec) | ({"steps": steps} if "steps" in spec else {})
        if self.manifest is None:
            return
        self.compare(spec)
        if steps < self.manifest.done:
            raise CheckpointError(
                f"{str(self.path)!r} holds {self.manifest.done} steps already, more than the {steps} asked for: steps "
                "is the total"
            )
        if self.complete and self.folder.needless(self.manifest.names):  # left by a process that was killed
            self._commit(self.manifest, keep_former=False)
        versions = _versions()
        if versions != self.manifest.versions:
            warn(
                f"{str(self.path)!r} was begun with {self.manifest.versions}, now there is {versions}: the bits may "
                "differ from here on"
            )

    # -- going on -------------------------------------------------------------------------------------------------

    def _last_good(self) -> tuple[Manifest, Arrays]:
        """The last generation of which all is there that going on needs."""
        problems = []
        for manifest in generations(self.path):
            try:
                for parts in manifest.series.values():
                    for entry in parts:
                        if (size := _size(self.path / entry.name)) != entry.size:
                            raise CheckpointError(
                                f"{str(self.path / entry.name)!r} is damaged: it has {size} bytes, not {entry.size}"
                            )
                arrays = read_arrays(read_entry(self.path, manifest.checkpoint), self.path / manifest.checkpoint.name)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if problems:
                warn(f"{'; '.join(problems)}: going back to step {manifest.done}")
            return manifest, arrays
        raise CheckpointError("; ".join(problems))

    def restore(self, driver: Driver) -> None:
        """Put a driver where the last generation was.

        Raises
        ------
        CheckpointError
            If the checkpoint does not fit the run.
        """
        if self.manifest is None:
            return
        try:
            restore(driver, self.manifest.numbers, self._arrays)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            name = str(self.path / self.manifest.checkpoint.name)
            raise CheckpointError(f"{name!r} does not fit this run ({type(error).__name__}: {error})") from error
        self._arrays = {}

    # -- writing --------------------------------------------------------------------------------------------------

    def stop(self, driver: Driver) -> int:
        """The step of the run at which a checkpoint is due, next after those made."""
        return self.clock.stop(driver.done) or driver.steps

    def way_on(self, _: str = "") -> str:
        """What to say where the run is interrupted."""
        done = 0 if self.manifest is None else self.manifest.done
        return f"interrupted at step {done} of {self.steps}; go on with `landscape resume {self.path}`"

    def due(self, driver: Driver) -> bool:
        """Whether a part is full, a checkpoint due, or the process asked to end."""
        self.interruption.at_once = False  # something was made that is not committed
        if self.interruption.pending is not None or any(series.full for series in driver.series):
            return True
        return self.clock.due(driver.done)

    def commit(self, driver: Driver) -> None:
        """Write what there is, then the manifest; end the process if it was asked to.

        Raises
        ------
        StorageError
            If a file cannot be written; what was committed before is unchanged.
        """
        pending = self.interruption.pending is not None
        with self.clock.doing():
            self.write(driver, "interrupted" if pending else "running")
        self.interruption.obey()
        self.interruption.at_once = True

    def write(self, driver: Driver, status: Status) -> None:
        """Write one generation."""
        self.interruption.at_once = False
        former = self.manifest
        if former is not None and (former.done, former.status, former.steps) == (driver.done, status, self.steps):
            return
        dataset = self._describe(driver, status != "running")
        parts = {dim: list(entries) for dim, entries in former.series.items()} if former is not None else {}
        for series in driver.series:
            parts[series.dim] = self._write_part(series, parts.get(series.dim, []), dataset)
        rest = dataset.drop_dims([series.dim for series in driver.series if series.dim in dataset.dims])
        rest.attrs = {key: value for key, value in dataset.attrs.items() if key not in ("history", "spec")}
        step = driver.engine.state.step
        state = self.folder.append(f"state-{step}.nc", serialise(rest))
        for series in driver.series:
            if series.full:
                series.release()
        numbers, arrays = capture(driver)
        checkpoint = self.folder.append(f"checkpoint-{step}.safetensors", encode(arrays))
        manifest = Manifest(
            spec=self.spec, steps=self.steps, done=driver.done, status=status, backend=dataset.attrs["backend"],
            versions=_versions(), numbers=numbers, state=state, checkpoint=checkpoint, series=parts,
        )  # fmt: skip
        self._commit(manifest, keep_former=status != "complete")

    def certify(self, checks: xr.Dataset) -> None:
        """Add the certificate to a complete run."""
        if self.manifest is not None:
            entry = self.folder.append(f"certificate-{self.manifest.done}.nc", serialise(checks))
            self._commit(self.manifest.model_copy(update={"certificate": entry}), keep_former=False)

    def _write_part(self, series: Any, entries: list[Entry], dataset: xr.Dataset) -> list[Entry]:
        """The entries of a series with what is in memory now, in place of an incomplete part."""
        whole = entries[: series.first // series.part] if series.part else []
        held = series.count - series.first
        if not held:
            return whole
        names = [name for name, variable in dataset.variables.items() if series.dim in variable.dims]
        part = dataset[[name for name in names if name in dataset.data_vars]].reset_coords(drop=True)
        part = part.assign_coords({name: dataset[name].variable for name in names if name in dataset.coords})
        part = part.drop_vars([name for name in part.coords if name not in names])
        part.attrs = {}
        number = f"{series.dim}-{series.first // series.part:06d}"
        name = f"{number}.nc" if series.full else f"{number}-{held}.nc"
        return [*whole, self.folder.append(name, serialise(part, compress=False), held)]

    def _commit(self, manifest: Manifest, *, keep_former: bool) -> None:
        former = self.manifest.table() if self.manifest is not None and keep_former else None
        self.folder.commit(manifest.table(), manifest.names, former=former)
        self.manifest = manifest


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _versions() -> dict[str, str]:
    from landscape.common.version import package_version

    return {"landscape": package_version()} | {name: version(name) for name in ("torch", "numba", "numpy")}
