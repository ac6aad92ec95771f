"""Ctrl-C and SIGTERM: what was reached is kept, and the last line says where it is and how it goes on."""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import re
import shlex
import signal
from pathlib import Path

import pytest

import landscape as ls
from landscape.cli.app import run
from landscape.paths.history import History

RUN = """
steps = 200
chains = 2
temperature = 0.3
seed = 1
backend = "batched"
potential = { kind = "Quadratic", stiffness = [1.0, 2.0] }
integrator = { kind = "EulerMaruyama", dt = 0.02 }
record = { every = 10 }
"""
TRAINING = """
task = "train"
epochs = 6
backend = "batched"
schedule = { 0 = 1.0, 4 = 0.1 }
seed = 1
integrator = { kind = "SGD", lr = 0.1 }
[potential]
kind = "NetworkLoss"
batch_size = 10
module = { kind = "mlp", sizes = [4, 3, 2], seed = 0 }
data = { kind = "random_labels", samples = 30, features = 4, classes = 2, seed = 0 }
"""


@pytest.fixture
def signal_at(monkeypatch):
    """Sends a signal to this process when a file of that name has been written so many times."""

    def arm(name: str, times: int, number: int = signal.SIGINT) -> None:
        real, seen = os.replace, []

        def replace(source, target, *arguments, **settings):
            real(source, target, *arguments, **settings)
            if Path(target).name.endswith(name):
                seen.append(target)
                if len(seen) == times:
                    os.kill(os.getpid(), number)

        monkeypatch.setattr(os, "replace", replace)

    return arm


