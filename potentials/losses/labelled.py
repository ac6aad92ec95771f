"""Losses of outputs that stand for classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from landscape.checks import finite_number, whole_number
from landscape.common.arguments import guarded_class
from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.losses.base import NamedLoss, spoken

__all__ = ["CrossEntropy", "NegativeLogLikelihood"]


@dataclass(frozen=True)
class _Labelled(NamedLoss):
    """What losses with one label per sample (or per token, or pixel) share.

    Parameters
    ----------
    weight : sequence of float, optional
        A factor for the samples of each class. The energy remains the mean over samples: torch's
        ``reduction="mean"`` divides by the sum of the weights instead.
    ignore_index : int, optional
        Label of tokens that are left out of a sample's average. A sample of which nothing is left has a loss of 0.
    class_axis : {1, -1}, optional
        Where the classes are in outputs of more than two dimensions: second, as in torch, or last, as in transformers.
        Found from the targets' shape where that leaves no choice.
    """

    weight: Any = None
    ignore_index: int | None = None
    class_axis: int | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            values = torch.as_tensor(plain_array(self.weight, "weight")).double()
            if values.ndim != 1 or not bool((values.isfinite() & (values >= 0)).all()):
                raise ConfigError(f"weight must be one number of 0 or more for each class, got {self.weight!r}")
            object.__setattr__(self, "weight", tuple(values.tolist()))
        if self.ignore_index is not None:
            label = whole_number("ignore_index", self.ignore_index, least=-(2**63), most=2**63 - 1)
            object.__setattr__(self, "ignore_index", label)
        if self.class_axis not in (None, 1, -1):
            raise ConfigError(f"class_axis must be 1 or -1, got {self.class_axis!r}")

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse anything but one label per sample, from 0 to the number of classes."""
        if outputs.ndim < 2:
            raise ShapeError(
                f"{spoken(self.name)} needs outputs (samples, classes), the module gives {tuple(outputs.shape)}"
            )
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise ShapeError(f"{spoken(self.name)} needs integer labels, got targets of dtype {targets.dtype}")
        classes = self._classes_last(outputs, targets).shape[-1]
        kept = targets if self.ignore_index is None else targets[targets != self.ignore_index]
        if not kept.numel():
            raise ShapeError(f"all labels are {self.ignore_index}, the label that is ignored")
        low, high = int(kept.min()), int(kept.max())
        if low < 0 or high >= classes:
            hint = f"; to leave out those of {low}, give CrossEntropy(ignore_index={low})" if low < 0 else ""
            raise ShapeError(
                f"labels run from {low} to {high}, but the module has {classes} outputs (0 to {classes - 1}){hint}"
            )
        if self.weight is not None and len(self.weight) != classes:
            raise ShapeError(f"weight holds {len(self.weight)} numbers for {classes} classes")

    def _classes_last(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.ndim == 2 and targets.ndim == 1:
            return outputs
        second = targets.shape[1:] == outputs.shape[2:]
        last = targets.shape[1:] == outputs.shape[1:-1]
        axis = self.class_axis
        if axis is None and second and last and outputs.ndim > 2:
            raise ShapeError(
                f"outputs {tuple(outputs.shape)} with targets {tuple(targets.shape)}: the classes may be second or "
                "last; give loss=losses.CrossEntropy(class_axis=1) or (class_axis=-1), as your module has them"
            )
        if second and axis != -1:
            return outputs.movedim(1, -1)
        if last and axis != 1:
            return outputs
        raise ShapeError(
            f"{spoken(self.name)} needs one label per sample {tuple(outputs.shape[2:])}, got targets of shape "
            f"{tuple(targets.shape[1:])} each; one-hot targets: give targets.argmax(1)"
        )

    def _averaged(self, losses: Tensor, label: Tensor, kept: Tensor | None) -> Tensor:
        """Mean over what is kept of every sample, of losses ``(samples, ...)``."""
        if self.weight is not None:
            losses = losses * losses.new_tensor(self.weight)[label]
        if kept is None:
            return losses if losses.ndim == 1 else losses.flatten(1).mean(1)
        losses = torch.where(kept, losses, 0.0)
        if losses.ndim == 1:
            return losses
        return losses.flatten(1).sum(1) / kept.flatten(1).sum(1).clamp_min(1)

    def _kept(self, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Labels with 0 for those that are ignored, and which are not."""
        if self.ignore_index is None:
            return targets, None
        kept = targets != self.ignore_index
        return torch.where(kept, targets, 0), kept

    def _why_no_model(self, outputs: Tensor) -> str | None:
        if self.weight is not None:
            return f"{spoken(self.name)} with class weights is not minus the logarithm of a probability"
        if self.ignore_index is not None:
            return f"{spoken(self.name)} that ignores labels has no probability model of them"
        if outputs.ndim > 2:
            return "labels of the model need outputs (samples, classes), this network has more dimensions"
        return None


@guarded_class
@dataclass(frozen=True)
class CrossEntropy(_Labelled):
    r"""Cross-entropy -log p_y per sample, accurate also where it is far below the rounding error of the logits.

    With logits z and label y it is softplus(s), s = log sum_{j != y} exp(z_j - z_y); subtracting the largest logit,
    as usual, would lose every loss below 1e-7 in float32, and those are what a network at its minimum is made of.
    With label smoothing e, class weights w and C classes it is (1 - e) w_y (-log p_y) + (e / C) sum_c w_c (-log p_c).

    Parameters
    ----------
    weight : sequence of float, optional
        w, one for each class.
    ignore_index, class_axis : optional
        A label that does not count; where the classes are in outputs of more than two dimensions.
    label_smoothing : float
        e, from 0 to 1.

    Raises
    ------
    ConfigError
        For settings that make no sense.

    Notes
    -----
    Tokens or pixels of a sample are averaged, and the energy is the mean over samples. The model of the labels is a
    softmax, p_c = exp(z_c) / sum_j exp(z_j), where there are neither weights, smoothing nor ignored labels.

    Examples
    --------
    >>> float(CrossEntropy()(torch.tensor([[40.0, 0.0]]), torch.tensor([0])))  # exp(-40)
    4.24...e-18
    >>> CrossEntropy(label_smoothing=0.1).spec()
    {'kind': 'cross_entropy', 'label_smoothing': 0.1}
    """

    name: ClassVar[str] = "cross_entropy"
    fisher_is_gauss_newton: ClassVar[bool] = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite_number("label_smoothing", self.label_smoothing, least=0, most=1)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every sample ``(samples,)``."""
        logits = self._classes_last(outputs, targets)
        targets, kept = self._kept(targets)
        label = targets.unsqueeze(-1)
        margins = logits - logits.gather(-1, label)
        # scatter of -inf removes the label itself from the sum; its gradient is zero, as it has to be
        others = margins.scatter(-1, label, float("-inf"))
        losses = -functional.logsigmoid(-torch.logsumexp(others, dim=-1))
        if not self.label_smoothing:
            return self._averaged(losses, targets, kept)
        every = -logits.log_softmax(-1)
        if self.weight is not None:
            every = every * every.new_tensor(self.weight)
            losses = losses * losses.new_tensor(self.weight)[targets]
        smooth = self.label_smoothing
        mixed = (1 - smooth) * losses + smooth * every.mean(-1)
        return dataclasses.replace(self, weight=None)._averaged(mixed, targets, kept)

    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Fraction of right labels of every sample ``(samples,)``, of those that count."""
        right = (self._classes_last(outputs, targets).argmax(-1) == targets).to(outputs).reshape(len(targets), -1)
        _, kept = self._kept(targets)
        if kept is None:
            return right.mean(1)
        kept = kept.reshape(len(targets), -1)
        return (right * kept).sum(1) / kept.sum(1).clamp_min(1)

    def why_no_model(self, outputs: Tensor) -> str | None:
        """None for the plain cross-entropy of outputs (samples, classes)."""
        if self.label_smoothing:
            return "cross-entropy with label smoothing is not minus the logarithm of a probability"
        return self._why_no_model(outputs)

    def factor(self, outputs: Tensor) -> Tensor:
        r"""Of the softmax <s s^T> = diag(p) - p p^T has rank C - 1.

        With the classes in turn and r_k = sum_{j >= k} p_j,

        u_k[k] = sqrt(p_k r_{k+1} / r_k),  u_k[j] = -p_j sqrt(p_k / (r_k r_{k+1})) for j > k, and 0 for j < k

        (conditioning on the classes one by one).
        """
        p = outputs.double().softmax(1)
        rest = p.flip(1).cumsum(1).flip(1)  # r_k
        after = rest[:, 1:]
        tiny = torch.finfo(torch.float64).tiny
        own = (p[:, :-1] * after / rest[:, :-1].clamp_min(tiny)).sqrt()
        slope = (p[:, :-1] / (rest[:, :-1] * after).clamp_min(tiny)).sqrt()
        factor = -slope.unsqueeze(2) * p.unsqueeze(1)  # (b, k, j)
        factor = factor.triu(1)
        factor.diagonal(dim1=1, dim2=2).copy_(own)
        return factor.transpose(0, 1).to(outputs)

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """The largest of log p_c + g_c with Gumbel g_c = -log(-log u), u uniform, is c with probability p_c."""
        return _drawn_labels(outputs.double().log_softmax(1), noise)


@guarded_class
@dataclass(frozen=True)
class NegativeLogLikelihood(_Labelled):
    """-w_y f_y of outputs f that are logarithms of probabilities, as of a network that ends in `nn.LogSoftmax`.

    Parameters
    ----------
    weight : sequence of float, optional
        w, one for each class.
    ignore_index, class_axis : optional
        As of `CrossEntropy`.

    Notes
    -----
    The model of the labels is p_c = exp(f_c), without weights and ignored labels.

    Examples
    --------
    >>> float(NegativeLogLikelihood()(torch.log(torch.tensor([[0.25, 0.75]])), torch.tensor([0])))  # ln 4
    1.386...
    """

    name: ClassVar[str] = "nll"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every sample ``(samples,)``."""
        logarithms = self._classes_last(outputs, targets)
        label, kept = self._kept(targets)
        return self._averaged(-logarithms.gather(-1, label.unsqueeze(-1)).squeeze(-1), label, kept)

    def why_no_model(self, outputs: Tensor) -> str | None:
        """None if the outputs are logarithms of probabilities that sum to 1."""
        reason = self._why_no_model(outputs)
        if reason is None and not bool(((outputs.double().exp().sum(1) - 1).abs() < 1e-3).all()):
            return "the outputs are no logarithms of probabilities: end the network in nn.LogSoftmax(1)"
        return reason

    def factor(self, outputs: Tensor) -> Tensor:
        """sqrt(p_c) times the axes: s = -e_c with probability p_c."""
        axes = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        return outputs.T.exp().sqrt().unsqueeze(2) * axes.unsqueeze(1)

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """As of `CrossEntropy`."""
        return _drawn_labels(outputs.double(), noise)


def _drawn_labels(logarithms: Tensor, noise: Tensor) -> Tensor:
    uniform = torch.special.ndtr(noise).clamp(1e-300, 1 - 1e-16)
    labels: Tensor = (logarithms - (-uniform.log()).log()).argmax(2)
    return labels
