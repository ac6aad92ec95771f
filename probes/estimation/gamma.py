r"""The Gamma distribution of energies: maximum likelihood and moments, with second-order bias removed.

Density with location 0: p(x) = beta^alpha x^(alpha - 1) exp(-beta x) / Gamma(alpha). With s = ln<x> - <ln x>,
maximum likelihood solves ln(alpha) - psi(alpha) = s and beta = alpha / <x>; moments give alpha = <x>^2 / var(x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import polygamma, psi

from landscape.probes.estimation.series import FloatArray, IntArray

__all__ = [
    "GammaFit",
    "bias_moments",
    "bias_rate",
    "bias_shape",
    "fit_gamma",
    "influence",
    "maximum_likelihood",
    "slope",
    "tail_factor",
]


@dataclass(frozen=True, slots=True)
class GammaFit:
    """Estimates per group, before bias correction: <x>, var(x), <ln x>, and the shapes from them."""

    mean: FloatArray
    variance: FloatArray
    mean_log: FloatArray
    shape: FloatArray
    shape_moments: FloatArray


def maximum_likelihood(gap: FloatArray) -> FloatArray:
    """Solve ln(a) - psi(a) = gap for a, NaN where gap is not positive.

    Newton's iteration in 1/a from a rational start (T. Minka, "Estimating a Gamma distribution", 2002); six steps reach
    1e-10 for every gap above 1e-5, below which rounding in ln(a) - psi(a) is the limit.
    """
    gap = np.asarray(gap, dtype=np.float64)
    valid = np.isfinite(gap) & (gap > 0)
    s = np.where(valid, gap, 1.0)
    a = (3.0 - s + np.sqrt((s - 3.0) ** 2 + 24.0 * s)) / (12.0 * s)
    for _ in range(6):
        a = 1.0 / (1.0 / a + (np.log(a) - psi(a) - s) / (a**2 * (1.0 / a - polygamma(1, a))))
    return np.where(valid, a, np.nan)


def fit_gamma(mean: FloatArray, variance: FloatArray, mean_log: FloatArray, lowest: FloatArray) -> GammaFit:
    """Both estimates of the shape from moments; NaN where a value is not positive or nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = (lowest > 0) & (variance > 0)
        gap = np.where(usable, np.log(np.where(usable, mean, 1.0)) - mean_log, np.nan)
        by_moments = np.where((lowest >= 0) & (variance > 0), mean**2 / variance, np.nan)
    return GammaFit(mean, variance, mean_log, maximum_likelihood(gap), by_moments)


def tail_factor(fit: GammaFit, fourth: FloatArray) -> FloatArray:
    """How much too small the error of a second moment is if the values follow the fitted Gamma distribution.

    In most short runs the fourth moment of a skewed law comes out too low, and the error bar with it; that of a
    Gamma distribution is known: var((x - mean)^2) = (mean^2 / alpha)^2 (2 + 6 / alpha). Never less than 1.
    """
    with np.errstate(all="ignore"):
        expected = (fit.mean**2 / fit.shape) ** 2 * (2.0 + 6.0 / fit.shape)
        return np.asarray(np.sqrt(np.fmax(1.0, expected / (fourth - fit.variance**2))))


def slope(shape: FloatArray) -> FloatArray:
    """d alpha / d s of the maximum-likelihood shape."""
    return np.asarray(1.0 / (1.0 / shape - polygamma(1, shape)))


def influence(x: FloatArray, fit: GammaFit, rows: IntArray) -> dict[str, FloatArray]:
    """Influence series of both shapes and of the rate for a block whose rows belong to the groups `rows`."""
    mean, variance = fit.mean[rows][:, None], fit.variance[rows][:, None]
    shape, moments = fit.shape[rows][:, None], fit.shape_moments[rows][:, None]
    deviation = x - mean
    with np.errstate(all="ignore"):
        logarithm = np.log(x) - fit.mean_log[rows][:, None]
        by_likelihood = slope(fit.shape)[rows][:, None] * (deviation / mean - logarithm)
        by_moments = moments * (2.0 * deviation / mean - (deviation**2 - variance) / variance)
        rate = by_likelihood / mean - shape * deviation / mean**2
    return {"gamma_shape": by_likelihood, "gamma_shape_moments": by_moments, "gamma_rate": rate}


def bias_shape(fit: GammaFit, mean_error: FloatArray, shape_error: FloatArray) -> FloatArray:
    """Second-order bias of the maximum-likelihood shape; 3 alpha / n for n independent draws and large alpha.

    ln<x> is low by var(<x>) / (2 <x>^2), and alpha(s) is convex; `mean_error` and `shape_error` are the variances of
    the two estimates, so correlated draws count for what they are worth.
    """
    a = fit.shape
    first = slope(a)
    second = (1.0 / a**2 + polygamma(2, a)) * first**3
    with np.errstate(all="ignore"):
        return np.asarray(-0.5 * first * mean_error / fit.mean**2 + 0.5 * second * shape_error / first**2)


def bias_rate(
    fit: GammaFit, shape_bias: FloatArray, mean_error: FloatArray, shape_error: FloatArray, rate_error: FloatArray
) -> FloatArray:
    """Second-order bias of the rate alpha / <x>; the covariance of its two parts follows from the three variances."""
    a, mean = fit.shape, fit.mean
    with np.errstate(all="ignore"):
        shared = (shape_error / mean**2 + a**2 * mean_error / mean**4 - rate_error) * mean**3 / (2.0 * a)
        limit = np.sqrt(shape_error * mean_error)
        shared = np.clip(shared, -limit, limit)
        return np.asarray(shape_bias / mean - shared / mean**2 + a * mean_error / mean**3)


def bias_moments(
    fit: GammaFit, mean_error: FloatArray, variance_error: FloatArray, moments_error: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Second-order bias of <x>^2 / var(x), and the correlation of the errors of <x> and var(x)."""
    mean, variance = fit.mean, fit.variance
    with np.errstate(all="ignore"):
        by_mean, by_variance = 2.0 * mean / variance, mean**2 / variance**2
        shared = (by_mean**2 * mean_error + by_variance**2 * variance_error - moments_error) / (
            2.0 * by_mean * by_variance
        )
        limit = np.sqrt(mean_error * variance_error)
        shared = np.clip(shared, -limit, limit)
        bias = mean_error / variance - 2.0 * mean * shared / variance**2 + mean**2 * variance_error / variance**3
        return np.asarray(bias), np.asarray(shared / limit)
