"""The state of a torch optimizer as a row of bytes, from which it goes on to the same bits."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from landscape.errors import ConfigError

__all__ = ["NotPlainError", "numbers_of", "restore", "state_bytes"]

_PLAIN = (bool, int, float, str, type(None))
_LENGTH = 8  # bytes that tell the length of the header


class NotPlainError(Exception):
    """A state holds something besides tensors, numbers, text, and dicts, lists and objects of these."""


def numbers_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The numbers and tensors in the parameter groups, settings among them."""
    return [
        {name: value for name, value in group.items() if isinstance(value, bool | int | float | Tensor)}
        for group in optimizer.param_groups
    ]


def state_bytes(optimizer: torch.optim.Optimizer, settings: list[dict[str, Any]], device: torch.device) -> Tensor:
    """``optimizer.state_dict()`` as a row of bytes: the length of a header, the header (JSON), the tensors' bytes.

    Of the parameter groups only numbers that are no longer those of `settings` count: what a user sets anew is to hold.

    Returns
    -------
    tensor of uint8, on `device`; tensors that are there already do not leave it

    Raises
    ------
    NotPlainError
    """
    state = dict(optimizer.state_dict())
    state["param_groups"] = [
        {name: value for name, value in now.items() if isinstance(value, Tensor) or value != then.get(name)}
        for now, then in zip(numbers_of(optimizer), settings, strict=True)
    ]
    tensors: list[Tensor] = []
    header = json.dumps(_described(state, tensors)).encode()
    front = torch.frombuffer(bytearray(len(header).to_bytes(_LENGTH, "little") + header), dtype=torch.uint8)
    return torch.cat([front.to(device), *(_bytes_of(tensor).to(device) for tensor in tensors)])


def restore(optimizer: torch.optim.Optimizer, row: Tensor) -> None:
    """Give a fresh optimizer the state that `state_bytes` wrote down.

    Raises
    ------
    ConfigError
        If the bytes are damaged, or are those of another kind of optimizer or of other parameters.
    """
    try:
        start = _LENGTH + int.from_bytes(row[:_LENGTH].cpu().numpy().tobytes(), "little")
        header = json.loads(row[_LENGTH:start].cpu().numpy().tobytes())
        fresh = optimizer.state_dict()
        state = _rebuilt(header, fresh, _Reader(row, start))
        groups = zip(fresh["param_groups"], state["param_groups"], strict=True)
        optimizer.load_state_dict(state | {"param_groups": [now | changed for now, changed in groups]})
        # load_state_dict casts to the parameters' dtype; a state may be more precise than they are
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, values in state.get("state", {}).items():
            optimizer.state[parameters[number]] = values
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the optimizer's state in the run given as start is damaged, or not one of {type(optimizer).__name__} "
            f'with these parameters ({error}): use state="fresh"'
        ) from error


def _described(value: Any, tensors: list[Tensor]) -> Any:
    """A tree as JSON, its tensors put in a row."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex():
        tensors.append(value.detach())
        kind = str(value.dtype).removeprefix("torch.")
        return {"tensor": [kind, list(value.shape), value.device.type == "cpu"]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_described(one, tensors) for one in value]}
    if isinstance(value, Mapping) and all(isinstance(key, int | str) for key in value):
        return {"dict": [[key, _described(one, tensors)] for key, one in value.items()]}
    if hasattr(value, "__dict__") and not callable(value) and not isinstance(value, Tensor | Mapping):
        return {"object": [type(value).__name__, _described(vars(value), tensors)]}
    raise NotPlainError(type(value).__name__)


def _rebuilt(node: Any, fresh: Any, tensors: _Reader) -> Any:
    """The tree again; its objects are copies of those that a fresh optimizer has there, so no class is looked up."""
    if isinstance(node, _PLAIN):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors.read(*content)
    if kind == "dict":
        known = fresh if isinstance(fresh, Mapping) else {}
        return {key: _rebuilt(one, known.get(key), tensors) for key, one in content}
    if kind == "object":
        name, values = content
        if type(fresh).__name__ != name:
            raise TypeError(f"no {name} to begin with")
        twin = copy.copy(fresh)
        vars(twin).update(_rebuilt(values, vars(fresh), tensors))
        return twin
    places = dict(enumerate(fresh)) if isinstance(fresh, list | tuple) else {}
    rows = [_rebuilt(one, places.get(i), tensors) for i, one in enumerate(content)]
    return tuple(rows) if kind == "tuple" else rows


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


class _Reader:
    """Tensors from a row of bytes, one after another."""

    def __init__(self, row: Tensor, start: int) -> None:
        self.row, self.at = row, start

    def read(self, kind: str, shape: list[int], on_cpu: bool) -> Tensor:
        dtype = getattr(torch, kind)
        size = torch.Size(shape).numel() * torch.empty(0, dtype=dtype).element_size()
        values = self.row[self.at : self.at + size].clone().view(dtype).reshape(shape)
        self.at += size
        return values.cpu() if on_cpu else values
