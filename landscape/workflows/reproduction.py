"""What a reproduction of a published figure is: data, a figure, and a verdict on each claim.

The scripts in ``landscape.examples`` each define ``reproduce(size, seed) -> Reproduction``.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import xarray as xr
from rich.console import Console
from rich.table import Table

from landscape.checks import one_of
from landscape.common.text import measured
from landscape.errors import ConfigError
from landscape.storage.files import path_of, save, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SIZES", "Outcome", "Reproduction", "Verdict", "by_size", "carry_out", "command_line", "judge"]

Outcome = Literal["holds", "does not hold", "not resolved at this size"]
SIZES = ("quick", "small", "paper")
HOLDS: Outcome = "holds"
FAILS: Outcome = "does not hold"
UNRESOLVED: Outcome = "not resolved at this size"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim, the number measured for it, and the outcome.

    Attributes
    ----------
    claim : str
        What is claimed, in plain words.
    value, stderr : float
        The measured number and its standard error; an exact number has the error 0.
    expected : str
        What the number would be if the claim held.
    outcome : {"holds", "does not hold", "not resolved at this size"}
    source : str
        Where the claim comes from: paper, figure or equation.
    note : str
        What a reader should know beside it.
    """

    claim: str
    value: float
    stderr: float
    expected: str
    outcome: Outcome
    source: str = ""
    note: str = ""


def judge(
    claim: str,
    value: Any,
    stderr: Any,
    *,
    expected: float | None = None,
    above: float | None = None,
    below: float | None = None,
    sigmas: float = 3.0,
    resolve: float | None = None,
    tolerance: float = 0.0,
    source: str = "",
    note: str = "",
) -> Verdict:
    """Hold a measured number against a claim; the bar is ``sigmas * stderr`` on either side.

    A claimed value (`expected`) fails if it lies farther from the number than the bar and the tolerance together. It
    holds if it does not and the bar is at most `resolve`; with a longer bar nearly everything would agree, and the
    claim is not resolved. A bound (`above`, `below`, or both) holds or fails if the whole bar is on one side of it,
    and is not resolved if the bound lies within the bar. A number or error that is not finite resolves nothing.

    Parameters
    ----------
    claim : str
    value, stderr : float
        The number and its standard error, 0 if the number is exact.
    expected : float, optional
        The value claimed.
    above, below : float, optional
        Bounds claimed; either this or `expected`.
    sigmas : float
        Standard errors in the bar: at 3 a true claim fails in 1 of 370 cases.
    resolve : float, optional
        Longest bar at which agreement with `expected` means something: less than the distance to the alternative.
        By default half of ``|expected|``; needed where `expected` is 0.
    tolerance : float
        What a claimed value or a bound may be missed by and still be called right, such as the digits it is printed
        with.
    source, note : str
        Stored with the verdict.

    Returns
    -------
    Verdict

    Raises
    ------
    ConfigError
        If nothing is claimed, or both a value and a bound, or the limits make no sense.

    Examples
    --------
    >>> judge("a half", 0.52, 0.02, expected=0.5).outcome
    'holds'
    >>> judge("a half", 0.98, 0.02, expected=0.5).outcome
    'does not hold'
    >>> judge("a half", 0.52, 0.20, expected=0.5).outcome
    'not resolved at this size'
    >>> judge("positive", 0.52, 0.20, above=0).outcome, judge("positive", 0.7, 0.20, above=0).outcome
    ('not resolved at this size', 'holds')
    """
    value, stderr = float(value), float(stderr)
    bounded = above is not None or below is not None
    if (expected is not None) == bounded:
        raise ConfigError("claim either a value (expected=) or a bound (above=, below=)")
    if not (sigmas > 0 and tolerance >= 0 and not stderr < 0):
        raise ConfigError(
            f"sigmas must be positive, tolerance and stderr not negative, got {sigmas}, {tolerance} and {stderr}"
        )
    bar = sigmas * stderr
    known = math.isfinite(value) and math.isfinite(bar)
    if expected is None:
        outcome = _bounded(value, bar, _or(above, -math.inf) - tolerance, _or(below, math.inf) + tolerance)
        text = " and ".join(
            f"{sign} {_number(bound)}" for sign, bound in ((">", above), ("<", below)) if bound is not None
        )
    else:
        if resolve is None and expected == 0:
            raise ConfigError("expected=0 has no scale of its own: say what has to be told apart from it (resolve=)")
        longest = abs(expected) / 2 if resolve is None else resolve
        agrees = abs(value - expected) <= bar + tolerance
        outcome = FAILS if not agrees else HOLDS if bar <= longest else UNRESOLVED
        text = _number(expected)
    return Verdict(claim, value, stderr, text, outcome if known else UNRESOLVED, source, note)


