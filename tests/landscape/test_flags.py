"""What a result says against its own numbers goes with them into tables, lines, pictures and pages."""

from __future__ import annotations

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.cli.app import run
from landscape.cli.estimates import estimate_tables, summary_table
from landscape.common.flags import REMARKS, estimate, flags, remarks
from landscape.probes import confinement, curvature, fluctuations, free_energy, rates
from landscape.probes.estimation.needed import Length, with_steps_needed

SPEC = {
    "potential": {"kind": "Quadratic", "stiffness": [1.0, 2.0]},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
    "chains": 4, "temperature": 0.1, "seed": 3,
}  # fmt: skip
MODULES = (fluctuations, curvature, confinement, free_energy, rates)


def result(good):
    return xr.Dataset(
        {
            "mean": ("temperature", [0.1, 0.2]), "mean_stderr": ("temperature", [0.01, 0.02]),
            "resolved": ("temperature", [True, good]), "trace": 1.0, "trace_stderr": 0.1, "trace_converged": good,
        },
        {"temperature": [0.5, 1.0]},
    )  # fmt: skip


def cells(table):
    return " | ".join(str(cell) for column in table.columns for cell in column.cells)


def test_flags_speak_of_their_estimates():
    found = result(False)
    assert set(flags(found)) == {"resolved", "trace_converged"}
    assert remarks(found, {"temperature": 1}, of=["mean"]) == ["not resolved"]
    assert remarks(found, {"temperature": 0}, of=["mean"]) == []
    assert remarks(found, of=["trace"]) == ["not resolved at 1 of 2", "trace not converged"]
    assert remarks(result(True)) == []
    # numbers with such names are no flags, and neither is a flag whose name is a longer word
    assert not flags(xr.Dataset({"resolved": 0.5, "unresolved": False, "failed": True}))
    assert estimate(found.isel(temperature=1), "mean") == "0.200 +- 0.020 (not resolved)"


@pytest.mark.parametrize("good", [False, True])
def test_tables_of_any_result(good):
    scalars, rows = map(cells, estimate_tables(result(good)))
    assert ("trace not converged" in scalars) != good
    assert ("not resolved" in rows) != good


@pytest.mark.parametrize(("steps", "good"), [(60, False), (60_000, True)])
def test_report_of_a_sweep(steps, good, tmp_path):
    """A run of 6 correlation times (with its slow start) is not to be trusted, one of 3000 is; both say so."""
    spec = SPEC | {"steps": steps, "record": {"every": 1 if steps < 100 else 10, "observables": ["energy"]}}
    ls.sweep(spec, over={"seed": [3]}, output=tmp_path / "table")
    assert run(["report", str(tmp_path / "table"), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "±" in page
    assert ("not resolved" in page) != good


def test_tables_of_the_command_line():
    summary = xr.Dataset({"resolved": ("chain", [False]), "stationary": ("chain", [True])}, {"chain": [0]})
    numbers = ("mean", "variance", "gamma_shape", "rate_times_temperature", "half_time", "effective_sample_size")
    summary = summary.assign({key: ("chain", [1.0]) for one in numbers for key in (one, f"{one}_stderr")})
    assert "not resolved" in cells(summary_table(summary))
    assert "not" not in cells(summary_table(summary.assign(resolved=("chain", [True]))))
    # 80 correlation times of eight chains: 10 in each, where 20 are wanted; 20 of one chain, where 50 are wanted
    for times, chains, longer in ((80.0, 8, "2e+03 steps"), (20.0, 1, "2.5e+03 steps")):
        counted = summary.assign(correlation_times=("chain", [times]), chains_used=("chain", [chains]))
        assert f"not resolved: needs about {longer}" in cells(summary_table(with_steps_needed(counted, Length(1000))))
    found = xr.Dataset({"trace": ("chain", [1.0, 2.0]), "trace_stderr": ("chain", [0.1, 0.1])})
    found = found.assign(converged=("chain", [True, False]))
    assert "not converged" in cells(*estimate_tables(found))
    assert "not" not in cells(*estimate_tables(found.isel(chain=[0])))
    long = xr.Dataset(
        {"x": (("chain", "draw"), np.arange(100.0).reshape(2, 50)), "x_stderr": (("chain", "draw"), np.ones((2, 50)))}
    )
    (ends,) = estimate_tables(long)  # of many values the smallest, the median and the largest of each chain
    assert [str(column.header) for column in ends.columns] == ["chain", "smallest x", "median x", "largest x"]
    assert cells(ends) == "0 | 1 | 0 | 50 | 24.5 | 74.5 | 49 | 99"


def test_every_plot_function_writes_flags():
    plots = [
        one for module in MODULES for name, one in inspect.getmembers(module, callable) if name.startswith("plot_")
    ]
    assert len(plots) > 40
    assert [one.__name__ for one in plots if not hasattr(one, "__wrapped__")] == []


@pytest.mark.parametrize("good", [False, True])
def test_flags_in_a_picture(good):
    profile = free_energy.profile(np.random.default_rng(0).normal(size=(4, 4000)), 1.0, bins=8)
    ax = free_energy.plot_profile(profile.assign(resolved=good, chains_agree=True))
    written = [text.get_text() for text in ax.texts if text.get_gid() == "flags"]
    assert written == ([] if good else [REMARKS["resolved"]])
    plt.close(ax.figure)
