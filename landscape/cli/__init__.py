"""The command line: `landscape --help`."""

from __future__ import annotations

import sys
import warnings

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    from landscape.cli.app import run
    from landscape.cli.messages import show_warning

    warnings.showwarning = show_warning
    sys.exit(run(arguments))
