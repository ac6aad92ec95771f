"""How many steps a run takes at once."""

from __future__ import annotations

__all__ = ["Pace"]

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
