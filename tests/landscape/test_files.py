"""One door to the disk: homes, links, modes and checksums, alike for files and for folders of every kind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.errors import CheckpointError, StorageError
from landscape.storage.files import inside
from landscape.storage.folder import locked

ARCHIVE = Path(__file__).parents[1] / "data" / "stored_in_format_1.tar.xz"
SPEC = {
    "potential": {"kind": "Quadratic", "stiffness": [1.0]}, "steps": 20, "seed": 1, "backend": "compiled",
    "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "record": {"every": 5},
}  # fmt: skip


@pytest.fixture
def stored(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "stored", filter="data")
    return tmp_path / "stored"


def noise(count=20_000):
    return xr.Dataset({"energy": ("draw", np.random.default_rng(0).standard_normal(count))})


def damage(file: Path) -> None:
    """Turn one bit over in the middle of the longest stretch without two zeros: inside a compressed chunk."""
    content = bytearray(file.read_bytes())
    part = max(bytes(content).split(b"\0\0"), key=len)
    start = bytes(content).index(part)
    content[start + len(part) // 2] ^= 4
    file.write_bytes(content)


def test_what_is_read_later_is_held_against_its_checksum(tmp_path):
    file = ls.save(noise(), tmp_path / "x.nc")
    with ls.open(file) as whole:
        np.testing.assert_array_equal(whole.energy, noise().energy)  # the control
    damage(file)
    with pytest.raises(StorageError, match=r"x\.nc.*(damaged|energy)"), ls.open(file) as read:
        read.energy.load()


def test_a_damaged_result_of_a_sweep_is_told(stored):
    with ls.open(stored / "sweep") as table:
        assert np.isfinite(table.position).all()  # the control
    file = next(iter((stored / "sweep").glob("*.nc")))
    plain = xr.load_dataset(file).drop_encoding()
    ls.save(plain.assign(noise=("more", noise().energy.values)), file)
    damage(file)
    with pytest.raises(StorageError, match="damaged"), ls.open(stored / "sweep") as table:
        table.noise.load()


def test_a_consolidated_file_has_checksums(stored, tmp_path):
    file = ls.consolidate(stored / "run", tmp_path / "one.nc")
    with xr.open_dataset(file, engine="netcdf4") as whole:
        assert whole.position.encoding["fletcher32"]


@pytest.mark.parametrize("kept", ["run", "training/stretch-0001", "sweep"])
def test_no_link_leads_out_of_a_folder(kept, stored, tmp_path):
    """Though what is at the other end is what was there."""
    folder = stored / kept
    file = max(folder.glob("*.nc"))
    outside = shutil.move(file, tmp_path / file.name)
    file.symlink_to(outside)
    with pytest.raises(StorageError, match="leads out of its folder"):
        ls.open(stored / kept.partition("/")[0])
    file.unlink()
    shutil.move(outside, file)
    ls.open(stored / kept.partition("/")[0]).close()  # the control


def test_names_stay_inside(tmp_path):
    assert inside(tmp_path, "state-1.nc") == tmp_path / "state-1.nc"
    (tmp_path / "link").symlink_to(tmp_path)
    assert inside(tmp_path / "link", "x") == tmp_path / "link" / "x"  # a folder may be reached by one
    for name in ("../x.nc", "/etc/passwd", "link/x"):
        with pytest.raises(StorageError):
            inside(tmp_path, name)


def test_a_lock_is_no_way_to_another_file(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(precious)
    with pytest.raises(StorageError):
        ls.run(SPEC, output=tmp_path / "run")
    assert precious.read_text() == "kept"


def test_a_file_that_is_replaced_keeps_its_mode_and_a_link_its_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "x.nc", tmp_path / "link.nc"
    link.symlink_to(file)
    ls.save(noise(3), link)  # of a file that is not there yet
    assert link.is_symlink() and file.is_file()
    file.chmod(0o640)
    ls.save(noise(4), link)
    assert link.is_symlink() and stat.S_IMODE(file.stat().st_mode) == 0o640
    with ls.open(link) as read:
        assert read.sizes["draw"] == 4
    assert os.listdir(file.parent) == ["x.nc"]


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ls.save(noise(3), "~/x.nc")
    ls.open("~/x.nc").close()
    ls.run(SPEC, output="~/run")
    ls.resume("~/run")
    ls.sweep(SPEC, {"temperature": [0.1]}, output="~/sweep")
    well = {"kind": "Expression", "energy": "(x**2 - 1)**2 + y**2", "coordinates": ["x", "y"]}
    stage = {"name": "left", "task": "minimize", "start": [-0.8, 0.3], "potential": well, "method": "lbfgs"}
    ls.study({"stage": [stage]}, output="~/study")
    line = ls.paths.straight_line([-1.0, 0.0], [1.0, 0.0], 3)
    line.save("~/line.nc")
    assert len(ls.paths.Path.load("~/line.nc")) == 3
    ls.paths.auto_neb(
        ls.potentials.Expression(well["energy"], ["x", "y"]), [-1.0, 0.0], [1.0, 0.0], cycles=[(0.01, 2)],
        checkpoint="~/band.nc",
    )  # fmt: skip
    found = {"x.nc", "run", "sweep", "study", "line.nc", "band.nc"}
    assert found <= set(os.listdir(tmp_path)) and "~" not in os.listdir(tmp_path)


@pytest.mark.parametrize(("kept", "index"), [("run", "manifest.json"), ("training", "training.json")])
def test_a_later_format_is_told_from_damage(kept, index, stored):
    path = stored / kept / index
    content = json.loads(path.read_text())["content"]
    for number, told in ((2, "has the format 2, and this version reads up to 1"), (1, None)):
        content["format"] = number
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"sha256": digest, "content": content}))
        if told is None:  # the control
            ls.open(stored / kept).close()
            continue
        with pytest.raises(CheckpointError, match=told):
            ls.open(stored / kept)


def test_a_later_format_of_sweeps_and_bands(stored):
    table = json.loads((stored / "sweep" / "sweep.json").read_text())
    (stored / "sweep" / "sweep.json").write_text(json.dumps(table | {"format": 2}))
    with pytest.raises(CheckpointError, match="format 2"):
        ls.open(stored / "sweep")
    band = xr.load_dataset(stored / "band.nc")
    ls.save(band.assign_attrs(format=2), stored / "band.nc")
    well = ls.potentials.Expression("(x**2 - 1)**2 + y**2", ["x", "y"])
    settings = {"cycles": [[0.05, 12], [0.02, 12]], "end_tolerance": 10.0, "momentum": 0.5}
    with pytest.raises(CheckpointError, match="format"):
        ls.paths.auto_neb(well, [-1.0, 0.0], [1.0, 0.1], **settings, checkpoint=stored / "band.nc")


def test_one_process_writes_a_training(tmp_path):
    x = torch.linspace(-1, 1, 8)[:, None]
    loss = ls.potentials.NetworkLoss(torch.nn.Linear(1, 1), x, x, loss="mse")
    (tmp_path / "kept").mkdir()
    with locked(tmp_path / "kept", "lock"), pytest.raises(StorageError, match="another process"):
        ls.train(loss, ls.SGD(lr=0.1), epochs=1, output=tmp_path / "kept")
    ls.train(loss, ls.SGD(lr=0.1), epochs=1, output=tmp_path / "kept")  # the control
