"""A progress bar on the terminal, shown where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from landscape.engine.pace import Clock

__all__ = ["heard", "is_shown", "progress_bar"]

SECONDS = 0.25  # between two reports to a bar outside

_listener: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


def is_shown(show: bool | None) -> bool:
    """Whether a bar is shown: None asks whether the standard error is a terminal."""
    return sys.stderr.isatty() if show is None else show


@contextmanager
def heard(listener: Callable[[float], None] | None) -> Iterator[None]:
    """A context in which bars are not drawn, and tell a listener what fraction of their units is done.

    Examples
    --------
    >>> told = []
    >>> with heard(told.append), progress_bar(4, "steps") as report:
    ...     report(1)
    >>> told
    [0.25]
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress_bar(
    total: int, description: str, *, show: bool | None = None, above: str | None = None
) -> Iterator[Callable[[float], None]]:
    """A bar over `total` units; the context gives a function that takes how many are done.

    Parameters
    ----------
    show : bool, optional
        None shows it if the standard error is a terminal.
    above : str, optional
        A line that stays when the bar has gone.
    """
    listener = _listener.get()
    if listener is not None:
        yield _fractions(total, listener)
        return
    if not is_shown(show):
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


def _fractions(total: int, listener: Callable[[float], None]) -> Callable[[float], None]:
    clock, begun = Clock(seconds=SECONDS), False

    def report(done: float) -> None:
        nonlocal begun
        if not begun or clock.due(0):
            begun = True
            with clock.doing():
                listener(min(done / max(total, 1), 1.0))

    return report
