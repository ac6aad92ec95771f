"""Heat of minibatches in a spring, by how the batches are drawn."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.linalg

from landscape.checks import finite_number, one_of
from landscape.common.arguments import guarded
from landscape.common.positions import plain_array
from landscape.errors import ConfigError
from landscape.probes.estimation.series import FloatArray

__all__ = ["SAMPLINGS", "Sampling", "batch_temperature", "noise_factor"]

Sampling = Literal["epoch", "independent", "replacement"]
SAMPLINGS = ("epoch", "independent", "replacement")


def noise_factor(sampling: str, batch_size: int, samples: int) -> float:
    """f such that C f / B is the covariance of one batch gradient, C with divisor n - 1; of an epoch's full batches."""
    return (samples - 1) / samples if sampling == "replacement" else (samples - batch_size) / samples


@guarded
def batch_temperature(
    curvature: Any,
    noise: float,
    lr: float,
    batch_size: int,
    samples: int,
    *,
    sampling: Sampling,
    momentum: float = 0.0,
) -> FloatArray:
    r"""Temperature k <x^2> to which minibatches heat a direction of curvature k, exactly and at any step size.

    The loss is the mean of n terms k x^2 / 2 - a_i x; C is the variance of the a_i, with divisor n - 1. Under
    v <- mu v - eta g_B, x <- x + v the stationary variance is, for batches that are independent of each other,

    .. math:: k \langle x^2 \rangle = \frac{\eta \, f \, C}{B \, (1 - \mu) \, (2 - \eta k / (1 + \mu))} , \qquad
              f = \begin{cases} 1 - B/n & \text{independent subsets} \\ 1 - 1/n & \text{with replacement} \end{cases}

    which is one temperature for all slow directions. In a shuffled epoch each sample comes once, so that its batches of
    sizes b_i have covariances C (delta_ij / b_i - 1/n), the noise of an epoch sums to zero, and the variance is the
    solution of P = A^M P A^{M T} + C (sum_i W_i / b_i - a a^T / n) with W_i = A^{M - i} b b^T (A^{M - i})^T and a =
    sum_i A^{M - i} b, averaged over the M steps of an epoch. Without momentum and for eta k M << 1

    .. math:: k \langle x^2 \rangle \to \tfrac{1}{6} \eta^2 k \, (C / B) \, (1 - B/n) (M + 1) :

    proportional to the curvature, so there is no temperature; directions that relax within an epoch have nearly that
    of independent subsets.

    Parameters
    ----------
    curvature : float or array
        k > 0.
    noise : float
        C, of the gradients of single samples; `noise_trace` of `effective_temperature` over the number of directions.
    lr : float
        eta.
    batch_size, samples : int
        B and n; the last batch of an epoch holds what is left.
    sampling : {"epoch", "independent", "replacement"}
        As of `NetworkLoss`.
    momentum : float in [0, 1)
        mu.

    Returns
    -------
    array
        k <x^2>, of the shape of `curvature`; NaN where descent is not stable, and of epochs where lr k is below 1e-12.

    Raises
    ------
    ConfigError

    References
    ----------
    Mandt, Hoffman, Blei (2017), Stochastic gradient descent as approximate Bayesian inference, eq. 13, for the limit
    eta k -> 0 of independent batches.

    Examples
    --------
    >>> setting = dict(noise=1.0, lr=0.1, batch_size=2, samples=100)
    >>> batch_temperature([0.1, 1.0], **setting, sampling="independent").round(4)  # 0.1 * 0.98 / (2 * 2), nearly
    array([0.0246, 0.0258])
    >>> batch_temperature([0.1, 1.0], **setting, sampling="epoch").round(4)
    array([0.0037, 0.0182])
    """
    one_of("sampling", sampling, SAMPLINGS)
    finite_number("lr", lr, above=0)
    finite_number("noise", noise, least=0)
    finite_number("momentum", momentum, least=0, below=1)
    finite_number("batch_size", batch_size, least=1, most=finite_number("samples", samples, least=2))
    k = plain_array(curvature, "curvature").astype(np.float64)
    if not (np.isfinite(k) & (k > 0)).all():
        raise ConfigError(f"got curvature={k!r}; expected positive numbers")
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = noise_factor(sampling, batch_size, samples) / batch_size
        found = lr * scale / ((1.0 - momentum) * (2.0 - lr * k / (1.0 + momentum)))
    stable = lr * k < 2.0 * (1.0 + momentum)
    if sampling == "epoch":
        sizes = np.full(-(-samples // batch_size), batch_size)
        sizes[-1] = samples - batch_size * (len(sizes) - 1)
        found = np.empty_like(k)
        for at in np.ndindex(k.shape):
            found[at] = k[at] * _epoch_variance(float(k[at]), lr, momentum, sizes) if stable[at] else np.nan
    return np.where(stable, noise * found, np.nan)


def _epoch_variance(curvature: float, lr: float, momentum: float, sizes: FloatArray) -> float:
    """<x^2> for C = 1, over the states after each step of an epoch; NaN where rounding hides that it relaxes at all."""
    if lr * curvature < 1e-12:
        return float("nan")
    step = np.array([[1.0 - lr * curvature, momentum], [-lr * curvature, momentum]])  # of (x, v)
    kick = np.array([-lr, -lr])
    power, spread, common = np.eye(2), np.zeros((2, 2)), np.zeros(2)
    powers, spreads = [], []
    for size in sizes:
        power, common = step @ power, step @ common + kick
        spread = step @ spread @ step.T + np.outer(kick, kick) / size
        powers.append(power)
        spreads.append(spread - np.outer(common, common) / sizes.sum())
    start = scipy.linalg.solve_discrete_lyapunov(powers[-1], spreads[-1])
    return float(np.mean([(p @ start @ p.T + s)[0, 0] for p, s in zip(powers, spreads, strict=True)]))
