"""Verdicts, files and command line of the reproductions."""

import json
import math
import sys

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape.cli.app import run
from landscape.cli.reproducing import titles
from landscape.errors import ConfigError
from landscape.workflows.reproduction import (
    FAILS,
    HOLDS,
    UNRESOLVED,
    Reproduction,
    by_size,
    carry_out,
    command_line,
    judge,
)


@pytest.mark.parametrize(
    ("value", "stderr", "claim", "outcome"),
    [
        (1.02, 0.01, {"expected": 1}, HOLDS),
        (1.04, 0.01, {"expected": 1}, FAILS),
        (1.04, 0.01, {"expected": 1, "sigmas": 5}, HOLDS),
        (1.04, 0.01, {"expected": 1, "tolerance": 0.02}, HOLDS),
        (1.04, 0.20, {"expected": 1}, UNRESOLVED),  # the bar 0.6 is longer than 1/2
        (1.04, 0.20, {"expected": 1, "resolve": 0.7}, HOLDS),
        (2.04, 0.20, {"expected": 1}, FAILS),  # a long bar, and yet too far off
        (0.10, 0.04, {"expected": 0, "resolve": 0.2}, HOLDS),
        (0.10, 0.04, {"expected": 0, "resolve": 0.1}, UNRESOLVED),
        (1.00, 0.0, {"expected": 1}, HOLDS),
        (0.31, 0.1, {"above": 0}, HOLDS),
        (0.29, 0.1, {"above": 0}, UNRESOLVED),
        (-0.31, 0.1, {"above": 0}, FAILS),
        (0.29, 0.1, {"above": 0, "tolerance": 0.02}, HOLDS),
        (-0.31, 0.1, {"below": 0}, HOLDS),
        (0.31, 0.1, {"below": 0}, FAILS),
        (0.5, 0.1, {"above": 0, "below": 1}, HOLDS),
        (0.9, 0.1, {"above": 0, "below": 1}, UNRESOLVED),
        (1.4, 0.1, {"above": 0, "below": 1}, FAILS),
        (math.nan, 0.1, {"expected": 1}, UNRESOLVED),
        (1.0, math.nan, {"expected": 1}, UNRESOLVED),
        (1.0, math.inf, {"below": 2}, UNRESOLVED),
    ],
)
def test_judge(value, stderr, claim, outcome):
    verdict = judge("a claim", value, stderr, **claim)
    assert verdict.outcome == outcome
    assert math.isnan(value) or (verdict.value, verdict.claim) == (value, "a claim")


def test_a_true_claim_seldom_fails_and_a_false_one_seldom_holds():
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 0.05, 4000)
    right = [judge("", value, 0.05, expected=1).outcome for value in values]
    wrong = [judge("", value, 0.05, expected=1.5).outcome for value in values]
    assert right.count(FAILS) < 25  # 1 of 370 expected: 10.8 and a standard deviation of 3.3
    assert set(right) == {HOLDS, FAILS}
    assert wrong.count(HOLDS) < 20


@pytest.mark.parametrize(
    "claim",
    [{}, {"expected": 1, "above": 0}, {"expected": 0}, {"expected": 1, "sigmas": 0}, {"expected": 1, "tolerance": -1}],
)
def test_claims_that_make_no_sense(claim):
    with pytest.raises(ConfigError):
        judge("a claim", 1.0, 0.1, **claim)
    with pytest.raises(ConfigError):
        judge("a claim", 1.0, -0.1, expected=1)


def test_sizes():
    assert [by_size(size, quick=1, small=2, paper=3) for size in ("quick", "small", "paper")] == [1, 2, 3]
    with pytest.raises(ConfigError, match="'paper', 'quick', 'small'"):
        by_size("large", quick=1, small=2, paper=3)


def reproduce(size, seed):
    """A reproduction of nothing."""
    figure = Figure(figsize=(1, 1))
    verdicts = [
        judge("first [claim]", 0.5, 0.1, above=0, source="P1 eq. 2", note="a note"),
        judge("second", math.nan, 1.0, expected=1),
    ]
    return Reproduction(
        {"numbers": xr.Dataset({"x": seed, "n": by_size(size, quick=1, small=2, paper=3)})}, figure, verdicts
    )


def test_what_is_written(tmp_path, capsys):
    carry_out(reproduce, tmp_path / "new", size="quick", seed=7)
    printed = capsys.readouterr().out
    with ls.open(tmp_path / "new" / "numbers.nc") as dataset:
        assert (int(dataset.x), int(dataset.n)) == (7, 1)
    first, second = json.loads((tmp_path / "new" / "verdicts.json").read_text())
    assert first == {
        "claim": "first [claim]",
        "value": 0.5,
        "stderr": 0.1,
        "expected": "> 0",
        "outcome": "holds",
        "source": "P1 eq. 2",
        "note": "a note",
    }
    assert (second["value"], second["outcome"]) == (None, "not resolved at this size")
    outcome = (tmp_path / "new" / "outcome.txt").read_text()
    assert outcome in printed
    for text in ("first [claim] [P1 eq. 2]", "a note", "0.50 +- 0.10", "holds", "size quick, seed 7"):
        assert text in outcome
    assert (tmp_path / "new" / "figure.png").stat().st_size > 0


def test_command_line_of_a_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command_line(reproduce, ["--size", "quick", "-o", "here", "--seed", "3"])
    assert (tmp_path / "here" / "figure.png").exists()
    monkeypatch.setattr(sys, "argv", ["script"])
    command_line(reproduce)
    with ls.open(tmp_path / "landscape-reproduction" / "test_reproduction" / "numbers.nc") as dataset:
        assert (int(dataset.x), int(dataset.n)) == (0, 2)
    with pytest.raises(SystemExit):
        command_line(reproduce, ["--size", "huge"])
    capsys.readouterr()


def test_reproduce_lists_and_refuses(tmp_path, capsys):
    found = titles()
    assert {"entropic_force", "hessian_spectra"} <= set(found)
    assert all(title and not title.startswith("=") for title in found.values())
    assert run(["reproduce", "--help"]) == 0
    assert "entropic_force" in capsys.readouterr().out
    assert run(["reproduce", "nothing", "-o", str(tmp_path)]) == 2
    assert "entropic_force" in capsys.readouterr().err
    assert run(["reproduce", "entropic_force", "--size", "huge", "-o", str(tmp_path)]) == 2
    assert "'paper', 'quick', 'small'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
