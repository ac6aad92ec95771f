"""Whatever holds a data set, as one pair of tensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from landscape.errors import ConfigError, ShapeError

__all__ = ["Samples", "gather_samples"]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs ``(n, ...)`` and targets ``(n, ...)``, held-out samples where there are some, and where they are from."""

    inputs: Tensor
    targets: Tensor
    evaluation: Samples | None = None
    spec: dict[str, Any] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> Samples:
        """The same samples with floating-point inputs and targets in another type."""

        def moved(values: Tensor) -> Tensor:
            return values.to(dtype) if values.is_floating_point() else values

        held_out = None if self.evaluation is None else self.evaluation.to(dtype)
        return Samples(moved(self.inputs), moved(self.targets), held_out, self.spec)


def gather_samples(inputs: Any, targets: Any, evaluation: Any = None) -> Samples:
    """Tensors from tensors, arrays, a torch Dataset or DataLoader, or an object with `inputs` and `targets`.

    Raises
    ------
    ConfigError
        If targets are missing.
    ShapeError
        If the lengths differ, there are no samples, or a value is not finite.
    """
    pair = _pair(inputs, targets)
    described = callable(getattr(inputs, "spec", None)) and bool(getattr(inputs, "recipe", True))
    spec = inputs.spec() if described else _fingerprint(*pair)
    held_out = evaluation
    if held_out is None and getattr(inputs, "evaluation_inputs", None) is not None:
        held_out = (inputs.evaluation_inputs, inputs.evaluation_targets)
    if held_out is not None:
        if isinstance(held_out, tuple | list) and len(held_out) != 2:
            raise ConfigError(f"evaluation must be (inputs, targets) or a data set, got {len(held_out)} things")
        x, y = _pair(*held_out) if isinstance(held_out, tuple | list) else _pair(held_out, None)
        return Samples(*pair, Samples(x, y), spec)
    return Samples(*pair, None, spec)


def _pair(inputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    if targets is None:
        inputs, targets = _without_targets(inputs)
    x, y = _as_tensor("inputs", inputs), _as_tensor("targets", targets)
    if x.ndim < 2:
        raise ShapeError(f"inputs must be (samples, features, ...), got shape {tuple(x.shape)}")
    if len(x) != len(y):
        raise ShapeError(f"inputs hold {len(x)} samples, targets {len(y)}: expected the same number")
    if not len(x):
        raise ShapeError("the data set is empty")
    for name, values in (("inputs", x), ("targets", y)):
        if values.is_complex():
            raise ShapeError(f"the {name} must be real numbers, got {values.dtype} (complex)")
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise ShapeError(f"the {name} contain values that are not finite")
    return x, y


def _without_targets(source: Any) -> tuple[Any, Any]:
    if hasattr(source, "inputs") and hasattr(source, "targets"):
        return source.inputs, source.targets
    if isinstance(source, DataLoader):
        source = source.dataset
    if isinstance(source, Dataset) and hasattr(source, "__len__"):
        items = [source[i] for i in range(len(source))]
        if items and isinstance(items[0], tuple | list) and len(items[0]) == 2:
            return torch.stack([torch.as_tensor(x) for x, _ in items]), torch.stack(
                [torch.as_tensor(y) for _, y in items]
            )
        raise ConfigError("the items of the data set must be pairs (input, target)")
    raise ConfigError(
        f"targets are missing: give inputs and targets, or a torch Dataset or DataLoader of pairs; got "
        f"{type(source).__name__}"
    )


def _as_tensor(name: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{name} cannot be made into an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{name} must be numbers, got dtype {array.dtype}")
    return torch.from_numpy(np.array(array))


def _fingerprint(inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    digest = hashlib.sha256()
    for tensor in (inputs, targets):
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"kind": "python", "samples": len(inputs), "sha256": digest.hexdigest()}
