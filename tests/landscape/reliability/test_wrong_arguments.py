"""Wrong arguments to what writes and reads folders: only errors of this package, nothing left behind or changed."""

import math
import os

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import toys
from tests.landscape.reliability import runs


def simulate(folder, **settings):
    settings = {"steps": 20, "chains": 2, "temperature": 0.5, **settings}
    return ls.simulate(toys.Quadratic([1.0, 2.0]), ls.EulerMaruyama(0.1), output=folder, **settings)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done") / "run"
    simulate(folder)
    return folder


SETTINGS = [
    ("checkpoint_every", value) for value in (0, -1, 1.5, True, "10", math.nan, math.inf, [], {}, 2.0)
] + [("steps", -1), ("chains", 0), ("seed", -1), ("temperature", -1.0)]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_settings_of_simulate(name, value, tmp_path):
    message = runs.refusal(lambda: simulate(tmp_path / "run", **{name: value}))
    assert name in message and (str(value) in message or repr(value) in message), message
    assert not list(tmp_path.glob("run/draw*"))


@pytest.mark.parametrize("value", [3, 1.5, b"run", object(), [], {}, "", "\0", "a" * 5000, True])
def test_outputs_that_are_no_paths(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.refusal(lambda: simulate(value))
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be(tmp_path, done):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "other"):
        message = runs.refusal(lambda path=path: simulate(path))
        assert message.startswith(("StorageError", "ConfigError")) and str(path) in message, message
    assert [file.read_text() for file in (tmp_path / "file", tmp_path / "other" / "mine.txt")] == ["mine", "mine"]
    assert os.listdir(tmp_path / "other") == ["mine.txt"]
    message = runs.refusal(lambda: simulate("/proc/nowhere/run"))
    assert message.startswith("StorageError") and "/proc/nowhere" in message, message


def test_files_of_others_in_the_folder_of_a_run_are_left_alone(tmp_path):
    folder = tmp_path / "run"
    simulate(folder)
    (folder / "notes.txt").write_text("mine")
    ls.consolidate(folder, folder / "run.nc")
    ls.resume(folder, steps=40)
    assert (folder / "notes.txt").read_text() == "mine"
    with ls.open(folder / "run.nc") as mine:
        assert mine.sizes["draw"] == 20


CHANGED = [
    ({"steps": 10}, "steps"), ({"seed": 1}, "seed"), ({"temperature": 0.6}, "temperature"), ({"chains": 3}, "chains"),
    ({"record": ls.Record(2)}, "record.every"), ({"start": [0.1, 0.2]}, "start"), ({"data_seed": 3}, "data_seed"),
    ({"on_nonfinite": "drop"}, "on_nonfinite"), ({"constraint": ls.Reflect({"x1": (-1, 1)})}, "constraint"),
    ({"dtype": torch.float32}, "dtype"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "key"), CHANGED)
def test_another_specification_is_named_by_its_key(settings, key, done):
    before = runs.digests(done)
    message = runs.refusal(lambda: simulate(done, **settings))
    assert message.startswith("CheckpointError") and key in message, message
    assert runs.differing(runs.digests(done), before) == []


def test_other_objects_are_named_by_their_key(done):
    bowl, rule, settings = toys.Quadratic([1.0, 2.0]), ls.EulerMaruyama(0.1), {"steps": 20, "output": done}
    steep = toys.Quadratic([1.0, 3.0])
    warm = {"chains": 2, "temperature": 0.5, **settings}
    for make, key in (
        (lambda: ls.simulate(steep, rule, **warm), "potential.stiffness"),
        (lambda: ls.simulate(bowl, ls.EulerMaruyama(0.2), **warm), "integrator.dt"),
        (lambda: ls.simulate(bowl, ls.Heun(0.1), **warm), "integrator.kind"),
        (lambda: ls.resume(done, steps=30, potential=steep), "potential.stiffness"),
        (lambda: ls.resume(done, steps=30, integrator=ls.EulerMaruyama(0.2)), "integrator.dt"),
        (lambda: ls.replica_exchange(bowl, rule, [0.5, 0.6], swap_every=5, **settings), "task"),
    ):  # fmt: skip
        message = runs.refusal(make)
        assert message.startswith("CheckpointError") and key in message, message


