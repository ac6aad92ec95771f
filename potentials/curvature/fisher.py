"""The Fisher matrix of a network whose loss is minus the logarithm of a known probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.curvature.products import GaussNewtonProducts, Product, Sandwich
from landscape.potentials.losses import NamedLoss

if TYPE_CHECKING:
    from landscape.potentials.network.potential import NetworkLoss

__all__ = [
    "ModelFisherProducts",
    "check_model",
    "fisher_is_gauss_newton",
    "fisher_matrix",
    "model_fisher_products",
    "outputs_of",
]


def fisher_matrix(loss: NetworkLoss, position: Tensor) -> Tensor:
    r"""Fisher matrix F = (1/n) sum_i <g_i g_i^T>, g_i = d log p(y | x_i) / d weights, averaged over y from p(y | x_i).

    Cross-entropy is -log p of a softmax, the squared error (1/K) |f - y|^2 that of a Gaussian with variance K/2; of
    both F is the Gauss-Newton matrix. Other named losses say what their model is. Weight decay is no part of it.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor, shape ``(dim,)``

    Returns
    -------
    tensor, shape ``(dim, dim)``, at the cost of `dim` Gauss-Newton products

    Raises
    ------
    ConfigError
        For other losses.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, x, loss="mse")
    >>> fisher_matrix(loss, torch.zeros(1))  # 2 mean(x^2)
    tensor([[10.]])
    """
    return model_fisher_products(loss, position).matrix()


def check_model(loss: NetworkLoss) -> None:
    """Refuse a loss that is not minus the logarithm of a known probability.

    Raises
    ------
    ConfigError
    """
    if not isinstance(loss.loss, NamedLoss):
        raise ConfigError(
            "labels of the model need a loss that is known to be minus the logarithm of a probability "
            '("cross_entropy", "mse", "binary_cross_entropy", "nll", "huber"), got a callable: only labels="empirical" '
            "is defined for it"
        )
    reason = loss.loss.why_no_model(outputs_of(loss, loss.snapshot_position(), slice(0, 1)))
    if reason is not None:
        raise ConfigError(f'{reason}: only labels="empirical" is defined for it')


def fisher_is_gauss_newton(loss: NetworkLoss) -> bool:
    """Whether the Fisher matrix of the model's labels is the Gauss-Newton matrix, sample by sample."""
    return isinstance(loss.loss, NamedLoss) and loss.loss.fisher_is_gauss_newton


def model_fisher_products(
    loss: NetworkLoss, position: Tensor, block: slice | None = None, chunk_size: int | None = None
) -> Sandwich:
    """Products with the Fisher matrix of the model's labels: where it is the Gauss-Newton matrix, with that.

    Raises
    ------
    ConfigError
        If the loss has no model.
    """
    check_model(loss)
    if fisher_is_gauss_newton(loss):
        return GaussNewtonProducts(loss, position, block, chunk_size, decay=False)
    return ModelFisherProducts(loss, position, block, chunk_size)


class ModelFisherProducts(Sandwich):
    """F v with F = (1/n) sum_i J_i^T <s_i s_i^T> J_i, s = d loss / d outputs averaged over the model's labels.

    Without weight decay. For the cross-entropy and the squared error it is the Gauss-Newton matrix. Parameters are
    those of `HessianProducts`.
    """

    def _inner(self, inputs: Any, targets: Tensor, rows: slice) -> Tensor:
        outputs: Tensor = self._outputs(inputs)
        return outputs

    def _middle(self, inner: Tensor, inputs: Any, targets: Tensor) -> Product:
        network: Any = self.loss
        factor, samples = network.loss.factor(inner), self.loss.samples

        def averaged(vectors: Tensor) -> Tensor:
            along = factor.flatten(2) if factor.ndim > 2 else factor.unsqueeze(2)
            rows = vectors.reshape(*vectors.shape[:2], -1)
            share = torch.einsum("kbo,vbo->vkb", along, rows) / samples
            return torch.einsum("vkb,kbo->vbo", share, along).view_as(vectors)

        return averaged

    def _regular(self, vectors: Tensor) -> Tensor | None:
        return None


def outputs_of(loss: NetworkLoss, position: Tensor, rows: slice) -> Tensor:
    """Outputs at a position for some of the samples, without a graph."""
    parameters = loss.layout.unflatten(position.detach())
    with torch.set_grad_enabled(loss.differentiates):
        outputs: Tensor = loss.forward(parameters, loss.inputs[rows], loss.statistics_at(position))
    return outputs.detach()
