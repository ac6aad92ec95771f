"""What was stored in the first format opens, and what was interrupted goes on, to the bits of what was not.

``tests/data/stored_in_format_1.tar.xz`` holds a run (BAOAB on a Quadratic), a training (two siblings that split), an
automated band, a sweep and a study, each finished and interrupted, as they were written when the format had its first
number, with the tables that they were made from.
"""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.cli.app import run

ARCHIVE = Path(__file__).parents[1] / "data" / "stored_in_format_1.tar.xz"
WELL = ("(x**2 - 1)**2 + y**2", ["x", "y"])
BAND = {"cycles": [[0.05, 12], [0.02, 12]], "end_tolerance": 10.0, "momentum": 0.5}
# other versions may have written it; a band of so few steps is not at rest
pytestmark = pytest.mark.filterwarnings("ignore:.*was begun with", "ignore:auto_neb has not converged")


@pytest.fixture
def stored(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def assert_same_values(one, other, *, within: float = 0.0):
    """All variables; the bits of all, or what is real to `within`, where a library of the machine makes them."""
    assert set(one.variables) == set(other.variables)
    for name in other.variables:
        first, second = one[name].values, other[name].values
        if within and second.dtype.kind == "f":
            np.testing.assert_allclose(first, second, rtol=within, atol=within, err_msg=str(name))
        else:
            np.testing.assert_array_equal(first, second, err_msg=str(name))


@pytest.mark.parametrize(("kept", "file"), [("run", "run.nc"), ("training", "training.nc")])
def test_a_finished_folder_is_its_file(kept, file, stored):
    with ls.open(stored / kept) as folder, ls.open(stored / file) as whole:
        assert folder.attrs["status"] == "complete"
        assert_same_values(folder, whole)


@pytest.mark.parametrize(("kept", "file", "made"), [("run", "run.nc", (4, 12)), ("training", "training.nc", (2, 4))])
def test_an_interrupted_folder_goes_on(kept, file, made, stored):
    with ls.open(stored / f"{kept}-interrupted") as before:
        assert before.sizes["draw"] == made[0] and before.attrs["status"] != "complete"
    whole = ls.resume(stored / f"{kept}-interrupted")
    with ls.open(stored / file) as uninterrupted:
        assert whole.sizes["draw"] == made[1]
        assert_same_values(whole, uninterrupted, within=1e-12 if kept == "training" else 0.0)


def test_a_longer_training_goes_on_from_its_folder(stored):
    longer = ls.resume(stored / "training", epochs=5)
    with ls.open(stored / "training.nc") as whole:
        np.testing.assert_array_equal(longer.energy[:, :4], whole.energy)
    assert longer.sizes["draw"] == 5


def test_an_interrupted_band_goes_on(stored):
    well, path = ls.potentials.Expression(*WELL), stored / "band.nc"
    onward = ls.paths.auto_neb(well, [-1.0, 0.0], [1.0, 0.1], **BAND, checkpoint=path, checkpoint_every=5)
    with ls.open(stored / "path.nc") as whole:
        np.testing.assert_array_equal(onward.pivots.numpy(), whole.pivots)
        np.testing.assert_array_equal(onward.to_dataset()["history_energy"], whole.history_energy)


def test_another_band_does_not_go_on_from_it(stored):
    """The control: what was stored belongs to its settings."""
    well = ls.potentials.Expression(*WELL)
    with pytest.raises(ls.errors.CheckpointError, match="other settings"):
        ls.paths.auto_neb(well, [-1.0, 0.0], [1.0, 0.1], **BAND | {"momentum": 0.4}, checkpoint=stored / "band.nc")


def test_a_finished_sweep_is_not_run_again(stored):
    table = json.loads((stored / "sweep" / "sweep.json").read_text())
    before = {file: (stored / "sweep" / file).read_bytes() for file in table["files"]}
    spec = {
        "potential": {"kind": "Quadratic", "stiffness": [1.0]}, "steps": 20, "seed": 1, "backend": "compiled",
        "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "record": {"every": 5},
    }  # fmt: skip
    found = ls.sweep(spec, {"temperature": [0.5, 2.0]}, output=stored / "sweep").load()
    assert found.sizes["temperature"] == 2 and not found.failed.any()
    assert before == {file: (stored / "sweep" / file).read_bytes() for file in table["files"]}
    (stored / "sweep" / table["files"][0]).unlink()
    again = ls.sweep(spec, {"temperature": [0.5, 2.0]}, output=stored / "sweep")
    np.testing.assert_array_equal(again.position, found.position)  # the control: what is missing is made anew


def test_a_study_goes_on(stored):
    assert run(["study", str(stored / "study.toml"), "-o", str(stored / "study-interrupted")]) == 0
    with ls.open(stored / "study-interrupted" / "walk.nc") as onward, ls.open(stored / "study" / "walk.nc") as whole:
        assert_same_values(onward, whole)


def test_a_study_goes_on_where_it_was_moved_to(tmp_path, monkeypatch):
    """Where it started from is known by the name of its folder, though the path in it has changed."""
    well = {"kind": "Expression", "energy": WELL[0], "coordinates": WELL[1]}
    walk = {
        "name": "walk", "task": "simulate", "start": {"stage": "left"}, "steps": 40, "temperature": 0.1,
        "backend": "compiled", "integrator": {"kind": "EulerMaruyama", "dt": 0.02}, "record": {"every": 10},
    }  # fmt: skip
    left = {"name": "left", "task": "minimize", "method": "lbfgs", "start": [-0.8, 0.3]}
    spec, real = {"defaults": {"potential": well}, "stage": [left, walk]}, os.replace

    def replace(source, target):
        real(source, target)
        if Path(target).name == "manifest-former.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            ls.study(spec, output=tmp_path / "here", checkpoint_every=10)
    whole = ls.study(spec, output=tmp_path / "whole")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = ls.study(spec, output=tmp_path / "there")
    with ls.open(moved["walk"]) as onward, ls.open(whole["walk"]) as uninterrupted:
        assert_same_values(onward, uninterrupted)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            ls.study(spec, output=tmp_path / "again", checkpoint_every=10)
    walk["temperature"] = 0.2  # the control: another stage does not go on from there
    ls.study(spec, output=tmp_path / "again")
    with ls.open(tmp_path / "again" / "walk.nc") as other:
        assert not np.array_equal(other.position, xr.load_dataset(whole["walk"]).position)
