"""How kernels are compiled: three decorators, so that no function inherits the rounding rules of its caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["exact", "exact_inline", "reordered"]


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """IEEE arithmetic as written: the same bits for any block size, thread and machine."""
    return njit(nogil=True, error_model="numpy", fastmath=False, cache=True)(function)  # type: ignore[no-any-return]


def exact_inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `exact`, for functions that are to become part of their caller and allocate nothing.

    They count no references to their arrays: those counts, atomic and one pair an argument, would take ten times as
    long as a step of a single chain.
    """
    return njit(error_model="numpy", fastmath=False, forceinline=True, _nrt=False)(function)  # type: ignore[no-any-return]


def reordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Sums may be reordered and multiply-adds fused; infinities and NaN keep their meaning."""
    flags = {"contract", "reassoc", "nsz", "arcp"}
    return njit(nogil=True, error_model="numpy", fastmath=flags, cache=True)(function)  # type: ignore[no-any-return]
