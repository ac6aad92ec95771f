"""Probes called with what they were not made for: each call ends in a sane result or in an error of ours.

``LANDSCAPE_FUZZ=10000`` sets the number of calls; the ordinary run makes a few hundred, always the same.
"""

from __future__ import annotations

import os
import random
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.errors import LandscapeError
from landscape.probes import confinement, curvature, fluctuations, free_energy, rates

CALLS_MADE = int(os.environ.get("LANDSCAPE_FUZZ", "400"))
WELL = ls.potentials.Expression("x**2 + 2*y**2 + x*y", coordinates=["x", "y"])
RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=(3, 60))
LABELS = {"chain": range(3), "temperature": ("chain", [0.1, 0.1, 0.2]), "time": ("draw", 0.1 * np.arange(1, 61))}


def series(values, **coords):
    return xr.DataArray(values, dims=("chain", "draw"), coords=LABELS | coords, name="energy")


def with_nan(values, *index):
    values = values.copy()
    values[index] = np.nan
    return values


def run(**changed):
    rule = ls.EulerMaruyama(dt=0.05)
    return ls.simulate(WELL, rule, **({"temperature": [0.1, 0.1, 0.2], "steps": 60, "seed": 1} | changed))


RUN = run()
VALUES = {
    "nothing": None, "a word": "energy", "a number": 1.0, "a boolean": True, "a function": abs, "a dict": {"x": 1.0},
    "empty": np.empty((0,)), "empty rows": np.empty((2, 0)), "ragged": [[1.0, 2.0], [3.0]], "complex": SERIES + 1j,
    "words": [["a", "b"]], "objects": np.array([[None, 1.0]], dtype=object), "booleans": SERIES > 0,
    "a row": SERIES[0], "series": SERIES, "ints": (100 * SERIES).astype(np.int16), "float32": SERIES.astype(np.float32),
    "three axes": RNG.normal(size=(2, 20, 2)), "four axes": np.zeros((2, 2, 2, 2)), "one draw": SERIES[:, :1],
    "one chain": SERIES[:1], "two draws": SERIES[:, :2], "constant": np.ones((3, 60)), "zero": np.zeros((3, 60)),
    "one nan": with_nan(SERIES, 1, 30), "all nan": np.full((3, 60), np.nan), "infinite": np.full((3, 60), np.inf),
    "huge": 1e150 * SERIES, "tiny": 1e-300 * SERIES, "masked": np.ma.masked_greater(SERIES, 1.0),
    "tensor": torch.as_tensor(SERIES), "labelled": series(SERIES), "transposed": series(SERIES).T,
    "other labels": xr.DataArray(SERIES, dims=("a", "b")),
    "no time": series(SERIES, time=("draw", np.full(60, np.nan))),
    "back in time": series(SERIES, time=("draw", -np.arange(60.0))), "one labelled": series(SERIES).isel(chain=0),
    "place": [0.5, -0.2], "places": RNG.normal(size=(2, 2)), "lost place": [np.nan, 0.0], "far place": [1e100, 0.0],
    "labelled place": xr.DataArray([1.0, 2.0], dims="coordinate", coords={"coordinate": ["y", "x"]}),
    "wrong place": xr.DataArray([1.0, 2.0], dims="coordinate", coords={"coordinate": ["u", "v"]}),
    "a run": RUN, "a short run": RUN.isel(draw=slice(1)), "one chain of a run": RUN.isel(chain=[0]),
    "a run without draws": RUN.isel(draw=slice(0)), "a cold run": run(temperature=0.0, chains=2),
    "an empty set": xr.Dataset(), "a summary": fluctuations.summary(RUN, by="temperature"),
    "a spectrum": curvature.eigenvalues(WELL, np.zeros((2, 2))), "a well": WELL,
    "a path": ls.paths.straight_line([0.0, 0.0], [1.0, 1.0], 3),
    "a profile": free_energy.profile(RNG.normal(size=(8, 200)), 1.0, bins=5),
}  # fmt: skip
NUMBERS = [None, 1.0, 0.1, 0, -1, np.nan, np.inf, "a", [0.1, 0.2], [0.1, 0.1, 0.2], np.zeros(3), True, 1e-300, 10**6]

