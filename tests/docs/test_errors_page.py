"""The tables of docs/errors.md name every public function that gives an error, and only what exists."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
ROOMS = ("fluctuations", "confinement", "curvature", "free_energy", "rates")
RESIDUALS = {"curvature.largest_eigenvalue", "curvature.extreme_eigenvalues"}  # of the module of `eigenvalues`
ROW = re.compile(r"^\| `([a-z_]+\.\w+)` \|", re.MULTILINE)


def writes_errors(module):
    """Whether a module puts a variable that ends with `_stderr` into a dataset: a string, or the end of one."""
    texts = [n.value for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.Constant)]
    return any(isinstance(text, str) and "\n" not in text and text.endswith("_stderr") for text in texts)


def with_errors():
    """Public functions and observers by name, found by what their modules write or their docstrings promise."""
    rooms = {room: importlib.import_module(f"landscape.probes.{room}") for room in ROOMS}
    found = set()
    for room, module in (rooms | {"observers": importlib.import_module("landscape.observers")}).items():
        for name in module.__all__:
            one = getattr(module, name)
            if name.startswith("plot") or not callable(one) or inspect.getmodule(one) is None:
                continue
            if writes_errors(inspect.getmodule(one)) or "_stderr`" in (inspect.getdoc(one) or ""):
                found.add(f"{room}.{name}")
    return found - RESIDUALS


def test_every_function_with_an_error_is_in_a_table():
    missing = {name for name in with_errors() if f"`{name}`" not in PAGE}
    assert not missing, f"no measured coverage in docs/errors.md of {sorted(missing)}"


def test_functions_are_found():
    """Control: some that are known, and some that have no error."""
    found = with_errors()
    assert {"fluctuations.summary", "rates.core_sets", "observers.Moments", "curvature.trace"} <= found
    assert not found & {"fluctuations.equilibration", "observers.Histogram", "curvature.HessianOperator"}
    assert len(found) > 35


def test_rows_are_of_what_exists_and_share_their_source():
    """Every function of the page has its law in the benchmark that prints the page."""
    from tests.benchmarks.coverage import ROWS

    known = {row.of for row in ROWS}
    assert set(ROW.findall(PAGE)) <= known
    for name in known:
        room, one = name.rsplit(".", 1)
        where = "landscape.observers" if room == "observers" else f"landscape.probes.{room}"
        assert hasattr(importlib.import_module(where), one)


def test_shares_that_are_published_hold():
    """Intervals of fewer than 0.9 are said to be so in words beside the table."""
    low = []
    for line in PAGE.splitlines():
        if not ROW.match(line):
            continue
        for cell in line.split("|")[4:-1]:
            match = re.fullmatch(r"(\d\.\d\d)(?: of (\d\.\d\d))?", cell.strip())
            if match and (1 - float(match[1])) * float(match[2] or 1) > 0.145:  # 0.90 of 100 repeats, and chance
                low.append(line)
    assert all(any(said in line for said in SAID) for line in low), low


SAID = ["one in ten is long", "one in ten is ten times slower", "one in ten is 0.8"]


@pytest.mark.parametrize("text", SAID)
def test_laws_that_cannot_be_seen_are_explained(text):
    assert text in PAGE
