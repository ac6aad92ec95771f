"""Stopped, and gone on with in another process: the same files and the same numbers as without a stop."""

import json
import subprocess
import sys

import pytest

import landscape as ls
from tests.landscape.reliability import runs
from tests.landscape.reliability.runs import STEPS

RECIPES = runs.recipes()
# In the ordinary run every integrator and every kind of memory once; in the long one on each backend and landscape.
QUICK_NETWORKS = {
    "LeimkuhlerMatthews compiled", "Adam compiled", "SGD momentum batched", "Optimizer Adam batched", "SGHMC batched",
}  # fmt: skip
QUICK_WALLS = {"LeimkuhlerMatthews", "BAOAB", "HMC", "Preconditioned", "Optimizer Adam", "Optimizer LBFGS"}
QUICK_BATCHED = {
    "path momenta", "observers", "schedules", "order of minibatches", "replica exchange", "hessian noise",
    "own observables", "batch statistics",
}  # fmt: skip
FIRST = 2 * STEPS // 5


def chosen(name: str) -> bool:
    kind, _, rest = name.partition(" ")
    if runs.LONG:
        return True
    if kind == "network":
        return rest in QUICK_NETWORKS
    what, _, backend = (rest if kind == "walls" else name).rpartition(" ")
    return backend == "compiled" or what in (QUICK_WALLS if kind == "walls" else QUICK_BATCHED)


NAMES = [name for name in RECIPES if chosen(name)]


def deed(*arguments) -> None:
    command = [sys.executable, "-m", "tests.landscape.reliability.deeds", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def finished(tmp_path_factory, patch):
    """Every recipe, killed after the commit at two fifths, then finished by one other process."""
    home = tmp_path_factory.mktemp("restart")
    table, broken = {}, {}
    for name in NAMES:
        call, folder = RECIPES[name], home / name
        try:
            with runs.killed_at_commit(patch, FIRST):
                call(output=folder, checkpoint_every=FIRST)
            table[name] = str(folder)
        except Exception as error:
            broken[name] = f"before the stop: {type(error).__name__}: {error}"
            continue
        with ls.open(folder) as stopped:
            if stopped.attrs["steps_done"] != FIRST:
                broken[name] = f"stopped at {stopped.attrs['steps_done']}"
    (home / "table.json").write_text(json.dumps(table))
    deed("finish", home / "table.json")
    return home, broken | json.loads((home / "table.wrong").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_leaves_no_trace(name, finished, tmp_path):
    home, wrong = finished
    assert wrong.get(name, "") == ""
    memory = RECIPES[name]()
    undisturbed = RECIPES[name](output=tmp_path / "run", checkpoint_every=10 * STEPS)
    assert runs.differing(runs.digests(home / name), runs.digests(tmp_path / "run")) == []
    assert runs.differing(runs.bits(undisturbed), runs.bits(memory)) == []
    with ls.open(home / name) as stored:
        assert runs.differing(runs.bits(stored), runs.bits(memory)) == []


def test_the_comparison_can_fail(tmp_path):
    """Control: a step less is another run."""
    one = RECIPES["schedules compiled"](output=tmp_path / "one")
    other = RECIPES["schedules compiled"](steps=STEPS - 1)
    assert "last_position" in runs.differing(runs.bits(one), runs.bits(other))


EXTENDED = [
    "observers compiled", "path nearest compiled", "replica exchange batched", "walls LeimkuhlerMatthews compiled",
    "walls BAOAB batched", "walls HMC compiled", "walls Adam batched", "schedules compiled",
]  # fmt: skip


def test_a_complete_run_is_made_longer(tmp_path):
    """Two fifths of the steps were all that was asked for, then there are more."""
    extended = EXTENDED if runs.LONG else EXTENDED[:3]
    for name in extended:
        RECIPES[name](steps=FIRST, output=tmp_path / name)
    (tmp_path / "table.json").write_text(json.dumps({str(tmp_path / name): STEPS for name in extended}))
    deed("resume", tmp_path / "table.json")
    for name in extended:
        RECIPES[name](output=tmp_path / f"{name} whole")
        assert runs.differing(runs.digests(tmp_path / name), runs.digests(tmp_path / f"{name} whole")) == [], name


def test_a_longer_run_has_its_snapshots_at_other_steps(tmp_path, patch):
    def call(folder, **settings):
        rule, record = ls.EulerMaruyama(dt=0.1), ls.Record(10, snapshots=4)
        spring = ls.potentials.Quadratic([1.0])
        return ls.simulate(spring, rule, temperature=1.0, steps=100, record=record, output=folder, **settings)

    call(tmp_path / "run")
    with pytest.raises(ls.errors.CheckpointError, match="snapshots"):
        ls.resume(tmp_path / "run", steps=110)
    with runs.killed_at_commit(patch, 30):
        call(tmp_path / "begun", checkpoint_every=30)
    with pytest.raises(ls.errors.CheckpointError, match="snapshots"):  # one was taken at 25, and one is due at 27
        ls.resume(tmp_path / "begun", steps=110)
    assert ls.resume(tmp_path / "begun").sizes["snapshot"] == 4


def warming(time):
    return 0.1 + 0.01 * time


def test_what_was_written_in_python_is_given_again_and_compared(tmp_path):
    rule, record = ls.EulerMaruyama(dt=0.1), ls.Record(10, {"square": lambda potential, x: x.square().sum(-1)})
    spring = ls.potentials.Function(lambda x: x.square().sum(-1) / 2, dim=2)
    settings = {"temperature": warming, "record": record}
    whole = ls.simulate(spring, rule, steps=100, **settings)
    ls.simulate(spring, rule, steps=40, output=tmp_path, **settings)
    with pytest.raises(ls.errors.ConfigError, match="potential"):
        ls.resume(tmp_path, steps=100, **settings)
    stiffer = ls.potentials.Function(lambda x: x.square().sum(-1), dim=2)
    with pytest.raises(ls.errors.CheckpointError, match=r"potential\.sha256"):
        ls.resume(tmp_path, steps=100, potential=stiffer, **settings)
    again = ls.resume(tmp_path, steps=100, potential=spring, **settings)
    assert runs.differing(runs.bits(whole), runs.bits(again)) == []
