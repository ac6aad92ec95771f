"""One page of HTML that holds all it shows: sections of facts, tables, figures and code.

The page needs no network and runs no script, which its own security policy enforces; every text is escaped.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Badge", "Block", "Code", "Facts", "Note", "Page", "Picture", "Section", "Table", "draw", "embed", "render"]

LARGEST_SVG = 200_000  # characters; a picture of more lines is smaller, and faster to show, as pixels
PIXELS_PER_INCH = 150


@dataclass(frozen=True, slots=True)
class Badge:
    """A word that says how something went: `tone` is "good", "bad" or "open"."""

    text: str
    tone: str = "open"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    pairs: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph, after a badge if there is one."""

    kind: ClassVar[str] = "note"
    text: str
    badge: Badge | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; a cell is a text or a badge."""

    kind: ClassVar[str] = "table"
    caption: str
    headings: list[str]
    rows: list[list[str | Badge]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside the page, and what it shows for those who do not see it."""

    kind: ClassVar[str] = "picture"
    source: str
    description: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be copied."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str


Block: TypeAlias = Facts | Note | Table | Picture | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading of its own."""

    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page."""

    title: str
    sections: list[Section]
    footer: str = ""


def render(page: Page) -> str:
    """The page as HTML.

    Parameters
    ----------
    page : Page

    Returns
    -------
    str
        Complete, with styles and pictures inside.

    Examples
    --------
    >>> text = render(Page("<b>", [Section("A run", [Note("all is well")])]))
    >>> "<b>" in text, "&lt;b&gt;" in text, "all is well" in text
    (False, True, True)
    """
    environment = Environment(
        loader=PackageLoader("landscape.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def draw(figure: Figure, description: str) -> Picture:
    """A matplotlib figure as a picture: lines where they are few, pixels where they are many."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "landscape"}):  # the same figure makes the same text
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    if len(text.getvalue()) <= LARGEST_SVG:
        return embed(text.getvalue().encode(), "svg+xml", description)
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=PIXELS_PER_INCH)
    return embed(pixels.getvalue(), "png", description)


def embed(content: bytes, kind: str, description: str) -> Picture:
    """The bytes of an image file as a picture; `kind` is "png" or "svg+xml"."""
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", description)
