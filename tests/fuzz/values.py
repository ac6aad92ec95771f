"""What nobody should give to a function, and what some functions take gladly: each by a name."""

from __future__ import annotations

import copy
import functools
from datetime import datetime, timedelta

import numpy as np
import torch
import xarray as xr

import landscape as ls

RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=(3, 60))
TEMPERATURE = [0.1, 0.1, 0.2]
LABELS = {"chain": range(3), "temperature": ("chain", TEMPERATURE), "time": ("draw", 0.1 * np.arange(1, 61))}


def bowl(x):
    """A well that runs on the batched backend alone: nothing is compiled for it."""
    return x[..., 0] ** 2 + 2 * x[..., 1] ** 2 + x[..., 0] * x[..., 1]


BOWL = ls.potentials.Function(bowl, 2, coordinates=["x", "y"])
RULE = ls.EulerMaruyama(dt=0.05)


def series(values, **coords):
    return xr.DataArray(values, dims=("chain", "draw"), coords=LABELS | coords, name="energy")


def with_nan(values, *index):
    values = values.copy()
    values[index] = np.nan
    return values


@functools.cache
def run(**changed):
    settings = {"temperature": tuple(TEMPERATURE), "steps": 60, "seed": 1, "backend": "batched"} | changed
    return ls.simulate(BOWL, RULE, **settings)


@functools.cache
def network():
    inputs = torch.linspace(-1.0, 1.0, 12).reshape(6, 2)
    module = ls.potentials.architectures.mlp([2, 3, 2], seed=0)
    return ls.potentials.NetworkLoss(module, inputs, torch.tensor([0, 1, 0, 1, 0, 1]), batch_size=2)


VOID = {
    "all nan": np.full((3, 60), np.nan),
    "infinite": np.full((3, 60), np.inf),
    "all lost": series(np.full((3, 60), np.nan)),
    "all masked": np.ma.masked_all((3, 60)),
}
"""Of what holds no number at all nothing can be known."""

NUMBERS = {
    "one": 1,
    "two": 2,
    "three": 3,
    "zero": 0,
    "minus one": -1,
    "half": 0.5,
    "minus half": -0.5,
    "1.0": 1.0,
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "true": True,
    "false": False,
    "tiny number": 1e-300,
    "huge number": 1e300,
    "huge integer": 2**70,
    "minus huge integer": -(2**70),
    "numpy three": np.int64(3),
    "numpy half": np.float32(0.5),
    "numpy true": np.bool_(True),
    "complex number": 1j,
    "number without axes": np.array(0.5),
    "tensor without axes": torch.tensor(0.5),
    "tensor of one": torch.tensor([2]),
    "pair": (0.1, 0.2),
    "pair backwards": (1.0, -1.0),
    "pair of equals": (1.0, 1.0),
    "nan in a pair": (0.0, float("nan")),
    "three numbers": [0.1, 0.1, 0.2],
    "integers": [0, 1, 2],
    "negative numbers": [-1.0, -2.0],
    "million": 10**6,
}

THINGS = {
    "nothing": None,
    "a word": "energy",
    "x": "x",
    "a formula": "x**2 + y",
    "not a formula": "x +",
    "no text": "",
    "nul": "\0",
    "bytes": b"energy",
    "a function": abs,
    "a lambda of nothing": lambda: 1.0,
    "a class": dict,
    "a dict": {"x": 1.0},
    "a dict of pairs": {"x": (-1.0, 1.0)},
    "a dict of words": {"kind": "energy"},
    "empty dict": {},
    "a set": {1, 2},
    "empty list": [],
    "an object": object(),
    "dots": ...,
    "a range": range(3),
    "a slice": slice(2),
    "a date": datetime(2020, 1, 1),
    "a duration": timedelta(1),
    "words": ["a", "b"],
    "list of nothing": [None, None],
    "a list of dicts": [{"x": 1.0}],
    "a list of series": [SERIES, SERIES],
    "a device": torch.device("cpu"),
    "a dtype": torch.float32,
    "an integer dtype": torch.int64,
    "numpy dtype": np.float64,
    "a module": torch.nn.Linear(2, 2),
    "a wall": ls.Reflect({"x": (-1.0, 1.0)}),
    "a schedule": ls.ramp(0.1, 0.2, 3.0),
    "an observer": ls.Moments("x"),
    "a well": BOWL,
    "a class of wells": ls.potentials.Quadratic,
    "a rule": RULE,
    "an optimiser": ls.SGD(lr=0.1),
    "a noise": ls.ThermalNoise(),
    "a record": ls.Record(2),
    "a path": ls.paths.straight_line([0.0, 0.0], [1.0, 1.0], 3),
}

