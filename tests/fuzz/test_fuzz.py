"""Public functions called with what they were not made for: a sane result, or an error of ours.

Each call takes arguments that the function is made for, of which one or two are exchanged for others (`values`). The
ordinary run makes a few hundred calls, always the same; the long form, LANDSCAPE_LONG_TESTS=1, 10,000 for each of
three seeds, some minutes each. ``LANDSCAPE_FUZZ=calls`` sets another number for one seed.
"""

from __future__ import annotations

import inspect
import os
import random
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.common.arguments import guarded
from landscape.errors import ConfigError, LandscapeError, ShapeError
from tests.cases import LONG_ONLY
from tests.fuzz import calls, oracle, values

CALLS_MADE = int(os.environ.get("LANDSCAPE_FUZZ", "200"))
PROBES = [name for name in calls.CALLS if name.startswith("probes.")]
RESULTS = [name for name in PROBES if ".plot_" not in name and "Operator" not in name]


def outcome(name, chosen):
    """Makes a call and judges how it ends; what is its word for it."""
    call = calls.CALLS[name]
    changed = {argument: calls.value(one) for argument, one in chosen.items()}
    arguments = {**call.given(), **changed}
    void = bool(chosen) and all(one in values.VOID and argument in DATA for argument, one in chosen.items())
    huge = not values.HUGE.isdisjoint(chosen.values())
    try:
        with oracle.undisturbed(huge=huge):
            found = call(arguments)
        oracle.check(found, void=void)
        word = "result"
    except LandscapeError as error:
        word = type(error).__name__
    except Exception:
        if values.OWN.isdisjoint(chosen.values()):
            raise
        word = "an error of what was given to be called"
    for one in values.PRISTINE.keys() & set(chosen.values()):
        assert values.same(values.PLAIN[one], values.PRISTINE[one]), f"{one} was written to"
    return word


DATA = {"energy", "x", "run", "samples", "sample_energies", "values", "forward", "position", "gradient"}
"""Arguments that results are estimates of."""


def fuzz(seed, number):
    """So many calls of a fixed sequence, each function as often as any other; what failed."""
    chance, names, failed = random.Random(seed), list(calls.CALLS), []
    for count in range(number):
        if count % len(names) == 0:
            chance.shuffle(names)
        name = names[count % len(names)]
        chosen = calls.choose(name, chance, RESULTS)
        try:
            outcome(name, chosen)
        except Exception as error:
            failed.append(f"{name} with {chosen}: {type(error).__name__}: {str(error)[:200]}")
        plt.close("all")
        for left in os.listdir():
            (shutil.rmtree if os.path.isdir(left) else os.unlink)(left)
    return failed


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Some arguments are names of files."""
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")


@pytest.mark.always
def test_calls():
    failed = fuzz(1, CALLS_MADE)
    assert not failed, "\n".join(failed)


@LONG_ONLY
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_calls(seed):
    failed = fuzz(seed, 10_000)
    assert not failed, "\n".join(failed)


@LONG_ONLY
def test_the_arguments_before_they_are_changed():
    """What every call starts from is taken, or is a file that is not there."""
    missing = {"StorageError", "DatasetNotFound"}
    assert [name for name in calls.CALLS if outcome(name, {}) not in {"result"} | missing] == []


def test_every_public_name_is_called_or_excused():
    """By the thing itself, since some have two names."""
    public = calls.public()
    called = {id(inspect.unwrap(call.function)) for call in calls.CALLS.values()}
    left = {name for name, one in public.items() if id(inspect.unwrap(one)) not in called}
    assert {name for name in left if not name.startswith("errors.")} == set(calls.EXCEPTIONS)
    assert set(calls.EXCEPTIONS).isdisjoint(calls.CALLS) and len(calls.CALLS) > 190


def test_the_check_sees_what_is_wrong():
    """Controls: of the result, of what is left behind, of what is written to, and that both outcomes come about."""
    for wrong in ({"x": np.inf, "x_stderr": 0.1}, {"x": 1.0, "x_stderr": -0.1}, {"x": np.nan, "x_stderr": 0.1}):
        with pytest.raises(AssertionError):
            oracle.check(xr.Dataset(wrong))
    with pytest.raises(AssertionError):
        oracle.check(xr.Dataset({"x": 1.0, "x_stderr": 0.1}), void=True)
    for deed in (random.random, np.random.rand, lambda: torch.rand(1), lambda: np.float64(1.0) / np.zeros(1)):
        with pytest.raises(AssertionError), oracle.undisturbed():
            deed()
    changed = values.SERIES.copy()
    changed[0, 0] += 1.0
    assert values.same(values.SERIES, values.SERIES.copy()) and not values.same(values.SERIES, changed)
    assert outcome("probes.fluctuations.summary", {"energy": "series"}) == "result"
    assert outcome("probes.fluctuations.summary", {"energy": "ragged"}) == "ShapeError"


def test_the_door_names_what_does_not_fit():
    """An argument of another kind is named; an error while all fit is left as it is; so is an error of Python's."""

    @guarded
    def reciprocal(number: float, data: xr.Dataset, sure: bool = True) -> float:
        return 1.0 / number + float(data.missing)

    data = xr.Dataset({"there": 1.0})
    with pytest.raises(ConfigError, match="reciprocal takes number as float, got 'two'"):
        reciprocal("two", data)
    with pytest.raises(ShapeError, match=r"needs 'missing', and the dataset has only \['there'\]"):
        reciprocal(2.0, data)
    for several in (np.ones(1), torch.ones(1), np.ones(2)):
        with pytest.raises(ConfigError, match=r"number = .*of shape \(.,\) is not one number"):
            reciprocal(several, data)
    assert reciprocal(np.array(2.0), data.assign(missing=0.0)) == 0.5
    with pytest.raises(ConfigError, match="sure = 'no' is not True or False"):
        reciprocal(2.0, data, sure="no")
    with pytest.raises(ZeroDivisionError):
        reciprocal(0.0, data)
    with pytest.raises(TypeError, match="unexpected keyword argument 'more'"):
        reciprocal(1.0, data, more=3)


def test_a_number_of_numpy_is_a_number():
    """Also where it comes to be stored."""
    chords = ls.paths.polychain(values.BOWL, [-0.5, 0.2], [0.5, -0.1], steps=np.int64(2), lr=0.1, end_tolerance=np.inf)
    assert '"steps": 2' in chords.to_dataset().attrs["spec"]