def config(tmp_path, text, name="one.toml"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def assert_same(one, other):
    with ls.open(one) as first, ls.open(other) as second:
        assert set(first.variables) == set(second.variables)
        for name in first.variables:
            assert (first[name].values == second[name].values).all() or first[name].dtype.kind == "f", name
        assert json.loads(first.attrs["spec"]) == json.loads(second.attrs["spec"])
        assert not {"status", "steps_done"} & set(first.attrs)
        assert "position" not in first or (first.position.values == second.position.values).all()
        assert (first.last_position.values == second.last_position.values).all()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_in_a_folder_says_how_it_goes_on(number, code, tmp_path, signal_at, capsys):
    folder = tmp_path / "kept"
    signal_at("manifest.json", 3, number)
    file = config(tmp_path, RUN)
    assert run(["simulate", file, "-o", str(folder), "--checkpoint-every", "20"]) == code
    said = capsys.readouterr().err
    with ls.open(folder) as kept:
        done = kept.attrs["steps_done"]
    assert 0 < done < 200
    assert f"interrupted at step {done} of 200; go on with `landscape resume {folder}`" in said
    assert run(["resume", str(folder)]) == 0
    assert run(["simulate", file, "-o", str(tmp_path / "whole")]) == 0
    with ls.open(folder) as kept, ls.open(tmp_path / "whole") as whole:
        assert (kept.position.values == whole.position.values).all()


@pytest.mark.parametrize(("text", "every", "told"), [(RUN, 20, " of 200;"), (TRAINING, 4, " of 6;")])
def test_a_file_keeps_what_it_had_in_a_folder_beside_it(text, every, told, tmp_path, signal_at, capsys):
    """The same command goes on to the file of a run that was not interrupted, and leaves no folder."""
    file, target = config(tmp_path, text), tmp_path / "x.nc"
    signal_at("manifest.json", 3)
    command = ["simulate", file, "-o", str(target), "--checkpoint-every", str(every)]
    assert run(command) == 130
    said = capsys.readouterr().err
    assert "interrupted at" in said and told in said
    assert "the same command goes on from" in said and str(tmp_path / "x.unfinished") in said
    assert "landscape resume" not in said
    assert not target.exists() and (tmp_path / "x.unfinished").is_dir()
    with ls.open(tmp_path / "x.unfinished") as kept:
        assert kept.sizes["draw"] > 0
    assert run(command) == 0
    assert run(["simulate", file, "-o", str(tmp_path / "whole.nc")]) == 0
    assert not list(tmp_path.glob("*.unfinished"))
    assert_same(target, tmp_path / "whole.nc")


def test_another_specification_does_not_go_on(tmp_path, signal_at, capsys):
    """The control: what was kept belongs to one specification."""
    target = tmp_path / "x.nc"
    signal_at("manifest.json", 3)
    command = ["simulate", config(tmp_path, RUN), "-o", str(target), "--checkpoint-every", "20"]
    assert run(command) == 130
    assert run([*command, "--set", "temperature=0.4"]) == 5
    said = capsys.readouterr().err
    assert "temperature" in said and "remove" in said and "x.unfinished" in said


def test_a_run_that_diverges_leaves_a_file_and_no_folder(tmp_path, capsys):
    target = tmp_path / "x.nc"
    code = run(
        ["simulate", config(tmp_path, RUN), "-o", str(target), "--set", "integrator.dt=1000.0", "--set", "steps=400"]
    )
    assert code == 3
    assert "kept in" in capsys.readouterr().err
    assert target.exists() and not list(tmp_path.glob("*.unfinished"))


def test_a_sweep_says_how_many_points_are_done(tmp_path, signal_at, capsys):
    signal_at(".nc", 2)
    command = ["sweep", config(tmp_path, RUN), "--over", "temperature=0.1,0.2,0.3,0.4", "-o", str(tmp_path / "scan")]
    assert run(command) == 130
    said = capsys.readouterr().err
    there = len(list((tmp_path / "scan").glob("*.nc")))
    assert there == 2
    assert "of 4 points done" in said and str(tmp_path / "scan") in said
    assert run(command) == 0
    assert len(list((tmp_path / "scan").glob("*.nc"))) == 4


STUDY = """
[defaults.potential]
kind = "Expression"
energy = "(x**2 - 1)**2 + y**2"
coordinates = ["x", "y"]
[[stage]]
name = "left"
task = "minimize"
start = [-0.8, 0.3]
[[stage]]
name = "right"
task = "minimize"
start = [0.8, 0.3]
[[stage]]
name = "path"
task = "connect"
start = { stage = "left" }
end = { stage = "right" }
settings = { cycles = [[0.05, 20], [0.02, 20]] }
"""


def test_a_study_names_the_stage_and_its_step(tmp_path, signal_at, capsys):
    signal_at(".unfinished.nc", 3)
    command = ["study", config(tmp_path, STUDY), "-o", str(tmp_path / "all"), "--checkpoint-every", "6"]
    assert run(command) == 130
    said = capsys.readouterr().err
    assert "interrupted at step 19 of 40 of the band in stage 3/3 path (connect); the same command goes on" in said, (
        said
    )
    assert run(command) == 0
    assert run(["study", config(tmp_path, STUDY), "-o", str(tmp_path / "whole")]) == 0
    with ls.open(tmp_path / "all" / "path.nc") as kept, ls.open(tmp_path / "whole" / "path.nc") as whole:
        assert (kept.pivots.values == whole.pivots.values).all()


def test_connect_keeps_its_band(tmp_path, signal_at, capsys):
    potential = 'potential = { kind = "Expression", energy = "(x**2 - 1)**2 + y**2", coordinates = ["x", "y"] }\n'
    for side, x in (("left", -0.8), ("right", 0.8)):
        file = config(tmp_path, f'task = "minimize"\nstart = [{x}, 0.3]\n{potential}', f"{side}.toml")
        assert run(["simulate", file]) == 0
    signal_at(".unfinished.nc", 2)
    command = ["connect", str(tmp_path / "left.nc"), str(tmp_path / "right.nc"), "-o", str(tmp_path / "path.nc"),
               "--set", "cycles=[[0.05, 20]]", "--set", "checkpoint_every=6"]  # fmt: skip
    assert run(command) == 130
    assert "of 20 of the band; the same command goes on" in capsys.readouterr().err
    assert (tmp_path / "path.unfinished.nc").exists()
    assert run(command) == 0


@pytest.mark.parametrize("method", ["neb", "string"])
@pytest.mark.always
def test_a_band_of_one_rate_is_kept_with_the_command_that_goes_on(method, tmp_path, monkeypatch, capsys):
    """The rest of the steps are made from the band that was stored: at the end it is at rest over the saddle, V = 1."""
    potential = 'potential = { kind = "Expression", energy = "(x**2 - 1)**2 + (y - 1 + x**2)**2"'
    potential += ', coordinates = ["x", "y"] }\n'
    for side, x in (("left", -0.9), ("right", 0.9)):
        text = f'task = "minimize"\nmethod = "lbfgs"\nstart = [{x}, 0.1]\n{potential}'
        assert run(["simulate", config(tmp_path, text, f"{side}.toml")]) == 0
    interrupt_at(monkeypatch, History, "note", 30)
    command = ["connect", str(tmp_path / "left.nc"), str(tmp_path / "right.nc"), "-o", str(tmp_path / "path.nc"),
               "--method", method, "--set", "pivots=7", "--set", "steps=400", "--set", "lr=0.05"]  # fmt: skip
    assert run(command) == 130
    said = capsys.readouterr().err
    done, total, onward = re.search(
        r"interrupted at step (\d+) of (\d+) of the band; go on with `landscape (.*)`", said
    ).groups()
    assert 0 < int(done) < int(total) == 400
    assert not (tmp_path / "path.nc").exists()
    assert run(shlex.split(onward)) == 0
    with ls.open(tmp_path / "path.nc") as path:
        assert int(path.cycle_steps.sum()) == 400 - int(done)
        assert float(path.energy.max()) == pytest.approx(1.0, abs=1e-3)
    assert not (tmp_path / "path.unfinished.nc").exists()


@pytest.mark.parametrize("method", ["bezier", "polychain"])
def test_a_curve_is_kept_as_it_was(method, tmp_path, monkeypatch, capsys):
    """Lower than the straight line, whose top is 2, and of as many steps as were made."""
    potential = 'potential = { kind = "Expression", energy = "(x**2 - 1)**2 + (y - 1 + x**2)**2"'
    potential += ', coordinates = ["x", "y"] }\n'
    for side, x in (("left", -0.9), ("right", 0.9)):
        text = f'task = "minimize"\nmethod = "lbfgs"\nstart = [{x}, 0.1]\n{potential}'
        assert run(["simulate", config(tmp_path, text, f"{side}.toml")]) == 0
    interrupt_at(monkeypatch, History, "note", 60)
    command = ["connect", str(tmp_path / "left.nc"), str(tmp_path / "right.nc"), "-o", str(tmp_path / "path.nc"),
               "--method", method, "--set", "steps=400", "--set", "lr=0.1", "--set", "points=4"]  # fmt: skip
    assert run(command) == 130
    said = capsys.readouterr().err
    done = int(re.search(r"interrupted at step (\d+) of 400 of the curve; the curve as it was is kept in", said)[1])
    left = tmp_path / "path.unfinished.nc"
    assert str(left) in said and not (tmp_path / "path.nc").exists()
    with ls.open(left) as path:
        assert 0 < int(path.cycle_steps.sum()) == done < 400
        assert float(path.energy.max()) < 1.9
    assert run(command) == 0
    assert not left.exists()


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_a_minimum_goes_on_from_where_it_was(method, tmp_path, monkeypatch, capsys):
    """In a narrow valley, whose floor takes more iterations than were made; the control starts from the beginning."""
    text = f'task = "minimize"\nmethod = "{method}"\nstart = [-1.2, 1.0]\npotential = {{ kind = "Rosenbrock" }}\n'
    file, target, left = config(tmp_path, text), tmp_path / "at.nc", tmp_path / "at.unfinished.nc"
    name = {"adam": "minimize._energy_and_norm", "lbfgs": "objective.Objective.note"}[method]
    interrupt_at(monkeypatch, *f"landscape.dynamics.{name}".rsplit(".", 1), 20)
    assert run(["simulate", file, "-o", str(target)]) == 130
    said = capsys.readouterr().err
    done, onward = re.search(r"interrupted at iteration (\d+) of \d+ of the minimum; go on with `landscape (.*)`", said
                             ).groups()  # fmt: skip
    assert int(done) > 0 and not target.exists()
    with ls.open(left) as kept:
        reached = float(kept.energy)
        assert not kept.converged and int(kept.iteration[-1]) == int(done)
        assert reached < 0.99 * float(kept.history_energy[0])
    assert run(shlex.split(onward)) == 0
    assert not left.exists()
    with ls.open(target) as found:
        assert found.converged
        assert float(found.history_energy[0]) == pytest.approx(reached)
        assert found.position.values == pytest.approx([1.0, 1.0], abs=1e-4)


def test_python_gets_what_was_reached(monkeypatch):
    interrupt_at(monkeypatch, "landscape.dynamics.objective.Objective", "note", 10)
    with pytest.raises(KeyboardInterrupt) as caught:
        ls.minimize(ls.potentials.toys.Rosenbrock(), [-1.2, 1.0], method="lbfgs")
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"interrupted at iteration 9 of 5000 of the minimum", note)
    assert ls.minimize(ls.potentials.toys.Rosenbrock(), caught.value.dataset, method="lbfgs").converged


def interrupt_at(monkeypatch, owner, name, times):
    """Sends a signal to this process when a function is called so many times."""
    owner = pkgutil.resolve_name(owner) if isinstance(owner, str) else owner
    real, seen = getattr(owner, name), []

    @functools.wraps(real)  # SciPy reads the names of arguments
    def counted(*arguments, **settings):
        seen.append(name)
        if len(seen) == times:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **settings)

    monkeypatch.setattr(owner, name, counted)


def test_python_sees_the_note(tmp_path, signal_at):
    signal_at("manifest.json", 3)
    well = ls.potentials.Quadratic([1.0])
    with pytest.raises(KeyboardInterrupt) as caught:
        ls.simulate(well, ls.EulerMaruyama(dt=0.1), steps=100, output=tmp_path / "run", checkpoint_every=10)
    (note,) = caught.value.__notes__
    assert note.startswith("interrupted at step") and "landscape resume" in note
