"""How kernels are compiled: four decorators, so that no function inherits the rounding rules of its caller.

A first run is mostly compilation. A function is compiled by itself, again in each that calls it, and with wrappers for
Python: hence few functions, wrappers only where they are used, and scratch that is allocated outside.

What is compiled is kept on disk. Numba finds it stale when the file of the function has changed, not when that of a
function that it calls has: here the sources of all kernels count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import jit, njit

__all__ = ["copied", "exact", "exact_inline", "exact_inner", "reordered"]

_HERE = Path(__file__).parent
# those of the kernels, and the constants that they take from the torch forms
_OTHERS = (
    _HERE.parent / name for name in ("random.py", "bridges.py", "integrators/compiled_rule.py", "observers/kernels.py")
)
_SOURCES = [*sorted(_HERE.glob("*.py")), *_OTHERS]
_STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES if path.exists())).hexdigest()
_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}


def exact(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    """IEEE arithmetic as written: the same bits for any block size, thread and machine."""
    return _stamped(njit(nogil=True, error_model="numpy", fastmath=False, cache=True, **options)(function))


def exact_inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `exact`, for functions that only other kernels call and that allocate nothing."""
    return _stamped(njit(error_model="numpy", fastmath=False, cache=True, **_INNER)(function))


def exact_inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `exact_inner`, for functions that are to become part of their caller.

    They count no references to their arrays: those counts, atomic and one pair an argument, would take ten times as
    long as a step of a single chain.
    """
    return njit(error_model="numpy", fastmath=False, forceinline=True, **_INNER)(function)  # type: ignore[no-any-return]


def reordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Sums may be reordered and multiply-adds fused; infinities and NaN keep their meaning."""
    flags = {"contract", "reassoc", "nsz", "arcp"}
    return _stamped(njit(nogil=True, error_model="numpy", fastmath=flags, cache=True)(function))


def copied(dispatcher: Any, name: str, stamp: str, **replaced: Any) -> Any:
    """A compiled function again, with others in place of some that it calls; kept on disk under its own `name`.

    `stamp` tells of what is put in, and changes when that does.
    """
    function = dispatcher.py_func
    copy = FunctionType(function.__code__, {**function.__globals__, **replaced}, function.__name__)
    copy.__module__, copy.__qualname__ = function.__module__, f"{function.__qualname__}_{name}"
    return _stamped(jit(**dispatcher.targetoptions, cache=True)(copy), stamp)


def _stamped(dispatcher: Callable[..., Any], of_others: str = "") -> Callable[..., Any]:
    """Let what is kept on disk depend on all sources; a Numba that keeps it elsewhere goes by its own rule."""
    kept = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):
        kept._source_stamp = (kept._source_stamp, _STAMP + of_others)  # type: ignore[union-attr]
    return dispatcher
