"""Mean, variance and covariance of a run, with errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.common.arguments import guarded_class
from landscape.observers.base import Accumulator, FloatArray, Observer, Source, Variables, check_observer, units_of
from landscape.observers.blocking import level_sums, standard_error
from landscape.statistics import lengthen

__all__ = ["Moments"]


@guarded_class
@dataclass(frozen=True, slots=True)
class Moments(Observer):
    r"""Mean and variance of each column, and on demand the covariance of each two,

    .. math:: \bar x = \frac1n \sum_t x_t , \qquad
        \mathrm{cov}(x, y) = \frac1n \sum_t (x_t - \bar x)(y_t - \bar y) .

    The divisor is n, not n - 1: of correlated samples either is low by the square of the error of the mean.

    Parameters
    ----------
    of : str, sequence of str, or callable
        See `Observer`. Periodic coordinates are unwrapped: position plus the periods that the chain went round.
    covariance : bool
        Whether to keep the matrix of covariances as well.
    every : int, optional
        Steps between samples; the cadence of the record unless given.

    Returns
    -------
    Variables named after what is observed, here x; one value per chain and column:
        ``x_mean``, ``x_variance``, ``x_covariance`` with ``_stderr`` each, and ``x_samples (chain)``, the number n.

    Raises
    ------
    ConfigError
        If a setting makes no sense.

    Notes
    -----
    Samples are averaged in pairs, pairs in pairs and so on, which keeps rounding errors at the logarithm of n. The
    spread of the averages on every level gives the errors (Flyvbjerg and Petersen 1989; level chosen as in Lee et al.
    2011, see `landscape.observers.blocking`), the error of a covariance being that of the mean of (x - <x>)(y - <y>),
    with what it is low by; that of a variance is lengthened by 1 + r, r its relative error, and as for a quantity whose
    logarithm is normal. Errors are NaN where the run is too short to tell, also where it is for the mean. Memory: 5
    numbers per column and level, of which there are log2(n), and 7 per pair of columns with `covariance`. No gradients.

    References
    ----------
    .. [1] H. Flyvbjerg, H. G. Petersen, "Error estimates on averages of correlated data", J. Chem. Phys. 91, 461
       (1989).

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(3.0, 2.0, (8, 10_000))
    >>> found = Moments("x").apply(x)
    >>> bool((abs(found.x_mean - 3.0) < 4.5 * found.x_mean_stderr).all())
    True
    >>> bool((abs(found.x_variance - 4.0) < 4.5 * found.x_variance_stderr).all())
    True
    """

    of: Source = "position"
    covariance: bool = False
    every: int | None = None

    unwraps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_observer(self)

    def accumulator(self, chains: int, width: int) -> MomentsAccumulator:
        """An empty accumulator for samples of so many columns."""
        return MomentsAccumulator(self, chains, width)


class MomentsAccumulator(Accumulator):
    """Sums of `Moments`; levels are added as the samples double."""

    def __init__(self, observer: Moments, chains: int, width: int) -> None:
        self.observer = observer
        self.left, self.right = np.triu_indices(width if observer.covariance else 0, 1)
        pairs = len(self.left)
        super().__init__(
            chains,
            width,
            {
                "origin": np.zeros((chains, width)),
                "pending": np.zeros((chains, 1, width, 2)),
                "products": np.zeros((chains, 1, width, 3)),
                "pair_pending": np.zeros((chains, 1, pairs, 3)),
                "pair_products": np.zeros((chains, 1, pairs, 4)),
            },
        )

    def _outline(self, name: str, array: NDArray[Any]) -> tuple[Any, ...]:
        grows = name not in ("samples", "origin")
        return (array.dtype, array.ndim, array.shape[0], *array.shape[2 if grows else 1 :])

    def _update(self, block: NDArray[Any]) -> None:
        from landscape.observers import kernels  # compiled: only where samples arrive

        state = self.state
        if not self.samples:
            state["origin"][:] = block[:, 0]
        for name in ("pending", "products", "pair_pending", "pair_products"):
            missing = (self.samples + block.shape[1]).bit_length() - state[name].shape[1]
            if missing > 0:
                state[name] = np.pad(state[name], ((0, 0), (0, missing), (0, 0), (0, 0)))
        kernels.pair_squares(block, self.samples, state["origin"], state["pending"], state["products"])
        if len(self.left):
            pair = state["pair_pending"], state["pair_products"]
            kernels.pair_products(block, self.samples, state["origin"], self.left, self.right, *pair)

    def result(self, name: str, spacing: ArrayLike) -> Variables:
        """Means, variances, covariances, their errors, and the number of samples."""
        samples, (dims, variables) = self.samples, self.observer.columns(name, self.width)
        mean, sums = level_sums(
            samples, self.state["pending"][..., [0, 0, 1]], self.state["products"][..., [0, 1, 1, 2]]
        )
        centre, squares = mean[..., 0], sums[..., 0]
        shift = centre - self.state["origin"]
        spread = _spread(sums, (shift, shift), (squares, squares))
        mean_error, variance = standard_error(samples, squares), squares[0] / (samples or np.nan)
        variance_error = _of_products(standard_error(samples, spread), mean_error**2, variance)
        for kind, value, error, power in (
            ("mean", centre, mean_error, 1),
            ("variance", variance, variance_error, 2),
        ):
            shape = (self.chains, self.width) if dims else (self.chains,)
            both = value.reshape(shape), error.reshape(shape)
            variables |= self._described(f"{name}_{kind}", f"{kind} of {name}", ("chain", *dims), both, power)
        if self.observer.covariance:
            dim = dims[0] if dims else f"{name}_component"
            variables |= self._covariance(name, dim, (variance, variance_error), mean_error, squares, shift)
            if dims and dims[0] in variables:
                variables[f"{dims[0]}_2"] = ((f"{dims[0]}_2",), *variables[dims[0]][1:])
        about = {"long_name": f"number of samples of {name}", "units": "1"}
        return variables | {f"{name}_samples": (("chain",), np.full(self.chains, samples), about)}

    def _covariance(
        self,
        name: str,
        dim: str,
        diagonal: tuple[FloatArray, FloatArray],
        mean_error: FloatArray,
        squares: FloatArray,
        shift: FloatArray,
    ) -> Variables:
        """The matrix and its errors, from the sums on every level for single columns and for pairs of them."""
        samples, every, left, right = self.samples, np.arange(self.width), self.left, self.right
        _, sums = level_sums(samples, self.state["pair_pending"], self.state["pair_products"])
        mixed = _spread(sums, (shift[:, left], shift[:, right]), (squares[..., left], squares[..., right]))
        value, error = np.empty((2, self.chains, self.width, self.width))
        value[:, every, every], error[:, every, every] = diagonal
        value[:, left, right] = value[:, right, left] = sums[0, ..., 0] / (samples or np.nan)
        bias = mean_error[:, left] * mean_error[:, right]
        error[:, left, right] = error[:, right, left] = _of_products(standard_error(samples, mixed), bias)
        dims = ("chain", dim, f"{dim}_2")
        return self._described(f"{name}_covariance", f"covariance of {name}", dims, (value, error), 2)

    def _described(
        self, key: str, what: str, dims: tuple[str, ...], both: tuple[FloatArray, FloatArray], power: int
    ) -> Variables:
        units = units_of(self.observer.of, power)
        return {
            key: (dims, both[0], {"long_name": what, "units": units}),
            f"{key}_stderr": (dims, both[1], {"long_name": f"standard error of the {what}", "units": units}),
        }


def _of_products(error: FloatArray, bias: FloatArray, scale: FloatArray | None = None) -> FloatArray:
    """Error of an average of products about the sample means, with what these take off it; NaN where they have none.

    That of a variance is lengthened as that of a mean of positive values.
    """
    if scale is not None:
        error = lengthen(scale, error)
    return np.hypot(error, bias)


def _spread(
    sums: FloatArray, shifts: tuple[FloatArray, FloatArray], squares: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Sums of squared deviations of (x - <x>)(y - <y>) from those of q = (x - a)(y - b), x and y.

    With the shifts s = <x> - a and t = <y> - b it is q - t x - s y + const.
    """
    (s, t), (xx, yy) = shifts, squares
    xy, qx, qy, qq = np.moveaxis(sums, -1, 0)
    return np.asarray(qq + t**2 * xx + s**2 * yy + 2.0 * s * t * xy - 2.0 * t * qx - 2.0 * s * qy)
