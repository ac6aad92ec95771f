"""Under which names the buffers of a network are stored, so that no two share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["PREFIX", "buffer_variables", "stored_buffers"]

PREFIX = "buffer_"


def buffer_variables(names: Iterable[str]) -> dict[str, str]:
    """Names of variables for buffers, whose own names have dots, which a netCDF name should not.

    Each variable keeps the buffer's own name in its attribute ``buffer``; that alone is read back.

    Examples
    --------
    >>> buffer_variables(["a.b_c", "a_b.c", "norm.running_mean"])
    {'a.b_c': 'buffer_a_b_c', 'a_b.c': 'buffer_a_b_c_2', 'norm.running_mean': 'buffer_norm_running_mean'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = f"{PREFIX}{name.replace('.', '_')}"
        variable, number = plain, 1
        while variable in taken:
            number += 1
            variable = f"{plain}_{number}"
        taken.add(variable)
        found[name] = variable
    return found


def stored_buffers(found: Mapping[str, Tensor], where: str, *first: str) -> dict[str, Any]:
    """Buffers as variables of a Dataset; their first dimensions are named, and `where` says at what they were found.

    Examples
    --------
    >>> import torch
    >>> stored_buffers({"norm.running_mean": torch.zeros(3)}, "minimum")["buffer_norm_running_mean"][0]
    ('norm.running_mean_dim_0',)
    """
    variables, stored = {}, buffer_variables(found)
    for name, values in found.items():
        dims = (*first, *(f"{name}_dim_{i}" for i in range(values.ndim - len(first))))
        about = {"long_name": f"buffer {name} re-estimated at the {where}", "units": "1", "buffer": name}
        variables[stored[name]] = (dims, values.numpy(force=True), about)
    return variables
