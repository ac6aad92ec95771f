"""`landscape simulate`: from a TOML file to a stored run."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import xarray as xr

from landscape.cli.console import console, no_overwrite
from landscape.common.tables import put
from landscape.common.text import duration
from landscape.dynamics.simulate import simulate
from landscape.errors import CheckpointError, ConfigError, NonFiniteError, StorageError
from landscape.storage.files import save
from landscape.storage.folder import kind_of
from landscape.storage.interruption import told
from landscape.storage.run_reader import OF_FOLDERS
from landscape.workflows.opening import open as open_run
from landscape.workflows.resuming import consolidate, resume
from landscape.workflows.run_costs import of_simulation
from landscape.workflows.specification import STEPWISE, Prepared, build

__all__ = ["assign", "consolidate_run", "keeping_in", "read_config", "resume_run", "run_config"]


def run_config(
    config: Path, output: Path | None, assignments: list[str], *, dry_run: bool, force: bool,
    checkpoint_every: int | None = None,
) -> None:  # fmt: skip
    """Run a configuration file, or show what it would do."""
    spec = read_config(config)
    for text in assignments:
        assign(spec, text)
    prepared = build(spec)
    if dry_run:
        _show_plan(prepared)
        return
    if output is not None and output.suffix != ".nc":
        _report(prepared.call(output=output, checkpoint_every=checkpoint_every), output)
        return
    target = no_overwrite(output or config.with_suffix(".nc"), force=force)
    unfinished = target.with_suffix(".unfinished") if prepared.spec["task"] in STEPWISE else None
    if unfinished is None and checkpoint_every is not None:
        raise ConfigError(
            f"--checkpoint-every is for {', '.join(STEPWISE)}; {prepared.spec['task']} has no checkpoints"
        )
    if unfinished is not None:
        dataset = _to_file(prepared, target, unfinished, checkpoint_every)
        save(dataset, target)
        _remove(unfinished)
    else:
        left = target.with_suffix(".unfinished.nc")
        with keeping_in(
            left, lambda inside, _: f"{inside}; {_from_there(prepared, config, target, assignments, left)}"
        ):
            dataset = _to_file(prepared, target, None, checkpoint_every)
        save(dataset, target)
        left.unlink(missing_ok=True)
    _report(dataset, target)


def _to_file(prepared: Prepared, target: Path, unfinished: Path | None, checkpoint_every: int | None) -> xr.Dataset:
    """The result that is to be one file; until it is complete it is in a folder beside it, in which it goes on."""
    try:
        with nullcontext() if unfinished is None else told(lambda inside: _same_command(inside, unfinished)):
            dataset = prepared.call(output=unfinished, checkpoint_every=checkpoint_every).load()
    except CheckpointError as error:
        raise CheckpointError(f"{error}; remove {str(unfinished)!r} to begin again") from None
    except NonFiniteError as error:
        kept = ""
        if error.dataset is not None and error.dataset.sizes.get("draw"):
            kept = f" (kept in {save(_without_progress(error.dataset.load()), target)})"
        _remove(unfinished)
        raise NonFiniteError(
            f"{error}{kept}", step=error.step, chain=error.chain, coordinate=error.coordinate, dataset=error.dataset
        ) from None
    except BaseException:
        if unfinished is not None and unfinished.is_dir() and kind_of(unfinished) is None:
            _remove(unfinished)  # nothing was begun
        raise
    return _without_progress(dataset)


@contextmanager
def keeping_in(left: Path, way_on: Callable[[str, xr.Dataset | None], str]) -> Iterator[None]:
    """A context in which what an interruption comes with is stored.

    `way_on` takes what was said inside and what was stored, and gives what to say.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        reached = getattr(stop, "dataset", None)
        if reached is not None:
            save(reached, left)
        with told(lambda inside: way_on(inside, reached)):
            raise


def _from_there(prepared: Prepared, config: Path, target: Path, assignments: list[str], left: Path) -> str:
    """Where what was reached is, and the command that starts a minimisation from it."""
    if prepared.spec["task"] != "minimize":
        return f"what was reached is kept in {str(left)!r}"
    rest = [text for text in assignments if not text.partition("=")[0].strip().startswith("start")]
    rest.append(f"start={{file = {json.dumps(str(left))}}}")
    words = " ".join(f"--set {shlex.quote(text)}" for text in rest)
    return f"go on with `landscape simulate {shlex.quote(str(config))} -o {shlex.quote(str(target))} {words}`"


def _same_command(inside: str, unfinished: Path) -> str:
    where = inside.partition(";")[0] or "interrupted before the first step"
    return f"{where}; the same command goes on from {str(unfinished)!r}"


def _without_progress(dataset: xr.Dataset) -> xr.Dataset:
    """A run out of a folder without what says how far it is."""
    dataset.attrs = {key: value for key, value in dataset.attrs.items() if key not in OF_FOLDERS}
    return dataset.drop_encoding()


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def resume_run(folder: Path, steps: int | None, epochs: int | None, checkpoint_every: int | None) -> None:
    """Go on with a run in a folder."""
    _report(resume(folder, steps=steps, epochs=epochs, checkpoint_every=checkpoint_every), folder)


def consolidate_run(folder: Path, output: Path | None, *, force: bool) -> None:
    """Make one file of a run in a folder."""
    if folder.is_file():
        raise ConfigError(f"{str(folder)!r} is one file already: expected the folder of a run (simulate -o FOLDER)")
    target = no_overwrite(output or folder.with_suffix(".nc"), force=force)
    consolidate(folder, target)
    with open_run(target) as dataset:
        _report(dataset, target)


def _report(dataset: xr.Dataset, target: Path) -> None:
    console.print(f"wrote [bold]{target}[/bold]: {dict(dataset.sizes)}")
    if "certificate" in dataset.attrs:
        console.print(f"certificate: {dataset.attrs['certificate']}")


def read_config(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises
    ------
    StorageError
        If the file cannot be read.
    ConfigError
        If it is not TOML.
    """
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {str(path)!r}: {error}; expected a specification in TOML") from error
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not TOML: {error}") from None


def assign(spec: dict[str, Any], text: str) -> None:
    """Set one key of a specification from ``key.sub=value``; the value is read as TOML, or as text.

    Examples
    --------
    >>> spec = {"integrator": {"dt": 0.1}}
    >>> assign(spec, "integrator.dt=1e-3")
    >>> assign(spec, "temperature=[0.1, 0.2]")
    >>> spec
    {'integrator': {'dt': 0.001}, 'temperature': [0.1, 0.2]}
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes key=value, such as --set integrator.dt=1e-3; got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    put(spec, key.strip(), parsed)


def _show_plan(prepared: Prepared) -> None:
    console.print_json(json.dumps(prepared.spec))
    if prepared.function is not simulate:
        return
    seconds, size, chains = of_simulation(prepared)
    console.print(f"records: {size / 2**20:.3g} MiB for {chains} chains x {prepared.settings['steps']} steps")
    console.print(f"time: about {duration(seconds)} on this machine, without the start and the first compilation")
