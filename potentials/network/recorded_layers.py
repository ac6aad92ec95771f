"""The uses of a network's layers in one forward pass, and what has to hold for their rules to give single gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.hooks import RemovableHandle

from landscape.potentials.network.layer_rules import Call, fits, has_rule
from landscape.potentials.network.layout import Slot

__all__ = ["Recording", "beside", "record", "rows_apart", "slopes_of", "tolerance"]

Evaluate = Callable[[dict[str, Tensor]], Tensor]


@dataclass(frozen=True, slots=True)
class Recording:
    """Outputs of one forward pass and every use of a layer that has a rule.

    Attributes
    ----------
    outputs : tensor, shape ``(samples, ...)``
        With a graph that goes back to the outputs of the calls, and to weights that are used outside of them.
    calls : tuple of Call
    elsewhere : frozenset of str
        Weights that the outputs depend on through anything else than those calls: a function, a layer without a rule.
        Read off the graph, so that a use counts which is zero for these samples.
    fault : str or None
        Why the calls are not all there is to their layers.
    """

    outputs: Tensor
    calls: tuple[Call, ...]
    elsewhere: frozenset[str]
    fault: str | None

    def why_not(self, wanted: Sequence[Slot]) -> str | None:
        """Why rules cannot give the gradients of some parameters, as far as that can be seen without computing any."""
        if self.fault is not None:
            return self.fault
        for slot in wanted:
            if slot.size and slot.name in self.elsewhere:
                return f"{slot.name} is used outside of a layer with a rule"
        for call in self.calls:
            if not fits(call, len(self.outputs)) and any(slot in wanted for slot in call.slots.values()):
                return f"the layer {call.name!r} is given {tuple(call.inputs.shape)} for {len(self.outputs)} samples"
        return None


def record(module: nn.Module, slots: Sequence[Slot], weights: Mapping[str, Tensor], evaluate: Evaluate) -> Recording:
    """Run `evaluate` on weights by name, and remember what layers are given and return.

    Within such a layer its weights are constants, so that whatever use of a weight is left in the graph is another one.
    """
    leaves = {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}
    recorder = _Recorder(leaves)
    handles: list[RemovableHandle] = []
    by_name = {slot.name: slot for slot in slots}
    for name, layer, names in list(_layers(module)):
        own = {key: by_name[full] for key, full in names.items() if full in by_name}
        handles += recorder.attach(name, layer, own)
    try:
        with torch.enable_grad():
            outputs = evaluate(leaves)
    finally:
        for handle in (*handles, *recorder.handles):
            handle.remove()
    names_of = {id(leaf): name for name, leaf in leaves.items()}
    elsewhere = frozenset(names_of[id(leaf)] for leaf in _leaves_of(outputs) if id(leaf) in names_of)
    return Recording(outputs, tuple(recorder.calls), elsewhere, recorder.fault())


class _Recorder:
    """Hooks of layers with rules."""

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self.leaves = leaves
        self.calls: list[Call] = []
        self.handles: list[RemovableHandle] = []
        self._versions: list[int] = []
        self._faults: list[str] = []

    def fault(self) -> str | None:
        """What was found first, also of what was changed since it was given to a layer."""
        for call, version in zip(self.calls, self._versions, strict=True):
            if call.inputs._version != version:
                self._faults.append(f"what the layer {call.name!r} was given is changed in place later")
        return self._faults[0] if self._faults else None

    def attach(self, name: str, layer: nn.Module, own: Mapping[str, Slot]) -> list[RemovableHandle]:
        """Watch a layer with parameters `own`."""

        def before(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            for key, slot in own.items():
                if layer._parameters[key] is not self.leaves[slot.name]:
                    self._faults.append(f"{slot.name} is not given to the layer {name!r} as it is")
                layer._parameters[key] = self.leaves[slot.name].detach()  # type: ignore[assignment]

        def after(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], returned: Any) -> Tensor | None:
            for key, slot in own.items():
                layer._parameters[key] = self.leaves[slot.name]  # type: ignore[assignment]
            inputs = given[0] if given else named.get("input")
            if len(given) + len(named) != 1 or not isinstance(inputs, Tensor) or not isinstance(returned, Tensor):
                self._faults.append(f"the layer {name!r} is called in an unknown way")
                return None
            if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
                self._faults.append(f"the layer {name!r} is used within a derivative or a map over samples")
                return None
            # the first layers have nothing to differentiate before them: their outputs start the graph
            returned = returned if returned.requires_grad else returned.detach().requires_grad_(True)
            # a derivative in the forward pass uses the weights once more, which no graph shows
            twice = f"a derivative is taken through the layer {name!r} in the forward pass"
            self.handles.append(returned.register_hook(lambda slope: self._faults.append(twice)))
            self.calls.append(Call(name, layer, own, inputs.detach(), returned))
            self._versions.append(inputs._version)
            passed: Tensor = returned.clone()  # what follows may work in place
            return passed

        return [
            layer.register_forward_pre_hook(before, with_kwargs=True),
            layer.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, str]]]:
    """Layers with rules that own parameters, and the parameters' names in the module."""
    names: dict[int, str] = {}
    for full, parameter in module.named_parameters():
        names.setdefault(id(parameter), full)
    for name, layer in module.named_modules():
        own = {key: names[id(value)] for key, value in layer.named_parameters(recurse=False)}
        if own and has_rule(layer):
            yield name, layer, own


