"""Losses per sample, and the probability models of which some are minus the logarithm."""

from __future__ import annotations

import copy
import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape.errors import ConfigError, ShapeError

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Huber",
    "NamedLoss",
    "NegativeLogLikelihood",
    "SampleLoss",
    "SquaredError",
    "cross_entropy",
    "named_loss",
    "placed_loss",
    "squared_error",
]

SampleLoss: TypeAlias = Callable[[Any, Tensor], Tensor]


class NamedLoss(ABC):
    """A loss per sample of known form; the energy is its mean over samples.

    Subclasses are frozen dataclasses of plain numbers, so that a loss can be written down in a specification.
    """

    name: ClassVar[str]
    fisher_is_gauss_newton: ClassVar[bool] = False  # <s s^T> is the second derivative in the outputs, for any target

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every sample ``(samples,)``; what else a sample has is averaged."""

    @abstractmethod
    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse targets that do not fit the outputs, with a message that says how.

        Raises
        ------
        ShapeError
        """

    def why_no_model(self, outputs: Tensor) -> str | None:
        """Why the loss is not minus the logarithm of a probability p(y | outputs), or None if it is."""
        return f"{self.name} is not minus the logarithm of a probability"

    def factor(self, outputs: Tensor) -> Tensor:
        """Directions u_k ``(K, b, ...)`` with sum_k u_k u_k^T = <s s^T>, s = d loss(y) / d outputs, y from p."""
        raise ConfigError(str(self.why_no_model(outputs)))

    def drawn(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Targets ``(draws, b, ...)`` from p, made of standard normals ``(draws, b, ...)`` shaped like the outputs."""
        raise ConfigError(str(self.why_no_model(outputs)))

    def spec(self) -> str | dict[str, Any]:
        """The name; with settings other than the defaults a table."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(cast(Any, self)) if f.compare}
        own = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
            if value != getattr(type(self)(), name)
        }
        return {"kind": self.name, **own} if own else self.name


# -- classes ----------------------------------------------------------------------------------------------------------


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
            values = torch.as_tensor(self.weight).double()
            if values.ndim != 1 or not bool((values.isfinite() & (values >= 0)).all()):
                raise ConfigError(f"weight must be one number of 0 or more for each class, got {self.weight!r}")
            object.__setattr__(self, "weight", tuple(values.tolist()))
        if self.ignore_index is not None and (isinstance(self.ignore_index, bool) or not _whole(self.ignore_index)):
            raise ConfigError(f"ignore_index must be a label, a whole number, got {self.ignore_index!r}")
        if self.class_axis not in (None, 1, -1):
            raise ConfigError(f"class_axis must be 1 or -1, got {self.class_axis!r}")

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse anything but one label per sample, from 0 to the number of classes."""
        if outputs.ndim < 2:
            raise ShapeError(
                f"{_spaced(self.name)} needs outputs (samples, classes), the module gives {tuple(outputs.shape)}"
            )
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise ShapeError(f"{_spaced(self.name)} needs integer labels, got targets of dtype {targets.dtype}")
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
            f"{_spaced(self.name)} needs one label per sample {tuple(outputs.shape[2:])}, got targets of shape "
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
            return f"{_spaced(self.name)} with class weights is not minus the logarithm of a probability"
        if self.ignore_index is not None:
            return f"{_spaced(self.name)} that ignores labels has no probability model of them"
        if outputs.ndim > 2:
            return "labels of the model need outputs (samples, classes), this network has more dimensions"
        return None


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
        if isinstance(self.label_smoothing, bool) or not 0 <= self.label_smoothing <= 1:
            raise ConfigError(f"label_smoothing must be a number from 0 to 1, got {self.label_smoothing!r}")

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


# -- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Valued(NamedLoss):
    """What losses of real outputs have in common: targets like the outputs, and a mean over the outputs of a sample."""

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse targets that are not shaped like the outputs."""
        if not outputs.ndim:
            raise ShapeError("the module gives one number for all samples; expected outputs with the samples in front")
        if targets.shape[1:] != outputs.shape[1:] and not _alone(outputs, targets):
            raise ShapeError(
                f"the {_spaced(self.name)} needs targets like the outputs {tuple(outputs.shape[1:])} of a sample, "
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
        if isinstance(self.delta, bool) or not 0 < self.delta < math.inf:
            raise ConfigError(f"delta must be a positive number, got {self.delta!r}")

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
        values = torch.as_tensor(self.pos_weight).double()
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


def _drawn_labels(logarithms: Tensor, noise: Tensor) -> Tensor:
    uniform = torch.special.ndtr(noise).clamp(1e-300, 1 - 1e-16)
    labels: Tensor = (logarithms - (-uniform.log()).log()).argmax(2)
    return labels


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


def _whole(value: Any) -> bool:
    return isinstance(value, int)


def _spaced(name: str) -> str:
    spoken = {"cross_entropy": "cross-entropy", "mse": "squared error", "nll": "negative log-likelihood"}
    return spoken.get(name, name.replace("_", " "))


# -- by name ----------------------------------------------------------------------------------------------------------

cross_entropy = CrossEntropy()
squared_error = SquaredError()
_NAMED: dict[str, NamedLoss] = {
    loss.name: loss
    for loss in (cross_entropy, squared_error, BinaryCrossEntropy(), NegativeLogLikelihood(), Huber())
}  # fmt: skip


def named_loss(loss: str | Mapping[str, Any] | SampleLoss) -> SampleLoss:
    """The loss of a name or of a table ``{"kind": name, ...}``, or the callable itself.

    Raises
    ------
    ConfigError
        For unknown names and settings.

    Examples
    --------
    >>> named_loss({"kind": "huber", "delta": 0.5})
    Huber(delta=0.5)
    """
    if isinstance(loss, Mapping):
        settings = dict(loss)
        kind: Any = named_loss(settings.pop("kind", ""))
        known = [field.name for field in dataclasses.fields(kind)]
        for key in settings:
            if key not in known:
                raise ConfigError(f"the loss {kind.name!r} has no setting {key!r}; it has {known}")
        return named_loss(type(kind)(**settings))
    if isinstance(loss, NamedLoss):
        return next((one for one in _NAMED.values() if one == loss), loss)
    if callable(loss):
        return loss
    if loss not in _NAMED:
        raise ConfigError(
            f"unknown loss {loss!r}; expected one of {sorted(_NAMED)}, one of potentials.losses, or a callable "
            "(outputs, targets)"
        )
    return _NAMED[loss]


def placed_loss(loss: SampleLoss, device: torch.device, dtype: torch.dtype) -> SampleLoss:
    """A loss whose tensors, if it is a module and has some, are copies on a device and in a floating-point type."""
    return copy.deepcopy(loss).to(device, dtype) if isinstance(loss, nn.Module) else loss


def takes_tensor(loss: SampleLoss) -> bool:
    """Whether a loss is one of a tensor of outputs, not of whatever a module returns."""
    home = loss if hasattr(loss, "__name__") else type(loss)
    return isinstance(loss, NamedLoss) or str(getattr(home, "__module__", "")).startswith("torch.nn.")


def check_targets(outputs: Any, targets: Tensor, loss: SampleLoss) -> None:
    """Refuse targets that do not fit the outputs, with a message that says how.

    Raises
    ------
    ShapeError
    """
    if isinstance(loss, NamedLoss):
        loss.check(outputs, targets)
