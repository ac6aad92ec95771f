"""Studies: stages that build on each other, that are skipped when complete and refused when something has changed."""

import copy
import json
import tomllib

import numpy as np
import pytest

import landscape as ls
from landscape.cli.app import run
from landscape.cli.studying import override
from landscape.errors import ConfigError, StorageError
from landscape.paths.evaluation import Slopes
from landscape.storage.folder import locked
from landscape.storage.run_folder import RunFolder
from landscape.workflows import study_costs
from landscape.workflows.study import stages_of

TEXT = """
title = "a bent well"

[defaults.potential]
kind = "Expression"
energy = "(x**2 - 1)**2 + 4*(y - 1 + x**2)**2"
coordinates = ["x", "y"]

[defaults.minimize]
method = "lbfgs"

[[stage]]
name = "left"
task = "minimize"
start = [-0.8, 0.1]

[[stage]]
name = "right"
task = "minimize"
start = [0.8, 0.1]

[[stage]]
name = "path"
task = "connect"
start = { stage = "left" }
end = { stage = "right" }
settings = { cycles = [[0.02, 60], [0.02, 60]] }

[[stage]]
name = "along"
task = "probe"
probe = "confinement.along_path"
run = { stage = "path" }
settings = { quantities = ["energy", "log_determinant"] }

[[stage]]
name = "projected"
task = "simulate"
steps = 60
temperature = 0.01
start = { stage = "path", at = [0.25, 0.75], replicas = 2 }
integrator = { kind = "EulerMaruyama", dt = 1e-3 }
constraint = { kind = "ProjectOntoPath", path = { stage = "path" }, every = 5 }

[[stage]]
name = "drift"
task = "probe"
probe = "confinement.drift"
run = { stage = "projected" }
settings = { bins = 2 }
"""
NAMES = ["left", "right", "path", "along", "projected", "drift"]


SGD = {"kind": "SGD", "lr": 0.1}


def network(**settings):
    return {
        "kind": "NetworkLoss",
        "module": {"kind": "mlp", "sizes": [4, 6, 3]},
        "data": {"kind": "random_labels", "samples": 60, "features": 4, "classes": 3},
        **settings,
    }


@pytest.fixture
def spec():
    return tomllib.loads(TEXT)


def contents(folder):
    return {file.stem: file.read_bytes() for file in folder.glob("*.nc")}


# -- the chain --------------------------------------------------------------------------------------------------------


@pytest.mark.always
def test_the_chain_is_what_its_steps_are_one_by_one(spec, tmp_path):
    files = ls.study(spec, output=tmp_path)
    assert list(files) == NAMES and all(file == tmp_path / f"{name}.nc" for name, file in files.items())
    well = ls.potentials.Expression(spec["defaults"]["potential"]["energy"], ["x", "y"])
    ends = [ls.minimize(well, start, method="lbfgs") for start in ([-0.8, 0.1], [0.8, 0.1])]
    path = ls.paths.auto_neb(well, *ends, cycles=[(0.02, 60), (0.02, 60)])
    found = ls.paths.Path.load(files["path"])
    np.testing.assert_array_equal(found.pivots, path.pivots)
    curve = path.spline
    start = curve.at(np.array([0.25, 0.25, 0.75, 0.75]) * curve.length)
    projected = ls.simulate(
        well, ls.EulerMaruyama(dt=1e-3), steps=60, temperature=0.01, start=start,
        constraint=ls.ProjectOntoPath(path, every=5),
    )  # fmt: skip
    with ls.open(files["projected"]) as stored, ls.open(files["drift"]) as drift, ls.open(files["along"]) as along:
        np.testing.assert_array_equal(stored.arc_length, projected.arc_length)
        np.testing.assert_allclose(stored.arc_length[:, 0] / curve.length, [0.25, 0.25, 0.75, 0.75], atol=1e-6)
        expected = ls.probes.confinement.drift(projected, 2)
        np.testing.assert_array_equal(drift.velocity, expected.velocity)
        measured = ls.probes.confinement.along_path(well, path, ["energy", "log_determinant"])
        np.testing.assert_array_equal(along.log_determinant, measured.log_determinant)


