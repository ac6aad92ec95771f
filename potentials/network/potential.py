"""The loss of a neural network as an energy landscape over its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from landscape import random
from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import name_of, plain
from landscape.errors import ConfigError
from landscape.potentials.composite import Composite
from landscape.potentials.curvature.mlp_hessian import mlp_hessian
from landscape.potentials.curvature.mlp_products import mlp_product
from landscape.potentials.curvature.plain_mlp import recognise
from landscape.potentials.curvature.products import HessianProducts, Product
from landscape.potentials.curvature.single_gradients import single_gradients
from landscape.potentials.losses import CrossEntropy, SampleLoss
from landscape.potentials.network.batch import Inputs, as_tree, batch_of, unwrapped
from landscape.potentials.network.batches import BatchKeys, BatchSampler, Sampling
from landscape.potentials.network.data import check_dtype, check_settings, checked_call, fitting_data
from landscape.potentials.network.fingerprint import common_facts, loss_name, module_recipe
from landscape.potentials.network.foreign_module import converted, private_copy
from landscape.potentials.network.function import NetworkFunction
from landscape.potentials.network.modes import out_of_inference, plain_modes
from landscape.potentials.network.module_trials import check_derivative, check_function, samples_interact, undisturbed
from landscape.potentials.network.norms import check_gathered, reestimated_statistics
from landscape.potentials.network.samples import Samples, gather_samples
from landscape.potentials.network.sharding import Shards

__all__ = ["NetworkLoss"]

_SMALL: Final = 20_000  # weights up to which positions are batched
_TRIED: Final = 32  # samples that a module is tried on

Batch: TypeAlias = tuple[Any, Any]  # of inputs and targets, each a tensor or, over several ranks, a list over chains


@guarded_class
class NetworkLoss(NetworkFunction):
    """Mean loss over a data set as a function of all trainable weights of a module.

    V(theta) = (1/n) sum_i loss(f_theta(x_i), y_i) + (w/2) |theta|^2

    A position is one flat vector of the trainable parameters (tied weights once). `energy`, `gradient`, `hvp` and
    `hessian` always use all data; dynamics uses minibatches where `batch_size` is given. The module itself is never
    changed: the landscape works on a private copy in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Compiled and parallel ones are unwrapped. Complex parameters are pairs of real coordinates.
    inputs : tensor, array, tuple or dict of them, torch Dataset, DataLoader, or a `datasets.Data`
        Samples in front. Of a tuple the module gets several arguments, of a dict arguments by name. The items of a
        Dataset are tuples whose last is the target, or dicts whose ``labels`` or ``targets`` are; a DataLoader gives
        the samples of one pass over it. Whole numbers and truth values are never cast where the module takes them.
    targets : tensor or array, optional
        Integer labels ``(n,)`` for cross-entropy, values ``(n, outputs)`` for the squared error. Left out where
        `inputs` carries them.
    loss : {"cross_entropy", "mse", "binary_cross_entropy", "nll", "huber"}, a table, a `losses.NamedLoss` or callable
        A callable takes (outputs, targets) to a loss per sample ``(n,)``; a module of torch, with
        ``reduction="none"``, moves with `dtype` and `device`. Named losses take the tensor that the module returns, or
        what it calls ``logits``; a callable of your own takes whatever the module returns.
    call : callable, optional
        ``call(module, inputs)`` runs the module, if not ``module(inputs)``, ``module(*inputs)`` or
        ``module(**inputs)``.
    batch_size : int, optional
        Minibatch of the dynamics; None means full batch.
    sampling : {"epoch", "independent", "replacement"}
        How minibatches are drawn, see `batches.BatchSampler`.
    shared_batches : bool
        Whether all chains see the same minibatches.
    augment : callable, optional
        ``augment(inputs, words)``: applied to minibatches, with four random 32-bit words per sample.
    weight_decay : float
        The constant w above.
    batchnorm : {"batch", "frozen", "reestimate"}, optional
        Has to be chosen if the module keeps running statistics: those of the batch, the module's own as constants, or
        recomputed at every evaluated position (evaluation only; dynamics then uses those of the batch). A layer
        without running statistics always takes those of the batch.
    dropout : {"off"}
        Dropout layers are inactive.
    evaluation : tuple (inputs, targets), optional
        Held-out data for `accuracy` and `evaluation_energy`.
    chunk_size : int, optional
        Samples evaluated at once; bounds the memory of full-data quantities. Chains need no such bound: of many, as
        many at once are taken as graphs of 32 MiB hold (1 GiB on a GPU), found out from a graph of two samples.
    dtype, device
        Of weights and data; the module's own unless given.
    process_group : torch.distributed.ProcessGroup or "world", optional
        The data are those of all ranks, `inputs`, `targets` and `evaluation` this rank's part of them. Energies,
        derivatives and products are the same numbers on every rank, which has to make the same calls; minibatches are
        drawn from all samples, and each rank evaluates those that it holds.

    Raises
    ------
    ConfigError, ShapeError
        For settings that contradict each other, data that do not fit the module, ranks that do not fit together, and
        a module that is no function of its weights: two evaluations at one position are compared.

    Notes
    -----
    A loss is a snapshot of the module's weights and buffers at construction; `refresh` takes the present ones. Forward
    hooks act on the private copies too, since they may be part of the function, and are called at every evaluation;
    backward hooks are dropped. Samples whose outputs depend on the others are found by trying, and then all are
    evaluated at once, as with ``batchnorm="batch"``.

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

    @plain_modes()
    def __init__(
        self,
        module: nn.Module,
        inputs: Any,
        targets: Any = None,
        *,
        loss: str | Mapping[str, Any] | SampleLoss = "cross_entropy",
        call: Callable[[nn.Module, Any], Any] | None = None,
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
        process_group: Any = None,
    ) -> None:
        check_settings(
            dropout=dropout, weight_decay=weight_decay, augment=augment, call=call, sampling=sampling, dtype=dtype
        )
        super().__init__(module, loss=loss, call=call, batchnorm=batchnorm, dtype=dtype, device=device)
        self.weight_decay = float(weight_decay)
        self.augment = augment
        self.shared_batches = shared_batches
        self.chunk_size = None if chunk_size is None else whole_number("chunk_size", chunk_size)
        size = None if batch_size is None else whole_number("batch_size", batch_size)
        data = gather_samples(inputs, targets, evaluation)
        self.shards, self.data_spec = Shards((len(data.inputs),)), data.spec
        if process_group is not None:
            check_gathered(self.batchnorm)
            facts = common_facts(self, data) | {
                "batch_size": size,
                "sampling": sampling,
                "shared_batches": shared_batches,
                "augment": None if augment is None else loss_name(augment),
                "weight_decay": self.weight_decay,
            }
            self.shards, self.data_spec = Shards.joined(process_group, self.samples, facts, data.spec, self.device)
        self._on_trial = True
        with undisturbed():
            data = fitting_data(data, self._tried, self.loss, dtype=self.dtype, device=self.device)
            self.inputs, self.targets, self.evaluation = data.inputs, data.targets, data.evaluation
            self._try()
        self._on_trial = False
        self.sampler = None
        if size is not None:
            whole = size == self.samples and sampling != "replacement" and augment is None
            self.sampler = None if whole else BatchSampler(self.samples, size, sampling)
        self._check_smallest_batch()
        self.plain_mlp = None if call else recognise(self.snapshot, self.layout, self.loss, self.inputs)

    # -- the module on trial ------------------------------------------------------------------------------------------

    def _tried(self, inputs: Inputs) -> Any:
        """Outputs at the module's own weights, found with a graph if that is the only way."""
        seen = Composite()
        try:
            with self._quiet(), seen:
                outputs = self._outputs(self.snapshot_position(), inputs, self._buffers)
            self._nested = self._nested or seen.differentiated
        except RuntimeError:
            self._nested = self._nested or seen.differentiated
            if self._differentiates:
                raise
            self._differentiates = True  # derivatives inside forward need one
            try:
                return self._tried(inputs)
            except Exception:
                self._differentiates = False
                raise
        self._tensor_outputs = isinstance(outputs, Tensor)
        return outputs

    def _try(self) -> None:
        """See that the module is a function of its weights, and whether its samples keep to themselves."""
        start, own = self.snapshot_position(), len(self.inputs)
        spread = torch.linspace(0, own - 1, min(own, _TRIED), device=self.device).round().long()  # the last is one

        def losses(rows: Tensor) -> Tensor:
            with self._quiet():
                return self.losses_at(start, self.inputs[rows], self.targets[rows], self._buffers).detach()

        kept = {name: buffer.clone() for name, buffer in self._buffers.items()}
        with checked_call(self.inputs):
            parameters = self.layout.unflatten(start)
            with self._quiet():
                self.forward(parameters, self.inputs[spread], self._buffers)
        self._check_weights_stay(parameters)
        for name, buffer in self._buffers.items():
            buffer.copy_(kept[name])
        self._written = frozenset(check_function(lambda: losses(spread), self._buffers))
        self._interacting = self.batchnorm is None and samples_interact(losses, spread)
        check_derivative(
            lambda own: self.losses_of(
                self.forward(own, self.inputs[spread], self._buffers), self.inputs[spread], self.targets[spread]
            ),
            self.layout.unflatten(start),
        )

    def _check_weights_stay(self, called_with: Mapping[str, Tensor]) -> None:
        """Refuse a module that changes its own weights when it is called, such as an embedding with `max_norm`."""
        parameters = self.layout.unflatten(self.snapshot_position())
        for name, found in called_with.items():
            if not torch.allclose(found, parameters[name], rtol=0, atol=0, equal_nan=True):
                raise ConfigError(
                    f"the module changes its own weight {name!r} when it is called, so its energy is no function of "
                    "the weights: leave that out (an embedding: max_norm=None)"
                )

    # -- the landscape in other forms -----------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """Size of the data set, on all ranks together."""
        return self.shards.samples

    @property
    def ranks(self) -> int:
        """Number of processes that hold the data together."""
        return len(self.shards.sizes)

    def dynamics_module(self) -> nn.Module:
        """A copy of the module as dynamics runs it: dropout off, normalisation as chosen, no frozen weight moving.

        Raises
        ------
        ConfigError
            Over several ranks: what runs the module itself sees the samples of its rank only.
        """
        if self.ranks > 1:
            raise ConfigError(
                "over the ranks of a process group gradients are sums, which an optimizer that runs the module itself "
                'does not see: use one that takes gradients, Optimizer(..., of="parameters")'
            )
        return super().dynamics_module()

    def module_at(self, position: Any) -> nn.Module:
        """A copy of the user's module with the weights of `position` ``(dim,)``, in the user's mode."""
        vector = self._one(position)
        module = private_copy(self.snapshot)
        self._write(module, vector)
        return module

    def buffers_at(self, position: Any) -> dict[str, Tensor]:
        """Buffers that belong to a position: batch-normalisation statistics re-estimated over the data."""
        if self.batchnorm not in ("batch", "reestimate"):
            return dict(self._buffers)
        estimator = self._estimator or converted(private_copy(self.snapshot), self.device, self.dtype).eval()
        parameters = self.layout.unflatten(self._one(position))

        def run(buffers: Mapping[str, Tensor]) -> None:
            for x, _ in self._pieces():
                self.forward(parameters, x, buffers, estimator)

        with self._quiet():
            return reestimated_statistics(estimator, run)

    def statistics(self, position: Any) -> dict[str, Tensor]:
        """Those of batch normalisation, unless they are constants."""
        return self.buffers_at(position) if self.batchnorm in ("batch", "reestimate") else {}

    @property
    def observables(self) -> tuple[str, ...]:
        """Of minibatches, of single samples, of held-out data where there are some."""
        own = ("batch_energy", "batch_gradient", "sample_energies", "accuracy")
        return own if self.evaluation is None else (*own, "evaluation_energy")

    @property
    def one_at_a_time(self) -> bool:
        """Whether it is large, and no plain perceptron."""
        return self.plain_mlp is None and self.dim > _SMALL

    @property
    def recorded(self) -> tuple[str, ...]:
        """The energy: positions are large."""
        return ("energy",)

    def parts(self, vector: Tensor) -> list[Tensor]:
        """The parameters."""
        return list(self.layout.unflatten(vector).values())

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
        twin._recast(dtype)
        placed = Samples(self.inputs, self.targets, self.evaluation).to(self.device, dtype)
        twin.inputs, twin.targets, twin.evaluation = placed.inputs, placed.targets, placed.evaluation
        return twin

    # -- full-data quantities -------------------------------------------------------------------------------------

    def sample_energies(self, position: Any) -> Any:
        """Loss of every sample (without weight decay), shape ``(..., samples)``; of all ranks in their order."""

        def losses(at: Tensor) -> Tensor:
            with self._quiet():
                own = self._per_chain(self._losses_of_one, at.reshape(-1, self.dim), next(self._chunks())[0])
            return self.shards.gathered(own, dim=1).reshape(*at.shape[:-1], self.samples)

        return self._apply(losses, position)

    def sample_gradients(self, position: Any) -> Any:
        """Gradient of every sample's loss (without weight decay), shape ``(..., samples, dim)``.

        Memory is that of the result, twice, on every rank; a network with batch statistics has no per-sample gradients.
        """
        if self.samples_interact:
            raise ConfigError(
                'the samples interact (batchnorm="batch", or the module mixes them): there are no per-sample gradients'
            )

        def gradients(at: Tensor) -> Tensor:
            flat = at.reshape(-1, self.dim)
            rows = [torch.cat([single_gradients(self, row, x, y) for x, y in self._chunks()]) for row in flat]
            gathered = self.shards.gathered(torch.stack(rows), dim=1)
            return gathered.reshape(*at.shape[:-1], self.samples, self.dim)

        return self._apply(gradients, position)

    def accuracy(self, position: Any, *, held_out: bool | None = None) -> Any:
        """Fraction of correct labels, shape ``(...)``: on held-out data where there are some, else on the data."""
        if not isinstance(self.loss, CrossEntropy):
            raise ConfigError("accuracy needs labels and the cross-entropy loss")
        data = self._held_out() if (self.evaluation is not None if held_out is None else held_out) else None

        measure = self.loss.hits

        def right(outputs: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
            return measure(outputs, targets).sum()

        return self._mean_over(data, right, position)

    def evaluation_energy(self, position: Any) -> Any:
        """Mean loss on the held-out data, shape ``(...)``, without weight decay."""
        return self._mean_over(self._held_out(), lambda *given: self.losses_of(*given).sum(), position)

    def _mean_over(self, data: Samples | None, total: Callable[[Any, Inputs, Tensor], Tensor], position: Any) -> Any:
        """Mean over samples of what ``total(outputs, inputs, targets)`` is the sum of."""
        count = len(self.inputs if data is None else data.inputs)

        def one(vector: Tensor) -> Tensor:
            buffers = self.statistics_at(vector)
            totals = [total(self._outputs(vector, x, buffers), x, y) for x, y in self._chunks(data)]
            return torch.stack(totals).sum() / count

        def mean(at: Tensor) -> Tensor:
            with self._quiet():
                own = self._per_chain(one, at.reshape(-1, self.dim), next(self._chunks(data))[0])
                (found,) = self.shards.mean(count, own)
            return found.reshape(at.shape[:-1])

        return self._apply(mean, position)

    loops = "network"

    def compiled_form(self) -> NetworkLoss | str:
        """Itself, where the module is a plain MLP whose minibatches are taken as they are."""
        if self.plain_mlp is None:
            return "the module is not a plain MLP (Linear layers with biases and one of ReLU or tanh between them)"
        if self.ranks > 1:
            return "it does not sum over the ranks of a process group"
        return self if self.augment is None else "it does not augment minibatches"

    def _energy(self, position: Tensor) -> Tensor:
        if self.ranks > 1:  # a graph would be that of one rank's part
            position = position.detach()
        flat = position.reshape(-1, self.dim)
        self.shards.check_same("positions", flat)
        own = self._per_chain(lambda vector: self._losses_of_one(vector).mean(), flat, next(self._chunks())[0])
        if not position.requires_grad:  # a module that takes derivatives itself leaves a graph
            own = own.detach()
        (mean,) = self.shards.mean(len(self.inputs), own)
        return (mean + self._decay(flat)).reshape(position.shape[:-1])

    def _gradient(self, position: Tensor) -> Tensor:
        flat = position.detach().reshape(-1, self.dim)
        self.shards.check_same("positions", flat)
        own = torch.zeros_like(flat)
        for x, y in self._chunks():
            own += self._mean_and_gradient(flat, x[None], y[None], self._private)[1] * (len(x) / len(self.inputs))
        (gradient,) = self.shards.mean(len(self.inputs), own)
        return (gradient + self.weight_decay * flat).reshape(position.shape)

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        along = vector.reshape(-1, self.dim)
        if not any(position.stride()[:-1]):  # one position for all vectors
            return HessianProducts(self, position.detach().reshape(-1, self.dim)[0])(along).reshape(position.shape)
        rows = position.detach().reshape(-1, self.dim)
        products = [HessianProducts(self, row)(v[None])[0] for row, v in zip(rows, along, strict=True)]
        return torch.stack(products).reshape(position.shape)

    def _hessian(self, position: Tensor) -> Tensor:
        rows = [self._hessian_of_one(row) for row in position.detach().reshape(-1, self.dim)]
        return torch.stack(rows).reshape(*position.shape, self.dim)

    def _hessian_of_one(self, vector: Tensor) -> Tensor:
        if self.plain_mlp is None:
            return HessianProducts(self, vector).matrix().T
        self.shards.check_same("positions", vector)
        inputs: Any = self.inputs
        own = mlp_hessian(self.plain_mlp, vector, inputs.flatten(1), self.targets)
        (hessian,) = self.shards.mean(len(self.inputs), own)
        hessian.diagonal().add_(self.weight_decay)
        return hessian

    def hessian_product(self, position: Tensor, inputs: Tensor, targets: Tensor) -> Product | None:
        """Products with the Hessian of the mean loss over some samples, where they are written out.

        A subclass for an architecture of its own overrides it, and all that needs products is as fast as they are.

        Parameters
        ----------
        position : tensor, shape ``(dim,)``
        inputs, targets : tensors, samples first

        Returns
        -------
        callable or None
            From vectors ``(k, dim)`` to new tensors ``(k, dim)``; None has them differentiated.

        Examples
        --------
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> line = NetworkLoss(nn.Sequential(nn.Linear(1, 1)), x, x, loss="mse")  # V(w, b) = mean (w x + b - x)^2
        >>> line.hessian_product(torch.zeros(2), x, x)(torch.eye(2)).tolist()
        [[10.0, 4.0], [4.0, 2.0]]
        """
        return None if self.plain_mlp is None else mlp_product(self.plain_mlp, position, inputs.flatten(1), targets)

    # -- minibatches ----------------------------------------------------------------------------------------------

    def batch_keys(self, chains: int, seed: int, data_seeds: tuple[int, ...] | None = None) -> BatchKeys:
        """What the chains' minibatches are derived from; explicit data seeds are equal for children of one training."""
        if data_seeds is not None:
            return BatchKeys(data_seeds, (0,) * chains)
        streams = (0,) * chains if self.shared_batches else tuple(range(chains))
        return BatchKeys((seed,) * chains, streams)

    def batch_energy(self, position: Any, *, step: int, keys: BatchKeys) -> Tensor:
        """Energy of ``(chains, dim)`` positions on the minibatches of a step."""
        return self.batch_energy_and_gradient(self._apply(_unchanged, position), step=step, keys=keys)[0]

    def batches(self, *, step: int, keys: BatchKeys) -> list[Batch]:
        """Inputs and targets of a step: its minibatches, or all data in chunks.

        Each is ``(1 or chains, samples, ...)``; of a minibatch over several ranks it is a list over chains, of whose
        samples this rank may hold different numbers, or none.
        """
        if self.sampler is None:
            return [(x[None], y[None]) for x, y in self._chunks()]
        indices = self.sampler.indices(keys, step, self.device)
        if self.ranks == 1:
            x = self.inputs[indices]
            if self.augment is not None:
                x = _stacked(self._augmented(x, indices, keys, step))
            return [(x, self.targets[indices])]
        rows = self.shards.members(indices)
        xs, ys = [self.inputs[row] for row in rows], [self.targets[row] for row in rows]
        if self.augment is not None:
            xs = self._augmented(xs, [row + self.shards.own.start for row in rows], keys, step)
        return [(xs, ys) if len(rows) > 1 else (xs[0][None], ys[0][None])]

    def batch_energy_and_gradient(self, position: Tensor, *, step: int, keys: BatchKeys) -> tuple[Tensor, Tensor]:
        """Energy and gradient of ``(chains, dim)`` positions on the minibatches of a step (all data without any)."""
        return self.energy_and_gradient_on(self.batches(step=step, keys=keys), position)

    @plain_modes()
    def energy_and_gradient_on(self, batches: Sequence[Batch], position: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and gradient of ``(chains, dim)`` positions on all samples of the batches, each as from `batches`."""
        position = out_of_inference(position).detach()
        count: int | Tensor
        if isinstance(batches[0][0], list):
            found = [
                self._mean_and_gradient(at[None], x[None], y[None], self._batch_module)
                for at, x, y in zip(position, *batches[0], strict=True)
            ]
            energy, gradient = (torch.cat(part) for part in zip(*found, strict=True))
            count = position.new_tensor([len(x) for x in batches[0][0]])
        elif len(batches) == 1:
            energy, gradient = self._mean_and_gradient(position, *batches[0], self._batch_module)
            count = batches[0][0].shape[1]
        else:
            energy, gradient = position.new_zeros(len(position)), torch.zeros_like(position)
            count = sum(x.shape[1] for x, _ in batches)
            for x, y in batches:
                part = self._mean_and_gradient(position, x, y, self._batch_module)
                energy += part[0] * (x.shape[1] / count)
                gradient += part[1] * (x.shape[1] / count)
        energy, gradient = self.shards.mean(count, energy, gradient)
        if self.weight_decay:
            energy, gradient = energy + self._decay(position), gradient + self.weight_decay * position
        return energy, gradient

    def step_gradient(self, position: Tensor, *, step: int, keys: Any = None) -> Tensor:
        """Gradient on the minibatches of a step."""
        return self.batch_energy_and_gradient(position, step=step, keys=keys)[1]

    def _augmented(self, inputs: Any, indices: Any, keys: BatchKeys, step: int) -> list[Inputs]:
        at = torch.full((), step, dtype=torch.int64, device=self.device)
        augment: Any = self.augment

        def changed(x: Inputs, words: Tensor) -> Inputs:
            found = augment(as_tree(x), words)
            return found if isinstance(found, Tensor) else batch_of(found)

        return [
            changed(x, random.random_words(seed, random.AUGMENTATION, at.new_tensor(stream), at, i)) if len(x) else x
            for x, i, seed, stream in zip(inputs, indices, keys.seeds, keys.streams, strict=False)
        ]

    # -- samples and chunks of them ------------------------------------------------------------------------------------

    def _losses_of_one(self, vector: Tensor) -> Tensor:
        buffers = self.statistics_at(vector)
        return torch.cat([self.losses_at(vector, x, y, buffers) for x, y in self._chunks()])

    def _chunks(self, data: Samples | None = None) -> Iterator[tuple[Inputs, Tensor]]:
        inputs, targets = (self.inputs, self.targets) if data is None else (data.inputs, data.targets)
        if self.samples_interact:
            return iter([(inputs, targets)])
        return self._pieces(Samples(inputs, targets))

    def _pieces(self, data: Samples | None = None) -> Iterator[tuple[Inputs, Tensor]]:
        inputs, targets = (self.inputs, self.targets) if data is None else (data.inputs, data.targets)
        size = self.chunk_size or len(inputs)
        return zip(inputs.split(size), targets.split(size), strict=True)

    def _decay(self, flat: Tensor) -> Tensor:
        return 0.5 * self.weight_decay * flat.square().sum(-1)

    # -- checks ---------------------------------------------------------------------------------------------------

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
                self._outputs(self.snapshot_position(), self.inputs[:smallest], self._batch_buffers, self._batch_module)
        except ValueError as error:
            raise ConfigError(
                f"batch_size={size} leaves a batch of {smallest} of the {self.samples} samples, too small for batch "
                f"statistics ({error}): choose another batch_size"
            ) from error

    def spec(self) -> dict[str, Any]:
        """Settings, with module and data named by recipe where they have one and by fingerprint where not."""
        spec: dict[str, Any] = {
            "kind": "NetworkLoss",
            "module": module_recipe(self.snapshot),
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
        if self.evaluation is not None and self.evaluation.spec != self.data_spec and self.shards.reference is None:
            spec["evaluation"] = self.evaluation.spec
        if self.call is not None:
            spec["call"] = {"kind": "python", "name": name_of(self.call)}
        if self.augment is not None:
            spec["augment"] = plain(self.augment)
        if self.weight_decay:
            spec["weight_decay"] = self.weight_decay
        if self.batchnorm is not None:
            spec["batchnorm"] = self.batchnorm
        if self.shards.reference is not None:
            spec["process_group"] = {"ranks": self.ranks}
        return spec


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _stacked(parts: Sequence[Inputs]) -> Inputs:
    """Samples of several chains as one ``(chains, batch, ...)``."""
    leaves, back = zip(*(unwrapped(part) for part in parts), strict=True)
    samples: Inputs = back[0](tuple(torch.stack(own) for own in zip(*leaves, strict=True)))
    return samples
