"""Snippets of a Markdown page: what to run, what it has to print, and what is not run and why.

python     run, top to bottom, in one namespace and one empty folder for a page
text       straight after python: what that prints, numbers to one and a half of the last digit shown
text about the same, numbers to 5 %
toml       written to the file that its first line names (`# valley.toml`)
console    lines `$ landscape ...` are run and have to end with exit code 0

A snippet below `<!-- not run: reason -->`, or a `{code-block} python` with `:class: norun`, is not run.
"""

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from landscape.cli.app import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?^(?P<ticks>`{3,})(?P<kind>[^`\n]*)\n(?P<text>.*?)^(?P=ticks)$",
    re.MULTILINE | re.DOTALL,
)
_OPTION = re.compile(r"^:\w+:.*\n", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_ABOUT = 0.05  # fraction


@dataclass(frozen=True)
class Block:
    """A snippet, the line it begins on, and the reason why it is not run, if there is one."""

    kind: str
    text: str
    line: int
    follows: bool  # only empty lines are between it and the block before
    reason: str | None = None


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    source, found, end = page.read_text("utf-8"), [], 0
    for match in _BLOCK.finditer(source):
        kind, text, reason = match["kind"].strip(), match["text"], match["reason"]
        if kind.startswith("{code-block}"):
            kind = kind.removeprefix("{code-block}").strip()
            if ":class: norun" in text:
                reason = reason or "the page says so"
            text = _OPTION.sub("", text)
        line = source.count("\n", 0, match.start("text")) + 1
        found.append(Block(kind, text, line, not source[end : match.start()].strip(), reason))
        end = match.end()
    return found


def play(page: Path) -> dict[str, object]:
    """Run a page in the current folder; the names that its Python leaves."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed, before = "", ""
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        if block.reason is None:
            if block.kind == "python":
                printed = output("\n" * (block.line - 1) + block.text, page.name, names)
            elif block.kind in ("text", "text about") and block.follows and before == "python":
                difference = differs(printed, block.text, _ABOUT if block.kind == "text about" else 0.0)
                if difference:
                    raise AssertionError(f"{where}: {difference}\nprinted:\n{printed}\non the page:\n{block.text}")
            elif block.kind == "toml" and block.text.startswith("# "):
                Path(block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
            elif block.kind == "console":
                commands(block.text, where)
        before = block.kind if block.reason is None else ""
    return names


def output(text: str, where: str, names: dict[str, object]) -> str:
    """What a snippet prints; empty lines above it make line numbers those of the page."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        exec(compile(text, where, "exec"), names)  # noqa: S102  # our own text
    return stream.getvalue()


def commands(text: str, where: str) -> None:
    """Run the command lines of a console snippet."""
    for line in text.splitlines():
        if line.startswith("$ landscape "):
            code = run(shlex.split(line, comments=True)[2:])
            if code != 0:
                raise AssertionError(f"{where}: {line!r} ended with exit code {code}")


def differs(printed: str, shown: str, tolerance: float = 0.0) -> str | None:
    """How an output differs from what a page shows, if it does; `tolerance` is a fraction."""
    words, expected = _NUMBER.sub("#", printed).split(), _NUMBER.sub("#", shown).split()
    if words != expected:
        return f"got the words {words}, expected {expected}"
    for number, other in zip(_NUMBER.findall(printed), _NUMBER.findall(shown), strict=True):
        mantissa, _, exponent = other.partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        last = 1.5 * 10.0**-decimals if "." in other or exponent else 0.0
        if abs(float(number) - float(other)) > max(tolerance * abs(float(other)), last):
            return f"got {number}, expected {other}"
    return None
