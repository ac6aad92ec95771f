"""Free energies of runs with hills: by reweighting, and from the bias itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.interpolate import RegularGridInterpolator

from landscape.checks import finite_number, whole_number
from landscape.errors import ConfigError
from landscape.probes.estimation.describe import about
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.averages import FEWEST_CHAINS, FEWEST_TIMES, clusters, resolution
from landscape.probes.registry import Reading, probe
from landscape.statistics import standard_error

__all__ = ["metadynamics"]

LEAST_SHARE = 0.5  # of the groups of walkers, that has to carry the weight: below it one or two decide
WITHIN_BIN = 8  # points of a bin that the bias is averaged over, along each coordinate
AGREE = 4.0  # mean square of the difference of two estimates over its error, beyond which they disagree


@probe("free_energy.metadynamics", Reading("a run with Metadynamics", ("hills",)))
def metadynamics(
    run: xr.Dataset, temperature: float | None = None, *, bins: int = 40, discard: float = 0.3
) -> xr.Dataset:
    r"""Free energy along the collective coordinates of a run with `landscape.Metadynamics`, in two independent ways.

    Reweighting: each draw has the weight of Tiwary and Parrinello,

    .. math:: w_t \propto e^{[V_b(q_t, t) - c(t)] / T}, \qquad F(q) = -T \ln \sum_t w_t \, 1(q_t \in \mathrm{bin}),

    which is exact where no hills are added any more (`stop`), and otherwise as good as c(t) follows the bias. From the
    bias: F = -gamma/(gamma - 1) V_b + const, averaged over groups of walkers.

    Parameters
    ----------
    run : xarray.Dataset
    temperature : float, optional
        Of the chains to take, where there are several.
    bins : int
        Of each coordinate, over the range of the hills.
    discard : float
        Fraction of the draws at the beginning that is left out; of a run with `stop` those up to it are left out too.

    Returns
    -------
    xarray.Dataset
        On bin centres, named after the coordinates: ``free_energy``, by reweighting, and ``free_energy_from_bias``,
        of the average density in the bin, each less its mean over the bins that were visited, with standard errors;
        ``count``; ``resolved``; ``agree``, whether the two differ by what their errors allow; ``correlation_times``,
        ``chains_agree``, ``weight_share``, the part of the groups that carries the weight.

    Raises
    ------
    ConfigError
        If the run has no hills, or several temperatures.

    Notes
    -----
    Errors come from the scatter between groups of walkers (chains, unless they share their bias), and are NaN for fewer
    than eight groups, where fewer than half of them carry the weight, and below 50 correlation times of all chains.
    The error of the bias is its scatter alone: hills as wide as the structure of F smooth it, and a bias that still
    grows lags behind, which shows as disagreement. Where the two disagree the bias has no error, nor has reweighting
    unless the run is resolved or its hills have stopped; bins that were not visited have none. Costs no gradients.

    References
    ----------
    Barducci, Bussi, Parrinello, Phys. Rev. Lett. 100, 020603 (2008), eq. 5. Tiwary, Parrinello, J. Phys. Chem. B 119,
    736 (2015), eqs. 11 to 13.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Quadratic([1.0])
    >>> hills = ls.Metadynamics("x", height=0.1, width=0.5, every=20, bias_factor=4.0, range=(-3.0, 3.0), stop=1000)
    >>> run = ls.simulate(spring, ls.MALA(dt=0.3), temperature=0.5, chains=16, steps=3000, record=ls.Record(10),
    ...                   constraint=hills, seed=1)
    >>> found = metadynamics(run, bins=12)
    >>> middle = found.sel(x=slice(-1.5, 1.5))
    >>> away = middle.free_energy - middle.x**2 / 2
    >>> bool((abs(away - away.mean()) < 4.5 * middle.free_energy_stderr).all())
    True
    """
    if not isinstance(run, xr.Dataset) or not {"hills", "collective", "bias", "bias_offset"} <= set(run.variables):
        raise ConfigError("expected a run with Metadynamics among its constraints, from `simulate`")
    whole_number("bins", bins, least=2)
    if not 0 <= discard < 1:
        raise ConfigError(f"discard must be a fraction of the draws, 0 or more and below 1, got {discard!r}")
    about, walkers = run.hills.attrs, int(run.hills.attrs["walkers"])
    chosen, t = _at_temperature(run, temperature)
    kept = run.isel(chain=chosen)
    begin = int(discard * kept.sizes["draw"])
    if about["stop"] >= 0:
        begin = max(begin, int(np.searchsorted(kept.step.values, about["stop"], side="right")))
    kept = kept.isel(draw=slice(begin, None))
    if kept.sizes["draw"] < 2:
        raise ConfigError("no draws are left: the run ends before its hills stop, or discard is too large")
    q = kept.collective.to_numpy().reshape(kept.sizes["chain"], kept.sizes["draw"], -1)
    edges = [
        np.linspace(low, high, bins + 1)
        for low, high in zip(np.atleast_1d(about["low"]), np.atleast_1d(about["high"]), strict=True)
    ]
    names = _names(about)
    centers = [0.5 * (edge[1:] + edge[:-1]) for edge in edges]
    groups = len(q) // walkers
    weight = (kept.bias - kept.bias_offset).to_numpy() / t
    weight = np.exp(weight - weight.max())
    held = np.stack([
        np.histogramdd(q[i : i + walkers].reshape(-1, len(edges)), edges, weights=weight[i : i + walkers].ravel())[0]
        for i in range(0, len(q), walkers)
    ])  # fmt: skip
    count = np.histogramdd(q.reshape(-1, len(edges)), edges)[0]
    total = held.sum(axis=0)
    seen = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = _centered(-t * np.log(total), seen)
        parts = -t * np.where(seen, held / total, np.nan)
    parts = parts - np.stack([np.full(seen.shape, part[seen].mean()) for part in parts])
    share = float(held.sum(axis=tuple(range(1, held.ndim))).sum() ** 2 /
                  (held.sum(axis=tuple(range(1, held.ndim))) ** 2).sum() / groups)  # fmt: skip
    lengths = [resolution(q[:, :, k], np.zeros(len(q), dtype=np.intp)) for k in range(len(edges))]
    times = min(float(one.times[0]) for one in lengths)
    known = groups >= FEWEST_CHAINS and share >= LEAST_SHARE and times >= FEWEST_TIMES
    error = clusters(parts) if known else np.full(seen.shape, np.nan)
    from_bias = _from_bias(run, chosen[::walkers] // walkers, edges, t, seen)
    scatter = standard_error(from_bias) if groups >= FEWEST_CHAINS else np.full(seen.shape, np.nan)
    mean = from_bias.mean(axis=0)
    with np.errstate(invalid="ignore"):
        apart = (free_energy - mean) ** 2 / (error**2 + scatter**2)
    agree = bool(np.nanmean(apart) <= AGREE) if np.isfinite(apart).any() else False
    long = known and all(bool(one.resolved[0]) for one in lengths)
    if not (agree or long or about["stop"] >= 0):
        error = np.full(seen.shape, np.nan)
    scatter = np.where(seen & agree, scatter, np.nan)  # a bias that still grows may be alike in all groups, and wrong
    alike = all(bool(one.agree[0]) for one in lengths)
    values = {
        "free_energy": (names, np.where(seen, free_energy, np.nan)),
        "free_energy_stderr": (names, np.where(seen, error, np.nan)),
        "free_energy_from_bias": (names, mean), "free_energy_from_bias_stderr": (names, scatter),
        "count": (names, count.astype(np.int64)), "resolved": long and alike,
        "agree": agree,
        "correlation_times": times, "chains_agree": alike, "weight_share": share,
    }  # fmt: skip
    dataset = xr.Dataset(values, dict(zip(names, centers, strict=True)), {
        "title": "Free energy from metadynamics", "temperature": t, "method": "well-tempered metadynamics, reweighted",
        "bias_factor": about["bias_factor"], "zero": "mean over the bins that were visited",
    })  # fmt: skip
    return with_steps_needed(_labelled(dataset, names), Length.of(run), groups)


def _at_temperature(run: xr.Dataset, temperature: float | None) -> tuple[Any, float]:
    """Chains of one temperature.

    Raises
    ------
    ConfigError
    """
    heat = run.temperature.to_numpy()
    known = np.unique(heat)
    if temperature is None and len(known) > 1:
        raise ConfigError(f"the run has the temperatures {known.tolist()}: give temperature")
    t = finite_number("temperature", known[0] if temperature is None else temperature, above=0)
    chosen = np.flatnonzero(np.isclose(heat, t))
    if not len(chosen):
        raise ConfigError(f"no chain has the temperature {t:g}; there are {known.tolist()}")
    return chosen, t


def _names(about: dict[str, Any]) -> list[str]:
    """Names of the coordinates as those of dimensions."""
    given = [about["names"]] if isinstance(about["names"], str) else list(about["names"])
    return [name if str(name).isidentifier() else f"q{i}" for i, name in enumerate(given)]


def _centered(values: FloatArray, seen: Any) -> FloatArray:
    return np.asarray(values - values[seen].mean())


def _from_bias(run: xr.Dataset, groups: Any, edges: list[FloatArray], t: float, seen: Any) -> FloatArray:
    """-T ln of the average of exp[g/(g-1) V_b/T] in each bin, of each group, less its mean over the bins seen."""
    factor = run.hills.attrs["bias_factor"]
    nodes = [run[dim].to_numpy() for dim in run.hills.dims[1:]]
    inside = (np.arange(WITHIN_BIN) + 0.5) / WITHIN_BIN
    fine = [(edge[:-1, None] + np.diff(edge)[:, None] * inside).ravel() for edge in edges]
    at = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1)
    rows = []
    for table in run.hills.to_numpy()[groups]:
        value = RegularGridInterpolator(nodes, table, method="linear")(at) * factor / (factor - 1.0) / t
        shape = [size for edge in edges for size in (len(edge) - 1, WITHIN_BIN)]
        top = value.max()
        mean = np.exp(value - top).reshape(shape).mean(axis=tuple(range(1, 2 * len(edges), 2)))
        rows.append(_centered(-t * (np.log(mean) + top), seen))
    return np.stack(rows)


def _labelled(dataset: xr.Dataset, names: list[str]) -> xr.Dataset:
    texts = {
        "free_energy": ("free energy, by reweighting", "energy"),
        "free_energy_from_bias": ("free energy, from the bias", "energy"),
        "count": ("draws in the bin", "1"), "resolved": ("long enough for its errors", "1"),
        "agree": ("reweighting and bias agree within their errors", "1"),
        "correlation_times": ("length of all chains in correlation times", "1"),
        "chains_agree": ("scatter between chains explained by correlations within them", "1"),
        "weight_share": ("part of the groups of walkers that carries the weight", "1"),
    } | {name: (name, "1") for name in names}  # fmt: skip
    for key in dataset.variables:
        base = str(key).removesuffix("_stderr")
        text, units = texts[base]
        dataset[key].attrs = about(str(key), units, text)
    return dataset