def _bounded(value: float, bar: float, above: float, below: float) -> Outcome:
    if above < value - bar and value + bar < below:
        return HOLDS
    return FAILS if value + bar <= above or below <= value - bar else UNRESOLVED


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound


def _number(x: float) -> str:
    return f"{x:.5g}"


def by_size(size: str, *, quick: T, small: T, paper: T) -> T:
    """The setting that belongs to a size.

    Raises
    ------
    ConfigError
        If there is no such size.

    Examples
    --------
    >>> by_size("small", quick=100, small=1000, paper=10**6)
    1000
    """
    one_of("size", size, SIZES)
    return {"quick": quick, "small": small, "paper": paper}[size]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What a script found.

    Attributes
    ----------
    datasets : mapping of str to xarray.Dataset
        File names without ending, and what goes into them.
    figure : matplotlib.figure.Figure
    verdicts : list of Verdict
    """

    datasets: Mapping[str, xr.Dataset]
    figure: Figure
    verdicts: list[Verdict]

    def table(self) -> str:
        """Claims, numbers with errors, and outcomes, as text."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("claim", ratio=1)
        for heading in ("expected", "measured", "outcome"):
            table.add_column(heading, no_wrap=True)
        for verdict in self.verdicts:
            source = f" [{verdict.source}]" if verdict.source else ""
            note = f"\n  {verdict.note}" if verdict.note else ""
            claim = f"{verdict.claim}{source}{note}".replace("[", "\\[")
            table.add_row(claim, verdict.expected, measured(verdict.value, verdict.stderr), verdict.outcome)
        text = io.StringIO()
        Console(file=text, width=120, highlight=False).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write one netCDF file per dataset, ``figure.png`` and ``verdicts.json``.

        Raises
        ------
        StorageError
            If a file cannot be written.
        """
        folder = path_of(folder)
        for name, dataset in self.datasets.items():
            save(dataset, folder / f"{name}.nc")
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", dpi=110)
        write_atomically(folder / "figure.png", picture.getvalue())
        plain = [
            {k: None if isinstance(x, float) and not math.isfinite(x) else x for k, x in asdict(verdict).items()}
            for verdict in self.verdicts
        ]
        write_atomically(folder / "verdicts.json", (json.dumps(plain, indent=1) + "\n").encode())
        return folder


def carry_out(
    reproduce: Callable[[str, int], Reproduction],
    folder: str | Path,
    *,
    size: str = "small",
    seed: int = 0,
    console: Console | None = None,
) -> Reproduction:
    """Run a script's function, store what it found, and print its verdicts and how long it took.

    What is printed is also written, as ``outcome.txt``.

    Parameters
    ----------
    reproduce : callable (size, seed) -> Reproduction
    folder : path
        Where the files go; made if needed.
    size : {"quick", "small", "paper"}
        Under a minute; minutes on two cores; the paper's own settings.
    seed : int
    console : rich.console.Console, optional
        Where to print; standard output by default.
    """
    by_size(size, quick=None, small=None, paper=None)
    begin = time.perf_counter()
    found = reproduce(size, seed)
    seconds = time.perf_counter() - begin
    outcome = f"{found.table()}\nsize {size}, seed {seed}: {seconds:.0f} s"
    write_atomically(found.save(folder) / "outcome.txt", f"{outcome}\n".encode())
    console = console or Console(highlight=False, soft_wrap=True)
    console.print(outcome, markup=False)
    console.print(f"wrote {folder}/: figure.png, verdicts.json, {', '.join(f'{name}.nc' for name in found.datasets)}")
    return found


def command_line(reproduce: Callable[[str, int], Reproduction], arguments: list[str] | None = None) -> None:
    """Give a script the options ``--size``, ``--output`` and ``--seed``, and run it.

    Parameters
    ----------
    reproduce : callable (size, seed) -> Reproduction
        Its module's name and docstring make the help.
    arguments : list of str, optional
        The command line's own by default.
    """
    name = Path(inspect.getfile(reproduce)).stem
    parser = argparse.ArgumentParser(
        prog=name,
        description=sys.modules[reproduce.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=SIZES, default="small", help="how long it may take (default: small)")
    parser.add_argument("-o", "--output", type=Path, default=Path("landscape-reproduction", name), help="folder")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and noise (default: 0)")
    chosen = parser.parse_args(arguments)
    carry_out(reproduce, chosen.output, size=chosen.size, seed=chosen.seed)
