"""How many steps a run takes at once, and when something is to be written or told again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["CHECKPOINT_SECONDS", "Clock", "Pace"]

CHECKPOINT_SECONDS: Final = 60.0  # between two checkpoints, unless steps are given
LARGEST_SHARE: Final = 0.05  # of the time that may go into writing them

SECONDS = 0.25  # of a piece, so that signals and the progress bar are answered
MOST_SECONDS = 2.0  # of a piece whose fixed cost asks for more
FIXED_SHARE = 0.1  # of a piece that may be fixed cost


class Pace:
    """Finds the number of steps for which a piece takes the time it should.

    A piece of n steps takes a + b n seconds; both are learned from pieces of different length. What is fixed (a call
    per block of chains, checks) shall be a small share, which for very many chains takes longer pieces.

    Attributes
    ----------
    steps : int
        Of the next piece.
    """

    def __init__(self) -> None:
        self.steps = 1
        self._last = (0, 0.0)
        self._fixed = 0.0

    def learn(self, steps: int, seconds: float) -> None:
        """Take note of how long a piece took."""
        earlier, spent = self._last
        if earlier and steps != earlier:
            per_step = min(max((seconds - spent) / (steps - earlier), 0.0), seconds / steps)
            self._fixed = seconds - per_step * steps
        fixed = min(self._fixed, seconds)
        goal = min(max(SECONDS, fixed / FIXED_SHARE), MOST_SECONDS)
        best = int((goal - fixed) * steps / max(seconds - fixed, 1e-9))
        self.steps = max(2 if not earlier else 1, min(best, 4 * steps))  # two lengths to learn from
        self._last = (steps, seconds)


class Clock:
    """When something is due again: every so many steps, or once in a while, and less often where it takes long.

    Parameters
    ----------
    every : int, optional
        Steps; None goes by time.
    seconds : float
        From one time to the next, which is made twenty times as long as it took if that is more.
    """

    def __init__(self, every: int | None = None, seconds: float = CHECKPOINT_SECONDS) -> None:
        self.every, self.seconds = every, seconds
        self._last, self._pause = time.monotonic(), seconds

    def due(self, done: int) -> bool:
        """Whether it is due after so many steps."""
        return time.monotonic() - self._last >= self._pause if self.every is None else done % self.every == 0

    def stop(self, done: int) -> int | None:
        """The step at which it is due next, where that is known."""
        return None if self.every is None else (done // self.every + 1) * self.every

    @contextmanager
    def doing(self) -> Iterator[None]:
        """A context in which it is done; from its end the time counts anew."""
        began = time.monotonic()
        yield
        self._last = time.monotonic()
        self._pause = max(self.seconds, (self._last - began) / LARGEST_SHARE)
