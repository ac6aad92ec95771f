"""A module and a loss per sample as functions of one flat vector of weights, for one chain or many."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from landscape.errors import ShapeError
from landscape.potentials.base import Potential, check_device
from landscape.potentials.composite import composite_attention
from landscape.potentials.graph_memory import graph_bytes
from landscape.potentials.layout import Layout
from landscape.potentials.losses import SampleLoss, named_loss
from landscape.potentials.norms import apply_policy, check_policy
from landscape.potentials.plain_mlp import PlainMLP

__all__ = ["NetworkFunction"]

# what the graphs of chains taken at once may hold: on a processor, more than its caches is slower
CPU_BYTES: Final = 2**25
GPU_BYTES: Final = 2**30


class NetworkFunction(Potential):
    """What a network's loss is made of, apart from the data: the module, its vector of weights, its losses.

    The module itself is never changed: everything is computed with private copies in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
    loss, batchnorm, dtype, device
        As of `NetworkLoss`.

    Attributes
    ----------
    measured : dict
        What was found out by trying, such as the memory that a sample takes, and holds at every position.
    """

    coordinates = None
    plain_mlp: PlainMLP | None = None

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: str | SampleLoss,
        batchnorm: str | None,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        self.module = module
        self.layout = Layout.of(module)
        self.dim = self.layout.dim
        self.bounds = {}
        own = next(p for p in module.parameters() if p.requires_grad)
        self.dtype, self.device = dtype or own.dtype, check_device(device) if device is not None else own.device
        self.batchnorm = check_policy(module, batchnorm)
        self._private = copy.deepcopy(module).to(self.device, self.dtype)
        self._estimator = copy.deepcopy(self._private).eval() if self.batchnorm == "reestimate" else None
        self._batch_module = copy.deepcopy(self._private)
        apply_policy(self._private, use_batch_statistics=self.batchnorm == "batch")
        apply_policy(self._batch_module, use_batch_statistics=self.batchnorm in ("batch", "reestimate"))
        for private in (self._private, self._batch_module):
            private.requires_grad_(False)
        self._name_constants()
        self.loss = named_loss(loss)
        self._vmaps = True
        self.measured: dict[Any, Any] = {}

    def _name_constants(self) -> None:
        """Buffers and frozen parameters of the private modules."""
        self._buffers = {name: buffer.detach() for name, buffer in self._private.named_buffers()}
        self._batch_buffers = {name: buffer.detach() for name, buffer in self._batch_module.named_buffers()}
        moving = {slot.name for slot in self.layout}
        self._fixed = {
            name: parameter.detach() for name, parameter in self._private.named_parameters() if name not in moving
        }

    def _recast(self, dtype: torch.dtype) -> None:
        """Turn a shallow copy into the same network in another floating-point type."""
        self.dtype, self.measured = dtype, {}
        self._private = copy.deepcopy(self._private).to(dtype)
        self._batch_module = copy.deepcopy(self._batch_module).to(dtype)
        self._estimator = None if self._estimator is None else copy.deepcopy(self._estimator).to(dtype)
        self._name_constants()

    @abstractmethod
    def buffers_at(self, position: Any) -> dict[str, Tensor]:
        """Buffers that belong to a position."""

    def statistics_at(self, vector: Tensor) -> Mapping[str, Tensor]:
        """Buffers with which the full-data quantities at a position are computed."""
        return self.buffers_at(vector) if self.batchnorm == "reestimate" else self._buffers

    @property
    def samples_interact(self) -> bool:
        """Whether the outputs of a sample depend on the others that are evaluated with it."""
        return self.batchnorm == "batch"

    # -- the module and its vector --------------------------------------------------------------------------------

    @property
    def private_module(self) -> nn.Module:
        """The copy that full-data quantities are computed with, in evaluation mode; its own weights are not used."""
        return self._private

    def position(self) -> Tensor:
        """The module's own parameters as a vector ``(dim,)`` (a copy)."""
        return self.layout.flatten(self.module).to(self.device, self.dtype)

    def default_start(self) -> Tensor:
        """The module's own parameters."""
        return self.position()

    def dynamics_module(self) -> nn.Module:
        """A copy of the module as dynamics runs it: dropout off, normalisation as chosen, no frozen weight moving."""
        module = copy.deepcopy(self._batch_module)
        parameters = dict(module.named_parameters())
        for slot in self.layout:
            parameters[slot.name].requires_grad_(True)
        return module

    def load(self, position: Any) -> None:
        """Write a vector ``(dim,)`` back into the user's module. The only call that changes it."""
        self.layout.write(self.module, self._one(position))

    def _tensor(self, position: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        tensor, back = super()._tensor(position)
        return tensor.to(self.device, self.dtype), back

    def _one(self, position: Any) -> Tensor:
        vector = self._tensor(position)[0].detach()
        if vector.ndim != 1:
            raise ShapeError(f"expected one position of shape ({self.dim},), got {tuple(vector.shape)}")
        return vector

    # -- one chain, and many ------------------------------------------------------------------------------------------

    def forward(
        self, parameters: Mapping[str, Tensor], inputs: Tensor, buffers: Mapping[str, Tensor], module: Any = None
    ) -> Tensor:
        """Outputs of the private module for trainable parameters by name."""
        with composite_attention():
            outputs: Tensor = functional_call(
                module or self._private, ({**self._fixed, **parameters}, dict(buffers)), (inputs,)
            )
        return outputs

    def _outputs(self, vector: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor], module: Any = None) -> Tensor:
        return self.forward(self.layout.unflatten(vector), inputs, buffers, module)

    def _losses(
        self, vector: Tensor, inputs: Tensor, targets: Tensor, buffers: Mapping[str, Tensor], module: Any = None
    ) -> Tensor:
        return self.losses_of(self._outputs(vector, inputs, buffers, module), inputs, targets)

    def losses_of(self, outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every sample ``(samples,)`` for given outputs."""
        losses = self.loss(outputs, targets)
        if not isinstance(losses, Tensor):
            raise ShapeError(f"the loss returned {type(losses).__name__}; expected a tensor with one value per sample")
        if losses.shape != inputs.shape[:1]:
            raise ShapeError(
                f"the loss returned shape {tuple(losses.shape)} for {len(inputs)} samples; expected one value per "
                "sample, without reduction"
            )
        return losses

    def _mean_and_gradient(
        self, position: Tensor, inputs: Tensor, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, for samples ``(1 or chains, batch, ...)``; zeros if there are none."""
        if not inputs.shape[1]:
            return position.new_zeros(len(position)), torch.zeros_like(position)
        try:
            at_once = self._chains_at_once(position, inputs, module)
            return self._in_parts(position, inputs, targets, module, at_once)
        except RuntimeError:
            if len(position) == 1 or not self._vmaps:
                raise
            self._vmaps = False  # a module that vmap cannot batch goes chain by chain from here on
        return self._in_parts(position, inputs, targets, module, 1)

    def _chains_at_once(self, position: Tensor, inputs: Tensor, module: nn.Module) -> int:
        """How many of the chains to take at once, for samples ``(1 or chains, batch, ...)``."""
        full_data = module is self._private
        if len(position) == 1 or not self._vmaps or (full_data and self.batchnorm == "reestimate"):
            return 1  # re-estimated statistics are every chain's own
        if (NetworkFunction, full_data) not in self.measured:
            leaves, few = self._leaves(position[:2]), inputs[:1, :2].clone()  # of a view, all the data would be counted
            buffers = self._buffers if full_data else self._batch_buffers
            held = graph_bytes(lambda: self._outputs_of_chains(leaves, few, module, buffers), leaves.values())
            self.measured[NetworkFunction, full_data] = held / (2 * few.shape[1])
        chain = self.measured[NetworkFunction, full_data] * inputs.shape[1] + self.dim * self.dtype.itemsize
        allowed = CPU_BYTES if self.device.type == "cpu" else GPU_BYTES
        return max(1, min(len(position), int(allowed / chain)))

    def _in_parts(
        self, position: Tensor, inputs: Tensor, targets: Tensor, module: nn.Module, at_once: int
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, with a graph for every `at_once` of them."""
        if at_once == len(position):
            return self._one_backward_pass(position, inputs, targets, module)
        shared, found = len(inputs) == 1, []
        for start in range(0, len(position), at_once):
            rows = slice(start, start + at_once)
            samples = (inputs, targets) if shared else (inputs[rows], targets[rows])
            found.append(self._one_backward_pass(position[rows], *samples, module))
        energies, gradients = zip(*found, strict=True)
        return torch.cat(energies), torch.cat(gradients)

    def _one_backward_pass(
        self, position: Tensor, inputs: Tensor, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, from the slope of the sum over chains, whose terms share nothing."""
        if self.plain_mlp is not None:
            flat = inputs.flatten(2) if inputs.ndim > 3 else inputs
            return self.plain_mlp.value_and_gradient(position, flat, targets)
        chains, samples = position.shape[0], inputs.shape[1]
        with torch.enable_grad():
            leaves = self._leaves(position)
            buffers = self.statistics_at(position[0]) if module is self._private else self._batch_buffers
            outputs = self._outputs_of_chains(leaves, inputs, module, buffers).flatten(0, 1)
            wanted = targets.expand(chains, *targets.shape[1:]).flatten(0, 1)
            energies = self.losses_of(outputs, wanted, wanted).view(chains, samples).mean(1)
            if not energies.requires_grad:
                return energies, torch.zeros_like(position)
            slopes = torch.autograd.grad(
                energies.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        return energies.detach(), torch.cat([slope.reshape(chains, -1) for slope in slopes], dim=1)

    def _leaves(self, position: Tensor) -> dict[str, Tensor]:
        """A leaf for every parameter of all chains: a slice of one vector would have a gradient of its full length."""
        return {name: leaf.requires_grad_(True) for name, leaf in self.layout.stacked(position.detach()).items()}

    def _outputs_of_chains(
        self, leaves: dict[str, Tensor], inputs: Tensor, module: nn.Module, buffers: Mapping[str, Tensor]
    ) -> Tensor:
        """Outputs ``(chains, batch, ...)`` for samples ``(1 or chains, batch, ...)``."""

        def outputs_of(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return self.forward(parameters, x, buffers, module)

        if len(next(iter(leaves.values()))) == 1:
            return outputs_of({name: leaf[0] for name, leaf in leaves.items()}, inputs[0])[None]
        outputs: Tensor = (
            vmap(outputs_of, (0, None))(leaves, inputs[0]) if len(inputs) == 1 else vmap(outputs_of)(leaves, inputs)
        )
        return outputs

    def _per_chain(self, function: Callable[[Tensor], Tensor], flat: Tensor, inputs: Tensor) -> Tensor:
        """Values of every chain, of a function of its weights that takes so many samples at once."""
        try:
            at_once = self._chains_at_once(flat, inputs[None], self._private)
            if at_once > 1:
                return vmap(function, chunk_size=at_once)(flat)
        except RuntimeError:
            self._vmaps = False
        return torch.stack([function(vector) for vector in flat])
