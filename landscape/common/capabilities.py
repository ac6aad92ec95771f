"""What an object answers of itself counts as long as nobody below it has changed what it does."""

from __future__ import annotations

__all__ = ["speaks_for"]


def speaks_for(thing: object, answer: str, *deeds: str) -> bool:
    """Whether the class that gives an answer is not older than those that do what it tells of.

    A subclass that changes a deed and leaves the answer as it was is not spoken for.

    Examples
    --------
    >>> class Step:
    ...     capturable = True
    ...     def step(self): ...
    >>> class Changed(Step):
    ...     def step(self): ...
    >>> speaks_for(Step(), "capturable", "step"), speaks_for(Changed(), "capturable", "step")
    (True, False)
    """
    ancestors = type(thing).__mro__
    first = {name: next((k for k, one in enumerate(ancestors) if name in vars(one)), len(ancestors)) for name in deeds}
    told = next((k for k, one in enumerate(ancestors) if answer in vars(one)), len(ancestors))
    return all(told <= done for done in first.values())