ARRAYS = {
    "empty": np.empty((0,)),
    "empty rows": np.empty((2, 0)),
    "no rows": np.empty((0, 2)),
    "ragged": [[1.0, 2.0], [3.0]],
    "complex": SERIES + 1j,
    "words in rows": [["a", "b"]],
    "objects": np.array([[None, 1.0]], dtype=object),
    "numbers as objects": SERIES.astype(object),
    "booleans": SERIES > 0,
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "durations": np.arange(60).astype("m8[s]"),
    "records": np.zeros(2, dtype=[("a", float)]),
    "a row": SERIES[0],
    "series": SERIES,
    "ints": (100 * SERIES).astype(np.int16),
    "unsigned": np.arange(6, dtype=np.uint8).reshape(3, 2),
    "float32": SERIES.astype(np.float32),
    "float16": SERIES.astype(np.float16),
    "three axes": RNG.normal(size=(2, 20, 2)),
    "four axes": np.zeros((2, 2, 2, 2)),
    "one draw": SERIES[:, :1],
    "one chain": SERIES[:1],
    "two draws": SERIES[:, :2],
    "constant": np.ones((3, 60)),
    "zeros": np.zeros((3, 60)),
    "one nan": with_nan(SERIES, 1, 30),
    "chain of nan": with_nan(SERIES, 1),
    "one infinity": np.where(np.arange(60) == 7, np.inf, SERIES),
    "huge": 1e300 * SERIES,
    "large": 1e150 * SERIES,
    "tiny": 1e-300 * SERIES,
    "read only": np.broadcast_to(1.0, (3, 60)),
    "masked": np.ma.masked_greater(SERIES, 1.0),
    "backwards": SERIES[:, ::-1],
    "tensor": torch.as_tensor(SERIES),
    "tensor with gradient": torch.as_tensor(SERIES).clone().requires_grad_(),
    "integer tensor": torch.arange(4),
    "half tensor": torch.ones(2, 2, dtype=torch.bfloat16),
    "sparse tensor": torch.eye(2).to_sparse(),
    "tensor on meta": torch.empty(2, 2, device="meta"),
    "labelled": series(SERIES),
    "transposed": series(SERIES).T,
    "other labels": xr.DataArray(SERIES, dims=("a", "b")),
    "no labels": xr.DataArray(SERIES[0]),
    "no time": series(SERIES, time=("draw", np.full(60, np.nan))),
    "back in time": series(SERIES, time=("draw", -np.arange(60.0))),
    "one labelled": series(SERIES).isel(chain=0),
    "nan labelled": series(with_nan(SERIES, 1, 30)),
    "two labelled draws": series(SERIES).isel(draw=slice(2)),
    "no temperature": series(SERIES).drop_vars("temperature"),
    "nan temperature": series(SERIES, temperature=("chain", [0.1, np.nan, 0.2])),
    "words of temperature": series(SERIES, temperature=("chain", ["a", "b", "c"])),
    "constant labelled": series(np.ones((3, 60))),
    "words labelled": xr.DataArray(["a", "b"], dims="draw"),
    "place": [0.5, -0.2],
    "places": RNG.normal(size=(2, 2)),
    "same places": np.zeros((2, 2)),
    "lost place": [np.nan, 0.0],
    "infinite place": [0.0, np.inf],
    "far place": [1e100, 0.0],
    "place of three": [0.0] * 3,
    "symmetric": [[2.0, 0.5], [0.5, 1.0]],
    "negative definite": [[-1.0, 0.0], [0.0, -1.0]],
    "lopsided": [[1.0, 2.0], [0.0, 1.0]],
    "matrix of nan": np.full((2, 2), np.nan),
    "labelled place": xr.DataArray([1.0, 2.0], dims="coordinate", coords={"coordinate": ["y", "x"]}),
    "wrong place": xr.DataArray([1.0, 2.0], dims="coordinate", coords={"coordinate": ["u", "v"]}),
    "twice the same label": xr.DataArray([1.0, 2.0], dims="coordinate", coords={"coordinate": ["x", "x"]}),
    "an empty set": xr.Dataset(),
    "a set of numbers": xr.Dataset({"energy": 1.0}),
    "a set of words": xr.Dataset({"energy": ("draw", ["a", "b"])}),
}

RUNS = {
    "a run": run,
    "a short run": lambda: run().isel(draw=slice(1)),
    "a run of two draws": lambda: run().isel(draw=slice(2)),
    "one chain of a run": lambda: run().isel(chain=[0]),
    "a chain of a run": lambda: run().isel(chain=0),
    "a run without draws": lambda: run().isel(draw=slice(0)),
    "a run without chains": lambda: run().isel(chain=slice(0)),
    "a cold run": lambda: run(temperature=0.0, chains=2),
    "a run backwards": lambda: run().isel(draw=slice(None, None, -1)),
    "a run of equals": lambda: run().isel(chain=[0, 0, 0]),
    "a run with other names": lambda: run().rename(position="q"),
    "a run with lost chains": lambda: run().where(run().chain != 1),
    "a run of nan": lambda: run() * np.nan,
    "a network": network,
}

OWN = {
    "numpy dtype",
    "a function",
    "a lambda of nothing",
    "a class",
    "a class of wells",
    "a module",
    "an observer",
    "a schedule",
}
"""What can be called fails in its own way when it is called, and says so itself."""
HUGE = {"huge number", "huge", "far place", "huge integer", "minus huge integer", "large", "tiny", "tiny number"}
"""Numbers whose squares, or those of their inverses, are beyond all numbers: infinity, which is checked."""

PLAIN = NUMBERS | THINGS | ARRAYS | VOID
PRISTINE = {name: copy.deepcopy(value) for name, value in (ARRAYS | VOID).items()}
FRESH = {"a generator": lambda: iter([0.1, 0.2]), "numbers one by one": lambda: (float(i) for i in range(3))}
"""Made anew for each call, which uses them up."""


def names(results=()):
    """Of all values; `results` are names of calls whose results are values too."""
    return [*PLAIN, *RUNS, *FRESH, *(f"result of {name}" for name in results)]


def same(value, other) -> bool:
    """Whether nothing was written to a value."""
    if isinstance(value, xr.DataArray | xr.Dataset):
        return value.identical(other)
    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.is_meta:
            return value.shape == other.shape
        return (
            value.dtype == other.dtype
            and torch.equal(value.nan_to_num(1.5), other.nan_to_num(1.5))
            and value.grad is None
        )
    if isinstance(value, np.ndarray):
        return value.dtype == other.dtype and value.shape == other.shape and value.tobytes() == other.tobytes()
    return repr(value) == repr(other)
