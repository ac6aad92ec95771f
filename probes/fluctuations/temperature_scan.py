"""How fluctuations scale with temperature: power laws and the fluctuation relation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import chdtrc

from landscape.errors import ConfigError
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.estimates import longer_needed
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.series import BoolArray, FloatArray
from landscape.probes.registry import probe, result_of

__all__ = ["temperature_scan"]

_NEEDED = ("mean", "variance", "half_time", "rate_times_temperature")
_SCATTER = 0.05
_HIGHEST_DEGREE = 7


@dataclass(frozen=True, slots=True)
class _Fit:
    """Polynomial in ln(T): values = design @ coefficients."""

    coefficients: FloatArray
    covariance: FloatArray
    chi2: float
    freedom: int
    solver: FloatArray

    @property
    def inflation(self) -> float:
        """Factor on errors: sqrt(chi2 / degrees of freedom) where points scatter more than chance allows (5 %)."""
        return _inflation(self.chi2, self.freedom)


def _inflation(chi2: float, freedom: int) -> float:
    if freedom < 1 or chdtrc(freedom, chi2) > _SCATTER:
        return 1.0
    return float(np.sqrt(chi2 / freedom))


@probe(
    "fluctuations.temperature_scan",
    result_of("fluctuations.summary"),
    pictures=("plot_temperature_scan", "plot_fluctuation_relation"),
)
def temperature_scan(summary: xr.Dataset) -> xr.Dataset:
    r"""Exponents and fluctuation relation from a summary by temperature.

    Power laws y = A T^p are fitted to the mean mu, the deviation sigma = sqrt(variance), the half-life tau and to
    beta T by least squares in logarithms, weighted by the errors; errors of exponents are enlarged by
    sqrt(chi2 / degrees of freedom) where points scatter more than chance allows (5 %). A quadratic has p = 1 for mu
    and sigma, p = 0 for tau and beta T. Jules et al. report 1, 1 and -1 for a cross-entropy network, and beta T = 1.

    In equilibrium, whatever the landscape,

    .. math:: \sigma^2 = T^2 \, d\mu / dT ,

    checked as the ratio of both sides with d mu / dT from a polynomial in ln T fitted to ln mu, of one degree more
    than the means call for (2 at least). Errors take in that mu enters both sides, the covariance of mu and sigma^2 at
    each temperature, and the fit; a feature of mu(T) narrower than the spacing of temperatures cannot be seen.

    The length sqrt(T tau) is, up to sqrt(2), what a free direction diffuses in tau.

    Only temperatures at which the run is resolved and stationary enter; the others stay, with `used` False.

    Parameters
    ----------
    summary : xarray.Dataset
        Result of ``summary(..., by="temperature")``.

    Returns
    -------
    xarray.Dataset
        On `temperature`: `mean`, `deviation`, `half_time`, `rate_times_temperature`, `length_scale`,
        `fluctuation_relation`, `fluctuation_relation_z` and `used`. Scalars: `mean_exponent`, `deviation_exponent`,
        `half_time_exponent`, `rate_times_temperature_exponent` and the `..._prefactor` A of each at the geometric
        mean of the temperatures used (coordinate `reference_temperature`); `mean_rate_times_temperature`,
        `mean_fluctuation_relation`, `fluctuation_relation_chi2` and its `p_value`. With two temperatures the
        relation is NaN. Each estimate has its `_stderr`.

    Raises
    ------
    ConfigError
        If the dataset is no summary by temperature, or fewer than two temperatures can be used; the message lists
        those left out and why.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise, Fig. 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from landscape.probes.fluctuations import summary
    >>> temperature = np.repeat([0.01, 0.03, 0.1], 4)
    >>> energy = np.random.default_rng(1).gamma(10.0, temperature, (2000, 12)).T
    >>> scan = temperature_scan(summary(energy, temperature, by="temperature"))
    >>> z = (scan.mean_exponent - 1) / scan.mean_exponent_stderr
    >>> bool(abs(z) < 4.5), bool(scan.fluctuation_relation_p_value > 1e-5)
    (True, True)
    """
    _check(summary)
    t = summary["temperature"].to_numpy().astype(np.float64)
    used, reasons = _usable(summary, t)
    if used.sum() < 2:
        left_out = "; ".join(reasons) or "none"
        raise ConfigError(f"a scan needs two usable temperatures, got {int(used.sum())}; left out: {left_out}")
    reference = float(np.exp(np.log(t[used]).mean()))
    scan = _per_temperature(summary, t, used)
    scalars: dict[str, float] = {}
    for name in ("mean", "deviation", "half_time", "rate_times_temperature"):
        scalars |= _power_law(name, t / reference, scan[name].to_numpy(), scan[f"{name}_stderr"].to_numpy(), used)
    value, error = _weighted_mean(scan["rate_times_temperature"], scan["rate_times_temperature_stderr"], used)
    scalars |= {"mean_rate_times_temperature": value, "mean_rate_times_temperature_stderr": error}
    relation, totals = _fluctuation_relation(summary, t / reference, used)
    scan = scan.assign({name: ("temperature", column) for name, column in relation.items()})
    scan = scan.assign(scalars | totals).assign_coords(reference_temperature=reference)
    scan.attrs.update(
        title="Temperature scan",
        conventions="power laws by weighted least squares in logarithms, errors times sqrt(chi2/dof) where "
        "chi2 is significant at 5 %; half_time as in summary",
        cost="none beyond the summary",
        left_out="; ".join(reasons) or "none",
    )
    energy_units = str(summary["mean"].attrs.get("units", "1"))
    return annotate(scan, energy_units, str(summary["half_time"].attrs.get("units", "1")), GLOSSARY["temperature_scan"])


def _check(summary: xr.Dataset) -> None:
    if not isinstance(summary, xr.Dataset) or "temperature" not in summary.dims:
        raise ConfigError('a temperature scan needs the result of summary(..., by="temperature")')
    wanted = [*_NEEDED, *(f"{name}_stderr" for name in _NEEDED), "resolved", "stationary", "mean_variance_correlation"]
    missing = [name for name in wanted if name not in summary]
    if missing:
        raise ConfigError(f"the summary lacks {missing}; make it with summary(..., by='temperature')")


def _usable(summary: xr.Dataset, t: FloatArray) -> tuple[BoolArray, list[str]]:
    resolved, stationary = (summary[name].to_numpy().astype(bool) for name in ("resolved", "stationary"))
    finite = np.ones(t.size, dtype=bool)
    for name in ("mean", "variance"):
        value, error = summary[name].to_numpy(), summary[f"{name}_stderr"].to_numpy()
        with np.errstate(invalid="ignore"):
            finite &= np.isfinite(value) & np.isfinite(error) & (value > 0) & (error > 0)
    longer = np.full(t.size, np.nan)
    if {"correlation_times", "chains_used"} <= set(summary.data_vars):
        longer = longer_needed(summary["correlation_times"].to_numpy(), summary["chains_used"].to_numpy())
    reasons = []
    for i, value in enumerate(t):
        why = []
        if not t[i] > 0:
            why.append("not positive")
        if not resolved[i]:
            needed = "" if not longer[i] > 1 else f", {longer[i]:.2g} times as many steps needed"
            why.append(f"shorter than 50 correlation times{needed}")
        if not stationary[i]:
            why.append("halves differ by more than 3 errors")
        if not why and not finite[i]:
            why.append("mean or variance not positive or without error")
        if why:
            reasons.append(f"T = {value:g} ({', '.join(why)})")
    return resolved & stationary & finite & (t > 0), reasons


def _per_temperature(summary: xr.Dataset, t: FloatArray, used: BoolArray) -> xr.Dataset:
    columns = {name: summary[name] for base in ("mean", "half_time", "rate_times_temperature") for name in _pair(base)}
    variance, error = (summary[name].to_numpy() for name in _pair("variance"))
    tau, tau_error = (summary[name].to_numpy() for name in _pair("half_time"))
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation, length = np.sqrt(variance), np.sqrt(t * tau)
        extra = {
            "deviation": deviation,
            "deviation_stderr": 0.5 * error / deviation,
            "length_scale": length,
            "length_scale_stderr": 0.5 * length * tau_error / tau,
            "used": used,
        }
    scan = xr.Dataset(columns).drop_vars([c for c in summary.coords if c != "temperature"])
    return scan.assign({name: ("temperature", column) for name, column in extra.items()})


def _pair(name: str) -> tuple[str, str]:
    return name, f"{name}_stderr"


def _fit(x: FloatArray, y: FloatArray, error: FloatArray, degree: int) -> _Fit:
    design: FloatArray = np.vander(x, degree + 1, increasing=True) / error[:, None]
    covariance: FloatArray = np.linalg.inv(design.T @ design).astype(np.float64)
    solver: FloatArray = covariance @ design.T / error
    coefficients = solver @ y
    residual = y / error - design @ coefficients
    return _Fit(coefficients, covariance, float(residual @ residual), x.size - degree - 1, solver)


def _power_law(name: str, t: FloatArray, value: FloatArray, error: FloatArray, used: BoolArray) -> dict[str, float]:
    """Exponent and prefactor of one quantity, NaN with fewer than two usable values."""
    with np.errstate(invalid="ignore"):
        good = used & np.isfinite(value) & np.isfinite(error) & (value > 0) & (error > 0)
    keys = (*_pair(f"{name}_exponent"), *_pair(f"{name}_prefactor"))
    if good.sum() < 2:
        return dict.fromkeys(keys, float("nan"))
    fit = _fit(np.log(t[good]), np.log(value[good]), error[good] / value[good], 1)
    errors = np.sqrt(np.diag(fit.covariance)) * fit.inflation
    prefactor = float(np.exp(fit.coefficients[0]))
    values = (float(fit.coefficients[1]), float(errors[1]), prefactor, prefactor * float(errors[0]))
    return dict(zip(keys, values, strict=True))


def _weighted_mean(value: xr.DataArray, error: xr.DataArray, used: BoolArray) -> tuple[float, float]:
    v, e = value.to_numpy(), error.to_numpy()
    with np.errstate(invalid="ignore"):
        good = used & np.isfinite(v) & np.isfinite(e) & (e > 0)
    if not good.any():
        return float("nan"), float("nan")
    # Weights by relative error: a value that comes out low has a low absolute error, and would draw the mean down.
    relative = e[good] / np.abs(v[good])
    weight = relative**-2 / (relative**-2).sum()
    mean = float(weight @ v[good])
    chi2 = float((((v[good] - mean) / (relative * mean)) ** 2).sum())
    return mean, abs(mean) * float((relative**-2).sum() ** -0.5) * _inflation(chi2, int(good.sum()) - 1)


def _fluctuation_relation(
    summary: xr.Dataset, t: FloatArray, used: BoolArray
) -> tuple[dict[str, FloatArray], dict[str, float]]:
    """ln R = ln sigma^2 - ln T - ln mu - ln(d ln mu / d ln T) and its covariance to first order."""
    blank = np.full(t.size, np.nan)
    columns = {"fluctuation_relation": blank, "fluctuation_relation_stderr": blank.copy()}
    columns["fluctuation_relation_z"] = blank.copy()
    keys = (*_pair("mean_fluctuation_relation"), "fluctuation_relation_chi2", "fluctuation_relation_p_value")
    if used.sum() < 3:
        return columns, dict.fromkeys(keys, float("nan"))
    true_t = summary["temperature"].to_numpy()[used]
    mean, variance = summary["mean"].to_numpy()[used], summary["variance"].to_numpy()[used]
    mean_error = summary["mean_stderr"].to_numpy()[used] / mean
    variance_error = summary["variance_stderr"].to_numpy()[used] / variance
    shared = np.nan_to_num(summary["mean_variance_correlation"].to_numpy()[used]) * mean_error * variance_error
    x = np.log(t[used])
    fit, lower = _smooth(x, np.log(mean), mean_error)
    slopes, slope = _slopes(x, fit)
    if np.any(slope <= 0):
        return columns, dict.fromkeys(keys, float("nan"))
    # The logarithm of a noisy estimate is low by half its relative variance.
    log_ratio = np.log(variance / (true_t * mean * slope)) + 0.5 * (variance_error**2 - mean_error**2)
    by_mean = -np.eye(x.size) - (slopes @ fit.solver[1:]) / slope[:, None]
    crossed = by_mean * shared
    covariance = by_mean * mean_error**2 @ by_mean.T + np.diag(variance_error**2) + crossed + crossed.T
    if lower is not None:
        missed = _slopes(x, lower)[1] / slope - 1.0
        covariance += np.outer(missed, missed)
    # A fit worse than its errors means a slope worse than its error.
    covariance += (fit.inflation**2 - 1.0) * (slopes @ fit.covariance[1:, 1:] @ slopes.T) / np.outer(slope, slope)
    error = np.sqrt(np.diag(covariance))
    columns["fluctuation_relation"][used] = np.exp(log_ratio)
    columns["fluctuation_relation_stderr"][used] = np.exp(log_ratio) * error
    columns["fluctuation_relation_z"][used] = log_ratio / error
    inverse = np.linalg.inv(covariance)
    chi2 = float(log_ratio @ inverse @ log_ratio)
    weight = inverse.sum(axis=0) / inverse.sum()
    average = float(np.exp(weight @ log_ratio))
    values = (average, average * float(inverse.sum() ** -0.5), chi2, float(chdtrc(x.size, chi2)))
    return columns, dict(zip(keys, values, strict=True))


def _slopes(x: FloatArray, fit: _Fit) -> tuple[FloatArray, FloatArray]:
    """Derivative of the polynomial at `x`: as a matrix on its coefficients without the first, and its values."""
    powers = np.arange(1, fit.coefficients.size)
    matrix = powers * x[:, None] ** (powers - 1)
    return matrix, matrix @ fit.coefficients[1:]


def _smooth(x: FloatArray, y: FloatArray, error: FloatArray) -> tuple[_Fit, _Fit | None]:
    """Polynomial one degree above what the data call for, so that what it misses is less than its error.

    The degree called for is the last that lowers chi-square significantly, alone or together with the one before. If
    that is the highest possible there is nothing to show that the next would not matter: the fit one degree lower is
    returned too, and the difference of the two is a measure of what is missed.
    """
    highest = min(x.size - 1, _HIGHEST_DEGREE)
    fits = {degree: _fit(x, y, error, degree) for degree in range(1, highest + 1)}
    called_for = 1
    for degree in range(2, highest + 1):
        steps = degree - called_for
        if chdtrc(steps, max(fits[called_for].chi2 - fits[degree].chi2, 0.0)) < _SCATTER:
            called_for = degree
    chosen = min(max(called_for + 1, 2), highest)
    return fits[chosen], fits[chosen - 1] if chosen == called_for else None
