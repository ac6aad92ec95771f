"""How kernels are compiled: four decorators, so that no function inherits the rounding rules of its caller.

A first run is mostly compilation. A function is compiled by itself, again in each that calls it, and with wrappers for
Python: hence few functions, wrappers only where they are used, and scratch that is allocated outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["exact", "exact_inline", "exact_inner", "reordered"]

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}


def exact(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    """IEEE arithmetic as written: the same bits for any block size, thread and machine."""
    return njit(nogil=True, error_model="numpy", fastmath=False, cache=True, **options)(function)  # type: ignore[no-any-return]


def exact_inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `exact`, for functions that only other kernels call and that allocate nothing."""
    return njit(error_model="numpy", fastmath=False, cache=True, **_INNER)(function)  # type: ignore[no-any-return]


def exact_inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `exact_inner`, for functions that are to become part of their caller.

    They count no references to their arrays: those counts, atomic and one pair an argument, would take ten times as
    long as a step of a single chain.
    """
    return njit(error_model="numpy", fastmath=False, forceinline=True, **_INNER)(function)  # type: ignore[no-any-return]


def reordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Sums may be reordered and multiply-adds fused; infinities and NaN keep their meaning."""
    flags = {"contract", "reassoc", "nsz", "arcp"}
    return njit(nogil=True, error_model="numpy", fastmath=flags, cache=True)(function)  # type: ignore[no-any-return]
