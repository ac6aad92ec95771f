"""`landscape report`: stored runs and results as one page of HTML."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landscape.cli.console import console, no_overwrite
from landscape.common.provenance import REFERENCES
from landscape.common.text import measured
from landscape.common.version import package_version
from landscape.errors import CheckpointError, ConfigError, StorageError
from landscape.report.comparison import comparison
from landscape.report.page import Badge, Block, Note, Page, Section, Table, embed, render
from landscape.report.sections import section_of
from landscape.report.sweeps import sweep_section
from landscape.storage.files import write_atomically
from landscape.storage.folder import kind_of
from landscape.workflows.opening import open as open_run

__all__ = ["write_report"]

LARGEST_PICTURE = 5_000_000  # bytes
_TONES = {"holds": "good", "does not hold": "bad"}


def write_report(sources: Sequence[Path], output: Path | None, *, force: bool) -> None:
    """Write the report of runs, results, or folders of them; of several, a comparison first."""
    for source in sources:
        if not source.exists():
            raise StorageError(f"there is nothing at {str(source)!r}: expected a stored run or a folder of them")
    if len({source.resolve() for source in sources}) < len(sources):
        raise ConfigError(f"each run is given once to be compared, got {', '.join(map(str, sources))}")
    first, several = sources[0], len(sources) > 1
    beside = first / "report.html" if _is_many(first) else first.with_suffix(".html")
    target = no_overwrite(output or (Path("report.html") if several else beside), force=force)
    sections: list[Section] = []
    for source in sources:
        found = [one for path in _paths(source) for one in _sections(path, source, several)]
        if not found:
            raise StorageError(f"the folder {str(source)!r} holds no run, no result (.nc) and no verdicts.json")
        sections += found
    if several:
        sections = [_comparison(sources), *sections]
    title = " and ".join(source.resolve().name for source in sources[:3]) + (" and others" if len(sources) > 3 else "")
    write_atomically(target, render(Page(f"Report of {title}", sections, _footer())).encode())
    console.print(f"wrote [bold]{target}[/bold]")


def _paths(source: Path) -> Iterator[Path]:
    """One run or result; or a folder of them, then what it holds: files first, then the folders inside."""
    yield source
    if _is_many(source):
        inside = sorted(path for path in source.iterdir() if not path.name.startswith("."))
        yield from (path for path in inside if path.suffix == ".nc" and path.is_file())
        for path in inside:
            if path.is_dir() and not path.is_symlink():
                yield from _paths(path)


def _comparison(sources: Sequence[Path]) -> Section:
    """What can be read of the sources, side by side."""
    with ExitStack() as stack:
        found = {}
        for path in (path for source in sources for path in _paths(source) if not _is_many(path)):
            with suppress(StorageError, CheckpointError):  # the section of a damaged one says so
                found[path.as_posix()] = stack.enter_context(open_run(path))
        return comparison(found)


def _sections(path: Path, source: Path, several: bool) -> Iterator[Section]:
    """What one path has to say: of a folder, verdicts and pictures; a damaged file among others only that it is."""
    inside = path != source
    name = path.as_posix() if several else path.relative_to(source).as_posix() if inside else path.resolve().name
    if _is_many(path):
        about = _verdicts(path, name) + _pictures(path)
        yield from [Section(name, about)] if about else []
        return
    try:
        with open_run(path) as dataset:
            yield (sweep_section if kind_of(path) == "sweep" else section_of)(name, dataset)
    except (StorageError, CheckpointError) as error:
        if not (inside or several):
            raise
        yield Section(name, [Note(str(error), Badge("Not readable:", "bad"))])


def _is_many(path: Path) -> bool:
    """Whether a folder is not one run, training or sweep, but may hold several."""
    return path.is_dir() and kind_of(path) is None


def _verdicts(folder: Path, name: str) -> list[Block]:
    path = folder / "verdicts.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        rows = [_verdict(one) for one in found]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return [Note(f"{name}/{path.name}: {error}", Badge("Not readable:", "bad"))]
    blocks: list[Block] = [Table("Claims", ["claim", "expected", "measured", "outcome", "source", "note"], rows)]
    printed = folder / "outcome.txt"
    if printed.is_file():
        blocks.append(Note(printed.read_text("utf-8", errors="replace").strip().rpartition("\n")[2]))
    return blocks


def _verdict(one: dict[str, Any]) -> list[str | Badge]:
    value, error = (float("nan") if one.get(key) is None else float(one[key]) for key in ("value", "stderr"))
    outcome = str(one.get("outcome", ""))
    number = measured(value, error).replace("+-", "±")
    texts = {key: str(one.get(key, "")) for key in ("claim", "expected", "source", "note")}
    badge = Badge(outcome, _TONES.get(outcome, "open"))
    return [texts["claim"], texts["expected"], number, badge, texts["source"], texts["note"]]


def _pictures(folder: Path) -> list[Block]:
    found: list[Block] = []
    for path in sorted(folder.glob("*.png")):
        if path.stat().st_size <= LARGEST_PICTURE:
            found.append(embed(path.read_bytes(), "png", f"The picture {path.name}, stored beside the data."))
        else:
            found.append(Note(f"{path.name} is left out: it is larger than {LARGEST_PICTURE / 1e6:g} MB."))
    return found


def _footer() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "xarray"))
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by landscape {package_version()}"
    return f"Made {made}, with Python {platform.python_version()}, {packages}. After: {REFERENCES}."