def test_a_second_call_skips_and_a_missing_file_comes_back_the_same(spec, tmp_path):
    lines = []
    ls.study(spec, output=tmp_path, note=lines.append)
    assert [line.split()[1] for line in lines[::2]] == NAMES and all("done in" in line for line in lines[1::2])
    before = contents(tmp_path)
    stamps = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.nc")}
    lines.clear()
    ls.study(spec, output=tmp_path, note=lines.append)
    assert [line.rpartition(": ")[2] for line in lines] == ["complete"] * 6
    assert stamps == {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.nc")}
    former = ls.paths.Path.load(tmp_path / "path.nc")
    (tmp_path / "path.nc").unlink()
    ls.study(spec, output=tmp_path, note=lines.append)
    assert [line.split()[1] for line in lines if line.endswith("...")] == ["path"]
    assert set(contents(tmp_path)) == set(before)
    np.testing.assert_array_equal(ls.paths.Path.load(tmp_path / "path.nc").pivots, former.pivots)


def test_the_specification_of_a_stage_is_in_its_file(spec, tmp_path):
    files = ls.study(spec, output=tmp_path)
    with ls.open(files["path"]) as path:
        stored, task = json.loads(path.attrs["stage"]), json.loads(path.attrs["spec"])
    stages = {stage.name: stage for stage in stages_of(spec)}
    assert stored == {"sha256": stages["path"].sha256, "spec": stages["path"].spec}
    assert stored["spec"]["start"] == {"stage": "left", "sha256": stages["left"].sha256}
    assert task["start"] == {"file": str(tmp_path / "left.nc")}
    assert ls.run(task).pivots.identical(ls.open(files["path"]).load().pivots)  # a specification like any other


# -- what has changed -------------------------------------------------------------------------------------------------


def test_a_changed_stage_is_refused_with_its_key_or_done_again_with_what_rests_on_it(spec, tmp_path):
    ls.study(spec, output=tmp_path)
    before = contents(tmp_path)
    changed = copy.deepcopy(spec)
    changed["stage"][2]["settings"]["threshold"] = 0.2
    with pytest.raises(ConfigError, match=r"'path'.*settings\.threshold was None, is now 0\.2.*redo"):
        ls.study(changed, output=tmp_path)
    assert contents(tmp_path) == before
    lines = []
    ls.study(changed, output=tmp_path, redo=True, note=lines.append)
    assert [line.split()[1] for line in lines if line.endswith("...")] == NAMES[2:]
    assert [line.split()[1] for line in lines if line.endswith("complete")] == NAMES[:2]
    ls.study(changed, output=tmp_path)
    with pytest.raises(ConfigError, match=r"'right'.*start"):
        ls.study(changed | {"stage": [changed["stage"][0], spec["stage"][1] | {"start": [0.7, 0.1]}]}, output=tmp_path)


@pytest.mark.parametrize(("stage", "key", "value"), [
    (0, "start", [-0.7, 0.1]), (2, "method", "neb"), (4, "steps", 61), (4, "temperature", 0.02), (4, "seed", 1),
    (3, "settings", {"quantities": ["energy"]}),
])  # fmt: skip
def test_what_a_stage_rests_on_is_in_its_hash(spec, stage, key, value):
    """A change is seen in the stage and in all that refer to it, and in no other."""
    before = list(stages_of(spec))
    spec["stage"][stage][key] = value
    differ = {new.name for old, new in zip(before, stages_of(spec), strict=True) if old.sha256 != new.sha256}
    after = {0: {"left", "path", "along", "projected", "drift"}, 2: set(NAMES[2:]), 3: {"along"}, 4: set(NAMES[4:])}
    assert differ == after[stage]


def test_a_default_said_aloud_is_the_same_stage(spec):
    before = [stage.sha256 for stage in stages_of(spec)]
    spec["stage"][4] |= {"seed": 0, "backend": "auto", "record": {"every": 1}}
    spec["stage"][0]["method"] = "lbfgs"
    assert [stage.sha256 for stage in stages_of(spec)] == before


# -- interruptions ----------------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for a kill."""


def test_an_interrupted_study_goes_on_inside_the_path(spec, tmp_path, monkeypatch):
    whole = ls.study(spec, output=tmp_path / "whole")
    call, steps = Slopes.__call__, []

    def frail(self, pivots, step):
        steps.append(step)
        if len(steps) == 100:
            raise KilledError
        return call(self, pivots, step)

    monkeypatch.setattr(Slopes, "__call__", frail)
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        ls.study(spec, output=folder, checkpoint_every=7)
    assert len(list(folder.glob("path.*.unfinished.nc"))) == 1
    assert not (folder / "path.nc").exists()
    ls.study(spec, output=folder, checkpoint_every=7)
    assert steps[100] == 98
    assert not list(folder.glob("*unfinished*"))
    for name in NAMES:
        with ls.open(whole[name]) as one, ls.open(folder / f"{name}.nc") as other:
            for variable in one.variables:
                np.testing.assert_array_equal(one[variable], other[variable], err_msg=f"{name}: {variable}")


@pytest.mark.parametrize("task", [
    {"task": "train", "epochs": 4, "schedule": {"0": 1.0, "2": 0.5}}, {"task": "simulate", "steps": 40},
])  # fmt: skip
def test_an_interrupted_run_goes_on_from_its_last_checkpoint(task, tmp_path, monkeypatch):
    stage = {"name": "one", "integrator": SGD | {"momentum": 0.9}, "record": {"every": 2}} | task
    spec = {"defaults": {"potential": network(batch_size=6)}, "stage": [stage]}
    whole = ls.study(spec, output=tmp_path / "whole")["one"]
    commit, commits = RunFolder.commit, []

    def frail(self, driver):
        commit(self, driver)
        commits.append(driver.engine.state.step)
        if len(commits) == 3:
            raise KilledError

    monkeypatch.setattr(RunFolder, "commit", frail)
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        ls.study(spec, output=folder, checkpoint_every=5)
    assert [one.name.split(".")[0] for one in folder.glob("one*")] == ["one"] and not (folder / "one.nc").exists()
    ls.study(spec, output=folder, checkpoint_every=5)
    assert commits[3] >= commits[2]  # nothing was done twice
    assert sorted(one.name for one in folder.iterdir()) == [".lock", "one.nc"]
    with ls.open(whole) as one, ls.open(folder / "one.nc") as other:
        for variable in one.variables:
            np.testing.assert_array_equal(one[variable], other[variable], err_msg=variable)


def test_files_of_others_are_not_taken(spec, tmp_path):
    ls.save(ls.minimize(ls.potentials.Quadratic([1.0])), tmp_path / "left.nc")
    with pytest.raises(StorageError, match="not written by a study"):
        ls.study(spec, output=tmp_path)
    (tmp_path / "left.nc").write_bytes(b"damaged")
    with pytest.raises(StorageError, match="damaged"):
        ls.study(spec, output=tmp_path)


def test_two_at_once_are_refused(spec, tmp_path):
    with locked(tmp_path, ".lock"), pytest.raises(StorageError, match="another process"):
        ls.study(spec, output=tmp_path)
    assert not list(tmp_path.glob("*.nc"))
    assert ls.study(spec, output=tmp_path)["drift"].exists()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.update(stages=[]), "stages"),
    (lambda s: s.update(stage=[]), "needs stages"),
    (lambda s: s.update(base="nothing"), "no preset 'nothing'"),
    (lambda s: s["defaults"].update(steps=3), "steps"),
    (lambda s: s["stage"][0].update(name="a/b"), "letters"),
    (lambda s: s["stage"][0].update(name="minimize"), "a word of specifications"),
    (lambda s: s["stage"][1].update(name="left"), "its own"),
    (lambda s: s["stage"][0].pop("name"), "got None"),
    (lambda s: s["stage"][0].pop("task"), "unknown task None"),
    (lambda s: s["stage"][2].update(start={"stage": "drift"}), "'path': there is no earlier stage 'drift'"),
    (lambda s: s["stage"][0].update(stepz=3), "'left': unknown key 'stepz'.*steps"),
    (lambda s: s["stage"][3].update(run="path"), "'along'.*run"),
])  # fmt: skip
def test_bad_studies(spec, tmp_path, change, message):
    change(spec)
    with pytest.raises(ConfigError, match=message):
        ls.study(spec, output=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("probe", "message"), [
    ({"probe": "confinement.plot_drift"}, "unknown probe"),
    ({"probe": "confinement.np"}, "unknown probe"),
    ({"probe": "os.system"}, "unknown probe"),
    ({"probe": "drift"}, "unknown probe"),
    ({"settings": {"bin": 3}}, "no setting 'bin'.*bins"),
    ({"variable": "height"}, "no variable 'height'"),
    ({"run": {"stage": "projected", "at": 0.5}}, "run must be"),
])  # fmt: skip
def test_bad_probes(spec, tmp_path, probe, message):
    spec["stage"][5] |= probe
    with pytest.raises(ConfigError, match=message):
        ls.study(spec, output=tmp_path)


