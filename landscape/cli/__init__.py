"""The command line: `landscape --help`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    from landscape.cli.app import run

    sys.exit(run(arguments))
