"""The loss of a neural network as an energy landscape over its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from landscape import random
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential, check_device
from landscape.potentials.batches import BatchKeys, BatchSampler, Sampling
from landscape.potentials.composite import composite_attention
from landscape.potentials.fingerprint import loss_name, module_recipe
from landscape.potentials.layout import Layout
from landscape.potentials.losses import SampleLoss, cross_entropy, named_loss
from landscape.potentials.mlp_hessian import mlp_hessian
from landscape.potentials.network_data import check_count, check_dtype, check_settings, fitting_data
from landscape.potentials.norms import apply_policy, check_policy, reestimated_statistics
from landscape.potentials.plain_mlp import recognise
from landscape.potentials.products import HessianProducts
from landscape.potentials.samples import Samples, gather_samples

__all__ = ["NetworkLoss"]


class NetworkLoss(Potential):
    """Mean loss over a data set as a function of all trainable weights of a module.

    V(theta) = (1/n) sum_i loss(f_theta(x_i), y_i) + (w/2) |theta|^2

    A position is one flat vector of the trainable parameters (tied weights once). `energy`, `gradient`, `hvp` and
    `hessian` always use all data; dynamics uses minibatches where `batch_size` is given. The module itself is never
    changed: the landscape works on a private copy in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : tensor, array, torch Dataset, DataLoader, or a `datasets.Data`
    targets : tensor or array, optional
        Integer labels ``(n,)`` for cross-entropy, values ``(n, outputs)`` for the squared error. Left out where
        `inputs` carries them.
    loss : {"cross_entropy", "mse"} or callable
        A callable takes (outputs, targets) to a loss per sample ``(n,)``.
    batch_size : int, optional
        Minibatch of the dynamics; None means full batch.
    sampling : {"epoch", "replacement"}
        How minibatches are drawn, see `batches.BatchSampler`.
    shared_batches : bool
        Whether all chains see the same minibatches.
    augment : callable, optional
        ``augment(inputs, words)``: applied to minibatches, with four random 32-bit words per sample.
    weight_decay : float
        The constant w above.
    batchnorm : {"batch", "frozen", "reestimate"}, optional
        Has to be chosen if the module keeps running statistics: those of the batch, the module's own as constants, or
        recomputed at every evaluated position (evaluation only; dynamics then uses those of the batch).
    dropout : {"off"}
        Dropout layers are inactive.
    evaluation : tuple (inputs, targets), optional
        Held-out data for `accuracy` and `evaluation_energy`.
    chunk_size : int, optional
        Samples evaluated at once; bounds the memory of full-data quantities.
    dtype, device
        Of weights and data; the module's own unless given.

    Raises
    ------
    ConfigError, ShapeError
        For settings that contradict each other, and data that do not fit the module.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise.

    Examples
    --------
    >>> module = nn.Linear(1, 1, bias=False)
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(module, x, 2 * x, loss="mse")  # V(w) = mean(x^2) (w - 2)^2 = 5 (w - 2)^2
    >>> loss.energy([3.0]), loss.gradient([3.0]), loss.hessian([3.0])
    (array(5., dtype=float32), array([10.], dtype=float32), array([[10.]], dtype=float32))
    """

    coordinates = None

    def __init__(
        self,
        module: nn.Module,
        inputs: Any,
        targets: Any = None,
        *,
        loss: str | SampleLoss = "cross_entropy",
        batch_size: int | None = None,
        sampling: Sampling = "epoch",
        shared_batches: bool = False,
        augment: Callable[[Tensor, Tensor], Tensor] | None = None,
        weight_decay: float = 0.0,
        batchnorm: Literal["batch", "frozen", "reestimate"] | None = None,
        dropout: Literal["off"] = "off",
        evaluation: Any = None,
        chunk_size: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_settings(
            module=module, dropout=dropout, weight_decay=weight_decay, augment=augment, sampling=sampling, dtype=dtype
        )
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
        self._buffers = {name: buffer.detach() for name, buffer in self._private.named_buffers()}
        self._batch_buffers = {name: buffer.detach() for name, buffer in self._batch_module.named_buffers()}
        self._fixed = {
            name: parameter.detach()
            for name, parameter in self._private.named_parameters()
            if name not in {slot.name for slot in self.layout}
        }
        self.loss = named_loss(loss)
        self.weight_decay = float(weight_decay)
        data = gather_samples(inputs, targets, evaluation)
        self.data_spec = data.spec
        self.chunk_size = check_count("chunk_size", chunk_size)
        start = self.position()
        data = fitting_data(
            data, lambda x: self._outputs(start, x, self._buffers), self.loss, dtype=self.dtype, device=self.device
        )
        self.inputs, self.targets, self.evaluation = data.inputs, data.targets, data.evaluation
        self.augment = augment
        self.shared_batches = shared_batches
        self.sampler = None
        if batch_size is not None:
            size = check_count("batch_size", batch_size)
            whole = size == self.samples and sampling == "epoch" and augment is None
            self.sampler = None if whole else BatchSampler(self.samples, size or 0, sampling)
        self._check_smallest_batch()
        self.plain_mlp = recognise(module, self.layout, self.loss, self.inputs)
        self._vmaps = True

    # -- the module and its vector --------------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """Size of the data set."""
        return len(self.inputs)

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

    def module_at(self, position: Any) -> nn.Module:
        """A copy of the user's module with the weights of `position` ``(dim,)``, in the user's mode."""
        vector = self._one(position)
        module = copy.deepcopy(self.module)
        self.layout.write(module, vector)
        if self.batchnorm in ("batch", "reestimate"):
            with torch.no_grad():
                own = dict(module.named_buffers())
                for name, value in self.buffers_at(vector).items():
                    own[name].copy_(value)
        return module

    def buffers_at(self, position: Any) -> dict[str, Tensor]:
        """Buffers that belong to a position: batch-normalisation statistics re-estimated over the data."""
        if self.batchnorm not in ("batch", "reestimate"):
            return dict(self._buffers)
        estimator = self._estimator or copy.deepcopy(self.module).to(self.device, self.dtype).eval()
        parameters = self._fixed | self.layout.unflatten(self._one(position))
        with torch.no_grad():
            return reestimated_statistics(estimator, parameters, lambda: (x for x, _ in self._pieces()))

    def full_batch(self) -> NetworkLoss:
        """The same landscape whose dynamics uses all data at every step."""
        twin = copy.copy(self)
        twin.sampler, twin.augment = None, None
        return twin

    def converted(self, dtype: torch.dtype | None) -> NetworkLoss:
        """The same landscape computed in another floating-point type; itself where the type is its own or None."""
        check_dtype(dtype)
        if dtype is None or dtype == self.dtype:
            return self
        twin = copy.copy(self)
        twin.dtype = dtype
        twin._private = copy.deepcopy(self._private).to(dtype)
        twin._batch_module = copy.deepcopy(self._batch_module).to(dtype)
        twin._estimator = None if self._estimator is None else copy.deepcopy(self._estimator).to(dtype)
        twin._buffers = {name: buffer.detach() for name, buffer in twin._private.named_buffers()}
        fixed = dict(twin._private.named_parameters())
        twin._fixed = {name: fixed[name].detach() for name in self._fixed}
        own = Samples(self.inputs, self.targets, self.evaluation)
        placed = own.to(dtype)
        twin.inputs, twin.targets, twin.evaluation = placed.inputs, placed.targets, placed.evaluation
        return twin

    # -- full-data quantities -------------------------------------------------------------------------------------

    def sample_energies(self, position: Any) -> Any:
        """Loss of every sample (without weight decay), shape ``(..., samples)``."""

        def losses(at: Tensor) -> Tensor:
            flat = at.reshape(-1, self.dim)
            with torch.no_grad():
                return self._per_chain(self._losses_of_one, flat).reshape(*at.shape[:-1], self.samples)

        return self._apply(losses, position)

    def sample_gradients(self, position: Any) -> Any:
        """Gradient of every sample's loss (without weight decay), shape ``(..., samples, dim)``.

        Memory is that of the result; a network with batch statistics has no per-sample gradients.
        """
        if self.batchnorm == "batch":
            raise ConfigError('with batchnorm="batch" the samples interact: there are no per-sample gradients')

        def one_sample(vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return self._losses(vector, x.unsqueeze(0), y.unsqueeze(0), self.statistics_at(vector)).sum()

        def gradients(at: Tensor) -> Tensor:
            flat = at.reshape(-1, self.dim)
            rows = [
                torch.cat([vmap(torch.func.grad(one_sample), (None, 0, 0))(row, x, y) for x, y in self._chunks()])
                for row in flat
            ]
            return torch.stack(rows).reshape(*at.shape[:-1], self.samples, self.dim)

        return self._apply(gradients, position)

    def accuracy(self, position: Any, *, held_out: bool | None = None) -> Any:
        """Fraction of correct labels, shape ``(...)``: on held-out data where there are some, else on the data."""
        if self.loss is not cross_entropy:
            raise ConfigError("accuracy needs labels and the cross-entropy loss")
        data = self._held_out() if (self.evaluation is not None if held_out is None else held_out) else None

        def fraction(at: Tensor) -> Tensor:
            def one(vector: Tensor) -> Tensor:
                buffers = self.statistics_at(vector)
                right = [
                    (self._outputs(vector, x, buffers).argmax(1) == y).float().mean() * len(y)
                    for x, y in self._chunks(data)
                ]
                return torch.stack(right).sum() / (self.samples if data is None else len(data.inputs))

            with torch.no_grad():
                return self._per_chain(one, at.reshape(-1, self.dim)).reshape(at.shape[:-1])

        return self._apply(fraction, position)

    def evaluation_energy(self, position: Any) -> Any:
        """Mean loss on the held-out data, shape ``(...)``, without weight decay."""
        data = self._held_out()

        def energy(at: Tensor) -> Tensor:
            def one(vector: Tensor) -> Tensor:
                buffers = self.statistics_at(vector)
                parts = [self._losses(vector, x, y, buffers).sum() for x, y in self._chunks(data)]
                return torch.stack(parts).sum() / len(data.inputs)

            with torch.no_grad():
                return self._per_chain(one, at.reshape(-1, self.dim)).reshape(at.shape[:-1])

        return self._apply(energy, position)

    def _energy(self, position: Tensor) -> Tensor:
        flat = position.reshape(-1, self.dim)
        mean = self._per_chain(lambda vector: self._losses_of_one(vector).mean(), flat)
        return (mean + self._decay(flat)).reshape(position.shape[:-1])

    def _gradient(self, position: Tensor) -> Tensor:
        flat = position.detach().reshape(-1, self.dim)
        gradient = torch.zeros_like(flat)
        for x, y in self._chunks():
            gradient += self._mean_and_gradient(flat, x[None], y[None], self._private)[1] * (len(x) / self.samples)
        return (gradient + self.weight_decay * flat).reshape(position.shape)

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        rows = position.detach().reshape(-1, self.dim)
        along = vector.reshape(-1, self.dim)
        products = [HessianProducts(self, row)(v[None])[0] for row, v in zip(rows, along, strict=True)]
        return torch.stack(products).reshape(position.shape)

    def _hessian(self, position: Tensor) -> Tensor:
        rows = [self._hessian_of_one(row) for row in position.detach().reshape(-1, self.dim)]
        return torch.stack(rows).reshape(*position.shape, self.dim)

    def _hessian_of_one(self, vector: Tensor) -> Tensor:
        if self.plain_mlp is None:
            return HessianProducts(self, vector).matrix().T
        hessian = mlp_hessian(self.plain_mlp, vector, self.inputs.flatten(1), self.targets)
        hessian.diagonal().add_(self.weight_decay)
        return hessian

    # -- minibatches ----------------------------------------------------------------------------------------------

    def batch_keys(self, chains: int, seed: int, data_seeds: tuple[int, ...] | None = None) -> BatchKeys:
        """What the chains' minibatches are derived from; explicit data seeds are equal for siblings."""
        if data_seeds is not None:
            return BatchKeys(data_seeds, (0,) * chains)
        streams = (0,) * chains if self.shared_batches else tuple(range(chains))
        return BatchKeys((seed,) * chains, streams)

    def batch_energy(self, position: Any, *, step: int, keys: BatchKeys) -> Tensor:
        """Energy of ``(chains, dim)`` positions on the minibatches of a step."""
        return self.batch_energy_and_gradient(self._apply(_unchanged, position), step=step, keys=keys)[0]

    def batches(self, *, step: int, keys: BatchKeys) -> list[tuple[Tensor, Tensor]]:
        """Inputs and targets ``(1 or chains, samples, ...)`` of a step: its minibatches, or all data in chunks."""
        if self.sampler is None:
            return [(x[None], y[None]) for x, y in self._chunks()]
        indices = self.sampler.indices(keys, step, self.device)
        x = self.inputs[indices]
        if self.augment is not None:
            x = self._augmented(x, indices, keys, step)
        return [(x, self.targets[indices])]

    def batch_energy_and_gradient(self, position: Tensor, *, step: int, keys: BatchKeys) -> tuple[Tensor, Tensor]:
        """Energy and gradient of ``(chains, dim)`` positions on the minibatches of a step (all data without any)."""
        return self.energy_and_gradient_on(self.batches(step=step, keys=keys), position)

    def energy_and_gradient_on(
        self, batches: Sequence[tuple[Tensor, Tensor]], position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Energy and gradient of ``(chains, dim)`` positions on all samples of the batches, each as from `batches`."""
        position = position.detach()
        if len(batches) == 1:
            energy, gradient = self._mean_and_gradient(position, *batches[0], self._batch_module)
        else:
            energy, gradient = position.new_zeros(len(position)), torch.zeros_like(position)
            total = sum(x.shape[1] for x, _ in batches)
            for x, y in batches:
                part = self._mean_and_gradient(position, x, y, self._batch_module)
                energy += part[0] * (x.shape[1] / total)
                gradient += part[1] * (x.shape[1] / total)
        if self.weight_decay:
            energy, gradient = energy + self._decay(position), gradient + self.weight_decay * position
        return energy, gradient

    def step_gradient(self, position: Tensor, *, step: int, keys: Any = None) -> Tensor:
        """Gradient on the minibatches of a step."""
        return self.batch_energy_and_gradient(position, step=step, keys=keys)[1]

    def _augmented(self, inputs: Tensor, indices: Tensor, keys: BatchKeys, step: int) -> Tensor:
        at = torch.full((), step, dtype=torch.int64, device=self.device)
        rows = [
            self.augment(x, random.random_words(seed, random.AUGMENTATION, at.new_tensor(stream), at, i))  # type: ignore[misc]
            for x, i, seed, stream in zip(inputs, indices, keys.seeds, keys.streams, strict=False)
        ]
        return torch.stack(rows)

    # -- one chain, and many --------------------------------------------------------------------------------------

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

    def _losses_of_one(self, vector: Tensor) -> Tensor:
        buffers = self.statistics_at(vector)
        return torch.cat([self._losses(vector, x, y, buffers) for x, y in self._chunks()])

    def statistics_at(self, vector: Tensor) -> Mapping[str, Tensor]:
        """Buffers with which the full-data quantities at a position are computed."""
        return self.buffers_at(vector) if self.batchnorm == "reestimate" else self._buffers

    def _mean_and_gradient(
        self, position: Tensor, inputs: Tensor, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, for samples ``(1 or chains, batch, ...)``."""
        if self.plain_mlp is not None:
            if inputs.ndim > 3:
                inputs = inputs.flatten(2)
            return self.plain_mlp.value_and_gradient(position, inputs, targets)

        separate = module is self._private and self.batchnorm == "reestimate"  # statistics of its own for every chain
        if self._vmaps and not separate:
            try:
                return self._one_backward_pass(position, inputs, targets, module)
            except RuntimeError:
                if len(position) == 1:
                    raise
                self._vmaps = False  # a module that vmap cannot batch goes chain by chain from here on
        rows = [
            self._one_backward_pass(vector[None], inputs[[i % len(inputs)]], targets[[i % len(inputs)]], module)
            for i, vector in enumerate(position)
        ]
        return torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])

    def _one_backward_pass(
        self, position: Tensor, inputs: Tensor, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, from the slope of the sum over chains, whose terms share nothing."""
        with torch.enable_grad():
            # a leaf for every parameter: as slices of one vector each would have a gradient of its full length
            leaves = {name: leaf.requires_grad_(True) for name, leaf in self.layout.stacked(position.detach()).items()}
            buffers = self.statistics_at(position[0]) if module is self._private else self._batch_buffers

            def outputs_of(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
                return self.forward(parameters, x, buffers, module)

            chains, samples = position.shape[0], inputs.shape[1]
            if chains == 1:
                outputs = outputs_of({name: leaf[0] for name, leaf in leaves.items()}, inputs[0])
            elif inputs.shape[0] == 1:
                outputs = vmap(outputs_of, (0, None))(leaves, inputs[0]).flatten(0, 1)
            else:
                outputs = vmap(outputs_of)(leaves, inputs).flatten(0, 1)
            wanted = targets.expand(chains, *targets.shape[1:]).flatten(0, 1)
            energies = self.losses_of(outputs, wanted, wanted).view(chains, samples).mean(1)
            if not energies.requires_grad:
                return energies, torch.zeros_like(position)
            slopes = torch.autograd.grad(
                energies.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        return energies.detach(), torch.cat([slope.reshape(chains, -1) for slope in slopes], dim=1)

    def _per_chain(self, function: Callable[[Tensor], Tensor], flat: Tensor) -> Tensor:
        if len(flat) > 1 and self._vmaps and self.batchnorm != "reestimate":
            try:
                return vmap(function, chunk_size=64)(flat)
            except RuntimeError:
                self._vmaps = False
        return torch.stack([function(vector) for vector in flat])

    def _chunks(self, data: Samples | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = (self.inputs, self.targets) if data is None else (data.inputs, data.targets)
        if self.batchnorm == "batch":  # the statistics are those of all data at once
            return iter([(inputs, targets)])
        return self._pieces(Samples(inputs, targets))

    def _pieces(self, data: Samples | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = (self.inputs, self.targets) if data is None else (data.inputs, data.targets)
        size = self.chunk_size or len(inputs)
        return zip(inputs.split(size), targets.split(size), strict=True)

    def _decay(self, flat: Tensor) -> Tensor:
        return 0.5 * self.weight_decay * flat.square().sum(-1)

    # -- checks ---------------------------------------------------------------------------------------------------

    def _tensor(self, position: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        tensor, back = super()._tensor(position)
        return tensor.to(self.device, self.dtype), back

    def _one(self, position: Any) -> Tensor:
        vector = self._tensor(position)[0].detach()
        if vector.ndim != 1:
            raise ShapeError(f"expected one position of shape ({self.dim},), got {tuple(vector.shape)}")
        return vector

    def _held_out(self) -> Samples:
        if self.evaluation is None:
            raise ConfigError("no held-out data: give NetworkLoss(..., evaluation=(inputs, targets))")
        return self.evaluation

    def _check_smallest_batch(self) -> None:
        """One sample has no variance: better said before a run than in the middle of it."""
        if self.sampler is None or self.batchnorm not in ("batch", "reestimate"):
            return
        size = self.sampler.batch_size
        last = self.samples % size if self.sampler.sampling == "epoch" else 0
        smallest = last or size
        try:
            with torch.no_grad():
                self._outputs(self.position(), self.inputs[:smallest], self._batch_buffers, self._batch_module)
        except ValueError as error:
            raise ConfigError(
                f"batch_size={size} leaves a batch of {smallest} of the {self.samples} samples, too small for batch "
                f"statistics ({error}): choose another batch_size"
            ) from error

    def spec(self) -> dict[str, Any]:
        """Settings, with module and data named by recipe where they have one and by fingerprint where not."""
        spec: dict[str, Any] = {
            "kind": "NetworkLoss",
            "module": module_recipe(self.module),
            "data": self.data_spec,
            "loss": loss_name(self.loss),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        if self.sampler is not None:
            spec |= {
                "batch_size": self.sampler.batch_size,
                "sampling": self.sampler.sampling,
                "shared_batches": self.shared_batches,
            }
        if self.augment is not None:
            spec["augment"] = repr(self.augment)
        if self.weight_decay:
            spec["weight_decay"] = self.weight_decay
        if self.batchnorm is not None:
            spec["batchnorm"] = self.batchnorm
        return spec


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor
