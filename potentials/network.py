"""The loss of a neural network as an energy landscape over its weights."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from landscape import random
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import architectures
from landscape.potentials.base import Potential, check_device
from landscape.potentials.batches import BatchKeys, BatchSampler, Sampling
from landscape.potentials.layout import Layout
from landscape.potentials.losses import SampleLoss, check_targets, cross_entropy, named_loss
from landscape.potentials.norms import apply_policy, check_policy, reestimated_statistics
from landscape.potentials.plain_mlp import recognise
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
        if not isinstance(module, nn.Module):
            raise ConfigError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        if dropout != "off":
            raise ConfigError(f'dropout must be "off", got {dropout!r}: a random energy is no landscape')
        if isinstance(weight_decay, bool) or not isinstance(weight_decay, int | float) or not 0 <= weight_decay < inf:
            raise ConfigError(f"weight_decay must be a finite number of 0 or more, got {weight_decay!r}")
        if augment is not None and not callable(augment):
            raise ConfigError(f"augment must be a callable (inputs, words) -> inputs, got {augment!r}")
        if sampling not in ("epoch", "replacement"):
            raise ConfigError(f'sampling must be "epoch" or "replacement", got {sampling!r}')
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ConfigError(f"dtype must be a floating-point type of torch, such as torch.float64, got {dtype!r}")
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
        self._fixed = {
            name: parameter.detach()
            for name, parameter in self._private.named_parameters()
            if name not in {slot.name for slot in self.layout}
        }
        self.loss = named_loss(loss)
        self.weight_decay = float(weight_decay)
        data = gather_samples(inputs, targets, evaluation)
        self.data_spec = data.spec
        self._place(data, self.dtype)
        self.chunk_size = _check_count("chunk_size", chunk_size)
        self.augment = augment
        self.shared_batches = shared_batches
        self.sampler = None
        if batch_size is not None:
            size = _check_count("batch_size", batch_size)
            whole = size == self.samples and sampling == "epoch" and augment is None
            self.sampler = None if whole else BatchSampler(self.samples, size or 0, sampling)
        try:
            outputs = self._try_module(self.inputs)
        except ShapeError:
            if data.inputs.is_floating_point():
                raise
            self._place(data, None)  # whole numbers may be indices, as of an embedding
            outputs = self._try_module(self.inputs)
        check_targets(outputs, self.targets, self.loss)
        if self.evaluation is not None:
            check_targets(self._try_module(self.evaluation.inputs), self.evaluation.targets, self.loss)
        self._check_smallest_batch()
        self.plain_mlp = recognise(module, self.layout, self.loss, self.inputs)
        self._vmaps = True

    def _place(self, data: Samples, dtype: torch.dtype | None) -> None:
        """Data on the device, inputs in a floating type unless `dtype` is None, labels as int64."""

        def moved(samples: Samples) -> Samples:
            kind = self.dtype if samples.targets.is_floating_point() else torch.int64
            targets = samples.targets if samples.targets.dtype == torch.bool else samples.targets.to(kind)
            inputs = samples.inputs.to(self.device) if dtype is None else samples.inputs.to(self.device, dtype)
            return Samples(inputs, targets.to(self.device))

        own = moved(data)
        self.inputs, self.targets = own.inputs, own.targets
        self.evaluation = None if data.evaluation is None else moved(data.evaluation)

    # -- the module and its vector --------------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """Size of the data set."""
        return len(self.inputs)

    def position(self) -> Tensor:
        """The module's own parameters as a vector ``(dim,)`` (a copy)."""
        return self.layout.flatten(self.module).to(self.device, self.dtype)

    def default_start(self) -> Tensor:
        """The module's own parameters."""
        return self.position()

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
            return self._losses(vector, x.unsqueeze(0), y.unsqueeze(0), self._evaluation_buffers(vector)).sum()

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
                buffers = self._evaluation_buffers(vector)
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
                buffers = self._evaluation_buffers(vector)
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

    def batch_energy_and_gradient(self, position: Tensor, *, step: int, keys: BatchKeys) -> tuple[Tensor, Tensor]:
        """Energy and gradient of ``(chains, dim)`` positions on the minibatches of a step (all data without any)."""
        position = position.detach()
        if self.sampler is None:
            energy = torch.zeros(len(position), dtype=self.dtype, device=self.device)
            gradient = torch.zeros_like(position)
            for x, y in self._chunks():
                part = self._mean_and_gradient(position, x[None], y[None], self._batch_module)
                energy += part[0] * (len(x) / self.samples)
                gradient += part[1] * (len(x) / self.samples)
        else:
            indices = self.sampler.indices(keys, step, self.device)
            x, y = self.inputs[indices], self.targets[indices]
            if self.augment is not None:
                x = self._augmented(x, indices, keys, step)
            energy, gradient = self._mean_and_gradient(position, x, y, self._batch_module)
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

    def _outputs(self, vector: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor], module: Any = None) -> Tensor:
        state = (self._fixed | self.layout.unflatten(vector), dict(buffers))
        with composite_attention():
            outputs: Tensor = functional_call(module or self._private, state, (inputs,))
        return outputs

    def _losses(
        self, vector: Tensor, inputs: Tensor, targets: Tensor, buffers: Mapping[str, Tensor], module: Any = None
    ) -> Tensor:
        losses = self.loss(self._outputs(vector, inputs, buffers, module), targets)
        if not isinstance(losses, Tensor):
            raise ShapeError(f"the loss returned {type(losses).__name__}; expected a tensor with one value per sample")
        if losses.shape != inputs.shape[:1]:
            raise ShapeError(
                f"the loss returned shape {tuple(losses.shape)} for {len(inputs)} samples; expected one value per "
                "sample, without reduction"
            )
        return losses

    def _losses_of_one(self, vector: Tensor) -> Tensor:
        buffers = self._evaluation_buffers(vector)
        return torch.cat([self._losses(vector, x, y, buffers) for x, y in self._chunks()])

    def _evaluation_buffers(self, vector: Tensor) -> Mapping[str, Tensor]:
        return self.buffers_at(vector) if self.batchnorm == "reestimate" else self._buffers

    def _mean_and_gradient(
        self, position: Tensor, inputs: Tensor, targets: Tensor, module: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and gradient per chain, for samples ``(1 or chains, batch, ...)``."""
        if self.plain_mlp is not None:
            if inputs.ndim > 3:
                inputs = inputs.flatten(2)
            return self.plain_mlp.value_and_gradient(position, inputs, targets)

        def mean(vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
            buffers = self._evaluation_buffers(vector) if module is self._private else self._dynamics_buffers()
            return self._losses(vector, x, y, buffers, module).mean()

        both = grad_and_value(mean)
        if len(position) > 1 and self._vmaps and not (module is self._private and self.batchnorm == "reestimate"):
            if len(inputs) == 1:
                arguments = (position, inputs[0], targets[0])
                dims: tuple[int | None, ...] = (0, None, None)
            else:
                arguments, dims = (position, inputs, targets), (0, 0, 0)
            try:
                gradient, energy = vmap(both, dims)(*arguments)
                return energy, gradient
            except RuntimeError:
                self._vmaps = False  # a module that vmap cannot batch goes chain by chain from here on
        rows = [both(vector, inputs[i % len(inputs)], targets[i % len(inputs)]) for i, vector in enumerate(position)]
        return torch.stack([row[1] for row in rows]), torch.stack([row[0] for row in rows])

    def _dynamics_buffers(self) -> Mapping[str, Tensor]:
        return {name: buffer for name, buffer in self._batch_module.named_buffers() if buffer is not None}

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

    def _try_module(self, inputs: Tensor) -> Tensor:
        try:
            with torch.no_grad():
                return self._outputs(self.position(), inputs[:2], self._buffers)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ShapeError(
                f"the module cannot take inputs of shape {tuple(inputs.shape)} ({len(inputs)} samples): {error}"
            ) from error

    def _check_smallest_batch(self) -> None:
        """One sample has no variance: better said before a run than in the middle of it."""
        if self.sampler is None or self.batchnorm not in ("batch", "reestimate"):
            return
        size = self.sampler.batch_size
        last = self.samples % size if self.sampler.sampling == "epoch" else 0
        smallest = last or size
        try:
            with torch.no_grad():
                self._outputs(self.position(), self.inputs[:smallest], self._dynamics_buffers(), self._batch_module)
        except ValueError as error:
            raise ConfigError(
                f"batch_size={size} leaves a batch of {smallest} of the {self.samples} samples, too small for batch "
                f"statistics ({error}): choose another batch_size"
            ) from error

    def spec(self) -> dict[str, Any]:
        """Settings, with module and data named by recipe where they have one and by fingerprint where not."""
        spec: dict[str, Any] = {
            "kind": "NetworkLoss",
            "module": _recipe(self.module),
            "data": self.data_spec,
            "loss": next((k for k in ("cross_entropy", "mse") if named_loss(k) is self.loss), _name(self.loss)),
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


@contextmanager
def composite_attention() -> Iterator[None]:
    """Attention as plain products: its fused forms lack second derivatives, or cannot be batched over chains."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check_count(name: str, value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name} must be a positive integer or None, got {value!r}")
    return value


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _recipe(module: nn.Module) -> dict[str, Any]:
    """How to make the module again, if it still is as it was made; else its fingerprint."""
    fingerprint = _fingerprint(module)
    recipe = getattr(module, "architecture", None)
    if isinstance(recipe, Mapping) and "kind" in recipe:
        fresh = architectures.from_spec(recipe)
        if _fingerprint(fresh)["sha256"] == fingerprint["sha256"]:
            return dict(recipe)
    return fingerprint


def _fingerprint(module: nn.Module) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return {"kind": "python", "name": _name(type(module)), "sha256": digest.hexdigest()}


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor
