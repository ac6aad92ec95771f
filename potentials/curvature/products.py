"""Products of vectors with second-order matrices of a network's loss, summed over chunks of the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.curvature.missing_derivatives import agree, custom_functions, derivatives_named, refuse
from landscape.potentials.curvature.mlp_products import mlp_product_bytes
from landscape.potentials.curvature.plain_mlp import PlainMLP
from landscape.potentials.curvature.twice_differentiable import TwiceDifferentiable
from landscape.potentials.network.batch import Inputs
from landscape.potentials.network.graph_memory import graph_bytes
from landscape.potentials.network.parts import columns, flat, parts
from landscape.potentials.network.sampled_loss import SampledLoss

__all__ = ["GaussNewtonProducts", "HessianProducts", "LossFisherProducts", "Product", "Sandwich", "data_chunks"]

Product = Callable[[Tensor], Tensor]

GRAPH_BYTES: Final = 2**29  # what the graph of one chunk may hold
KEPT_BYTES: Final = 2**30  # what graphs kept for later products may hold together
BATCH_BYTES: Final = 2**26  # what several vectors at once may hold
_FEW: Final = 4  # samples that operations are tried on


def data_chunks(loss: SampledLoss, size: int) -> Iterator[tuple[Inputs, Tensor, slice]]:
    """Inputs, targets and place of every chunk of this rank's data; the last may be shorter."""
    for start in range(0, len(loss.inputs), size):
        rows = slice(start, min(start + size, len(loss.inputs)))
        yield loss.inputs[rows], loss.targets[rows], rows


def check_chunks(loss: SampledLoss, size: int | None) -> None:
    """Refuse chunks of a landscape whose samples interact.

    Raises
    ------
    ConfigError
    """
    if loss.samples_interact and size is not None and size < loss.samples:
        raise ConfigError(
            f'with batchnorm="batch" the statistics are those of all {loss.samples} samples at once, so chunks of '
            f"{size} would be another landscape: leave chunk_size out, or make the loss with "
            'batchnorm="frozen" or "reestimate"'
        )


