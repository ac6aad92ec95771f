"""Curvature matrices known by their products with vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from landscape.checks import an_instance, one_of, whole_number
from landscape.common.arguments import guarded_class
from landscape.common.positions import ordered
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, Potential
from landscape.potentials.base import has_samples
from landscape.potentials.curvature.fisher import model_fisher_products
from landscape.potentials.curvature.products import GaussNewtonProducts, HessianProducts, LossFisherProducts
from landscape.potentials.curvature.sample_scores import check_samples_apart
from landscape.potentials.network.layout import Slot
from landscape.potentials.network.modes import out_of_inference, plain_modes
from landscape.probes.curvature.algebra import Operator
from landscape.probes.curvature.model_labels import drawn_targets
from landscape.random import check_seed

__all__ = ["FisherOperator", "GaussNewtonOperator", "HessianOperator", "layer_blocks", "layer_name"]


def layer_name(slot: Slot) -> str:
    """The layer that a parameter belongs to: its module's name, or its own at the top.

    Examples
    --------
    >>> layer_name(Slot("block.conv.weight", (3,), 0)), layer_name(Slot("scale", (1,), 3))
    ('block.conv', 'scale')
    """
    return slot.name.rpartition(".")[0] or slot.name


def layer_blocks(potential: Potential) -> Mapping[str, slice]:
    """Part of the weight vector that each layer owns, by its name in the module.

    Raises
    ------
    ConfigError
        If the potential is no network.

    Examples
    --------
    >>> from landscape.potentials import architectures
    >>> loss = NetworkLoss(architectures.mlp((2, 3, 2)), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    >>> list(layer_blocks(loss).items())
    [('0', slice(0, 9, None)), ('2', slice(9, 17, None))]
    """
    if potential.layout is None:
        raise ConfigError(f'blocks="layer" needs the layers of a NetworkLoss, got {type(potential).__name__}')
    blocks: dict[str, slice] = {}
    for slot in potential.layout:
        name = layer_name(slot)
        start = blocks[name].start if name in blocks else slot.offset
        blocks[name] = slice(start, slot.offset + slot.size)
    return MappingProxyType(blocks)


class _Operator(Operator):
    """What the curvature matrices share: a potential, a position and the part of its coordinates that they are of."""

    potential: Any
    _products: Any

    @property
    def makes_new(self) -> bool:
        """Whether nobody else holds a product; of a potential of someone else's that is not known."""
        return has_samples(self.potential)

    @plain_modes()
    def __init__(
        self,
        potential: Potential,
        position: Any,
        *,
        block: str | None = None,
        chunk_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        an_instance("potential", potential, Potential)
        if chunk_size is not None:
            whole_number("chunk_size", chunk_size)
        self.potential = potential.converted(dtype)
        if not isinstance(position, Tensor):
            position = torch.from_numpy(np.array(ordered(position, potential.coordinates, potential.dim)))
        vector = out_of_inference(position.detach())
        if vector.shape != (potential.dim,):
            raise ShapeError(f"expected one position of shape ({potential.dim},), got {tuple(vector.shape)}")
        if has_samples(self.potential):
            self.device = self.potential.device
            self.dtype = self.potential.dtype
        else:
            self.device, self.dtype = vector.device, dtype or torch.float64
        self.position = vector.to(self.device, self.dtype)
        self.chunk_size = chunk_size
        self.part = slice(0, potential.dim)
        if block is not None:
            self.part = self._part_of(block)
        self.shape = (self.part.stop - self.part.start,) * 2
        self._products = self._made()

    def _part_of(self, block: str) -> slice:
        layers = layer_blocks(self.potential)
        return layers[one_of("block", block, list(layers))]

    @plain_modes()
    def block(self, name: str) -> Operator:
        """The diagonal block of a layer of a network, by products with that layer's weights alone.

        Parameters
        ----------
        name : str
            As in `layer_blocks`.

        Raises
        ------
        ConfigError
            If there is no such layer, or this is a block already.
        """
        part = self._part_of(name)
        if self.part == part:
            return self
        if self.shape[0] != self.potential.dim:
            raise ConfigError(f"this is the block of one layer, and {name!r} is another")
        found = copy(self)
        found.part, found.shape = part, (part.stop - part.start,) * 2
        found._products = found._made()
        return found

    @abstractmethod
    def _made(self) -> Any:
        """What multiplies rows of vectors, for the part that this is of."""

    def _multiply(self, rows: Tensor) -> Tensor:
        product: Tensor = self._products(out_of_inference(rows))
        return product


@guarded_class
class HessianOperator(_Operator):
    """The Hessian d^2 V / dx^2 of a potential at a position; of a network the mean over all samples, with weight decay.

    Parameters
    ----------
    potential : Potential
    position : tensor or array, shape ``(dim,)``
    block : str, optional
        Name of a layer: the diagonal block of its parameters.
    chunk_size : int, optional
        Samples of a network at once; need not divide their number.
    dtype : torch.dtype, optional
        Of the products: the network's own, for other potentials float64.

    Attributes
    ----------
    shape, dtype, device
        As of a matrix.

    Raises
    ------
    ConfigError, ShapeError
        For unknown blocks, positions that do not fit, chunks of a network with batch statistics.

    Notes
    -----
    With frozen batch normalisation a product costs about 1.5 gradients where the graphs of all data fit in 1 GiB and
    are kept, else about 2.6.

    Operators have sums, multiples, products and blocks: ``A + B``, ``2 * A``, ``A.shifted(0.1)``, ``A @ B``,
    ``A[:10, :10]``, ``A.block("0")`` for a layer of a network; ``A @ x`` takes columns a few at once. ``A.to_dense()``
    writes the matrix out, ``A.to_scipy()`` hands it to SciPy.

    Examples
    --------
    >>> from landscape.potentials import Quadratic
    >>> hessian = HessianOperator(Quadratic([1.0, 3.0]), [0.0, 0.0])
    >>> hessian @ np.array([1.0, 1.0]), hessian.shape
    (array([1., 3.]), (2, 2))
    >>> (hessian @ hessian).shifted(0.5).to_dense().tolist()
    [[1.5, 0.0], [0.0, 9.5]]
    """

    def _made(self) -> Any:
        if has_samples(self.potential):
            return HessianProducts(self.potential, self.position, self.part, self.chunk_size)
        potential, position = self.potential, self.position
        return lambda rows: potential.hvp(position.expand_as(rows), rows)


@guarded_class
class GaussNewtonOperator(_Operator):
    r"""The Gauss-Newton matrix of a network, with weight decay.

    G = (1/n) sum_i J_i^T L_i J_i + w I, with J_i = d outputs_i / d weights and L_i = d^2 loss_i / d outputs_i^2.

    Parameters
    ----------
    loss : NetworkLoss
    position, block, chunk_size, dtype : optional
        As for `HessianOperator`, whose attributes it has.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, x, loss="mse")  # linear: G = H = 2 mean(x^2)
    >>> GaussNewtonOperator(loss, [0.0]) @ np.array([1.0])
    array([10.], dtype=float32)
    """

    @plain_modes()
    def __init__(
        self,
        loss: NetworkLoss,
        position: Any,
        *,
        block: str | None = None,
        chunk_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        network = need_network(loss, "the Gauss-Newton matrix")
        super().__init__(network, position, block=block, chunk_size=chunk_size, dtype=dtype)

    def _made(self) -> Any:
        return GaussNewtonProducts(self.potential, self.position, self.part, self.chunk_size)


@guarded_class
class FisherOperator(_Operator):
    r"""The Fisher matrix of a network's outputs as a probability model of the targets, without weight decay.

    F = (1/n) sum_i <g_i g_i^T>, g_i = d log p(y | x_i) / d weights. The average over y is the question:

    * ``labels="model"``: over p(y | x_i) exactly;
    * ``labels="sampled"``: over `draws` labels drawn from p(y | x_i);
    * ``labels="empirical"``: y is the label of the data, which is another matrix: near interpolation smaller by
      orders of magnitude.

    Cross-entropy is -log p of a softmax. The squared error (1/K) |f - y|^2 is that of a Gaussian with variance K/2.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor or array, shape ``(dim,)``
    labels : {"model", "sampled", "empirical"}
        There is no default.
    draws : int
        Labels per sample, where they are drawn.
    seed : int
        Of the drawn labels.
    block, chunk_size, dtype
        As for `HessianOperator`.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, x, loss="mse")  # g = (2 x) eps, <eps^2> = 1/2
    >>> FisherOperator(loss, [1.0], labels="model") @ np.array([1.0])
    array([10.], dtype=float32)
    >>> FisherOperator(loss, [1.0], labels="empirical") @ np.array([1.0])  # a perfect fit
    array([0.], dtype=float32)
    """

    @plain_modes()
    def __init__(
        self,
        loss: NetworkLoss,
        position: Any,
        *,
        labels: Literal["model", "sampled", "empirical"],
        draws: int = 1,
        seed: int = 0,
        block: str | None = None,
        chunk_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        one_of("labels", labels, ("model", "sampled", "empirical"))
        whole_number("draws", draws)
        self._labels, self._draws, self._seed = labels, draws, check_seed(seed)
        self._targets: Tensor | None = None
        network = need_network(loss, "the Fisher matrix").converted(dtype)
        super().__init__(network, position, block=block, chunk_size=chunk_size, dtype=dtype)

    def _made(self) -> Any:
        network = self.potential
        if self._labels != "model" and self._targets is None:
            check_samples_apart(network)
            drawn = self._labels == "sampled"
            self._targets = (
                drawn_targets(network, self.position, self._draws, self._seed) if drawn else network.targets[None]
            )
        if self._targets is None:
            return model_fisher_products(network, self.position, self.part, self.chunk_size)
        return LossFisherProducts(network, self.position, self.part, self.chunk_size, targets=self._targets)


def need_network(loss: Any, what: str) -> NetworkLoss:
    """The loss, if it is one of a network.

    Raises
    ------
    ConfigError
    """
    if not has_samples(loss):
        raise ConfigError(f"{what} is one of a NetworkLoss, got {type(loss).__name__}")
    return loss  # type: ignore[no-any-return]
