"""Grids print as tables and give settings; runs choose their chains by temperature, fresh, opened and resumed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError

SPRING = ls.potentials.Quadratic([1.0, 2.0])
HEATS = [0.1, 0.1, 0.2, 0.2]
SETTINGS = {"temperature": HEATS, "steps": 20, "seed": 3}


def make(kind, folder):
    rule = ls.EulerMaruyama(dt=0.1)
    if kind == "folder":
        return ls.simulate(SPRING, rule, output=folder / "run", **SETTINGS)
    if kind == "resumed":
        ls.simulate(SPRING, rule, output=folder / "run", **(SETTINGS | {"steps": 10}))
        return ls.resume(folder / "run", steps=20)
    run = ls.simulate(SPRING, rule, **SETTINGS)
    if kind == "opened":
        ls.save(run, folder / "run.nc")
        return ls.open(folder / "run.nc")
    return pickle.loads(pickle.dumps(run)) if kind == "pickled" else run  # noqa: S301


@pytest.mark.parametrize("kind", ["fresh", "opened", "folder", "resumed", "pickled"])
def test_chains_of_a_temperature(kind, tmp_path):
    with make(kind, tmp_path) as run:
        cold = run.sel(temperature=0.1)
        assert cold.chain.values.tolist() == [0, 1]
        assert np.array_equal(cold.energy, run.energy[:2])
        assert run.sel(temperature=0.3 - 0.1).sizes["chain"] == 2  # equal but for rounding
        assert run.sel(temperature=[0.1, 0.2]).sizes["chain"] == 4
        assert run.sel(temperature=slice(0.15, None)).chain.values.tolist() == [2, 3]
        both = run.sel(temperature=0.2, coordinate="y" if "y" in run.coordinate else run.coordinate[1].item(), draw=3)
        assert np.array_equal(both.position, run.position[2:, 3, 1])
        assert run.isel(draw=slice(5)).sel({"temperature": 0.2}).sizes == {"chain": 2, "draw": 5, "coordinate": 2}
        assert run.sel(chain=2).temperature == 0.2
        for wrong in (0.15, [0.1, 0.15], slice(0.3, 0.4)):
            with pytest.raises(ConfigError, match="no chain has"):
                run.sel(temperature=wrong)
        with pytest.raises(KeyError):
            run.sel(heat=0.1)


def test_runs_still_align():
    """A true index over chains, of values that occur twice, would refuse or misalign these differences."""
    run = ls.simulate(SPRING, ls.EulerMaruyama(dt=0.1), **SETTINGS)
    other = ls.simulate(SPRING, ls.EulerMaruyama(dt=0.1), **(SETTINGS | {"temperature": [0.3] * 4}))
    assert (run.energy - other.energy).sizes == run.energy.sizes
    assert (run - run.sel(temperature=0.1)).sizes["chain"] == 2
    indexed = run.set_xindex("temperature")
    with pytest.raises(ValueError, match="chain"):
        indexed.energy[:2] - indexed.energy[2:]
    assert list(run.indexes) == ["chain", "draw", "coordinate"]


def test_a_schedule_has_no_chain_of_a_temperature():
    run = ls.simulate(SPRING, ls.EulerMaruyama(dt=0.1), temperature=ls.ramp(0.1, 0.2, 1.0), steps=20, chains=2)
    with pytest.raises(ConfigError, match="where"):
        run.sel(temperature=0.1)


def test_a_grid_is_a_table_and_settings():
    grid = ls.grid(temperature=[0.1, 0.2], dt=[0.05, 0.1], replicas=2)
    assert isinstance(grid, xr.Dataset)
    lines = str(grid).splitlines()
    assert lines[0].split() == ["chain", "replica", "temperature", "dt"]
    assert [line.split() for line in lines[1:3]] == [["0", "0", "0.1", "0.05"], ["1", "1", "0.1", "0.05"]]
    assert dict(**grid).keys() == {"temperature", "dt"}
    assert grid.sel(temperature=0.2, dt=0.1).chain.values.tolist() == [6, 7]
    arrays = {name: grid[name].values for name in ("temperature", "dt")}
    by_name, plain = (
        ls.simulate(SPRING, ls.EulerMaruyama(dt=one["dt"]), temperature=one["temperature"], steps=20, seed=1)
        for one in (grid, arrays)
    )
    assert by_name.attrs["spec"] == plain.attrs["spec"]
    assert by_name.identical(plain.assign_attrs(history=by_name.history))
    starred = ls.simulate(SPRING, ls.EulerMaruyama(dt=arrays["dt"]), steps=20, seed=1, **grid.drop_vars("dt"))
    assert np.array_equal(starred.energy, plain.energy)
    other = ls.simulate(SPRING, ls.EulerMaruyama(dt=0.1), steps=20, seed=1, **grid.drop_vars("dt"))
    assert not np.array_equal(other.energy, plain.energy)  # the control
    assert len(str(ls.grid(temperature=np.linspace(0.1, 1, 50))).splitlines()) < 30