@pytest.mark.parametrize("steps", [-1, 19, 0, 1.5, 40.0, True, "40", math.nan, [], 2**70])
def test_totals_that_make_no_sense(steps, done):
    before = runs.digests(done)
    message = runs.refusal(lambda: ls.resume(done, steps=steps))
    assert str(steps) in message or repr(steps) in message, message
    assert runs.differing(runs.digests(done), before) == []


@pytest.mark.parametrize(
    "objects",
    [{"potental": 1}, {"seed": 3}, {"potential": "x**2"}, {"integrator": None}, {"output": "x"}, {"record": 3}],
    ids=lambda one: next(iter(one)),
)
def test_objects_that_resume_does_not_take(objects, done):
    message = runs.refusal(lambda: ls.resume(done, steps=40, **objects))
    assert next(iter(objects)) in message, message


@pytest.mark.parametrize("call", [ls.open, ls.resume, lambda path: ls.consolidate(path, "x.nc")])
@pytest.mark.parametrize("value", ["nowhere", "", 3, None, b"x", "\0", [], "a" * 5000, object()])
def test_folders_that_are_not(call, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.refusal(lambda: call(value))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for path in ("empty", "file"):
        message = runs.refusal(lambda path=path: call(path))
        assert path in message, message


@pytest.mark.parametrize("value", [3, None, "", "\0", "/proc/nowhere/run.nc", ".", [], "a" * 5000 + ".nc"])
def test_targets_of_consolidate(value, done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.refusal(lambda: ls.consolidate(done, value))
    assert list(tmp_path.iterdir()) == []


def test_train_and_exchange_and_run(tmp_path):
    loss, well = runs.network(), toys.DoubleWell()
    ladder = {"temperatures": [0.1, 0.2], "steps": 10, "swap_every": 5}
    bowl, rule = {"kind": "Quadratic", "stiffness": [1.0]}, {"kind": "EulerMaruyama", "dt": 0.1}
    spec = {"potential": bowl, "integrator": rule, "steps": 3}

    def train(output, *, epochs=2, **settings):
        return ls.train(loss, ls.SGD(0.1), epochs=epochs, output=output, **settings)

    def exchange(output, **settings):
        return ls.replica_exchange(well, ls.MALA(0.1), **ladder, output=output, **settings)

    (tmp_path / "file").write_text("mine")
    for value in (0, -1, 1.5, "10", True):
        runs.refusal(lambda value=value: train(tmp_path / "t", checkpoint_every=value))
        runs.refusal(lambda value=value: exchange(tmp_path / "e", checkpoint_every=value))
        runs.refusal(lambda value=value: ls.run(spec, output=tmp_path / "r", checkpoint_every=value))
    for value in (3, tmp_path / "file", b"x", [], "\0"):
        runs.refusal(lambda value=value: train(value))
        runs.refusal(lambda value=value: exchange(value))
        runs.refusal(lambda value=value: ls.run(spec, output=value))
    train(tmp_path / "trained")
    for settings, key in (({"epochs": 1}, "epochs"), ({"seed": 1}, "seed"), ({"siblings": 2}, "siblings")):
        message = runs.refusal(lambda settings=settings: train(tmp_path / "trained", **settings))
        assert message.startswith("CheckpointError") and key in message, message


def test_the_users_things_are_left_alone(tmp_path):
    start, module = np.array([0.5, 0.5]), runs.architectures.mlp([4, 6, 3], seed=1)
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    simulate(tmp_path / "run", start=start)
    ls.resume(tmp_path / "run", steps=40)
    ls.train(runs.network(module), ls.SGD(0.1), epochs=2, output=tmp_path / "train", start=None)
    assert (start == 0.5).all()
    assert all((weights[name] == tensor).all() for name, tensor in module.state_dict().items())


def test_errors_are_of_this_package_and_of_the_standard_kind():
    assert issubclass(ls.errors.StorageError, (LandscapeError, OSError))
    assert issubclass(ls.errors.CheckpointError, LandscapeError)
