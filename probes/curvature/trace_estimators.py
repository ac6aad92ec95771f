"""Traces of matrices known by their products, each with a standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from landscape.probes.curvature.linear import LinearMap, at_once, gaussian_probes, pieces, sign_probes
from landscape.probes.curvature.rows import dots, gram, orthonormal, remove
from landscape.statistics import error_of_mean

__all__ = ["Estimate", "hutch_plus_plus", "hutchinson", "xtrace"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A trace and its standard error, widened so that +- 1.96 of it is a 95 % interval for few probes too."""

    value: float
    stderr: float


# The estimates of XTrace share all probes but one, so their scatter says too little: by factors of 1.0 to 1.34 for the
# spectra of networks and of random matrices, 12 to 60 products, and by more where few directions are left over.
_SHARED: Final = 4.0 / 3.0
_ROUNDINGS: Final = 10.0  # of the sum of absolute terms: the least error that is claimed
# From this order on what a few dozen directions take from a vector of signs is distributed as from a Gaussian one.
_LARGE: Final = 2**12


def _scatter(samples: Tensor, rounding: float) -> float:
    """Standard error of the mean of independent samples, at least the rounding error of what they are made of.

    A few large eigenvalues make the samples as skewed as the square of a normal variate: with one eigenvalue alone 90 %
    are covered by 3 to 6 samples, 93 % by 10, 96 % by 30; without the lengthening of `error_of_mean` 82 %, 86 % and
    91 %.
    """
    return float(np.hypot(error_of_mean(samples.cpu().numpy(), least=2), rounding))


def _rounding(linear: LinearMap, terms: Tensor) -> float:
    return _ROUNDINGS * torch.finfo(linear.dtype).eps * float(terms.abs().sum())


def _summed(linear: LinearMap) -> Estimate:
    """The diagonal, entry by entry: exact, where as many products were to be spent on probes."""
    diagonal = linear(torch.eye(linear.size, dtype=linear.dtype, device=linear.device)).diagonal().double()
    return Estimate(float(diagonal.sum()), _rounding(linear, diagonal))


def _samples(linear: LinearMap, count: int, seed: int, without: Tensor | None = None) -> Tensor:
    """z^T H z for that many vectors of signs z, less what they have in common with some rows."""
    found = []
    # as many at once as those rows, which are passed over once for all of them
    for first, few in pieces(linear, count, least=1 if without is None else len(without)):
        z = sign_probes(linear, few, seed, first=first)
        z = z if without is None else remove(z, without, in_place=True)
        found += [dots(part, linear(part)) for part in z.split(at_once(linear))]
    return torch.cat(found)


def _sketched(linear: LinearMap, count: int, seed: int) -> Tensor:
    """H times random vectors: no signs where few coordinates may hide from them."""
    if linear.size < _LARGE:
        return linear(gaussian_probes(linear, count, seed, purpose=1))
    signs = (sign_probes(linear, few, seed, purpose=1, first=first) for first, few in pieces(linear, count))
    return torch.cat([linear(few) for few in signs])


def hutchinson(linear: LinearMap, probes: int, seed: int) -> Estimate:
    r"""tr H ~ (1/m) sum_i z_i^T H z_i with random signs z_i; no more probes than rows, else the exact sum.

    Its variance is 2 (|H|_F^2 - sum_j H_jj^2) / m. (Hutchinson 1990.)

    Examples
    --------
    >>> from landscape.probes.curvature.linear import as_linear
    >>> hutchinson(as_linear(np.diag(8 * [1.0, 2.0, 4.0])), 5, seed=0).value  # exact for a diagonal
    56.0
    """
    if linear.size <= probes:
        return _summed(linear)
    samples = _samples(linear, probes, seed)
    return Estimate(float(samples.mean()), _scatter(samples, _rounding(linear, samples / probes)))


