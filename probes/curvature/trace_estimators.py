"""Traces of matrices known by their products, each with a standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from landscape.probes._correlation import student_factor
from landscape.probes.curvature.linear import LinearMap, gaussian_probes, sign_probes

__all__ = ["Estimate", "hutch_plus_plus", "hutchinson", "xtrace"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A trace and its standard error, widened so that +- 1.96 of it is a 95 % interval for few probes too."""

    value: float
    stderr: float


# The estimates of XTrace share all probes but one, so their scatter says too little: by factors of 1.0 to 1.34 for the
# spectra of networks and of random matrices, 12 to 60 products.
_SHARED: Final = 4.0 / 3.0
_ROUNDINGS: Final = 10.0  # of the sum of absolute terms: the least error that is claimed


def _scatter(samples: Tensor, rounding: float) -> float:
    """Standard error of the mean of independent samples, at least the rounding error of what they are made of."""
    count = len(samples)
    spread = float(samples.std(correction=1)) / count**0.5 if count > 1 else np.nan
    return float(np.hypot(spread * float(student_factor(np.array(count - 1.0))), rounding))


def _rounding(linear: LinearMap, terms: Tensor) -> float:
    return _ROUNDINGS * torch.finfo(linear.dtype).eps * float(terms.double().abs().sum())


def hutchinson(linear: LinearMap, probes: int, seed: int) -> Estimate:
    r"""tr H ~ (1/m) sum_i z_i^T H z_i with random signs z_i.

    Its variance is 2 (|H|_F^2 - sum_j H_jj^2) / m. (Hutchinson 1990.)

    Examples
    --------
    >>> from landscape.probes.curvature.linear import as_linear
    >>> hutchinson(as_linear(np.diag([1.0, 2.0, 4.0])), 5, seed=0).value  # exact for a diagonal
    7.0
    """
    z = sign_probes(linear, probes, seed)
    samples = (z * linear(z)).sum(1).double()
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
    sketch = min(probes // 3, linear.size)
    rest = probes - 2 * sketch
    basis = torch.linalg.qr(linear(sign_probes(linear, sketch, seed, purpose=1)).T).Q.T  # rows
    inside = (basis * linear(basis)).sum(1).double()
    z = sign_probes(linear, rest, seed)
    for _ in range(2):
        z = z - (z @ basis.T) @ basis
    samples = (z * linear(z)).sum(1).double()
    rounding = _rounding(linear, torch.cat([inside, samples / rest]))
    return Estimate(float(inside.sum() + samples.mean()), _scatter(samples, rounding))


def xtrace(linear: LinearMap, probes: int, seed: int) -> Estimate:
    r"""Mean over i of tr(Q_i^T H Q_i) + w_i^T H w_i, with Q_i a basis of H S without the i-th of the m/2 probes S.

    w_i is the i-th probe with Q_i taken out, and scaled to length sqrt(N - rank Q_i). Every probe serves as sketch and
    as sample; the error is 4/3 of what it would be were the estimates independent. (Epperly, Tropp, Webber 2024.)

    Examples
    --------
    >>> from landscape.probes.curvature.linear import as_linear
    >>> round(xtrace(as_linear(np.diag([100.0, -3.0] + 50 * [0.01])), 12, seed=0).value, 1)
    97.5
    """
    count = min(probes // 2, linear.size)
    s = gaussian_probes(linear, count, seed)
    images = linear(s)
    factor = torch.linalg.qr(images.T)
    basis, upper = factor.Q.double(), factor.R.double()
    applied = linear(factor.Q.T.contiguous()).T.double()
    within = basis.T @ applied  # Q^T H Q
    # Q_i spans Q without the direction d_i that is orthogonal to all other columns of R
    inverse = torch.linalg.pinv(upper).T
    directions = inverse / torch.linalg.vector_norm(inverse, dim=0).clamp_min(1e-300)
    estimates = []
    for i in range(count):
        d, probe = directions[:, i], s[i].double()
        inside = torch.trace(within) - d @ within @ d
        coefficients = basis.T @ probe
        coefficients = coefficients - d * (d @ coefficients)
        w = probe - basis @ coefficients
        # H w = H s_i - H Q c, from what has been multiplied already
        product = images[i].double() - applied @ coefficients
        left = linear.size - count + 1
        estimates.append(inside + left * (w @ product) / (w @ w).clamp_min(1e-300))
    samples = torch.stack(estimates)
    error = _SHARED * _scatter(samples, _rounding(linear, within.diagonal()))
    return Estimate(float(samples.mean()), error)
