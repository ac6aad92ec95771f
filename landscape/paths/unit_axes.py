"""Axes of tensors as arrangements of units: which of their indices may be permuted together, and which may not.

An axis is *units* that may stand in any order, *fixed*, a *product* (the last part runs fastest, as after flattening)
or *joined* (one part after another, as after concatenating). Demanding that two axes move alike refines both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Axis", "cut", "fixed", "found", "join", "keep_together", "occurrences", "order_of", "pin", "product", "same",
    "split", "units",
]  # fmt: skip

Indices = NDArray[np.int64]


@dataclass(eq=False, slots=True)
class Axis:
    """An axis of a tensor.

    Attributes
    ----------
    size : int
    kind : {"units", "fixed", "product", "joined"}
    parts : tuple of Axis
        Of a product or of joined axes.
    why : str
        Of a fixed one: what holds it.
    became : Axis or None
        What units turned out to be.
    blocks : tuple of int
        Lengths of blocks that units keep together, rising, each a divisor of the next and of the size.
    """

    size: int
    kind: Literal["units", "fixed", "product", "joined"]
    parts: tuple[Axis, ...] = ()
    why: str = ""
    became: Axis | None = None
    blocks: tuple[int, ...] = ()


def units(size: int) -> Axis:
    """Units that may stand in any order, as far as is known."""
    return Axis(size, "units") if size > 1 else fixed(size, "")


def fixed(size: int, why: str) -> Axis:
    """Indices that stay in their places."""
    return Axis(size, "fixed", why=why)


def found(axis: Axis) -> Axis:
    """What an axis is by now."""
    while axis.became is not None:
        axis = axis.became
    if axis.kind == "product":
        return product(axis.parts)
    return join(axis.parts) if axis.kind == "joined" else axis


def product(parts: Sequence[Axis]) -> Axis:
    """Axes flattened into one."""
    return _composed("product", parts, neutral=1, size=math.prod)


def join(parts: Sequence[Axis]) -> Axis:
    """Axes one after another."""
    return _composed("joined", parts, neutral=0, size=sum)


def _composed(kind: Any, parts: Sequence[Axis], *, neutral: int, size: Any) -> Axis:
    flat: list[Axis] = []
    for part in map(found, parts):
        for one in part.parts if part.kind == kind else (part,):
            if one.size == neutral:
                continue
            if flat and flat[-1].kind == one.kind == "fixed":
                flat[-1] = fixed(size([flat[-1].size, one.size]), flat[-1].why or one.why)
            else:
                flat.append(one)
    if not flat:
        return fixed(neutral, "")
    return flat[0] if len(flat) == 1 else Axis(size([one.size for one in flat]), kind, tuple(flat))


def pin(axis: Axis, why: str) -> None:
    """Hold all units of an axis in their places."""
    axis = found(axis)
    if axis.kind == "units":
        _become(axis, fixed(axis.size, why))
    for part in axis.parts:
        pin(part, why)


def same(one: Axis, other: Axis, why: str) -> None:
    """Demand that two axes of one length are permuted alike; what cannot be is held in its place."""
    one, other = found(one), found(other)
    if one is other:
        return
    if one.kind == "units" and not _holds(other, one):
        _become(one, other)
    elif other.kind == "units" and not _holds(one, other):
        _become(other, one)
    elif "fixed" in (one.kind, other.kind):
        pin(one, other.why or why)
        pin(other, one.why or why)
    elif not _matched(one, other, why):
        pin(one, why)
        pin(other, why)


def _become(axis: Axis, what: Axis) -> None:
    axis.became = what
    for block in axis.blocks:
        keep_together(what, block, "normalisation in groups")


def keep_together(axis: Axis, block: int, why: str) -> None:
    """Demand that blocks of neighbours of this length stay together, in any order among themselves."""
    axis = found(axis)
    if axis.kind == "units" and block < axis.size:
        nested = sorted({*axis.blocks, block})
        if all(b % a == 0 for a, b in pairwise([*nested, axis.size])):
            axis.blocks = tuple(nested)
        else:
            pin(axis, why)
    elif axis.kind == "product" and split(axis, (axis.size // block, block)) is None:
        pin(axis, why)
    elif axis.kind == "joined":
        start = 0
        for part in axis.parts:
            if start % block == 0 and part.size % block == 0:
                keep_together(part, block, why)
            elif start // block != (start + part.size - 1) // block:
                pin(part, why)
            start += part.size


def _holds(axis: Axis, part: Axis) -> bool:
    return axis is part or any(_holds(found(one), part) for one in axis.parts)


def _matched(one: Axis, other: Axis, why: str) -> bool:
    """Whether two composed axes were taken apart into pairs that move alike."""
    joined = "joined" in (one.kind, other.kind)
    divide, position = (cut, np.cumsum) if joined else (split, np.cumprod)
    edges = sorted({int(edge) for axis in (one, other) for edge in position(_sizes(axis, joined=joined))})
    edges = [0 if joined else 1, *edges]
    if not joined and any(b % a for a, b in pairwise(edges)):
        return False
    sizes = [b - a if joined else b // a for a, b in pairwise(edges)]
    lefts, rights = divide(one, sizes), divide(other, sizes)
    if lefts is None or rights is None:
        return False
    for left, right in zip(lefts, rights, strict=True):
        same(left, right, why)
    return True


def _sizes(axis: Axis, *, joined: bool) -> list[int]:
    """Lengths of the parts of a joined axis, or of a product."""
    return [part.size for part in axis.parts] if axis.kind == ("joined" if joined else "product") else [axis.size]


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis] | None:
    """Axes of these lengths whose product is the axis; None if it does not come apart there."""
    return _apart(axis, sizes, joined=False)


def cut(axis: Axis, sizes: Sequence[int]) -> list[Axis] | None:
    """Axes of these lengths which the axis is one after another; None if it does not come apart there."""
    return _apart(axis, [int(size) for size in sizes], joined=True)


def _apart(axis: Axis, sizes: Sequence[int], *, joined: bool) -> list[Axis] | None:
    """Axes of these lengths that follow each other, or whose product it is."""
    axis = found(axis)
    kind, compose, nothing = ("joined", join, 0) if joined else ("product", product, 1)
    if axis.kind == "fixed":
        return [fixed(size, axis.why) for size in sizes]
    if axis.size in sizes:
        return [axis if size == axis.size else fixed(nothing, "") for size in sizes]
    if axis.kind == "units":
        parts = [units(size) for size in sizes]
        _become(axis, compose(parts))
        return parts
    if axis.kind != kind:
        return _cut_product(axis, sizes) if joined else None
    left, done = list(axis.parts), []
    for size in sizes:
        taken: list[Axis] = []
        while size > nothing:
            part = found(left.pop(0))
            fits = part.size <= size if joined else size % part.size == 0
            if part.kind == kind:
                left[:0] = part.parts
            elif fits:
                taken.append(part)
                size = size - part.size if joined else size // part.size
            elif not joined and part.size % size:
                return None
            else:
                rest = part.size - size if joined else part.size // size
                halves = _apart(part, (size, rest), joined=joined)
                if halves is None:
                    return None
                left[:0] = halves
        done.append(compose(taken))
    return done


def _cut_product(axis: Axis, sizes: Sequence[int]) -> list[Axis] | None:
    """A product is cut where its first factor is."""
    inner = product(axis.parts[1:])
    if any(size % inner.size for size in sizes):
        return None
    heads = cut(axis.parts[0], [size // inner.size for size in sizes])
    return None if heads is None else [product((head, inner)) for head in heads]


def order_of(axis: Axis, orders: Mapping[int, Indices], still: int = -1) -> Indices:
    """Which index of an axis comes to each place, given the orders of units by ``id``; others stay.

    The occurrence of units whose number is `still` stays too, counted as by `occurrences`.
    """
    numbers = iter(range(2**31))

    def of(axis: Axis) -> Indices:
        axis = found(axis)
        if axis.kind == "units":
            stays = next(numbers) == still
            return np.arange(axis.size) if stays else orders.get(id(axis), np.arange(axis.size))
        if axis.kind == "fixed":
            return np.arange(axis.size)
        parts = [of(part) for part in axis.parts]
        if axis.kind == "joined":
            starts = np.cumsum([0, *(len(part) for part in parts)])
            return np.concatenate([start + part for start, part in zip(starts, parts, strict=False)])
        order = parts[0]
        for part in parts[1:]:
            order = (order[:, None] * len(part) + part).reshape(-1)
        return order

    return of(axis)


def occurrences(axis: Axis) -> Iterator[tuple[Axis, Indices]]:
    """Every place at which an axis has units: the units, and the indices ``(units, rest)`` at which each is met."""

    def of(axis: Axis, at: Indices) -> Iterator[tuple[Axis, Indices]]:
        axis = found(axis)  # `at`: (size, rest)
        if axis.kind == "units":
            yield axis, at
        start = 0
        for number, part in enumerate(axis.parts):
            if axis.kind == "joined":
                yield from of(part, at[start : start + part.size])
                start += part.size
            else:
                shape = [one.size for one in axis.parts]
                grid = np.moveaxis(at.reshape(*shape, -1), number, 0)
                yield from of(part, grid.reshape(part.size, -1))

    axis = found(axis)
    return of(axis, np.arange(axis.size)[:, None])