def _leaves_of(outputs: Tensor) -> Iterator[Tensor]:
    """Leaves that the graph of a tensor goes back to."""
    if outputs.grad_fn is None:
        if outputs.requires_grad:
            yield outputs
        return
    seen: set[Any] = {outputs.grad_fn}
    stack: list[Any] = [outputs.grad_fn]
    while stack:
        node = stack.pop()
        if hasattr(node, "variable"):
            yield node.variable
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)


# -- slopes, and whether the rows of a layer are the samples -----------------------------------------------------------


def slopes_of(outputs: Tensor, calls: Sequence[Call], along: Tensor) -> tuple[Tensor, ...]:
    """Slopes of ``sum(along * outputs)`` in what each call returned; the graph stays."""
    ends = [call.outputs for call in calls]
    if not ends or not outputs.requires_grad:
        return tuple(torch.zeros_like(end) for end in ends)
    return torch.autograd.grad(outputs, ends, along, retain_graph=True, materialize_grads=True)


def rows_apart(
    outputs: Tensor, calls: Sequence[Call], along: Tensor, slopes: Sequence[Sequence[Tensor]], seed: int
) -> bool:
    r"""Whether row j of what a layer returns acts on the outputs of sample j alone, in every call and for all samples.

    For random w_kj the slopes of sum_kj w_kj u_kj f_j have to be sum_k w_kj s_kj, with s_kj row j of the slopes along
    the k-th direction of all samples. Both are linear in w, so that they agree only if no row acts on two samples, or
    on another one: rows that are permuted, sorted, or points of a grid are found at the cost of one backward pass.

    Parameters
    ----------
    outputs : tensor, shape ``(b, ...)``
    calls : sequence of Call
    along : tensor, shape ``(K, b, ...)``
        u.
    slopes : sequence of K sequences of tensors ``(b, ...)``
        s, by call.
    seed : int
        Of w.
    """
    if len(outputs) == 1 or not calls:
        return True
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(along.shape[:2], generator=generator, dtype=torch.float64).to(along)
    differences, sizes = [], []
    for number, together in enumerate(slopes_of(outputs, calls, (along * beside(weights, along)).sum(0))):
        sizes.append(_row_norms(together))
        left = together
        for k, (weight, by_call) in enumerate(zip(weights, slopes, strict=True)):
            # slopes of different calls may be one tensor: the first difference is another
            subtract = left.addcmul_ if k else left.addcmul
            left = subtract(by_call[number], beside(weight, left), value=-1.0)
        differences.append(_row_norms(left))
    difference, size = torch.stack(differences), torch.stack(sizes)  # (calls, b)
    noise = 64 * torch.finfo(along.dtype).eps * size.amax(0)
    # the gradients of a sample whose slopes are not finite are returned as such, whatever they are
    return bool(((difference <= tolerance(along.dtype) * size + noise) | ~noise.isfinite()).all())


def tolerance(dtype: torch.dtype) -> float:
    """Relative difference of two ways to the same slope that is put down to rounding."""
    return math.sqrt(torch.finfo(dtype).eps)


def beside(weights: Tensor, values: Tensor) -> Tensor:
    """Weights with axes of length 1 at their end, to be multiplied by values with further axes."""
    return weights.view(*weights.shape, *(1,) * (values.ndim - weights.ndim))


def _row_norms(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, dim=tuple(range(1, values.ndim)))
    return norms