def hutch_plus_plus(linear: LinearMap, probes: int, seed: int) -> Estimate:
    r"""tr H ~ tr(Q^T H Q) + (1/g) sum_i y_i^T H y_i, with Q an orthonormal basis of H S and y_i = (1 - Q Q^T) z_i.

    S holds a third of the products, Q as many columns, and the rest are the g probes of what Q leaves over: the large
    eigenvalues are summed exactly. Given S the estimate is unbiased, and the scatter of the g terms is its error.
    (Meyer, Musco, Musco, Woodruff 2021.)

    Examples
    --------
    >>> from landscape.probes.curvature.linear import as_linear
    >>> round(hutch_plus_plus(as_linear(np.diag([100.0, -3.0] + 50 * [0.01])), 12, seed=0).value, 1)
    97.5
    """
    if linear.size <= probes:
        return _summed(linear)
    sketch = probes // 3
    rest = probes - 2 * sketch
    basis = orthonormal(_sketched(linear, sketch, seed))
    inside = torch.cat([dots(part, linear(part)) for part in basis.split(at_once(linear))])
    samples = _samples(linear, rest, seed, without=basis)
    rounding = _rounding(linear, torch.cat([inside, samples / rest]))
    return Estimate(float(inside.sum() + samples.mean()), _scatter(samples, rounding))


def xtrace(linear: LinearMap, probes: int, seed: int) -> Estimate:
    r"""Mean over i of tr(Q_i^T H Q_i) + w_i^T H w_i, with Q_i a basis of H S without the i-th of the m/2 probes S.

    w_i is the i-th probe with Q_i taken out, and scaled to length sqrt(N - rank Q_i). Every probe serves as sketch and
    as sample; the error is at least 4/3 of what it would be were the estimates independent. Where H has a lower rank
    than S the others span the image of the i-th probe, and Q_i is all of Q. (Epperly, Tropp, Webber 2024.)

    Examples
    --------
    >>> from landscape.probes.curvature.linear import as_linear
    >>> round(xtrace(as_linear(np.diag([100.0, -3.0] + 50 * [0.01])), 12, seed=0).value, 1)
    97.5
    """
    if linear.size <= probes:
        return _summed(linear)
    count = probes // 2
    s = gaussian_probes(linear, count, seed) if linear.size < _LARGE else sign_probes(linear, count, seed)
    images = linear(s)
    basis = orthonormal(images)
    applied = linear(basis)
    within = gram(basis, applied).cpu()  # Q^T H Q
    shares = gram(basis, images).cpu()
    if not bool(shares.isfinite().all()):
        return Estimate(np.nan, np.nan)
    # Q_i is Q without the direction d_i that is orthogonal to the images of all other probes, if there is one: where
    # no combination of the others makes the i-th image
    left, values, right = torch.linalg.svd(shares, full_matrices=False)
    alone = 1.0 - right.square().sum(0) < torch.finfo(linear.dtype).eps ** 0.5
    directions = left @ (right / values[:, None])
    directions = directions / torch.linalg.vector_norm(directions, dim=0).clamp_min(1e-300) * alone
    inside = within.trace() - (directions * (within @ directions)).sum(0)
    taken = gram(basis, s).cpu()
    taken = taken - directions * (directions * taken).sum(0)
    mixing = taken.T.to(linear.device, linear.dtype)
    w = torch.addmm(s, mixing, basis, alpha=-1.0)
    # H w = H s_i - H Q c, from what has been multiplied already
    products = torch.addmm(images, mixing, applied, alpha=-1.0)
    rest = linear.size - len(basis) + alone.double()
    samples = inside + rest * dots(w, products) / dots(w, w).clamp_min(1e-300)
    # two estimates look at the rest along d_i and d_j: cos^2 of their angle is the correlation of what they see there,
    # by which the mean has more scatter and the estimates among each other less than independent ones
    common = float((directions.T @ directions).square().sum() - alone.sum()) / (count * (count - 1.0))
    shared = max(_SHARED, ((1.0 + (count - 1.0) * common) / max(1.0 - common, 1e-3)) ** 0.5)
    error = shared * _scatter(samples, _rounding(linear, within.diagonal()))
    return Estimate(float(samples.mean()), error)
