"""Errors and warnings, one line each on standard error."""

from __future__ import annotations

from typing import Any

import typer

__all__ = ["complain", "show_warning", "warn"]


def complain(message: str) -> None:
    """Print an error."""
    _print("error: ", "red", message)


def warn(message: str) -> None:
    """Print a warning."""
    _print("warning: ", "yellow", message)


def show_warning(message: Warning | str, *_where: Any, **_more: Any) -> None:
    """A warning without the line of code that gave it, in the place of `warnings.showwarning`."""
    warn(str(message))


def _print(label: str, color: str, message: str) -> None:
    typer.secho(label, fg=color, bold=True, err=True, nl=False)
    typer.echo(message, err=True)
