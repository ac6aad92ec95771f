"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Checkpoint", "Force", "Output", "Run"]

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")]
Checkpoint = Annotated[
    int | None,
    typer.Option(help="Steps between checkpoints in a folder; else one a minute.", min=1, show_default=False),
]
Run = Annotated[Path, typer.Argument(help="A stored run (.nc).", show_default=False)]
