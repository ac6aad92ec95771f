"""Temperature of minibatch gradient noise, its shape against the Hessian, and its tails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr

from landscape.checks import finite_number, one_of, whole_number
from landscape.common.notices import warn
from landscape.common.positions import aligned, labelled, plain_array, stored
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.network.modes import plain_modes
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.series import FloatArray
from landscape.probes.fluctuations.batch_temperature import SAMPLINGS, Sampling, noise_factor
from landscape.probes.fluctuations.tail_index import tail_index
from landscape.probes.registry import POSITIONS, probe
from landscape.statistics import error_of_mean, student_factor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["effective_temperature"]

_BLOCK = 2**24
_LAWS = {
    "independent": "f = 1 - B / n (subsets independent of each other)",
    "replacement": "f = 1 - 1 / n (with replacement)",
    "epoch": "the noise of an epoch adds up to zero: no temperature, see batch_temperature",
}


@runtime_checkable
class _SampledLoss(Protocol):
    """What is asked of a loss."""

    def sample_gradients(self, position: Any) -> Any:
        """Gradients of single samples, shape ``(samples, dim)``."""

    def hvp(self, position: Any, vector: Any) -> Any:
        """Products of the Hessian of the mean loss with the rows of ``vector (k, dim)``."""


@probe("fluctuations.effective_temperature", POSITIONS)
@plain_modes()
def effective_temperature(
    loss: _SampledLoss,
    position: Any,
    lr: float,
    batch_size: int,
    *,
    momentum: float = 0.0,
    sampling: Sampling | None = None,
    replacement: bool | None = None,
    probes: int = 100,
    tail: float = 0.1,
    seed: int = 0,
) -> xr.Dataset:
    r"""Effective temperature of stochastic gradient descent at a position.

    The step -lr g_B with the mean gradient over a batch of B out of n samples has noise lr^2 C f / B, where C is the
    covariance of the gradients of single samples, of divisor n - 1, and f depends on how batches are drawn: f = 1 - B/n
    for subsets that are drawn anew at each step, f = 1 - 1/n with replacement. Langevin dynamics of time step lr has
    noise 2 T lr in each direction. With equal traces, and heavy-ball momentum mu (v <- mu v - lr g),

    .. math:: T = \frac{\eta \, f \, \mathrm{tr}\, C}{2 B \, n_\mathrm{dim} (1 - \mu)}, \qquad \eta = \mathrm{lr} .

    In a shuffled epoch the noise of its batches adds up to zero: slow directions are heated in proportion to their
    curvature, and there is no temperature. It is NaN then; `batch_temperature` has the exact law of each direction.

    The losses of samples are averaged, not summed. How far that one number goes is told by the alignment

    .. math:: \frac{\mathrm{tr}(C H)}{\|C\|_F \|H\|_F} ,

    1 for noise shaped like the Hessian, (sum_i h_i) / sqrt(n_dim sum_i h_i^2) for isotropic noise, and by Hill's tail
    index a of the norms of g_i - <g>, extrapolated to the end of the tail: the noise has no variance for a < 2, no
    fourth moment for a < 4.

    Parameters
    ----------
    loss : object
        With ``sample_gradients(position) -> (samples, dim)`` and ``hvp(position, vectors (k, dim)) -> (k, dim)``, as
        `NetworkLoss` has.
    position : tensor, array, DataArray or Dataset, shape ``(..., dim)``
        Where; of a Dataset its `position`, else `snapshot`, else `last_position`.
    lr : float
        Learning rate, in units of time.
    batch_size : int
        B, from 1 to n.
    momentum : float in [0, 1)
        mu, with the gradient not damped.
    sampling : {"independent", "replacement", "epoch"}, optional
        How batches are drawn: a subset of its own at each step, samples that may come twice, or a new order of all
        samples each epoch. Left out, the way of the `loss` if it has one (a `NetworkLoss` with `batch_size`), else
        "independent".
    replacement : bool, optional
        Old name of ``sampling="replacement"`` (True) and "independent".
    probes : int
        Hessian-vector products at most. With `dim` or more, H is taken whole; else by Hutchinson's estimate.
    tail : float in (0, 0.5]
        Fraction of the largest norms that the tail index uses.
    seed : int
        Of the random probe vectors.

    Returns
    -------
    xarray.Dataset
        `temperature`, `noise_trace` (tr C), `alignment`, `tail_index`, each with `_stderr`, on the dims of `position`
        without `coordinate`. Errors regard the samples as drawn from a distribution and the Hessian as given; that of
        `alignment` includes the probes. Those of `temperature` and `noise_trace` are lengthened for few samples and for
        skewed ones, and need four; with tails that have no fourth moment they are the size that covers 90 %. That of
        `tail_index` includes its bias: both are NaN where no power law can be told, with fewer than some 400 samples at
        the default `tail`, or with a lighter tail (a law that mimics a power, such as the lognormal one, passes).
        `alignment` is unbiased in its numerator and in both squared norms, so noise can bring it above 1; it is NaN
        where a norm is not positive.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    ShapeError
        If gradients and position do not fit together.

    Notes
    -----
    Cost: gradients of all n samples, held as one ``(n, dim)`` array of float64 (twice for a moment), and
    min(`probes`, dim) Hessian-vector products per position; memory dim^2 numbers besides for dim < n, else little.

    References
    ----------
    Mandt, Hoffman, Blei (2017), Stochastic gradient descent as approximate Bayesian inference; B. Hill (1975).

    Examples
    --------
    >>> import torch
    >>> class Springs:  # V = <|x - a_i|^2> / 2: gradients x - a_i, so C is the covariance of the a_i
    ...     anchors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    ...     def sample_gradients(self, position): return position - self.anchors
    ...     def hvp(self, position, vector): return vector
    >>> result = effective_temperature(Springs(), torch.zeros(2, dtype=torch.float64), lr=0.1, batch_size=1)
    >>> round(float(result.temperature), 12)  # tr C = 1: 0.1 * 1 / (2 * 1 * 2)
    0.025
    """
    setting = _Setting(lr, batch_size, momentum, _sampling(loss, sampling, replacement), probes, tail, seed)
    points, dims, coords = _points(loss, position)
    if not len(points.reshape(-1)):
        raise ShapeError(f"got positions of shape {tuple(points.shape)}: there is none")
    rows = [_at(loss, point, setting) for point in points.reshape(-1, points.shape[-1])]
    shape = points.shape[:-1]
    data = {name: (dims, np.array([row[name] for row in rows]).reshape(shape)) for name in rows[0]}
    dataset = xr.Dataset(data, coords=coords)
    dataset.attrs.update(
        title="Effective temperature of minibatch noise",
        conventions="T = lr f tr C / (2 B dim (1 - momentum)), mean loss, C of single samples (divisor n - 1); "
        + _LAWS[setting.sampling],
        sampling=setting.sampling,
        cost="gradients of all samples and at most `hessian_vector_products` products per position",
        lr=float(lr),
        batch_size=int(batch_size),
        momentum=float(momentum),
        hessian_vector_products=min(int(probes), int(points.shape[-1])),
        seed=int(seed),
    )
    return annotate(dataset, names=GLOSSARY["effective_temperature"])


@dataclass(frozen=True, slots=True)
class _Setting:
    """Checked arguments."""

    lr: float
    batch_size: int
    momentum: float
    sampling: Sampling
    probes: int
    tail: float
    seed: int

    def __post_init__(self) -> None:
        finite_number("lr", self.lr, above=0)
        one_of("sampling", self.sampling, SAMPLINGS)
        whole_number("batch_size", self.batch_size)
        whole_number("probes", self.probes, least=2)
        finite_number("momentum", self.momentum, least=0, below=1)
        finite_number("tail", self.tail, above=0, most=0.5)

    def scale(self, samples: int, dim: int) -> float:
        """Effective temperature per unit of tr C."""
        if self.sampling == "epoch" and self.batch_size < samples:
            return float("nan")
        finite = noise_factor(self.sampling, self.batch_size, samples)
        return self.lr * finite / (2.0 * self.batch_size * dim * (1.0 - self.momentum))


def _sampling(loss: Any, sampling: Sampling | None, replacement: bool | None) -> Sampling:
    """The way asked for, under its new name or its old one; else that of the loss."""
    if replacement is not None:
        named: Sampling = "replacement" if replacement else "independent"
        if sampling not in (None, named):
            raise ConfigError(f"got replacement={replacement!r} and sampling={sampling!r}: give sampling alone")
        warn(f'replacement={replacement!r} is now sampling="{named}"', FutureWarning)
        return named
    if sampling is not None:
        return sampling
    own: Sampling = getattr(getattr(loss, "sampler", None), "sampling", "independent")
    return own


def _points(loss: Any, position: Any) -> tuple[Tensor, tuple[str, ...], dict[str, Any]]:
    import torch

    if isinstance(position, xr.Dataset):
        position = stored(position, ("position", "snapshot", "last_position"))
    dims: tuple[str, ...] | None = None
    coords: dict[str, Any] = {}
    array = labelled(position)
    if array is not None:
        position = aligned(array, getattr(loss, "coordinates", None), getattr(loss, "dim", None))
        dims = tuple(str(d) for d in position.dims[:-1])
        coords = {str(k): c.variable for k, c in position.coords.items() if "coordinate" not in c.dims}
        if "temperature" in coords:  # the name is taken by the result
            coords["run_temperature"] = coords.pop("temperature")
        position = position.to_numpy()
    if not isinstance(position, torch.Tensor):
        position = torch.as_tensor(np.array(plain_array(position)))
    tensor = position.detach()
    if tensor.ndim == 0 or not tensor.is_floating_point():
        raise ShapeError(f"positions must be real vectors, got shape {tuple(tensor.shape)} of {tensor.dtype}")
    if dims is None:
        leading = {1: (), 2: ("chain",), 3: ("chain", "draw")}
        if tensor.ndim not in leading:
            raise ShapeError(f"got positions of shape {tuple(tensor.shape)}; expected ([chain,] [draw,] coordinate)")
        dims = leading[tensor.ndim]
    return tensor, dims, coords


def _at(loss: _SampledLoss, point: Tensor, setting: _Setting) -> dict[str, float]:
    """All estimates at one position."""
    import torch

    gradients = torch.as_tensor(loss.sample_gradients(point)).detach().to(torch.float64)
    if gradients.ndim != 2 or gradients.shape[1] != point.shape[0]:
        raise ShapeError(f"sample_gradients gave shape {tuple(gradients.shape)}; expected (samples, {point.shape[0]})")
    samples, dim = gradients.shape
    if samples < 2 or setting.batch_size > samples:
        raise ConfigError(
            f"a batch of {setting.batch_size} out of {samples} samples; two are needed, and a whole batch"
        )
    noise = gradients - gradients.mean(dim=0)
    del gradients
    square = torch.linalg.vector_norm(noise, dim=1).square().cpu().numpy()
    scale = setting.scale(samples, dim)
    square = square * samples / (samples - 1.0)
    trace, trace_error = float(square.mean()), float(error_of_mean(square, positive=True, least=4))
    alignment, alignment_error = _alignment(loss, point, noise, setting.probes, setting.seed)
    index, index_error = tail_index(np.sqrt(square), setting.tail)
    return {
        "temperature": scale * trace,
        "temperature_stderr": scale * trace_error,
        "noise_trace": trace,
        "noise_trace_stderr": trace_error,
        "alignment": alignment,
        "alignment_stderr": alignment_error,
        "tail_index": index,
        "tail_index_stderr": index_error,
    }


def _alignment(loss: _SampledLoss, point: Tensor, noise: Tensor, probes: int, seed: int) -> tuple[float, float]:
    """tr(C H) / (|C| |H|): its logarithm's error is that of a sum over samples plus that of a sum over probes."""
    import torch

    samples, dim = noise.shape
    whole = dim <= probes
    if whole:
        vectors = torch.eye(dim, dtype=torch.float64)
    else:
        signs = np.random.default_rng(seed).integers(0, 2, (probes, dim)) * 2.0 - 1.0
        vectors = torch.from_numpy(signs)
    vectors = vectors.to(noise.device)
    images = torch.as_tensor(loss.hvp(point, vectors.to(point.dtype))).detach().to(torch.float64)
    # With the whole basis sums are exact; with random signs each vector gives an unbiased value by itself.
    weight = 1.0 if whole else 1.0 / probes
    product = (noise @ vectors.T) * (noise @ images.T)
    by_sample = product.sum(dim=1).cpu().numpy() * weight
    by_pair = _overlaps(noise).cpu().numpy() / (samples - 1)
    norms = (images**2).sum(dim=1).cpu().numpy()
    numerator, covariance, hessian = float(by_sample.mean()), float(by_pair.mean()), float(norms.sum() * weight)
    if not (covariance > 0 and hessian > 0 and numerator != 0):
        return float("nan"), float("nan")
    # Relative changes by each sample; a pair belongs to two samples, hence no 1/2 before the covariance in the end.
    change = _Ratio(by_sample / numerator - 1.0, 2.0 * (by_pair / covariance - 1.0))
    variance, bias = change.variance, change.bias
    if not whole:
        by_probe = _Ratio(product.mean(dim=0).cpu().numpy() / numerator - 1.0, norms / hessian - 1.0)
        variance, bias = variance + by_probe.variance, bias + by_probe.bias
    value = numerator / np.sqrt(covariance * hessian)
    return float(value * (1.0 - bias)), float(abs(value) * np.sqrt(variance))


def _overlaps(noise: Tensor) -> Tensor:
    """For each sample the sum of (g_i . g_j)^2 over all others, by whichever of the two Gram matrices is smaller."""
    import torch

    samples, dim = noise.shape
    own: Tensor = torch.linalg.vector_norm(noise, dim=1) ** 4
    if dim <= samples:
        return ((noise @ (noise.T @ noise)) * noise).sum(dim=1) - own
    rows = max(1, _BLOCK // samples)
    return torch.cat([((part @ noise.T) ** 2).sum(dim=1) for part in noise.split(rows)]) - own


@dataclass(frozen=True, slots=True)
class _Ratio:
    """Second-order statistics of a / sqrt(c) from the relative contributions to a and c."""

    above: FloatArray
    below: FloatArray

    @property
    def variance(self) -> float:
        count = self.above.size
        return float(np.var(self.above - 0.5 * self.below, ddof=1) / count * student_factor(count - 1.0) ** 2)

    @property
    def bias(self) -> float:
        moments = np.cov(self.above, self.below)
        return float(0.375 * moments[1, 1] - 0.5 * moments[0, 1]) / self.above.size
