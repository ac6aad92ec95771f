"""A module and a loss per sample as functions of one flat vector of weights, for one chain or many."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from landscape.common.notices import warn
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential, check_device
from landscape.potentials.composite import composite_attention
from landscape.potentials.curvature.plain_mlp import PlainMLP
from landscape.potentials.losses import SampleLoss, named_loss, placed_loss, takes_tensor
from landscape.potentials.network.batch import Inputs, as_tree, unwrapped
from landscape.potentials.network.foreign_module import (
    Call,
    CallingModule,
    arguments,
    converted,
    original_module,
    private_copy,
    read_outputs,
    without_gradients,
)
from landscape.potentials.network.graph_memory import graph_bytes
from landscape.potentials.network.layout import Layout
from landscape.potentials.network.modes import kept_modes, plain_modes
from landscape.potentials.network.norms import apply_policy, check_policy

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
    loss, call, batchnorm, dtype, device
        As of `NetworkLoss`.

    Attributes
    ----------
    module : torch.nn.Module
        The user's, or what it wraps.
    snapshot : torch.nn.Module
        A copy of it, as it was when the loss was made or last refreshed.
    measured : dict
        What was found out by trying, such as the memory that a sample takes, and holds at every position.
    """

    coordinates = None
    placed = True
    layout: Layout
    plain_mlp: PlainMLP | None = None
    loss: SampleLoss
    snapshot: nn.Module
    _interacting = False  # found out by trying, as is all that follows
    _differentiates = False
    _nested = False
    _tensor_outputs = True
    _on_trial = False
    _inputs_written = False
    _written: frozenset[str] = frozenset()

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: str | Mapping[str, Any] | SampleLoss,
        call: Call | None,
        batchnorm: str | None,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        self.module = original_module(module)
        self.call = call
        self.layout = Layout.of(self.module)
        self.dim = self.layout.dim
        self.bounds = {}
        own = next(p for p in self.module.parameters() if p.requires_grad)
        self.dtype, self.device = dtype or own.real.dtype, check_device(device) if device is not None else own.device
        self.batchnorm = check_policy(self.module, batchnorm)
        self._loss_as_given = named_loss(loss)
        self.refresh()
        self._tensor_outputs = takes_tensor(self.loss)

    @plain_modes()
    def refresh(self) -> None:
        """Take the weights and buffers that the user's module has now.

        A loss is a snapshot: of weights, which are where `position` and runs start, and of buffers, which are
        constants of the landscape. Neither follows the module when it is trained on.

        Examples
        --------
        >>> from landscape.potentials import NetworkLoss
        >>> module = nn.Linear(1, 1, bias=False)
        >>> loss = NetworkLoss(module, torch.ones(2, 1), torch.zeros(2, 1), loss="mse")
        >>> nn.init.constant_(module.weight, 3.0).item()
        3.0
        >>> loss.refresh()
        >>> loss.position().tolist()
        [3.0]
        """
        self.snapshot = private_copy(self.module)
        self._private = converted(private_copy(self.snapshot), self.device, self.dtype)
        self._estimator = copy.deepcopy(self._private).eval() if self.batchnorm == "reestimate" else None
        self._batch_module = private_copy(self._private)
        apply_policy(self._private, use_batch_statistics=self.batchnorm == "batch")
        apply_policy(self._batch_module, use_batch_statistics=self.batchnorm in ("batch", "reestimate"))
        for private in (self._private, self._batch_module):
            private.requires_grad_(False)
        self._name_constants()
        self.loss = placed_loss(self._loss_as_given, self.device, self.dtype)
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

    @plain_modes()
    def _recast(self, dtype: torch.dtype) -> None:
        """Turn a shallow copy into the same network in another floating-point type."""
        self.dtype, self.measured = dtype, {}
        self._private = converted(private_copy(self._private), self.device, dtype)
        self._batch_module = converted(private_copy(self._batch_module), self.device, dtype)
        estimator = self._estimator
        self._estimator = None if estimator is None else converted(private_copy(estimator), self.device, dtype)
        self.loss = placed_loss(self._loss_as_given, self.device, dtype)
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
        return self.batchnorm == "batch" or self._interacting

    # -- the module and its vector --------------------------------------------------------------------------------

    @property
    def private_module(self) -> nn.Module:
        """The copy that full-data quantities are computed with, in evaluation mode; its own weights are not used."""
        return self._private

    def coordinate_index(self, name: str | int) -> int:
        """Position of an entry of a parameter in the vector, by a name such as ``"0.weight[1, 2]"``."""
        return self.layout.index(name) if isinstance(name, str) else super().coordinate_index(name)

    def coordinate_indices(self, name: str) -> list[int]:
        """Numbers of all entries of the parameters of that name, or whose names match a pattern such as "0.*"."""
        return self.layout.entries(name)

    def coordinate_name(self, index: int) -> str:
        """Parameter and place, such as ``"0.weight[1, 2]"``."""
        return self.layout.entry(index)

    def position(self) -> Tensor:
        """The module's parameters as a vector ``(dim,)``, as they were when the loss was made (a copy).

        Warns
        -----
        UserWarning
            If the user's module has other weights by now.
        """
        return self.default_start()

    def default_start(self) -> Tensor:
        """As `position`: where runs start."""
        if not torch.equal(self.layout.flatten(self.module), self.layout.flatten(self.snapshot)):
            warn(
                "the module's weights have changed since the loss was made, and the loss still has the former ones: "
                "call loss.refresh() to take those that the module has now"
            )
        return self.snapshot_position()

    def snapshot_position(self) -> Tensor:
        """As `position`, whatever has become of the module since."""
        return self.layout.flatten(self.snapshot).to(self.device, self.dtype)

    def dynamics_module(self) -> nn.Module:
        """A copy of the module as dynamics runs it: dropout off, normalisation as chosen, no frozen weight moving."""
        module = private_copy(self._batch_module)
        parameters = dict(module.named_parameters())
        for slot in self.layout:
            parameters[slot.name].requires_grad_(True)
        return module

    def load(self, position: Any) -> None:
        """Write a vector ``(dim,)`` back into the user's module. The only call that changes it.

        With ``batchnorm="batch"`` or ``"reestimate"`` the statistics that belong to the position are written too.
        """
        vector = self._one(position)
        self._write(self.module, vector)
        self._write(self.snapshot, vector)

    def _write(self, module: nn.Module, vector: Tensor) -> None:
        """Weights of a position, and buffers where they belong to it."""
        self.layout.write(module, vector)
        if self.batchnorm in ("batch", "reestimate"):
            with torch.no_grad():
                own = dict(module.named_buffers())
                for name, value in self.buffers_at(vector).items():
                    if name in own:
                        own[name].copy_(value)

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
        self, parameters: Mapping[str, Tensor], inputs: Inputs, buffers: Mapping[str, Tensor], module: Any = None
    ) -> Any:
        """Outputs of the private module for trainable parameters by name: a tensor.

        Whatever else the module returns comes back only to a loss of the user's own, which may take it apart.
        """
        module = module or self._private
        named = {**self._fixed, **self.layout.as_parameters(parameters)}
        for name, buffer in buffers.items():
            named[name] = buffer.clone() if name in self._written else buffer
        # a module may ask for slopes, or work in place
        own = Tensor.clone if self._on_trial or self._inputs_written else Tensor.detach
        inputs = own(inputs) if isinstance(inputs, Tensor) else inputs.map(own)
        started = [(leaf, leaf._version) for leaf in unwrapped(inputs)[0]] if self._on_trial else []
        positional, by_name = arguments(inputs)
        if self.call is not None:
            module, named = CallingModule(module, self.call), {f"module.{name}": one for name, one in named.items()}
            positional, by_name = (as_tree(inputs),), {}
        before = {name: buffer._version for name, buffer in buffers.items() if not buffer.is_inference()}
        with composite_attention(nested=self._nested), kept_modes():
            outputs = functional_call(module, named, positional, by_name)
        self._inputs_written |= any(leaf._version != version for leaf, version in started)
        self._watch_buffers(buffers, before, named)
        return read_outputs(outputs, as_tensor=self._tensor_outputs)

    def _watch_buffers(
        self, buffers: Mapping[str, Tensor], before: Mapping[str, int], after: Mapping[str, Tensor]
    ) -> None:
        """Refuse a module that writes to its buffers where it did not on trial, or puts others in their place."""
        prefix = "module." if self.call is not None else ""
        for name, version in before.items():
            buffer, found = buffers[name], after[prefix + name]
            if name in self._written or (buffer._version == version and found is buffer):
                continue
            if self._on_trial:  # what is put in the place of a buffer would be there at the next call of a module alone
                if found is not buffer and found.shape == buffer.shape:
                    buffer.copy_(found.detach())
            elif found is buffer or found.shape != buffer.shape or not torch.equal(found, buffer):
                raise ConfigError(
                    f"the module is no function of its weights: for some samples its forward changes the buffer "
                    f"{name!r}; make it a constant, or leave its update out in evaluation mode"
                )

    def run(self, module: nn.Module, inputs: Inputs) -> Any:
        """Outputs of a copy of the module with its own weights, such as a `dynamics_module`."""
        if self.call is not None:
            return read_outputs(self.call(module, as_tree(inputs)), as_tensor=self._tensor_outputs)
        positional, by_name = arguments(inputs)
        return read_outputs(module(*positional, **by_name), as_tensor=self._tensor_outputs)

    @property
    def differentiates(self) -> bool:
        """Whether the module takes derivatives in its forward pass, which has to be run with gradients enabled."""
        return self._differentiates

    def _quiet(self) -> AbstractContextManager[None]:
        """Without a graph, unless the module takes derivatives itself."""
        return without_gradients(needed_inside=self._differentiates)

    def _outputs(self, vector: Tensor, inputs: Inputs, buffers: Mapping[str, Tensor], module: Any = None) -> Any:
        return self.forward(self.layout.unflatten(vector), inputs, buffers, module)

    def losses_at(
        self, vector: Tensor, inputs: Inputs, targets: Tensor, buffers: Mapping[str, Tensor], module: Any = None
    ) -> Tensor:
        """Loss of every sample ``(samples,)`` at a position ``(dim,)``, with its graph."""
        return self.losses_of(self._outputs(vector, inputs, buffers, module), inputs, targets)

    def losses_of(self, outputs: Any, inputs: Inputs, targets: Tensor) -> Tensor:
        """Loss of every sample ``(samples,)`` for given outputs."""
        with kept_modes():
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
        self, position: Tensor, inputs: Inputs, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, for samples ``(1 or chains, batch, ...)``; zeros if there are none."""
        if not inputs.shape[1]:
            return position.new_zeros(len(position)), torch.zeros_like(position)
        try:
            at_once = self._chains_at_once(position, inputs, module)
            return self._in_parts(position, inputs, targets, module, at_once)
        except Exception:  # whatever a module raises that cannot be batched
            if len(position) == 1 or not self._vmaps:
                raise
            self._vmaps = False  # a module that vmap cannot batch goes chain by chain from here on
        return self._in_parts(position, inputs, targets, module, 1)

    def _chains_at_once(self, position: Tensor, inputs: Inputs, module: nn.Module) -> int:
        """How many of the chains to take at once, for samples ``(1 or chains, batch, ...)``."""
        full_data = module is self._private
        if len(position) == 1 or not self._vmaps or (full_data and self.batchnorm == "reestimate"):
            return 1  # re-estimated statistics are every chain's own
        if (NetworkFunction, full_data) not in self.measured:
            leaves, few = self._leaves(position[:2]), inputs[:1, :2].clone()  # of a view, all the data would be counted
            buffers = self._buffers if full_data else self._batch_buffers
            if not self._tensor_outputs:  # several chains' may not fit together
                leaves = {name: leaf[:1] for name, leaf in leaves.items()}
            held = graph_bytes(lambda: self._outputs_of_chains(leaves, few, module, buffers), leaves.values())
            self.measured[NetworkFunction, full_data] = held / (len(next(iter(leaves.values()))) * few.shape[1])
        chain = self.measured[NetworkFunction, full_data] * inputs.shape[1] + self.dim * self.dtype.itemsize
        allowed = CPU_BYTES if self.device.type == "cpu" else GPU_BYTES
        return max(1, min(len(position), int(allowed / chain)))

    def _in_parts(
        self, position: Tensor, inputs: Inputs, targets: Tensor, module: nn.Module, at_once: int
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
        self, position: Tensor, inputs: Inputs, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, from the slope of the sum over chains, whose terms share nothing."""
        if self.plain_mlp is not None and isinstance(inputs, Tensor):
            flat = inputs.flatten(2) if inputs.ndim > 3 else inputs
            return self.plain_mlp.value_and_gradient(position, flat, targets)
        chains = len(position)
        with torch.enable_grad():
            leaves = self._leaves(position)
            buffers = self.statistics_at(position[0]) if module is self._private else self._batch_buffers
            energies = self._losses_of_chains(leaves, inputs, targets, module, buffers).mean(1)
            if not energies.requires_grad:
                return energies, torch.zeros_like(position)
            slopes = torch.autograd.grad(
                energies.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        return energies.detach(), torch.cat([slope.reshape(chains, -1) for slope in slopes], dim=1)

    def _leaves(self, position: Tensor) -> dict[str, Tensor]:
        """A leaf for every parameter of all chains: a slice of one vector would have a gradient of its full length."""
        return {name: leaf.requires_grad_(True) for name, leaf in self.layout.stacked(position.detach()).items()}

    def _losses_of_chains(
        self,
        leaves: dict[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        module: nn.Module,
        buffers: Mapping[str, Tensor],
    ) -> Tensor:
        """Losses ``(chains, batch)`` for samples ``(1 or chains, batch, ...)``."""
        chains = len(next(iter(leaves.values())))
        if not self._tensor_outputs:  # what such a loss takes is not known to have the chains in front
            return self._over_chains(
                lambda own, x, y: self.losses_of(self.forward(own, x, buffers, module), x, y), leaves, inputs, targets
            )
        outputs = self._outputs_of_chains(leaves, inputs, module, buffers).flatten(0, 1)
        wanted = targets.expand(chains, *targets.shape[1:]).flatten(0, 1)
        return self.losses_of(outputs, wanted, wanted).view(chains, inputs.shape[1])

    def _outputs_of_chains(
        self, leaves: dict[str, Tensor], inputs: Inputs, module: nn.Module, buffers: Mapping[str, Tensor]
    ) -> Any:
        """Outputs ``(chains, batch, ...)`` for samples ``(1 or chains, batch, ...)``; of one chain any outputs."""
        if not self._tensor_outputs and len(next(iter(leaves.values()))) == 1:
            return self.forward({name: leaf[0] for name, leaf in leaves.items()}, inputs[0], buffers, module)
        return self._over_chains(lambda own, x: self.forward(own, x, buffers, module), leaves, inputs)

    @staticmethod
    def _over_chains(function: Callable[..., Tensor], leaves: dict[str, Tensor], *samples: Inputs) -> Tensor:
        """What `function` makes of each chain's parameters and samples ``(1 or chains, batch, ...)``, stacked."""
        if len(next(iter(leaves.values()))) == 1:
            return function({name: leaf[0] for name, leaf in leaves.items()}, *(one[0] for one in samples))[None]
        shared = len(samples[0]) == 1
        parts, backs = zip(*(unwrapped(one[0] if shared else one) for one in samples), strict=True)

        def of_one(own: dict[str, Tensor], *tensors: tuple[Tensor, ...]) -> Tensor:
            return function(own, *(back(part) for back, part in zip(backs, tensors, strict=True)))

        found: Tensor = vmap(of_one, (0, *(None if shared else 0 for _ in parts)))(leaves, *parts)
        return found

    def _per_chain(self, function: Callable[[Tensor], Tensor], flat: Tensor, inputs: Inputs) -> Tensor:
        """Values of every chain, of a function of its weights that takes so many samples at once."""
        try:
            at_once = self._chains_at_once(flat, inputs[None], self._private)
            if at_once > 1:
                return vmap(function, chunk_size=at_once)(flat)
        except Exception:  # a module that vmap cannot batch
            self._vmaps = False
        return torch.stack([function(vector) for vector in flat])
