"""SIGINT and SIGTERM: what is being written is finished and committed first, and the user is told how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

from landscape.engine.pace import Clock

__all__ = ["CODES", "Cadence", "Interruption", "keeping", "notes_of", "told"]

CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143}  # of a process that ends by them, as shells count


@contextmanager
def told(way_on: Callable[[str], str]) -> Iterator[None]:
    """A context out of which an interruption comes with a note of how far the work was and how it goes on.

    Parameters
    ----------
    way_on : callable
        Takes what a context inside this one has said, "" if nothing, and gives what to say.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        error.__notes__ = [way_on(notes_of(error))]
        raise


@contextmanager
def keeping(reached: Callable[[], Any], where: Callable[[], str]) -> Iterator[None]:
    """A context out of which an interruption comes with what was reached, as its attribute `dataset`.

    Parameters
    ----------
    reached : callable
        Gives the Dataset.
    where : callable
        Says how far the work was, for the note.
    """
    with told(lambda _: where()):
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            stop.dataset = reached()  # type: ignore[union-attr]
            raise


def notes_of(error: BaseException) -> str:
    """What was said about an interruption on its way."""
    return "; ".join(getattr(error, "__notes__", []))


class Interruption:
    """A context in which the two signals are noted instead of ending the process at once.

    Attributes
    ----------
    at_once : bool
        Whether a signal ends the process where it arrives, since nothing would be lost. A second signal always does.
    """

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.pending: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # others cannot have handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.pending = self.pending is not None, number
        if self.at_once or again:
            self.obey()

    def obey(self) -> None:
        """End the process if a signal has come.

        Raises
        ------
        KeyboardInterrupt
            After SIGINT.
        SystemExit
            After SIGTERM, with code 143.
        """
        number, self.pending = self.pending, None
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            raise SystemExit(CODES[signal.SIGTERM])


class Cadence:
    """Calls `write` after steps of a search, when a clock or a signal says so.

    Parameters
    ----------
    write : callable
    every : int, optional
        Steps; None goes by time, see `Clock`.
    interruption : Interruption
        A signal that it notes has the state written after the present step, before the process ends.
    """

    def __init__(self, write: Callable[[], None], every: int | None, interruption: Interruption) -> None:
        self.write, self.clock, self.interruption, self.steps = write, Clock(every), interruption, 0

    def __call__(self) -> None:
        """One step was made."""
        self.steps += 1
        if self.interruption.pending is not None:
            self.write()
            self.interruption.obey()
        if self.clock.due(self.steps):
            self.now()

    def now(self) -> None:
        """Write at once."""
        with self.clock.doing():
            self.write()
