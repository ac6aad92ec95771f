"""Losses of outputs that stand for numbers."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from landscape.checks import finite_number
from landscape.common.arguments import guarded_class
from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.losses.base import NamedLoss, spoken

__all__ = ["BinaryCrossEntropy", "Huber", "SquaredError"]


@dataclass(frozen=True)
class _Valued(NamedLoss):
    """What losses of real outputs have in common: targets like the outputs, and a mean over the outputs of a sample."""

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse targets that are not shaped like the outputs."""
        if not outputs.ndim:
            raise ShapeError("the module gives one number for all samples; expected outputs with the samples in front")
        if targets.shape[1:] != outputs.shape[1:] and not _alone(outputs, targets):
            raise ShapeError(
                f"the {spoken(self.name)} needs targets like the outputs {tuple(outputs.shape[1:])} of a sample, "
                f"got {tuple(targets.shape[1:])}"
            )

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim != outputs.ndim:
            if not _alone(outputs, targets):
                raise ShapeError(f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)}")
            targets = targets.reshape(outputs.shape)
        losses = self._of(outputs, targets)
        return losses if losses.ndim == 1 else losses.flatten(1).mean(1)

    @abstractmethod
    def _of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every number."""


@guarded_class
@dataclass(frozen=True)
class SquaredError(_Valued):
    """Squared error per sample, averaged over outputs: (1/K) sum_k (f_k - y_k)^2.

    Targets ``(samples,)`` may stand for ``(samples, 1)``. Its model of the targets is a Gaussian with variance K/2.

    Examples
    --------
    >>> SquaredError()(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([5.])
    """

    name: ClassVar[str] = "mse"
    fisher_is_gauss_newton: ClassVar[bool] = True

    def _of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square()

    def why_no_model(self, outputs: Tensor) -> str | None:
        """None: a Gaussian."""
        return None

    def factor(self, outputs: Tensor) -> Tensor:
        """sqrt(2/K) times the axes."""
        return _axes(outputs, 2.0 / outputs[0].numel())

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Outputs and noise of variance K/2."""
        return outputs + noise.to(outputs) * math.sqrt(outputs[0].numel() / 2)


@guarded_class
@dataclass(frozen=True)
class Huber(_Valued):
    """h(f - y), averaged over K outputs: h(r) = r^2 / 2 for |r| < delta, else delta (|r| - delta / 2).

    Parameters
    ----------
    delta : float

    Notes
    -----
    Its model of the targets has independent residuals with density proportional to exp(-h(r) / K): a Gaussian of
    variance K with exponential tails. Their Fisher information is P(|r| < delta) / K.

    Examples
    --------
    >>> Huber(delta=2.0)(torch.tensor([[1.0], [4.0]]), torch.zeros(2, 1))
    tensor([0.5000, 6.0000])
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", finite_number("delta", self.delta, above=0))

    def _of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.huber_loss(outputs, targets.to(outputs), reduction="none", delta=self.delta)

    def why_no_model(self, outputs: Tensor) -> str | None:
        """None."""
        return None

    def _core(self, count: int) -> float:
        """P(|r| < delta)."""
        middle = math.sqrt(2 * math.pi * count) * math.erf(self.delta / math.sqrt(2 * count))
        tails = 2 * count / self.delta * math.exp(-(self.delta**2) / (2 * count))
        return middle / (middle + tails)

    def factor(self, outputs: Tensor) -> Tensor:
        """sqrt(P(|r| < delta) / K) times the axes."""
        count = outputs[0].numel()
        return _axes(outputs, self._core(count) / count)

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Outputs and residuals, from the inverse of their cumulative distribution."""
        count, core = outputs[0].numel(), self._core(outputs[0].numel())
        # probabilities of less, and of more, so that either tail is accurate
        below, above = torch.special.ndtr(noise.double()), torch.special.ndtr(-noise.double())
        tail = (1 - core) / 2
        outside = torch.minimum(below, above)
        far = self.delta - count / self.delta * (outside / tail).clamp_min(1e-300).log()
        edge = 0.5 * math.erf(self.delta / math.sqrt(2 * count))
        near = torch.special.ndtri(0.5 + (below - 0.5) * (2 * edge / core)) * count**0.5
        residual = torch.where(outside < tail, torch.where(below < above, -far, far), near)
        return outputs + residual.to(outputs)


@guarded_class
@dataclass(frozen=True)
class BinaryCrossEntropy(_Valued):
    """-w y log p - (1 - y) log(1 - p) with p = 1 / (1 + exp(-f)), averaged over outputs.

    Parameters
    ----------
    pos_weight : float or sequence of float, optional
        w, for all outputs or one for each.

    Notes
    -----
    Targets are from 0 to 1, shaped like the outputs. With one output and no weight its model of the targets is a coin
    with probability p; the mean over several outputs is not minus the logarithm of a probability.

    Examples
    --------
    >>> BinaryCrossEntropy()(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]))  # ln 2
    tensor([0.6931, 0.6931])
    """

    name: ClassVar[str] = "binary_cross_entropy"
    fisher_is_gauss_newton: ClassVar[bool] = True
    pos_weight: Any = None

    def __post_init__(self) -> None:
        if self.pos_weight is None:
            return
        values = torch.as_tensor(plain_array(self.pos_weight, "pos_weight")).double()
        if values.ndim > 1 or not bool((values.isfinite() & (values >= 0)).all()):
            raise ConfigError(f"pos_weight must be a number of 0 or more, or one for each output: {self.pos_weight!r}")
        object.__setattr__(self, "pos_weight", tuple(values.tolist()) if values.ndim else float(values))

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse targets that are not like the outputs, or not from 0 to 1."""
        super().check(outputs, targets)
        low, high = float(targets.min()), float(targets.max())
        if low < 0 or high > 1:
            raise ShapeError(f"binary cross-entropy needs targets from 0 to 1, got {low:g} to {high:g}")
        if isinstance(self.pos_weight, tuple) and outputs.shape[-1] != len(self.pos_weight):
            raise ShapeError(f"pos_weight holds {len(self.pos_weight)} numbers for {outputs.shape[-1]} outputs")

    def _of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weight = None if self.pos_weight is None else outputs.new_tensor(self.pos_weight)
        return functional.binary_cross_entropy_with_logits(
            outputs, targets.to(outputs), reduction="none", pos_weight=weight
        )

    def why_no_model(self, outputs: Tensor) -> str | None:
        """None with one output and no weight."""
        if self.pos_weight is not None:
            return "binary cross-entropy with pos_weight is not minus the logarithm of a probability"
        if outputs[0].numel() != 1:
            return "the mean binary cross-entropy over several outputs is not minus the logarithm of a probability"
        return None

    def factor(self, outputs: Tensor) -> Tensor:
        """sqrt(p (1 - p))."""
        f = outputs.double()
        return (torch.sigmoid(f) * torch.sigmoid(-f)).sqrt().to(outputs)[None]

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """1 with probability p."""
        heads: Tensor = torch.special.ndtr(noise.double()) < torch.sigmoid(outputs.double())
        return heads.to(outputs)


def _axes(outputs: Tensor, square: float) -> Tensor:
    """The axes of the outputs times the root of `square`, ``(K, b, ...)``."""
    count = outputs[0].numel()
    axes: Tensor = torch.eye(count, dtype=outputs.dtype, device=outputs.device) * square**0.5
    return axes[:, None, :].expand(-1, len(outputs), -1).reshape(count, *outputs.shape)


def _alone(outputs: Tensor, targets: Tensor) -> bool:
    """Whether one has an axis of length 1 more than the other, at its end."""
    if targets.ndim == outputs.ndim - 1:
        return outputs.shape[-1] == 1 and targets.shape[1:] == outputs.shape[1:-1]
    return outputs.ndim == 1 and targets.shape[1:] == (1,)