class _Products(ABC):
    """Products with a matrix that is a mean over samples, at one position.

    The graph of a chunk serves all vectors that are multiplied at once. As many graphs as 1 GiB holds are kept and
    serve later vectors too, so that a product costs one backward pass; the others are made anew for each product.

    Parameters
    ----------
    loss : SampledLoss
        A `NetworkLoss`.
    position : tensor, shape ``(dim,)``
    block : slice, optional
        Part of the vector of weights that the matrix is restricted to: whole parameters.
    chunk_size : int, optional
        Samples at once; by default the loss's own, else as many as a graph of 512 MiB holds.

    Attributes
    ----------
    size : int
        Order of the matrix.
    gradients : int
        Gradients over all data spent so far on graphs; products are counted by the caller.
    """

    def __init__(
        self, loss: SampledLoss, position: Tensor, block: slice | None = None, chunk_size: int | None = None
    ) -> None:
        chunk_size = loss.chunk_size if chunk_size is None and not loss.samples_interact else chunk_size
        check_chunks(loss, chunk_size)
        loss.shards.check_same("positions", position)
        self.loss = loss
        self.block = slice(0, loss.dim) if block is None else block
        self.size = self.block.stop - self.block.start
        self._parameters = {name: value.detach() for name, value in loss.layout.unflatten(position.detach()).items()}
        inside = [slot for slot in loss.layout if self.block.start <= slot.offset < self.block.stop]
        self._leaves = [self._parameters[slot.name].requires_grad_(True) for slot in inside]
        self._buffers = loss.statistics_at(position)
        self._kept: dict[int, Product] = {}
        if self._kind() not in loss.measured:
            with self._named():
                loss.measured[self._kind()] = self._measured()
        self._format, self._sample_bytes = loss.measured[self._kind()]
        own = len(loss.inputs)
        whole = own if loss.samples_interact else max(1, GRAPH_BYTES // self._sample_bytes)
        self.chunk_size = min(int(chunk_size or whole), own)

    @abstractmethod
    def _product(self, inputs: Inputs, targets: Tensor, rows: slice) -> Product:
        """What takes vectors ``(k, size)`` to products with a chunk's share of the matrix."""

    def _regular(self, vectors: Tensor) -> Tensor | None:
        """What weight decay adds to the products."""
        return self.loss.weight_decay * vectors if self.loss.weight_decay else None

    def __call__(self, vectors: Tensor) -> Tensor:
        """Products with the rows of ``(k, size)``, of the same shape."""
        self.loss.shards.check_same("vectors", vectors)
        total: Tensor | None = None
        own = vectors.shape[1] * vectors.element_size()
        at_once = max(1, BATCH_BYTES // (self._sample_bytes * self.chunk_size + own))
        with self._named(), torch.enable_grad():
            for inputs, targets, rows in data_chunks(self.loss, self.chunk_size):
                product = self._kept.get(rows.start) or self._product(inputs, targets, rows)
                found = [product(part).detach() for part in vectors.split(at_once)]
                added = found[0] if len(found) == 1 else torch.cat(found)
                total = added if total is None else total.add_(added)
                if rows.stop * self._sample_bytes <= KEPT_BYTES or self.chunk_size == len(self.loss.inputs):
                    self._kept[rows.start] = product
        total = self.loss.shards.sum(torch.zeros_like(vectors) if total is None else total)
        regular = self._regular(vectors)
        return total if regular is None else total.add_(regular)

    def matrix(self) -> Tensor:
        """The matrix itself, ``(size, size)``: row i is the product with the i-th axis."""
        return self(torch.eye(self.size, dtype=self.loss.dtype, device=self.loss.device))

    def _run(self, inputs: Inputs, then: Callable[[Any, Inputs], Tensor]) -> Tensor:
        """A function of the network's outputs and its inputs, made of what can be differentiated twice."""
        inputs = inputs.contiguous(memory_format=self._format)
        nested = self.loss.measured.get(TwiceDifferentiable, False)
        mode = TwiceDifferentiable(nested=nested)
        try:
            with mode:
                found = then(self.loss.forward(self._parameters, inputs, self._buffers), inputs)
        except RuntimeError:
            if nested or not mode.differentiated:
                raise
        else:
            if nested or not mode.differentiated:
                return found
        self.loss.measured[TwiceDifferentiable] = True  # derivatives of derivatives: once more, with what they need
        return self._run(inputs, then)

    def _outputs(self, inputs: Inputs) -> Tensor:
        """The outputs, if they are what a matrix of second derivatives of the loss can be taken of.

        Raises
        ------
        ConfigError
        """
        return self._run(inputs, lambda outputs, given: _one_tensor(outputs))

    def _losses(self, inputs: Inputs, targets: Tensor) -> Tensor:
        return self._run(inputs, lambda outputs, given: self.loss.losses_of(outputs, given, targets))

    def _look_at(self, slopes: Sequence[Tensor | None]) -> None:
        """Find users' functions in what is differentiated once more; once for a network."""
        if custom_functions not in self.loss.measured:
            self.loss.measured[custom_functions] = custom_functions(slopes)

    def _whereabouts(self) -> tuple[Any, Callable[[], object]]:
        """The module, and what runs it on a few samples."""

        def forward() -> object:
            rows = slice(0, None if self.loss.samples_interact else _FEW)
            with torch.enable_grad():
                return self._run(self.loss.inputs[rows], lambda outputs, given: torch.zeros(()))

        return getattr(self.loss, "private_module", None), forward

    def _named(self) -> AbstractContextManager[None]:
        """Operations without a second derivative are named."""
        return derivatives_named(*self._whereabouts())

    def _kind(self) -> tuple[Any, ...]:
        """What the size of a graph depends on, for a given network."""
        return type(self), self.block.start, self.block.stop

    def _measured(self) -> tuple[torch.memory_format, int]:
        """Order in which images are fastest, and bytes that a sample adds to the graph of a product."""
        self._format = fast_format(self.loss)
        if self.loss.samples_interact:
            return self._format, max(1, self._graph_bytes(len(self.loss.inputs)) // len(self.loss.inputs))
        few, more = (min(count, len(self.loss.inputs)) for count in (2, 4))
        try:
            least = self._graph_bytes(few)
        except RuntimeError:
            # a module that views its images as rows needs them in the usual order
            if self._format == torch.contiguous_format:
                raise
            self._format = torch.contiguous_format
            least = self._graph_bytes(few)
        # what is there once for all samples, of the size of the weights, is in both
        added = (self._graph_bytes(more) - least) // (more - few) if more > few else least // max(few, 1)
        return self._format, max(1, added)

    def _graph_bytes(self, count: int) -> int:
        """Bytes that the graph of a product for so many samples holds, apart from the weights."""
        rows = slice(0, count)
        return graph_bytes(lambda: self._product(self.loss.inputs[rows], self.loss.targets[rows], rows), self._leaves)


def _one_tensor(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    raise ConfigError(
        f"the Gauss-Newton matrix needs outputs that are one tensor, and the network returns {type(outputs).__name__}: "
        "take the tensor out with call=, such as call=lambda module, batch: module(batch).logits"
    )


def fast_format(loss: SampledLoss) -> torch.memory_format:
    """Images with their channels last, where the processor's convolutions are faster so."""
    images = loss.inputs.ndim == 4 and loss.dtype == torch.float32 and loss.device.type == "cpu"
    return torch.channels_last if images else torch.contiguous_format


class HessianProducts(_Products):
    """H v for the Hessian of a network's loss, weight decay included.

    Reverse mode over reverse mode without function transforms, which is exact through fused normalisation layers too.
    Through custom functions (`torch.autograd.Function`) it is as right as their backward is differentiable: once for a
    network that has any, a product for a few samples is compared with the central difference of the gradient.

    Raises
    ------
    ConfigError
        If they differ, or torch has no second derivative of an operation; the operation and its module are named.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, x, loss="mse")  # V = mean(x^2) (w - 1)^2
    >>> HessianProducts(loss, torch.zeros(1))(torch.tensor([[1.0], [0.5]])).tolist()
    [[10.0], [5.0]]
    """

    def __init__(self, loss: SampledLoss, position: Tensor, *where: Any, **more: Any) -> None:
        super().__init__(loss, position, *where, **more)
        self._check_custom_functions(position)

    def _product(self, inputs: Inputs, targets: Tensor, rows: slice) -> Product:
        written = self._written_out(inputs, targets)
        if written is not None:
            return written
        mean = self._losses(inputs, targets).sum() / self.loss.samples
        leaves = self._leaves
        if not mean.requires_grad:
            return torch.zeros_like
        slopes = torch.autograd.grad(mean, leaves, create_graph=True, allow_unused=True)
        self._look_at(slopes)
        return lambda vectors: flat(leaves, columns(slopes, leaves, parts(leaves, vectors)), len(vectors))

    @property
    def _plain(self) -> PlainMLP | None:
        """The plain perceptron that the network is, where the matrix is of all its weights."""
        whole = self.size == self.loss.dim and isinstance(self.loss.inputs, Tensor) and len(self.loss.inputs) > 0
        found: PlainMLP | None = getattr(self.loss, "plain_mlp", None) if whole else None
        return found

    def _written_out(self, inputs: Inputs, targets: Tensor) -> Product | None:
        """The products that the loss has without differentiation, where the matrix is of all its weights."""
        if self.size != self.loss.dim or not isinstance(inputs, Tensor) or not len(inputs):
            return None
        position = torch.cat([leaf.detach().reshape(-1) for leaf in self._leaves])
        product = self.loss.hessian_product(position, inputs, targets)
        share = len(inputs) / self.loss.samples
        return product if product is None or share == 1.0 else lambda vectors: product(vectors).mul_(share)

    def _measured(self) -> tuple[torch.memory_format, int]:
        if self._plain is not None:
            return torch.contiguous_format, mlp_product_bytes(self._plain, self.loss.dtype)
        return super()._measured()

    def _check_custom_functions(self, position: Tensor) -> None:
        """Compare a product for a few samples with the central difference of the gradient.

        Raises
        ------
        ConfigError
        """
        names = self.loss.measured.get(custom_functions)
        if not names:
            return
        if self.loss.dtype != torch.float64:
            twin: Any = self.loss
            HessianProducts(twin.converted(torch.float64), position.to(torch.float64), self.block)
        else:
            rows = slice(0, None if self.loss.samples_interact else _FEW)
            inputs, targets = self.loss.inputs[rows], self.loss.targets[rows]

            def gradient(vector: Tensor) -> Tensor:
                at = position.detach().clone()
                at[self.block] = vector
                at.requires_grad_(True)
                total = self.loss.losses_at(at, inputs, targets, self._buffers).sum() / self.loss.samples
                return torch.autograd.grad(total, at)[0][self.block]

            with torch.enable_grad():
                product = self._product(inputs, targets, rows)
                right = agree(gradient, lambda vector: product(vector[None])[0], position.detach()[self.block])
            if not right:
                what = " and ".join(sorted(f"the custom autograd.Function {one.__name__}" for one in names))
                refuse(
                    f"second derivatives of {what} are not those of its values, since its backward is not itself "
                    "differentiable",
                    *self._whereabouts(),
                    lambda node: getattr(node, "_forward_cls", None) in names,
                )
        self.loss.measured[custom_functions] = ()


class Sandwich(_Products):
    """J^T M J v, with J the Jacobian of what `_inner` returns and M what `_middle` applies."""

    @abstractmethod
    def _inner(self, inputs: Inputs, targets: Tensor, rows: slice) -> Tensor:
        """Function of the weights whose Jacobian is taken."""

    @abstractmethod
    def _middle(self, inner: Tensor, inputs: Inputs, targets: Tensor) -> Product:
        """What takes J v ``(k, ...)`` to M J v, with the mean over all samples."""

    def _product(self, inputs: Inputs, targets: Tensor, rows: slice) -> Product:
        inner = self._inner(inputs, targets, rows)
        if not inner.requires_grad:
            return torch.zeros_like
        # J v is the derivative of J^T u, which is linear in u, along v
        dummy = torch.zeros_like(inner, requires_grad=True)
        leaves = self._leaves
        slopes = torch.autograd.grad(inner, leaves, dummy, create_graph=True, allow_unused=True)
        self._look_at(slopes)
        middle = self._middle(inner.detach(), inputs, targets)

        def product(vectors: Tensor) -> Tensor:
            (pushed,) = columns(slopes, [dummy], parts(leaves, vectors))
            if pushed is None:
                return torch.zeros_like(vectors)
            return flat(leaves, columns([inner], leaves, [middle(pushed)]), len(vectors))

        return product


class GaussNewtonProducts(Sandwich):
    """G v with G = (1/n) sum_i J_i^T (d^2 loss / d outputs^2) J_i, J_i the Jacobian of the outputs of sample i.

    Parameters are those of `HessianProducts`, and `decay`.

    Parameters
    ----------
    decay : bool
        Whether weight decay is part of the matrix.
    """

    def __init__(self, loss: SampledLoss, position: Tensor, *where: Any, decay: bool = True, **more: Any) -> None:
        self._decays = decay
        super().__init__(loss, position, *where, **more)

    def _inner(self, inputs: Inputs, targets: Tensor, rows: slice) -> Tensor:
        return self._outputs(inputs)

    def _middle(self, inner: Tensor, inputs: Inputs, targets: Tensor) -> Product:
        outputs = inner.requires_grad_(True)
        mean = self.loss.losses_of(outputs, inputs, targets).sum() / self.loss.samples
        if not mean.requires_grad:
            return torch.zeros_like
        (slope,) = torch.autograd.grad(mean, outputs, create_graph=True, allow_unused=True)

        def curved(vectors: Tensor) -> Tensor:
            (product,) = columns([slope], [outputs], [vectors])
            return torch.zeros_like(vectors) if product is None else product

        return curved

    def _regular(self, vectors: Tensor) -> Tensor | None:
        return super()._regular(vectors) if self._decays else None


class LossFisherProducts(Sandwich):
    """F v with F = (1/(n m)) sum_i sum_k g_ik g_ik^T, g_ik the gradient of the loss of sample i with its k-th target.

    Without weight decay. Parameters are those of `HessianProducts`, and `targets`.

    Parameters
    ----------
    targets : tensor, shape ``(m, samples, ...)``
        Labels or values that stand for the data's own: drawn from the model, or the data's.
    """

    def __init__(self, loss: SampledLoss, position: Tensor, *where: Any, targets: Tensor, **more: Any) -> None:
        self._targets = targets
        super().__init__(loss, position, *where, **more)

    def _kind(self) -> tuple[Any, ...]:
        return *super()._kind(), len(self._targets)

    def _inner(self, inputs: Inputs, targets: Tensor, rows: slice) -> Tensor:
        targets = self._targets[:, rows]
        return self._run(inputs, lambda o, given: torch.stack([self.loss.losses_of(o, given, row) for row in targets]))

    def _middle(self, inner: Tensor, inputs: Inputs, targets: Tensor) -> Product:
        share = 1.0 / (self.loss.samples * len(self._targets))
        return lambda vectors: vectors * share

    def _regular(self, vectors: Tensor) -> Tensor | None:
        return None
