"""Runs that were projected onto a path, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.pairs import pair_of_chains
from landscape.statistics import equal_rows
from landscape.storage.files import read_spec

__all__ = ["FloatArray", "Projected", "first_zero"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """Arc length and time at the projections of a run.

    Attributes
    ----------
    arc : array ``(chain, projection)``
    time : array ``(chain, projection)``
    temperature : array ``(chain,)``
    momentum : array ``(chain,)``
        Of the optimiser; 0 where it has none, NaN where the run does not say what it was made by.
    pair : array of int ``(chain,)``
        Chains of one pair ride opposite noise; chains of different pairs are independent.
    length : float
        Of the path.
    """

    arc: FloatArray
    time: FloatArray
    temperature: FloatArray
    momentum: FloatArray
    pair: NDArray[np.int64]
    length: float

    @classmethod
    def of(cls, run: Any, temperature: Any = None) -> Projected:
        """From a run with projections; `temperature`, one or one per chain, stands for that of the run.

        Raises
        ------
        ConfigError, ShapeError
        """
        if not isinstance(run, xr.Dataset) or "arc_length" not in run or "projection" not in run.arc_length.dims:
            raise ConfigError(
                "expected a run with `arc_length (chain, projection)`: simulate with "
                "constraint=ProjectOntoPath(path, every=k)"
            )
        arc = run["arc_length"].transpose("chain", "projection").to_numpy().astype(float)
        if arc.shape[1] < 2:
            raise ShapeError(f"the run has {arc.shape[1]} projections, its start among them: 2 are needed at least")
        time = np.broadcast_to(run["projection_time"].transpose(..., "projection").to_numpy(), arc.shape)
        own = None if temperature is None else plain_array(temperature, "temperature").astype(float)
        given: Any = run["temperature"] if own is None else own
        if given.ndim == 2:
            raise ConfigError(
                "the temperature of the run changes in time: give `temperature`, or a run at constant one"
            )
        if given.ndim == 1 and len(given) != len(arc):
            raise ShapeError(f"got {len(given)} temperatures for {len(arc)} chains")
        values = np.array(np.broadcast_to(np.asarray(given, dtype=float), len(arc)))
        if not np.isfinite(values).all() or (values < 0).any():
            raise ConfigError(f"temperatures must be finite and not negative, got {temperature!r}")
        length = float(run.attrs.get("path_length", np.nanmax(arc)))
        return cls(arc, time, values, _momentum(run, len(arc)), pair_of_chains(run, len(arc)), length)

    @classmethod
    def joined(cls, runs: Any, temperature: Any = None) -> Projected:
        """From one run, or from several on one path with one temperature (or array) each."""
        if isinstance(runs, xr.Dataset) or not isinstance(runs, Sequence) or isinstance(runs, str):
            return cls.of(runs, temperature)
        if not len(runs):
            raise ConfigError("got no runs")
        if temperature is not None and len(temperature) != len(runs):
            raise ShapeError(f"got {len(temperature)} temperatures for {len(runs)} runs: give one for each")
        each = [None] * len(runs) if temperature is None else list(temperature)
        parts = [cls.of(run, own) for run, own in zip(runs, each, strict=True)]
        lengths = [part.length for part in parts]
        if np.ptp(lengths) > 1e-9 * lengths[0]:
            raise ConfigError(f"the runs are on paths of different lengths {lengths}: give runs on one path")
        most = max(part.arc.shape[1] for part in parts)

        def padded(values: FloatArray) -> FloatArray:
            return np.pad(values, ((0, 0), (0, most - values.shape[1])), constant_values=np.nan)

        first_pair = np.cumsum([0] + [part.pair.max() + 1 for part in parts])
        return cls(
            np.concatenate([padded(part.arc) for part in parts]),
            np.concatenate([padded(part.time) for part in parts]),
            np.concatenate([part.temperature for part in parts]),
            np.concatenate([part.momentum for part in parts]),
            np.concatenate([part.pair + first for part, first in zip(parts, first_pair[:-1], strict=True)]),
            lengths[0],
        )

    def by_temperature(self) -> list[tuple[float, NDArray[np.intp]]]:
        """Temperatures in rising order, each with its chains."""
        return [(t, chains) for (t,), chains in equal_rows(self.temperature)]


def _momentum(run: xr.Dataset, chains: int) -> FloatArray:
    """Of each chain, found by its number: the run may be a part of the one that its specification describes."""
    if "spec" not in run.attrs:
        return np.full(chains, np.nan)
    rule = read_spec(run).get("integrator") or {}
    while isinstance(rule.get("inner"), dict):
        rule = rule["inner"]
    value = np.asarray(rule.get("momentum", (rule.get("settings") or {}).get("momentum", 0.0)), dtype=float)
    if value.ndim == 0 or len(value) == 1:
        return np.full(chains, float(value.ravel()[0]))
    number = run.coords["chain"].to_numpy() if "chain" in run.coords else np.arange(chains)
    if not np.isin(number, np.arange(len(value))).all():
        raise ShapeError(
            f"the run has the chains {number.tolist()[:8]}, its momenta are of {len(value)}: choose chains by isel, "
            "which keeps their numbers"
        )
    return np.asarray(value[number.astype(int)])


def first_zero(values: FloatArray, time: FloatArray) -> FloatArray:
    """Time at which each row first falls to 0, interpolated linearly; NaN where it does not.

    Parameters
    ----------
    values, time : arrays ``(row, n)``

    Examples
    --------
    >>> first_zero(np.array([[3.0, 1.0, -1.0]]), np.array([[0.0, 2.0, 4.0]]))
    array([3.])
    """
    below = values <= 0
    after = np.argmax(below, axis=1)
    rows = np.arange(len(values))
    before = np.maximum(after - 1, 0)
    start, end = values[rows, before], values[rows, after]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(after > before, start / (start - end), 0.0)
    when = time[rows, before] + part * (time[rows, after] - time[rows, before])
    return np.where(below.any(axis=1), when, np.nan)