CALLS = {
    "summary": lambda a, b, n: fluctuations.summary(a, n),
    "summary by temperature": lambda a, b, n: fluctuations.summary(a, n, by="temperature"),
    "autocorrelation": lambda a, b, n: fluctuations.autocorrelation(a, n if isinstance(n, int) else None),
    "half_time": lambda a, b, n: fluctuations.half_time(a, discard=0 if n is None else n),
    "equilibration": lambda a, b, n: fluctuations.equilibration(a, temperature=n),
    "spikes": lambda a, b, n: fluctuations.spikes(a, factor=2.0 if n is None else n),
    "participation_ratio": lambda a, b, n: fluctuations.participation_ratio(a, n),
    "distance": lambda a, b, n: fluctuations.distance(a, b),
    "diffusion": lambda a, b, n: fluctuations.diffusion(a, temperature=n),
    "current": lambda a, b, n: fluctuations.current(a),
    "entropy_production": lambda a, b, n: fluctuations.entropy_production(a),
    "temperature_scan": lambda a, b, n: fluctuations.temperature_scan(a),
    "eigenvalues": lambda a, b, n: curvature.eigenvalues(WELL, a),
    "eigenvalues of anything": lambda a, b, n: curvature.eigenvalues(a, b),
    "trace": lambda a, b, n: curvature.trace(WELL, a, method="exact"),
    "largest_eigenvalue": lambda a, b, n: curvature.largest_eigenvalue(WELL, a),
    "diagonal": lambda a, b, n: curvature.diagonal(WELL, a),
    "project": lambda a, b, n: curvature.project(a, b),
    "temperature_scaling": lambda a, b, n: curvature.temperature_scaling(a),
    "along_path": lambda a, b, n: confinement.along_path(WELL, a, ["energy"]),
    "linear_connectivity": lambda a, b, n: confinement.linear_connectivity(WELL, a, ["energy"], points=3),
    "barriers": lambda a, b, n: confinement.barriers(a, n),
    "drift": lambda a, b, n: confinement.drift(a),
    "relaxation": lambda a, b, n: confinement.relaxation(a),
    "first_passage": lambda a, b, n: confinement.first_passage(a, n),
    "instability": lambda a, b, n: confinement.instability(a, stderr=b),
    "profile": lambda a, b, n: free_energy.profile(a, n, bins=5),
    "profile of x": lambda a, b, n: free_energy.profile(a, n, coordinate="x", bins=5),
    "harmonic": lambda a, b, n: free_energy.harmonic(WELL, a, n),
    "entropy": lambda a, b, n: free_energy.entropy(a, b, n),
    "work_average": lambda a, b, n: free_energy.work_average(a, b, temperature=n),
    "metadynamics": lambda a, b, n: free_energy.metadynamics(a, n),
    "core_sets": lambda a, b, n: rates.core_sets(a, {"A": "x < 0", "B": "x > 0.1"}),
    "escape_rate": lambda a, b, n: rates.escape_rate(a, {"A": "x < 0", "B": "x > 0.1"}),
    "committor_test": lambda a, b, n: rates.committor_test(a),
}  # fmt: skip


def check(found):
    """No infinite number has an error bar, no error bar is negative or stands beside a number that is not known."""
    assert isinstance(found, xr.Dataset)
    for name, values in found.data_vars.items():
        if f"{name}_stderr" not in found:
            continue
        error = found[f"{name}_stderr"].to_numpy()
        known = np.isfinite(error)
        assert not np.any(error[known] < 0), name
        if error.shape == values.shape:
            assert np.isfinite(values.to_numpy()[known]).all(), name


def outcome(call, first, second, number):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numbers that overflow or are divided by zero unseen
        warnings.filterwarnings(
            "ignore", "overflow encountered", RuntimeWarning
        )  # of 1e300: infinity, which is checked
        warnings.simplefilter("ignore", UserWarning)
        try:
            check(CALLS[call](VALUES[first], VALUES[second], number))
        except LandscapeError as error:
            return type(error).__name__
    return "result"


def test_calls():
    """The first so many of a fixed sequence."""
    chance = random.Random(1)
    for _ in range(CALLS_MADE):
        call, first, second = chance.choice(list(CALLS)), chance.choice(list(VALUES)), chance.choice(list(VALUES))
        number = chance.choice(NUMBERS)
        try:
            outcome(call, first, second, number)
        except Exception as error:
            raise AssertionError(f"{call} of {first}, {second} and {number!r}") from error


def test_the_check_sees_what_is_wrong():
    """Controls: of the result, and that both outcomes come about."""
    for wrong in ({"x": np.inf, "x_stderr": 0.1}, {"x": 1.0, "x_stderr": -0.1}, {"x": np.nan, "x_stderr": 0.1}):
        with pytest.raises(AssertionError):
            check(xr.Dataset(wrong))
    assert outcome("summary", "series", "nothing", None) == "result"
    assert outcome("summary", "ragged", "nothing", None) == "ShapeError"
