"""Three routes to the gradients of single samples, and which of them is right for a network."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.func import vjp, vmap

from landscape.errors import ConfigError, ShapeError
from landscape.potentials.curvature.products import fast_format
from landscape.potentials.curvature.twice_differentiable import TwiceDifferentiable
from landscape.potentials.network.batch import Inputs, unwrapped
from landscape.potentials.network.graph_memory import graph_bytes
from landscape.potentials.network.layer_rules import Call, Gradients, gradients_of
from landscape.potentials.network.layout import Slot
from landscape.potentials.network.recorded_layers import beside, record, rows_apart, slopes_of, tolerance

if TYPE_CHECKING:
    from landscape.potentials.network.potential import NetworkLoss

__all__ = ["ROUTES", "Directions", "SampleRoutes", "Whole", "first_route"]

Directions = Callable[..., Tensor]
Whole = tuple[Slot, Gradients, Tensor]  # a parameter, gradients of samples, what to multiply them by ``(K, b)``

ROUTES: Final = ("layer rules", "vmap over samples", "one sample at a time")
_TRIED: Final = 3  # samples
_SUPPOSED: Final = 2**18  # numbers that the graph of a sample holds, where that cannot be found out


class SampleRoutes:
    """Gradients J_i^T u_ik of the samples of one chunk at a position, by three routes.

    Parameters
    ----------
    loss : NetworkLoss
    parameters, buffers : mappings of tensors
        Of the position.
    of_losses : bool
        Whether J is that of the losses instead of the outputs.
    """

    def __init__(
        self, loss: NetworkLoss, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *, of_losses: bool
    ) -> None:
        self.loss = loss
        self.of_losses = of_losses
        self._parameters = {name: value.detach() for name, value in parameters.items()}
        self._buffers = dict(buffers)

    def chunk(self, route: int, rows: slice, wanted: Sequence[Slot], directions: Directions) -> Iterator[Whole] | None:
        """Gradients of some samples in some parameters by a route of `ROUTES`, or None where it is not right.

        Parameters
        ----------
        route : int
        rows : slice
        wanted : sequence of Slot
        directions : callable
            ``directions(outputs, rows=rows) -> u (K, b, ...)``.

        Raises
        ------
        ConfigError
            By the last route, which has nothing to fall back to: if the samples interact.
        """
        if route == 2:
            return self._one_by_one(rows, wanted, directions)
        method = (self._by_layers, self._by_vmap)[route]
        try:
            return method(rows, wanted, directions)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a module of any kind makes hooks and transforms run into
            return None

    def value(self, parameters: Mapping[str, Tensor], inputs: Inputs, targets: Tensor) -> Tensor:
        """What is differentiated, ``(b, ...)``: the outputs, or the losses.

        Raises
        ------
        ShapeError
            If its first axis is not that of the samples.
        """
        outputs = self.loss.forward(parameters, inputs, self._buffers)
        value = self.loss.losses_of(outputs, inputs, targets) if self.of_losses else outputs
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(inputs):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"expected outputs with the {len(inputs)} samples along the first axis, got {given}")
        return value

    def _samples(self, rows: slice) -> tuple[Inputs, Tensor]:
        return self.loss.inputs[rows], self.loss.targets[rows]

    # -- layer by layer -------------------------------------------------------------------------------------------

    def _by_layers(self, rows: slice, wanted: Sequence[Slot], directions: Directions) -> Iterator[Whole] | None:
        """Gradients by the rules of the layers that were called on the way to the outputs."""
        inputs, targets = self._samples(rows)
        inputs = inputs.contiguous(memory_format=fast_format(self.loss))

        def evaluate(leaves: Mapping[str, Tensor]) -> Tensor:
            with TwiceDifferentiable():
                return self.value(leaves, inputs, targets)

        found = record(self.loss.private_module, tuple(self.loss.layout), self._parameters, evaluate)
        if found.why_not(wanted) is not None:
            return None
        calls = [call for call in found.calls if any(slot in wanted for slot in call.slots.values())]
        along, scales = _scaled(directions(found.outputs.detach(), rows=rows))
        slopes = [slopes_of(found.outputs, calls, u) for u in along]
        if not rows_apart(found.outputs, calls, along, slopes, seed=rows.start):
            return None
        return self._ruled(calls, slopes, wanted, scales)

    def _ruled(
        self, calls: Sequence[Call], slopes: Sequence[Sequence[Tensor]], wanted: Sequence[Slot], scales: Tensor
    ) -> Iterator[Whole]:
        found: dict[str, Gradients] = {}
        left = {slot.name: sum(slot in call.slots.values() for call in calls) for slot in wanted}
        for slot in wanted:
            if not left[slot.name]:  # used nowhere on the way to these outputs
                yield slot, Gradients(scales.new_zeros(()).expand(*scales.T.shape, slot.size)), scales
        for call, own in zip(calls, zip(*slopes, strict=True), strict=True):
            gradients = gradients_of(call, own, self._buffers)
            for key, slot in call.slots.items():
                if slot not in wanted:
                    continue
                # a parameter that is used again is complete only then
                total = gradients[key]
                if slot.name in found:
                    total = Gradients(total.values() + found.pop(slot.name).values())
                left[slot.name] -= 1
                if left[slot.name]:
                    found[slot.name] = total
                else:
                    yield slot, total, scales

    # -- sample by sample -----------------------------------------------------------------------------------------

    def _by_vmap(self, rows: slice, wanted: Sequence[Slot], directions: Directions) -> Iterator[Whole] | None:
        inputs, targets = self._samples(rows)
        leaves = {slot.name: self._parameters[slot.name].detach().requires_grad_(True) for slot in wanted}
        with torch.enable_grad():
            outputs = self.value({**self._parameters, **leaves}, inputs, targets)
        along, scales = _scaled(directions(outputs.detach(), rows=rows))
        moving = {name: leaf.detach() for name, leaf in leaves.items()}
        parts, back = unwrapped(inputs)

        def gradients(sample: tuple[Tensor, ...], target: Tensor, u: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            one = back(tuple(part.unsqueeze(0) for part in sample))

            def value(parameters: dict[str, Tensor]) -> Tensor:
                return self.value({**self._parameters, **parameters}, one, target.unsqueeze(0))[0]

            found, pulled = vjp(value, moving)  # type: ignore[misc]
            return found, vmap(lambda direction: pulled(direction)[0])(u)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            mapped: Any = vmap(gradients, in_dims=(0, 0, 1))(parts, targets, along)
        alone, slopes = mapped
        found = {slot.name: slopes[slot.name].reshape(*scales.T.shape, slot.size) for slot in wanted}
        if not _same(alone, outputs.detach()) or not _add_up(found, outputs, leaves, along, seed=rows.start):
            return None
        return ((slot, Gradients(found[slot.name]), scales) for slot in wanted)

    def _one_by_one(self, rows: slice, wanted: Sequence[Slot], directions: Directions) -> Iterator[Whole]:
        values: list[Tensor] = []
        scales: list[Tensor] = []
        found: dict[str, list[Tensor]] = {slot.name: [] for slot in wanted}
        for i in range(rows.start, rows.stop):
            row = slice(i, i + 1)
            leaves = {slot.name: self._parameters[slot.name].detach().requires_grad_(True) for slot in wanted}
            with torch.enable_grad():
                value = self.value({**self._parameters, **leaves}, *self._samples(row))
            along, scale = _scaled(directions(value.detach(), rows=row))
            slopes = [_slopes(value, list(leaves.values()), u) for u in along]
            for slot, own in zip(wanted, zip(*slopes, strict=True), strict=True):
                found[slot.name].append(torch.stack([one.reshape(slot.size) for one in own]))
            values.append(value.detach())
            scales.append(scale)
        self._check_alone(torch.cat(values), rows)
        together = torch.cat(scales, dim=1)
        return ((slot, Gradients(torch.stack(found.pop(slot.name))), together) for slot in wanted)

    def _check_alone(self, alone: Tensor, rows: slice) -> None:
        with torch.enable_grad():  # the module may take derivatives itself
            together = self.value(self._parameters, *self._samples(rows)).detach()
        if not _same(alone, together):
            raise ConfigError(
                f"the outputs of samples {rows.start} to {rows.stop - 1} are others when each is evaluated alone: the "
                "samples interact, so none has a gradient of its own"
            )


# -- which of the three ------------------------------------------------------------------------------------------------


def first_route(routes: SampleRoutes) -> tuple[int, torch.Size, int, int, bool]:
    """Try the routes on a few samples.

    In float64, where rounding does not switch rectifiers on and off, so that a wrong gradient is told from an
    ill-conditioned one.

    Returns
    -------
    (int, Size, int, int, bool)
        The first route that finds the gradients which single samples have, the shape of an output, numbers held per
        sample, and per sample and direction, and whether all gradients were finite.
    """
    rows = slice(0, min(_TRIED, len(routes.loss.inputs)))
    shape, held = _measured(routes, rows)
    largest = max(slot.size for slot in routes.loss.layout)
    try:
        route, finite = _compared(_in_float64(routes, rows), rows, shape)
    except ConfigError:
        raise
    except Exception:  # a module that works in its own floating-point type only
        route, finite = _compared(routes, rows, shape)
    return route, shape, 2 * held, held + 2 * largest, finite


def _measured(routes: SampleRoutes, rows: slice) -> tuple[torch.Size, int]:
    """Shape of an output and how many numbers the graph of a sample holds."""
    shapes: list[torch.Size] = []

    def graph() -> Tensor:
        leaves = {name: value.detach().requires_grad_(True) for name, value in routes._parameters.items()}
        value = routes.value(leaves, *routes._samples(rows))
        shapes.append(value.shape[1:])
        return value

    try:
        held = graph_bytes(graph, routes._parameters.values())
    except Exception:  # derivatives within the forward pass do not let what they hold be looked at
        graph()
        return shapes[-1], _SUPPOSED
    return shapes[-1], held // (rows.stop * routes.loss.dtype.itemsize)


def _in_float64(routes: SampleRoutes, rows: slice) -> SampleRoutes:
    """The same network with a few samples."""
    twin = copy.copy(routes.loss)
    twin.inputs, twin.targets = routes._samples(rows)
    twin.evaluation = None
    parameters, buffers = (
        {name: value.double() if value.is_floating_point() else value for name, value in named.items()}
        for named in (routes._parameters, routes._buffers)
    )
    return SampleRoutes(twin.converted(torch.float64), parameters, buffers, of_losses=routes.of_losses)


def _compared(routes: SampleRoutes, rows: slice, shape: torch.Size) -> tuple[int, bool]:
    """The first route that finds the gradients which single samples have, and whether these are finite."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(2, rows.stop, *shape, generator=generator, dtype=torch.float64)

    def directions(outputs: Tensor, rows: slice) -> Tensor:
        return some[:, rows].to(outputs)

    slots = tuple(routes.loss.layout)
    truth = _tabulated(routes.chunk(2, rows, slots, directions))
    finite = all(bool(true.isfinite().all()) for true in truth.values())
    for route in (0, 1):
        try:
            found = _tabulated(routes.chunk(route, rows, slots, directions))
        except Exception:  # a rule that meets what it does not know
            continue
        if _agree(found, truth):
            return route, finite
    return 2, finite


