"""A sweep gives the same bytes on any engine, and survives workers and drivers that are killed."""

import gc
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

import landscape as ls
from landscape.cli.app import run as command
from landscape.errors import LandscapeError
from landscape.workflows.points.engines import MAX_DEATHS, choose_engine, in_processes
from landscape.workflows.points.results import open_sweep
from tests.landscape import sweep_deeds

# Dask is not ours to clean up behind: sockets and loops that it leaves to the garbage collector are no failure here.
pytestmark = [
    pytest.mark.filterwarnings("default:::distributed"),
    pytest.mark.filterwarnings("default:::tornado"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]

MODULE = importlib.import_module("landscape.workflows.sweep")
PATIENCE = 300.0  # seconds until a test gives up waiting for another process

SPEC = {
    "potential": {"kind": "DoubleWell"},
    "integrator": {"kind": "EulerMaruyama", "dt": 1e-2},
    "steps": 40,
    "chains": 3,
    "temperature": 0.2,
    "record": {"every": 10},
}
GOOD, MORTAL, POISONED, WRONG = [1, 2, 3, 4], 2, 5, 6
POINTS = [{"seed": seed, "integrator.dt": 1e-2} for seed in [*GOOD, POISONED]]
POINTS += [{"seed": WRONG, "integrator.dt": -1.0}]
DEEDS = {MORTAL: "die once", POISONED: "die"}


def results(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.nc")}


def prepare(folder, deeds):
    folder.mkdir()
    (folder / "deeds.json").write_text(json.dumps(deeds))
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Bytes of the points that can be run, from this process."""
    folder = tmp_path_factory.mktemp("serial")
    ls.sweep(SPEC, POINTS[: len(GOOD)], output=folder)
    return results(folder)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.worker.memory.terminate": False,
        "distributed.admin.system-monitor.gil.enabled": False,
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
        ) as local,
        distributed.Client(local, timeout="60s") as client,
    ):
        yield client
    gc.collect()


@pytest.fixture(scope="module", params=["processes", "dask"])
def eventful(request, tmp_path_factory):
    """A sweep with workers that are killed, a point that kills every worker, and a point that raises."""
    folder = prepare(tmp_path_factory.mktemp(request.param) / "out", DEEDS)
    executor = request.getfixturevalue("cluster").get_executor() if request.param == "dask" else 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "run_point", sweep_deeds.run_point)
        dataset = ls.sweep(SPEC, POINTS, executor=executor, output=folder)
    return folder, dataset


def test_the_bytes_are_those_of_one_process(eventful, reference):
    folder, _ = eventful
    assert results(folder) == reference


def test_a_killed_worker_loses_nothing_and_doubles_nothing(eventful):
    folder, _ = eventful
    began, _ = sweep_deeds.logged(folder)
    assert {seed: began.count(seed) for seed in GOOD} == {1: 1, MORTAL: 2, 3: 1, 4: 1}
    assert began.count(POISONED) >= MAX_DEATHS
    assert set(began) == {*GOOD, POISONED, WRONG}
    assert not list(folder.glob(".*.part"))


def test_poisoned_points_fail_alone_and_are_listed(eventful):
    folder, dataset = eventful
    assert dataset.failed.values.tolist() == [False] * 4 + [True] * 2
    assert np.isfinite(dataset.energy[:4]).all()
    assert np.isnan(dataset.energy[4:]).all()
    died, raised = json.loads(dataset.attrs["failures"])
    assert (died["index"], died["values"]) == (4, {"seed": POISONED, "integrator.dt": 1e-2})
    assert died["error"] in ("WorkerDied", "KilledWorker")
    assert "die" in died["message"]
    assert raised["index"] == 5
    assert raised["error"] == "ConfigError"
    assert "-1.0" in raised["message"]
    stored = json.loads((folder / "failures.json").read_text())
    assert [failure["index"] for failure in stored] == [4, 5]
    assert "Traceback" in stored[1]["traceback"]


def test_the_command_line_reaches_a_scheduler(cluster, tmp_path, reference):
    config = tmp_path / "wells.toml"
    config.write_text(
        'steps = 40\nchains = 3\ntemperature = 0.2\npotential = { kind = "DoubleWell" }\nrecord = { every = 10 }\n'
        'integrator = { kind = "EulerMaruyama", dt = 1e-2 }\nover = { seed = [1, 2, 3, 4] }'
    )
    address = cluster.scheduler_info()["address"]
    assert command(["sweep", str(config), "--scheduler", address, "-o", str(tmp_path / "out")]) == 0
    assert results(tmp_path / "out") == reference


def test_a_thread_pool_is_an_executor(tmp_path, reference):
    with ThreadPoolExecutor(3) as executor:
        ls.sweep(SPEC, {"seed": GOOD}, executor=executor, output=tmp_path)
    assert results(tmp_path) == reference


def test_a_standard_pool_that_breaks_is_replaced(tmp_path, reference, monkeypatch):
    folder = prepare(tmp_path / "out", {1: "die once"})
    monkeypatch.setattr(MODULE, "run_point", sweep_deeds.run_point)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        ls.sweep(SPEC, {"seed": GOOD}, executor=executor, output=folder)
    assert results(folder) == reference
    assert sorted(sweep_deeds.logged(folder)[0]) == [1, *GOOD]


DRIVER = """
import importlib, json, sys
from tests.landscape import sweep_deeds

if __name__ == "__main__":
    module = importlib.import_module("landscape.workflows.sweep")
    module.run_point = sweep_deeds.run_point
    module.sweep(json.loads(sys.argv[1]), json.loads(sys.argv[2]), executor=1, output=sys.argv[3])
"""


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "gave up waiting"
        time.sleep(0.05)


def is_gone(process):
    return not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def test_after_a_killed_driver_only_missing_points_run(tmp_path, reference, monkeypatch):
    folder = prepare(tmp_path / "out", {3: "wait"})
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen(
        [sys.executable, str(script), json.dumps(SPEC), json.dumps({"seed": GOOD}), str(folder)],
        env=os.environ | {"PYTHONPATH": paths},
    )
    try:
        wait_until(lambda: 3 in sweep_deeds.logged(folder)[0] or driver.poll() is not None)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    began, processes = sweep_deeds.logged(folder)
    assert began == [1, 2, 3]
    wait_until(lambda: is_gone(processes[0]))  # a worker does not outlive its driver
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nc")}
    assert len(before) == 2
    with open_sweep(folder) as so_far:
        assert so_far.failed.values.tolist() == [False, False, True, True]

    (folder / "go").touch()
    monkeypatch.setattr(MODULE, "run_point", sweep_deeds.run_point)
    dataset = ls.sweep(SPEC, {"seed": GOOD}, output=folder)
    assert sweep_deeds.logged(folder)[0] == [1, 2, 3, 3, 4]
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nc")}.items()
    assert not dataset.failed.any()
    assert results(folder) == reference


def test_an_interrupted_sweep_ends_its_workers():
    outcomes = in_processes(sweep_deeds.sleep, {0: ("a", "0"), 1: ("b", "3600"), 2: ("c", "0")}, workers=2)
    assert next(outcomes)[1] is None
    workers = [child for child in multiprocessing.active_children() if child.name == "landscape-sweep"]
    assert workers
    outcomes.close()
    assert not any(child.name == "landscape-sweep" for child in multiprocessing.active_children())


def test_a_worker_that_ends_by_itself_is_told_from_one_that_was_killed():
    (_, failure), *rest = in_processes(sweep_deeds.fall, {0: ("a", "0")}, workers=2)
    assert not rest
    assert "exit code 3" in failure["message"]


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from tests.landscape import sweep_deeds\nfrom landscape.workflows.points.engines import in_processes\n"
        "list(in_processes(sweep_deeds.sleep, {0: ('a', '0')}, workers=1))\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr


@pytest.mark.parametrize("executor", [0, -1, True, 1.5, "dask", object()])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(LandscapeError, match="executor"):
        choose_engine(executor)
