"""Profiles of runs whose law is not that of their potential are refused."""

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError
from landscape.probes.free_energy import profile

BOWL = ls.potentials.Expression("x**2/2 + y**2/2", ["x", "y"])
SETTINGS = {"temperature": 1.0, "steps": 4000, "chains": 20, "seed": 2, "progress": False, "record": ls.Record(20)}


def held(constraint, **settings):
    return ls.simulate(BOWL, ls.LeimkuhlerMatthews(dt=0.2), constraint=constraint, **(SETTINGS | settings))


BIASED = {
    "restraint": (lambda: ls.Restrain("x", 0.5, 3.0), "restraints.*mbar"),
    "hills": (
        lambda: ls.Metadynamics("x", height=0.1, width=0.5, every=20, bias_factor=4.0, range=(-3.0, 3.0)),
        "hills.*metadynamics",
    ),
}


@pytest.mark.parametrize("name", BIASED)
def test_biased_runs_are_refused(name, tmp_path):
    make, message = BIASED[name]
    run = held(make(), steps=400)
    for samples in ({"samples": run, "coordinate": "x"}, {"samples": run.position.sel(coordinate="x")}):
        with pytest.raises(ConfigError, match=message):
            profile(temperature=1.0, **samples)
    file = tmp_path / "run.nc"
    ls.save(run, file)
    with ls.open(file) as stored, pytest.raises(ConfigError, match=message):
        profile(stored, 1.0, coordinate="x")


def test_streamed_counts_are_refused_too():
    histogram = ls.Histogram("x", bins=10, range=(-3, 3))
    run = held(ls.Restrain("x", 0.5, 3.0), steps=400, record=ls.Record(20, {"x": histogram}))
    with pytest.raises(ConfigError, match="restraints"):
        profile(run.x_count, 1.0)


def test_the_law_that_would_have_been_given():
    """Control: a spring of stiffness 1 held by one of 3 has curvature 4; a run without it is not refused, and has 1."""
    runs = {4.0: held(ls.Restrain("x", 0.0, 3.0)), 1.0: held(ls.Reflect({"y": (-9.0, 9.0)}))}
    for curvature, run in runs.items():
        values = run.position.sel(coordinate="x")
        if curvature > 1:
            values = xr.DataArray(values.to_numpy(), dims=("chain", "draw"))
        found = profile(values, 1.0, bins=8, range=(-1.0, 1.0), zero="mean")
        edges = np.linspace(-1, 1, 9)
        theory = 0.5 * curvature * (edges[1:] + edges[:-1]) ** 2 / 4
        z = (found.free_energy - (theory - theory.mean())) / found.free_energy_stderr
        assert abs(z).max() < 4.5
        other = 5.0 - curvature
        wrong = theory * other / curvature
        assert abs((found.free_energy - (wrong - wrong.mean())) / found.free_energy_stderr).max() > 6
