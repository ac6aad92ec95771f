"""How a call may end: in a result that can be vouched for, or in an error of ours; with the world as it was."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

__all__ = ["check", "undisturbed"]

_HERE = str(Path(__file__).parent)


def check(found: Any, *, void: bool = False) -> None:
    """No infinite number has an error bar, no error bar is negative or stands beside a number that is not known."""
    if not isinstance(found, xr.Dataset):
        return
    for name, values in found.data_vars.items():
        if f"{name}_stderr" not in found:
            continue
        error = found[f"{name}_stderr"].to_numpy()
        known = np.isfinite(error)
        assert not np.any(error[known] < 0), name
        if error.shape == values.shape:
            assert np.isfinite(values.to_numpy()[known]).all(), name
        assert not (void and known.any()), f"{name} is known of what holds no number"


def _state() -> dict[str, Any]:
    return {
        "random": random.getstate(), "numpy": [str(one) for one in np.random.get_state()],  # noqa: NPY002
        "torch": torch.get_rng_state().tolist()[:64], "errstate": np.geterr(), "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(), "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(), "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "folder": os.getcwd(),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
    }  # fmt: skip


@contextlib.contextmanager
def undisturbed(*, huge: bool = False) -> Iterator[None]:
    """Fails if the calls inside warn other than by the package's own voice, or leave the world otherwise."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = _state()
        yield
        after = _state()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"left otherwise: {changed}"
    foreign = [one for one in caught if one.category is not UserWarning or not one.filename.startswith(_HERE)]
    if huge:
        foreign = [one for one in foreign if " encountered in " not in str(one.message)]
    told = [f"{one.category.__name__}: {one.message} ({one.filename}:{one.lineno})" for one in foreign]
    assert not told, "; ".join(told)