def _tabulated(parts: Iterator[Whole] | None) -> dict[str, Tensor]:
    """Gradients ``(b, K, size)`` by parameter."""
    return {slot.name: gradients.values() * scales.T.unsqueeze(2) for slot, gradients, scales in parts or ()}


def _agree(found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> bool:
    """Whether all gradients have the shapes and, but for rounding, the values that they should have."""
    if {name: one.shape for name, one in found.items()} != {name: one.shape for name, one in truth.items()}:
        return False
    everything = math.hypot(*(float(torch.linalg.vector_norm(true)) for true in truth.values()))
    differences = {name: float(torch.linalg.vector_norm(found[name] - true)) for name, true in truth.items()}
    return all(
        differences[name] <= tolerance(true.dtype) * (float(torch.linalg.vector_norm(true)) + 1e-2 * everything)
        for name, true in truth.items()
    )


# -- what routes share -------------------------------------------------------------------------------------------------


def _scaled(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Directions with a largest entry of 1, and what to multiply their gradients by, ``(K, b)``.

    At a minimum most probabilities are next to nothing, and subnormal numbers would slow a backward pass several times.
    What is below the range by a wide margin is zero.
    """
    flat = directions.flatten(2) if directions.ndim > 2 else directions.unsqueeze(2)
    scales = flat.abs().amax(2)
    scales = torch.where(scales < torch.finfo(directions.dtype).tiny * 1e8, 0.0, scales)
    inverse = torch.where(scales > 0, 1 / scales.clamp_min(torch.finfo(directions.dtype).tiny), 0.0)
    return directions * beside(inverse, directions), scales


def _slopes(value: Tensor, leaves: Sequence[Tensor], along: Tensor) -> Sequence[Tensor]:
    """Slopes of ``sum(along * value)``, zeros for what it does not depend on; the graph stays."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(value, leaves, along, retain_graph=True, materialize_grads=True)


def _add_up(
    found: Mapping[str, Tensor], outputs: Tensor, leaves: Mapping[str, Tensor], along: Tensor, *, seed: int
) -> bool:
    """Whether a random combination of gradients ``(b, K, size)`` is the gradient of that combination of outputs.

    Rounding switches rectifiers on and off, otherwise for a sample alone than for many: the tolerance is a wide one.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(along.shape[:2], generator=generator, dtype=torch.float64).to(along)
    truth = _slopes(outputs, list(leaves.values()), (along * beside(weights, along)).sum(0))
    differences, sizes = [], []
    for name, true in zip(leaves, truth, strict=True):
        mine = torch.einsum("kb,bks->s", weights, found[name])
        differences.append(float(torch.linalg.vector_norm(mine - true.reshape(-1))))
        sizes.append(float(torch.linalg.vector_norm(torch.linalg.vector_norm(found[name], dim=2).T * weights)))
    everything = math.hypot(*sizes)
    bound = tolerance(along.dtype) ** 0.5
    # what is not finite is returned as such, whatever it is
    return not math.isfinite(everything) or all(
        difference <= bound * (size + 1e-2 * everything) for difference, size in zip(differences, sizes, strict=True)
    )


def _same(alone: Tensor, together: Tensor) -> bool:
    """Whether outputs of samples alone and together are the same but for rounding."""
    if alone.shape != together.shape:
        return False
    bound = tolerance(together.dtype)
    scale = float(together.abs().nan_to_num(0.0, 0.0, 0.0).max()) if together.numel() else 0.0
    return torch.allclose(alone, together, rtol=bound, atol=bound * scale, equal_nan=True)