@pytest.mark.parametrize("at", [-0.1, 1.1, [0.5, float("nan")], "middle", [[0.1]]])
def test_bad_starts_on_a_path(spec, tmp_path, at):
    spec["stage"][4]["start"]["at"] = at
    with pytest.raises(ConfigError, match=r"start\.at must be fractions"):
        ls.study(spec, output=tmp_path)


@pytest.mark.parametrize(("start", "message"), [
    ({"stage": "path", "at": [0.5], "replicas": 0}, "start.replicas"),
    ({"stage": "path", "at": [0.5], "replicas": "two"}, "start.replicas"),
    ({"stage": "left", "replicas": 2}, "there are none"),
    ({"stage": "path", "at": [0.5], "copies": 2}, "copies"),
])  # fmt: skip
def test_bad_replicas(spec, tmp_path, start, message):
    spec["stage"][4]["start"] = start
    with pytest.raises(ConfigError, match=message):
        ls.study(spec, output=tmp_path)


def test_probes_of_one_variable_and_of_several_runs(tmp_path):
    spring = {"kind": "Quadratic", "stiffness": [1.0]}
    table = {"potential": spring, "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 200, "chains": 4}
    first = ls.run(table | {"temperature": 0.5})
    files = [str(ls.save(first, tmp_path / "one.nc"))]
    task = {"task": "probe", "probe": "fluctuations.summary", "run": {"file": files[0]}, "variable": "energy"}
    np.testing.assert_array_equal(ls.run(task)["mean"], ls.probes.fluctuations.summary(first.energy)["mean"])
    task = {"task": "probe", "probe": "curvature.trace", "run": {"file": files[0]}, "variable": "last_position"}
    found = ls.run(task | {"settings": {"method": "exact"}})  # on the landscape that the run names
    np.testing.assert_allclose(found.trace, 1.0)
    found = ls.run(task | {"potential": spring | {"stiffness": [3.0]}, "settings": {"method": "exact"}})
    np.testing.assert_allclose(found.trace, 3.0)
    line = {"pivots": [[-1.0], [1.0]]}
    for temperature in (0.1, 0.2):
        table = table | {
            "constraint": {"kind": "ProjectOntoPath", "path": line, "every": 5},
            "temperature": temperature,
        }
        files.append(str(ls.save(ls.run(table), tmp_path / f"{temperature}.nc")))
    task = {"task": "probe", "probe": "confinement.drift", "run": [{"file": file} for file in files[1:]]}
    assert ls.run(task | {"settings": {"bins": 2}}).sizes["temperature"] == 2


# -- costs ------------------------------------------------------------------------------------------------------------


def seconds(stage, monkeypatch, step=1.0, full=10.0):
    """The estimate where a step takes 1 s and the gradient on all data 10 s."""
    monkeypatch.setattr(study_costs, "_measured", lambda potential: study_costs._Prices(potential, step, full))
    (cost,) = study_costs.costs(stages_of({"stage": [{"name": "one"} | stage]}))
    return cost.seconds


@pytest.mark.parametrize(("stage", "expected"), [
    # 10 minibatches and an energy on all data, a third of its gradient, for each of 5 epochs
    ({"task": "train", "integrator": SGD, "epochs": 5}, 5 * (10 + 10 / 3)),
    ({"task": "train", "integrator": SGD, "epochs": 5, "siblings": 2}, 10 * (10 + 10 / 3)),
    ({"task": "simulate", "integrator": SGD, "steps": 40, "chains": 3, "record": {"every": 20}}, 3 * (40 + 2 * 10 / 3)),
    ({"task": "simulate", "integrator": SGD, "steps": 40, "record": {"observables": []}}, 40),
    ({"task": "minimize", "method": "gd", "steps": 7}, 70),
    ({"task": "minimize", "method": "lbfgs", "steps": 7}, 7 * (10 + 10 / 3)),
    ({"task": "connect", "start": [0.0], "method": "string", "settings": {"steps": 8, "pivots": 9, "lr": 1.0}}, 72),
    # five pivots, then seven; ten energies in each segment
    ({"task": "connect", "start": [0.0], "settings": {"cycles": [[0.1, 4], [0.1, "2 epochs"]]}},
     5 * 4 + 4 * 10 * 10 / 3 + 7 * 20 + 6 * 10 * 10 / 3),
    ({"task": "connect", "start": [0.0], "settings": {"cycles": [[0.1, 4], [0.1, 4]], "insert": 1}},
     5 * 4 + 4 * 10 * 10 / 3 + 6 * 4 + 5 * 10 * 10 / 3),
    ({"task": "probe", "probe": "curvature.trace", "run": {"file": "x.nc"}, "settings": {"probes": 4}}, 4 * 3 * 10),
    ({"task": "probe", "probe": "curvature.eigenvalues", "run": {"file": "x.nc"}}, 51 * 3 * 10),
])  # fmt: skip
def test_costs_are_counted_in_gradients(stage, expected, monkeypatch):
    assert seconds(stage | {"potential": network(batch_size=6)}, monkeypatch) == pytest.approx(expected)


def test_costs_scale_with_what_is_measured(monkeypatch):
    stage = {"task": "train", "integrator": SGD, "epochs": 5, "potential": network(batch_size=6)}
    assert seconds(stage, monkeypatch, step=2.0) == pytest.approx(5 * (20 + 10 / 3))
    assert seconds(stage, monkeypatch, full=30.0) == pytest.approx(5 * (10 + 10))


def test_costs_of_probes_along_a_path_that_is_not_there_yet(spec):
    spec["stage"][2]["settings"] = {"cycles": [[0.02, 60], [0.02, 60]]}
    found = {cost.name: cost for cost in study_costs.costs(stages_of(spec))}
    assert list(found) == NAMES
    assert all(cost.bytes > 2**20 and cost.seconds >= 0 for cost in found.values())
    assert found["drift"].seconds == 0.0


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "well.toml"
    file.write_text(TEXT)
    return file


def test_the_command(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["study", str(config), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES) and "GiB" in out and "nothing was run" in out
    assert not (tmp_path / "well").exists()
    assert run(["study", str(config), "--set", "projected.steps=30"]) == 0
    assert capsys.readouterr().out.count("done in") == 6
    with ls.open(tmp_path / "well" / "projected.nc") as projected:
        assert projected.sizes["draw"] == 30
    assert run(["study", str(config), "--set", "projected.steps=30"]) == 0
    assert capsys.readouterr().out.count("complete") == 6
    assert run(["study", str(config)]) == 2
    assert "steps was 30, is now 60" in capsys.readouterr().err
    assert run(["study", str(config), "--redo", "-o", str(tmp_path / "well")]) == 0
    assert run(["study", "no-such-preset"]) == 2
    assert run(["study", str(tmp_path / "missing.toml")]) == 4


def test_overrides(spec):
    override(spec, "potential.energy=x**2 + y**2")
    override(spec, "train.epochs=3")
    override(spec, "left.steps=5")
    assert spec["defaults"]["potential"]["energy"] == "x**2 + y**2"
    assert spec["defaults"]["train"] == {"epochs": 3} and spec["stage"][0]["steps"] == 5
    for text in ("steps=3", "left", "=3"):
        with pytest.raises(ConfigError, match="--set"):
            override(spec, text)
