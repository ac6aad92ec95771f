"""`landscape report`: stored runs and results as one page of HTML."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landscape.cli.console import console, no_overwrite
from landscape.cli.report_sections import section_of
from landscape.cli.report_sweep import sweep_section
from landscape.errors import StorageError
from landscape.opening import open as open_run
from landscape.report import Badge, Block, Note, Page, Section, Table, embed, render
from landscape.results import REFERENCES
from landscape.storage.files import write_atomically
from landscape.storage.manifest import is_run_folder
from landscape.sweeps.results import MANIFEST, open_sweep
from landscape.text import measured
from landscape.version import package_version

__all__ = ["write_report"]

LARGEST_PICTURE = 5_000_000  # bytes
_TONES = {"holds": "good", "does not hold": "bad"}


def write_report(source: Path, output: Path | None, *, force: bool) -> None:
    """Write the report of a run, a result, or a folder of them."""
    if not source.exists():
        raise StorageError(f"there is nothing at {str(source)!r}: expected a stored run or a folder of them")
    of_folder = source.is_dir() and not _is_one(source)
    target = no_overwrite(output or (source / "report.html" if of_folder else source.with_suffix(".html")), force=force)
    sections = list(_folder(source, source)) if of_folder else [_file(source, source.name)]
    if not sections:
        raise StorageError(f"the folder {str(source)!r} holds no run, no result (.nc) and no verdicts.json")
    page = Page(f"Report of {source.resolve().name}", sections, _footer())
    write_atomically(target, render(page).encode())
    console.print(f"wrote [bold]{target}[/bold]")


def _folder(folder: Path, root: Path) -> Iterator[Section]:
    """Verdicts and pictures first, then data, then the folders inside."""
    about = _verdicts(folder, root) + _pictures(folder)
    if about:
        yield Section(_name(folder, root), about)
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in inside:
        if path.suffix == ".nc" and path.is_file():
            yield _tolerant(path, _name(path, root))
    for path in inside:
        if path.is_dir() and not path.is_symlink():
            yield from [_tolerant(path, _name(path, root))] if _is_one(path) else _folder(path, root)


def _name(path: Path, root: Path) -> str:
    return path.resolve().name if path == root else path.relative_to(root).as_posix()


def _tolerant(path: Path, name: str) -> Section:
    """A damaged file among others is reported, and they are shown all the same."""
    try:
        return _file(path, name)
    except StorageError as error:
        return Section(name, [Note(str(error), Badge("Not readable:", "bad"))])


def _is_one(folder: Path) -> bool:
    """Whether the files of a folder are one run or one sweep."""
    return is_run_folder(folder) or (folder / MANIFEST).is_file()


def _file(path: Path, name: str) -> Section:
    if (path / MANIFEST).is_file():
        return sweep_section(name, open_sweep(path))
    with open_run(path) as dataset:
        return section_of(name, dataset)


def _verdicts(folder: Path, root: Path) -> list[Block]:
    path = folder / "verdicts.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        rows = [_verdict(one) for one in found]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return [Note(f"{_name(path, root)}: {error}", Badge("Not readable:", "bad"))]
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
