"""A user's module, made ours: the original found, copied privately, its outputs read, its honesty tried."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import an_instance
from landscape.errors import ConfigError
from landscape.potentials.network.batch import Inputs, as_tree

__all__ = ["CallingModule", "converted", "original_module", "private_copy", "read_outputs", "without_gradients"]

Call = Callable[[nn.Module, Any], Any]

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64, torch.float16: torch.complex32}


def original_module(given: Any) -> nn.Module:
    """The module that a wrapper of torch runs: a compiled or a parallel one has the original inside.

    Raises
    ------
    ConfigError
        If it is no module, or a scripted one, whose derivatives cannot be taken apart.
    """
    module: nn.Module = an_instance("module", given, nn.Module, called="torch.nn.Module")
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, wrappers):
            module = module.module
        elif isinstance(inside := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile
            module = inside
        else:
            break
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = f"its part {name!r}" if name else "it"
            raise ConfigError(f"the module is scripted ({where}): give the nn.Module that it was made from")
    return module


def private_copy(module: nn.Module) -> nn.Module:
    """A deep copy that shares nothing that a step could change, in the mode of the original.

    Forward hooks stay, since they may be part of the function, as those of `weight_norm` and `prune` are; backward
    hooks, which are not, go. Embeddings have dense gradients.

    Raises
    ------
    ConfigError
        If the module cannot be copied.
    """
    # what hooks left behind, such as the weight of nn.utils.weight_norm, is no leaf, and deepcopy refuses it
    left = {id(value): value.detach().clone() for part in module.modules() for value in _derived(vars(part))}
    try:
        own = copy.deepcopy(module, dict(left))
    except Exception as error:  # modules raise whatever they like
        raise ConfigError(
            f"the module cannot be copied ({type(error).__name__}: {error}): the landscape works on a private copy, so "
            "that it must survive copy.deepcopy"
        ) from error
    for part in list(own.modules()):
        for name, child in part._modules.items():
            if child is not None and isinstance(inside := getattr(child, "_orig_mod", None), nn.Module):
                part._modules[name] = _Uncompiled(inside)
    for part in own.modules():
        part._backward_hooks.clear()
        part._backward_pre_hooks.clear()
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.sparse = False
    return own


def converted(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The module itself, moved: real numbers to a floating-point type, complex ones to that of pairs of it.

    Unlike ``module.to(dtype)``, which would drop imaginary parts and leave plain attributes behind.

    Raises
    ------
    ConfigError
        If there are complex numbers and no complex type of the precision.
    """

    def moved(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            if dtype not in _COMPLEX:
                raise ConfigError(f"the module holds complex numbers, and of {dtype} there are none: use torch.float32")
            return tensor.to(device, _COMPLEX[dtype])
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    module._apply(moved)
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                setattr(part, name, moved(value.detach()))
    return module


def _derived(attributes: Mapping[str, Any]) -> Iterator[Tensor]:
    """Tensors that are no leaves of a graph, of a module's plain attributes."""
    for value in attributes.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, Tensor) and not one.is_leaf:
                yield one


class _Uncompiled(nn.Module):
    """In the place of a compiled part, with the same names of weights: compiled graphs have one derivative only."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inside

    def forward(self, *positional: Any, **by_name: Any) -> Any:
        """What the part itself returns."""
        return self._orig_mod(*positional, **by_name)


class CallingModule(nn.Module):
    """A module that is run by ``call(module, batch)``."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, batch: Any) -> Any:
        """What the call returns."""
        return self.call(self.module, batch)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a module is called with a batch: with one tensor, with several, or by name."""
    tree = as_tree(inputs)
    if isinstance(tree, Tensor):
        return (tree,), {}
    if isinstance(tree, dict):
        return (), tree
    return tuple(tree), {}


def read_outputs(outputs: Any, *, as_tensor: bool) -> Any:
    """The tensor among what a module returns, ``logits`` by name; with `as_tensor` False whatever it returns.

    Raises
    ------
    ConfigError
        If there is no telling which tensor is meant.
    """
    if isinstance(outputs, Tensor) or not as_tensor:
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(outputs, tuple | list) and len(outputs) == 1 and isinstance(outputs[0], Tensor):
        return outputs[0]
    has = sorted(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
    raise ConfigError(
        f"the module returns no tensor and nothing called logits, but {has}: say which part counts, "
        "call=lambda module, batch: module(batch)[...], or give a loss of your own of all that it returns"
    )


@contextmanager
def without_gradients(*, needed_inside: bool) -> Iterator[None]:
    """No graph is kept, except for a module that takes derivatives itself."""
    with torch.enable_grad() if needed_inside else torch.no_grad():
        yield
