"""The Fisher matrix of a network whose loss is minus the logarithm of a known probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.losses import cross_entropy, squared_error
from landscape.potentials.products import GaussNewtonProducts

if TYPE_CHECKING:
    from landscape.potentials.network import NetworkLoss

__all__ = ["check_model", "fisher_matrix", "outputs_of"]


def fisher_matrix(loss: NetworkLoss, position: Tensor) -> Tensor:
    r"""Fisher matrix F = (1/n) sum_i <g_i g_i^T>, g_i = d log p(y | x_i) / d weights, averaged over y from p(y | x_i).

    Cross-entropy is -log p of a softmax, the squared error (1/K) |f - y|^2 that of a Gaussian with variance K/2; of
    both F is the Gauss-Newton matrix. Weight decay is no part of it.

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
    check_model(loss)
    return GaussNewtonProducts(loss, position, decay=False).matrix()


def check_model(loss: NetworkLoss) -> None:
    """Refuse a loss that is not minus the logarithm of a known probability.

    Raises
    ------
    ConfigError
    """
    if loss.loss is squared_error:
        return
    if loss.loss is not cross_entropy:
        raise ConfigError(
            'labels of the model need loss="cross_entropy" (a softmax) or "mse" (a Gaussian), got a callable: '
            'only labels="empirical" is defined for it'
        )
    if outputs_of(loss, loss.position(), slice(0, 1)).ndim > 2:
        raise ConfigError("labels of the model need outputs (samples, classes), this network has more dimensions")


def outputs_of(loss: NetworkLoss, position: Tensor, rows: slice) -> Tensor:
    """Outputs at a position for some of the samples, without a graph."""
    with torch.no_grad():
        parameters = loss.layout.unflatten(position.detach())
        outputs: Tensor = loss.forward(parameters, loss.inputs[rows], loss.statistics_at(position))
    return outputs
