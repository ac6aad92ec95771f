"""Under which names the buffers of a network are stored, so that no two share one."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["PREFIX", "buffer_variables"]

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
