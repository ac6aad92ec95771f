"""How heavy a tail is: Hill's estimate, extrapolated to the end of the tail."""

from __future__ import annotations

import numpy as np

from landscape.probes.estimation.series import FloatArray
from landscape.statistics import NORMAL

__all__ = ["tail_index"]

_LARGEST_ERROR = 1.0 / 3.0  # relative, of 1/index: beyond it a power law is not told from a lighter tail


def tail_index(norms: FloatArray, tail: float) -> tuple[float, float]:
    r"""Index a of a tail P(X > x) ~ x^-a from the k largest values, and its standard error.

    Hill's estimate of 1/a is the mean of the scaled spacings U_i = i ln(x_i / x_{i+1}). Where the law becomes a power
    only at its end their mean drifts, to first order like i/(k + 1) [1]: the intercept of a straight line through them
    is taken, with deviation 2/(a sqrt(k)). What it corrects in Hill's estimate is added to the error in squares, for
    the drift may have another exponent. The error of a reaches to the farther end of the interval of 1/a. Both are NaN
    where the error of 1/a is more than a third of it: too few values, or no power law within them.

    References
    ----------
    .. [1] A. Feuerverger, P. Hall, "Estimating a tail exponent by modelling departure from a Pareto distribution",
       Ann. Stat. 27, 760 (1999).

    Examples
    --------
    >>> quantiles = (1 - (np.arange(10_000) + 0.5) / 10_000) ** (-1 / 3)
    >>> round(tail_index(quantiles, 0.1)[0], 1)
    3.0
    """
    ordered = np.sort(norms)[::-1]
    k = min(int(tail * norms.size), norms.size - 1)
    if k < 3 or not ordered[k] > 0 or not np.isfinite(ordered[0]):
        return float("nan"), float("nan")
    i = np.arange(1, k + 1)
    spacings = i * np.log(ordered[:k] / ordered[1 : k + 1])
    place = i / (k + 1.0) - 0.5
    hill = float(spacings.mean())
    inverse = hill - 0.5 * float((place * spacings).sum() / (place**2).sum())
    error = float(np.hypot(2.0 * hill / np.sqrt(k), hill - inverse))
    if not error < _LARGEST_ERROR * inverse:
        return float("nan"), float("nan")
    relative = error / inverse
    return 1.0 / inverse, relative / (1.0 - NORMAL * relative) / inverse
