"""Whatever holds a data set, as inputs and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from landscape.common.positions import unmasked
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.network.batch import Batch, Inputs, batch_of
from landscape.potentials.network.modes import out_of_inference
from landscape.potentials.network.module_trials import undisturbed

__all__ = ["Samples", "gather_samples"]

_TARGETS: Final = ("labels", "targets", "label", "target")  # what targets are called among named inputs


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs ``(n, ...)`` and targets ``(n, ...)``, held-out samples where there are some, and where they are from."""

    inputs: Inputs
    targets: Tensor
    evaluation: Samples | None = None
    spec: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device, dtype: torch.dtype) -> Samples:
        """The same samples elsewhere, with floating-point inputs and targets in another type."""
        held_out = None if self.evaluation is None else self.evaluation.to(device, dtype)
        return Samples(_moved(self.inputs, device, dtype), _moved(self.targets, device, dtype), held_out, self.spec)


def _moved(values: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(values, Batch):
        return values.to(device, dtype)
    return values.to(device, dtype if values.is_floating_point() else None)


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
        told = spec if evaluation is None and described else _fingerprint(x, y)  # a recipe makes both
        return Samples(*pair, Samples(x, y, spec=told), spec)
    return Samples(*pair, None, spec)


def _pair(inputs: Any, targets: Any) -> tuple[Inputs, Tensor]:
    if targets is None:
        inputs, targets = _without_targets(inputs)
    y = _as_tensor("targets", targets)
    if isinstance(inputs, list) and _several(inputs, y):
        inputs = tuple(inputs)
    x = _as_inputs(inputs)
    if not y.ndim or (isinstance(x, Tensor) and not x.ndim):
        raise ShapeError("inputs and targets must have the samples in front, got a single number")
    if len(x) != len(y):
        hint = "; several inputs of a module are a tuple of tensors" if isinstance(inputs, list) else ""
        raise ShapeError(f"inputs hold {len(x)} samples, targets {len(y)}: expected the same number{hint}")
    if not len(x):
        raise ShapeError("the data set is empty")
    parts = [("inputs", x)] if isinstance(x, Tensor) else [(f"inputs {name!r}", part) for name, part in x.items()]
    for name, values in (*parts, ("targets", y)):
        if values.is_complex():
            raise ShapeError(f"the {name} must be real numbers, got {values.dtype} (complex)")
        # an additive mask of attention holds infinities
        bad = torch.isnan if isinstance(x, Batch) and name != "targets" else lambda given: ~torch.isfinite(given)
        if values.is_floating_point() and bool(bad(values).any()):
            raise ShapeError(f"the {name} contain values that are not finite")
    return x, y


def _without_targets(source: Any) -> tuple[Any, Any]:
    """Inputs and targets of something that holds both."""
    if hasattr(source, "inputs") and hasattr(source, "targets"):
        return source.inputs, source.targets
    if isinstance(source, Mapping):
        return _split(source)
    if isinstance(source, DataLoader):
        return _split(_one_pass(source))
    if isinstance(source, Dataset):
        with undisturbed():
            items = list(source) if isinstance(source, IterableDataset) else [source[i] for i in range(_length(source))]
        if not items:
            raise ShapeError("the data set is empty")
        return _split(_collated(items))
    raise ConfigError(
        f"targets are missing: give inputs and targets, or a torch Dataset or DataLoader of pairs; got "
        f"{type(source).__name__}"
    )


def _length(source: Any) -> int:
    try:
        return len(source)
    except TypeError:
        raise ConfigError(
            f"the data set {type(source).__name__} has no length: give it one, or make it an IterableDataset"
        ) from None


def _split(items: Any) -> tuple[Any, Any]:
    """Inputs and targets: of a tuple the last is the target, of named things what is called so."""
    if isinstance(items, Mapping):
        found = [name for name in _TARGETS if name in items]
        if len(found) != 1 or len(items) < 2:
            raise ConfigError(
                f"targets are missing: among the named inputs {sorted(map(str, items))} exactly one must be called one "
                f"of {list(_TARGETS)}, or give targets beside"
            )
        return {name: value for name, value in items.items() if name != found[0]}, items[found[0]]
    if isinstance(items, tuple | list) and len(items) >= 2:
        *given, targets = items
        return (given[0] if len(given) == 1 else tuple(given)), targets
    raise ConfigError(
        "the items of the data set must be pairs (input, target), tuples whose last is the target, or dicts"
    )


def _one_pass(loader: DataLoader[Any]) -> Any:
    """All that one pass over a loader gives, put together; random states come back as they were."""
    everything = isinstance(loader.sampler, RandomSampler) and not loader.sampler.replacement
    if everything and len(loader.sampler) == len(loader.dataset) and not loader.drop_last:  # type: ignore[arg-type]
        # a shuffled pass gives these samples in an order that means nothing: the same order every time
        order: Any = SequentialSampler(loader.dataset)  # type: ignore[arg-type]
        loader = DataLoader(loader.dataset, loader.batch_size, sampler=order, collate_fn=loader.collate_fn)
    generators = [one for one in (loader.generator, getattr(loader.sampler, "generator", None)) if one is not None]
    states = [generator.get_state() for generator in generators]
    try:
        with undisturbed():
            batches = list(loader)
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
    if not batches:
        raise ShapeError("the data loader gives no batch: the data set is empty, or smaller than a batch (drop_last)")
    if loader.batch_size is None and loader.batch_sampler is None:  # single samples, or batches made by the data set
        lengths = {np.shape(part)[:1] for part in _leaves(batches[0])}
        if lengths == {()} or len(lengths) > 1:
            return _collated(batches)
    return _joined(batches)


def _leaves(tree: Any) -> list[Any]:
    parts = list(tree.values()) if isinstance(tree, Mapping) else tree if isinstance(tree, tuple | list) else None
    return [tree] if parts is None else [leaf for part in parts for leaf in _leaves(part)]


def _joined(batches: list[Any]) -> Any:
    """Batches behind one another."""
    first = batches[0]
    if isinstance(first, Mapping):
        return {name: _joined([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(list(parts)) for parts in zip(*batches, strict=True))
    if first is None:
        return None
    parts = [_as_tensor("what the loader gives", batch) for batch in batches]
    try:
        return torch.cat(parts)
    except RuntimeError as error:
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        raise ShapeError(
            f"the batches of the data loader do not fit together, samples have shapes {shapes}: pad them to one length "
            "in collate_fn"
        ) from error


def _collated(items: list[Any]) -> Any:
    try:
        return default_collate(items)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"the items of the data set cannot be put together ({error}): expected numbers, arrays and tensors of one "
            "shape, in pairs (input, target) or dicts"
        ) from error


def _several(values: list[Any], targets: Tensor) -> bool:
    """Whether a list holds several inputs of all samples, rather than a row of samples."""
    lengths = {np.shape(one)[:1] for one in values if isinstance(one, Tensor | np.ndarray)}
    return len(values) != len(targets) and lengths == {targets.shape[:1]}


def _as_inputs(values: Any) -> Inputs:
    """One tensor; of a mapping, or a tuple of tensors and arrays, a batch."""
    several = isinstance(values, tuple) and any(isinstance(one, Tensor | np.ndarray | Mapping) for one in values)
    if isinstance(values, Mapping) or several:
        return batch_of(_as_tensors(values, "inputs"))
    return _as_tensor("inputs", values)


def _as_tensors(values: Any, name: str) -> Any:
    if isinstance(values, Mapping):
        return {key: None if one is None else _as_tensors(one, f"inputs {key!r}") for key, one in values.items()}
    if isinstance(values, tuple):
        return tuple(_as_tensors(one, f"inputs {i}") for i, one in enumerate(values))
    return _as_tensor(name, values)


def _as_tensor(name: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return out_of_inference(values.detach())
    try:
        array = unmasked(values)
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"{name} cannot be made into an array: {error}; several inputs of a module are a tuple of tensors"
        ) from None
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{name} must be numbers, got dtype {array.dtype}")
    return torch.from_numpy(np.array(array))


def _fingerprint(inputs: Inputs, targets: Tensor) -> dict[str, Any]:
    digest = hashlib.sha256()
    parts = [("", inputs)] if isinstance(inputs, Tensor) else list(inputs.items())
    for name, tensor in (*parts, ("", targets)):
        digest.update(f"{name}{tuple(tensor.shape), tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"kind": "python", "samples": len(inputs), "sha256": digest.hexdigest()}
