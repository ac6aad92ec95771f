"""Operations that torch cannot differentiate twice, by name, with the module that they are in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from landscape.errors import ConfigError

__all__ = ["agree", "custom_functions", "derivatives_named", "refuse"]

_MISSING: Final = re.compile(
    r"derivative for '?(?:aten::)?(\w+)'? is not implemented|(\w+) does not support 3rd\+ order|(once_differentiable)"
)
_STEP: Final = 1e-8  # small, so that few kinks of a network lie within it
_TOLERANCE: Final = 1e-2  # wrong formulas are off by a good part
_ROUNDINGS: Final = 1e3  # of a gradient


@contextmanager
def derivatives_named(module: nn.Module | None, forward: Callable[[], Any]) -> Iterator[None]:
    """Turn torch's errors about derivatives that it does not have into one that says where, and what to do.

    Parameters
    ----------
    module : torch.nn.Module or None
    forward : callable
        Runs the module on a few samples, with gradients; called only after such an error.

    Raises
    ------
    ConfigError
    """
    try:
        yield
    except RuntimeError as error:
        found = _MISSING.search(str(error))
        if found is None:
            raise
        name = next(group for group in found.groups() if group)
        if name == "once_differentiable":
            once = "a custom autograd.Function marked @once_differentiable"
            refuse(f"torch has no second derivative of {once}", module, forward, _marked_once, error)
        what = f"{name} (torch's own operation)"
        refuse(f"torch has no second derivative of {what}", module, forward, _named(name), error)


def refuse(
    what: str,
    module: nn.Module | None,
    forward: Callable[[], Any],
    wanted: Callable[[Any], bool],
    cause: Exception | None = None,
) -> NoReturn:
    """Say where the nodes of a graph that are `wanted` are made.

    Raises
    ------
    ConfigError
    """
    place = None if module is None else _module_of(module, forward, wanted)
    where = "the loss, or a function called outside of all modules" if place is None else f"the module {place}"
    raise ConfigError(
        f"{what}, in {where}: write it with plain operations of torch, or use quantities that need first derivatives "
        "only (gradients, the Fisher matrix, score spectra)"
    ) from cause


def custom_functions(ends: Sequence[Tensor | None]) -> tuple[type, ...]:
    """Functions of users (`torch.autograd.Function`) in the graph behind some slopes.

    Raises
    ------
    RuntimeError
        If the backward of one is marked ``@once_differentiable``: torch itself would take its slopes for constants.
    """
    found = set()
    for node in _nodes(tuple(end for end in ends if end is not None)):
        if node.name() == "torch::autograd::Error":
            raise RuntimeError("a function marked once_differentiable is to be differentiated twice")
        own = getattr(node, "_forward_cls", None)
        if own is not None and not own.__module__.startswith(("landscape.", "torch.")):
            found.add(own)
    return tuple(found)


def agree(gradient: Callable[[Tensor], Tensor], product: Callable[[Tensor], Tensor], position: Tensor) -> bool:
    """Whether a product with the Hessian is the central difference of the gradient, along a random vector or two."""
    for seed in range(2):  # a kink within the step may spoil one
        vector = torch.randn(len(position), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        along = vector.to(position)
        high, low = gradient(position + _STEP * along), gradient(position - _STEP * along)
        quotient = (high - low) / (2.0 * _STEP)
        rounding = _ROUNDINGS * torch.finfo(high.dtype).eps / _STEP * float(torch.linalg.vector_norm(high))
        gap = float(torch.linalg.vector_norm(quotient - product(along)))
        if gap <= _TOLERANCE * float(torch.linalg.vector_norm(quotient)) + rounding:
            return True
    return False


# -- nodes of graphs, and the modules that make them -------------------------------------------------------------------


def _module_of(module: nn.Module, forward: Callable[[], Any], wanted: Callable[[Any], bool]) -> str | None:
    """Path and class of the innermost module that makes a node of the kind, if there is one."""
    names: Mapping[int, str] = {id(one): name for name, one in module.named_modules()}
    places: list[str] = []

    def look(one: nn.Module, given: Any, outputs: Any) -> None:
        if not places and id(one) in names and any(map(wanted, _nodes(outputs))):
            places.append(f"{names[id(one)]!r} ({type(one).__name__})" if names[id(one)] else type(one).__name__)

    handle = register_module_forward_hook(look)
    try:
        forward()
    except Exception:
        return places[0] if places else None
    finally:
        handle.remove()
    return places[0] if places else None


def _nodes(outputs: Any) -> Iterator[Any]:
    """Nodes of the graph behind the tensors of a tuple, a mapping or a tensor."""
    waiting, seen = [one.grad_fn for one in _tensors(outputs)], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(before for before, _ in node.next_functions)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping | tuple | list):
        for one in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _tensors(one)


def _named(operation: str) -> Callable[[Any], bool]:
    """Whether a node is that of a forward operation, by the name of its backward: as in ``_ctc_loss_backward``."""
    plain = operation.replace("_backward", "").replace("_", "").lower()
    return lambda node: node.name().partition("Backward")[0].lower() == plain


def _marked_once(node: Any) -> bool:
    own = getattr(node, "_forward_cls", None)
    return own is not None and hasattr(own.backward, "__wrapped__")
