"""Flags that say how far an estimate can be trusted, put into words: no number is shown without those of its own.

A flag is a true-or-false variable of a result with a name of `REMARKS`, such as ``resolved``, or one of them after the
name of an estimate, such as ``trace_converged``, which then speaks of that estimate alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from landscape.common.text import measured

__all__ = ["REMARKS", "estimate", "flags", "remarks"]

REMARKS = {
    # flag: what is said where it is false
    "resolved": "not resolved",
    "stationary": "not stationary",
    "converged": "not converged",
    "chains_agree": "chains disagree",
    "agree": "estimates disagree",
    "exponential": "not exponential",
    "fine": "draws too far apart",
    "plateau": "no plateau",
    "reached": "not reached",
}

_NEEDS = {
    "resolved": "steps_needed",
    "fine": "every_needed",
    "reached": "steps_needed",
}  # what a result says beside a flag of what is needed


def flags(dataset: xr.Dataset, of: Iterable[str] | None = None) -> dict[str, str]:
    """Names of the flags of a result, and what is said where one is false.

    Parameters
    ----------
    dataset : xarray.Dataset
    of : iterable of str, optional
        Estimates: a flag of another one is left out. All by default.

    Examples
    --------
    >>> found = xr.Dataset({"mean": 1.0, "resolved": False, "trace": 2.0, "trace_converged": True})
    >>> flags(found), flags(found, of=["mean"])
    ({'resolved': 'not resolved', 'trace_converged': 'trace not converged'}, {'resolved': 'not resolved'})
    """
    wanted = None if of is None else {str(name) for name in of}
    named = {str(name) for name in dataset.data_vars}
    found = {}
    for name in map(str, dataset.data_vars):
        if dataset[name].dtype.kind not in "biu":
            continue
        if name in REMARKS:
            found[name] = REMARKS[name]
            continue
        for flag, text in REMARKS.items():
            one = name.removesuffix(f"_{flag}")
            several = {other for other in named if other.startswith(f"{one}_") and f"{other}_stderr" in named}
            if one != name and (one in named or several) and (wanted is None or wanted & {one, *several}):
                found[name] = f"{one.replace('_', ' ')} {text}"
                break
    return found


def remarks(dataset: xr.Dataset, at: Mapping[str, int] | None = None, *, of: Iterable[str] | None = None) -> list[str]:
    """What the flags of a result say against it, or against its entry at some indices.

    A flag that varies along dimensions without an index is counted: "not resolved at 2 of 12". Where the result knows
    how many steps are needed, or how many between two draws, that is said too, of the worst entry.

    Parameters
    ----------
    dataset : xarray.Dataset
    at : mapping of str to int, optional
        Index of each dimension that the entry has.
    of : iterable of str, optional
        Estimates that are shown.

    Returns
    -------
    list of str
        Empty where all flags are true.

    Examples
    --------
    >>> found = xr.Dataset({"mean": ("chain", [1.0, 2.0]), "resolved": ("chain", [True, False])})
    >>> remarks(found), remarks(found, {"chain": 1}), remarks(found, {"chain": 0})
    (['not resolved at 1 of 2'], ['not resolved'], [])
    >>> remarks(found.assign(steps_needed=("chain", [np.nan, 12_345.0])))
    ['not resolved at 1 of 2: needs about 1.2e+04 steps']
    """
    found = []
    for name, text in flags(dataset, of).items():
        flag = dataset[name]
        flag = flag.isel({dim: index for dim, index in (at or {}).items() if dim in flag.dims})
        wrong = int((~flag.to_numpy().astype(bool)).sum())
        if wrong:
            text = text if wrong == flag.size else f"{text} at {wrong} of {flag.size}"
            found.append(text + _needed(dataset, name, flag, at or {}))
    return found


def _needed(dataset: xr.Dataset, name: str, flag: xr.DataArray, at: Mapping[str, int]) -> str:
    """What the entries whose flag is false would need, where that is known."""
    key = _NEEDS.get(name)
    if key is None or key not in dataset or not set(dataset[key].dims) <= set(dataset[name].dims):
        return ""
    amounts = dataset[key].isel({dim: index for dim, index in at.items() if dim in dataset[key].dims})
    values = amounts.broadcast_like(flag).to_numpy()[~flag.to_numpy().astype(bool)]
    units = str(dataset[key].attrs.get("units", "steps"))
    known = values[~np.isnan(values)]
    if not known.size:
        return ""
    if key == "every_needed":
        if units != "steps":
            return f": {known.min():.2g} of the distance would do"
        return f": every {int(known.min())} steps would do" if known.min() >= 1 else ": a shorter time step is needed"
    if math.isinf(known.min()):
        return f": too short to tell how many {units} it needs"
    return f": needs about {known[np.isfinite(known)].max():.2g} {units}"


def estimate(dataset: xr.Dataset, name: str) -> str:
    """One number of a result with its error and, in brackets, what its flags say against it.

    Parameters
    ----------
    dataset : xarray.Dataset
        With `name` as a single number.
    name : str

    Examples
    --------
    >>> estimate(xr.Dataset({"mean": 0.1022, "mean_stderr": 0.0013, "resolved": False}), "mean")
    '0.1022 +- 0.0013 (not resolved)'
    """
    value = float(dataset[name])
    error = float(dataset[f"{name}_stderr"]) if f"{name}_stderr" in dataset else np.nan
    return measured(value, error, remarks(dataset, of=[name]))
