"""A progress bar on the terminal, shown where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(
    total: int, description: str, *, show: bool | None = None, above: str | None = None
) -> Iterator[Callable[[int], None]]:
    """A bar over `total` units; the context gives a function that takes how many are done.

    Parameters
    ----------
    show : bool, optional
        None shows it if the standard error is a terminal.
    above : str, optional
        A line that stays when the bar has gone.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    if above is not None:
        console.print(above, markup=False, highlight=False, soft_wrap=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)
