"""SIGINT and SIGTERM: a checkpoint within 5 s and the exit code; one process at a time in a folder."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import psutil
import pytest

import landscape as ls
from tests.landscape.reliability import runs

CONFIG = """
backend = "batched"
steps = 2_000_000_000
chains = 4
temperature = 0.3
seed = 1
[potential]
kind = "Quadratic"
stiffness = [1.0, 2.0]
[integrator]
kind = "EulerMaruyama"
dt = 0.02
[record]
every = 100
"""
SLOW = """
steps = 100_000_000
seed = 1
[potential]
kind = "NetworkLoss"
batch_size = 200
module = { kind = "mlp", sizes = [10, 60, 60, 3], seed = 0 }
data = { kind = "random_labels", samples = 20_000, seed = 0 }
[integrator]
kind = "SGD"
lr = 0.01
[record]
every = 1_000_000
"""
SECONDS = 5.0


def started(folder: Path, config: str, *more: str) -> subprocess.Popen:
    """The command line at work: its first checkpoint is there."""
    config_file = folder.with_suffix(".toml")
    config_file.write_text(config)
    process = subprocess.Popen(
        [sys.executable, "-m", "landscape.cli", "simulate", str(config_file), "-o", str(folder), *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=Path(ls.__file__).parents[1],
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "manifest.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = psutil.Process(process.pid)
    begun = sum(seen.cpu_times()[:2])
    while process.poll() is None and time.monotonic() < deadline and sum(seen.cpu_times()[:2]) < begun + 1.0:
        time.sleep(0.05)  # a second of its own, however busy the machine is
    assert process.poll() is None, process.stderr.read()
    return process


def ended(process: subprocess.Popen, number: int) -> tuple[int, float, str]:
    """Exit code, seconds of processor time that the end took, and what was said."""
    seen = psutil.Process(process.pid)
    before = spent = sum(seen.cpu_times()[:2])
    process.send_signal(number)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            spent = sum(seen.cpu_times()[:2])
        time.sleep(0.02)
    return process.returncode, spent - before, process.communicate()[1]


@pytest.mark.parametrize(("number", "code", "config"), [
    (signal.SIGINT, 130, CONFIG), (signal.SIGTERM, 143, SLOW),
    *([(signal.SIGTERM, 143, CONFIG), (signal.SIGINT, 130, SLOW)] if runs.LONG else []),
])  # fmt: skip
@pytest.mark.always
def test_a_signal_leaves_a_checkpoint(number, code, config, tmp_path):
    process = started(tmp_path / "run", config)
    message = runs.refusal(lambda: ls.resume(tmp_path / "run"))
    assert message.startswith("StorageError") and str(tmp_path / "run") in message, message
    with ls.open(tmp_path / "run") as meanwhile:
        assert meanwhile.attrs["status"] != "complete"
    returned, seconds, errors = ended(process, number)
    assert returned == code, errors
    assert "Traceback" not in errors
    assert seconds < SECONDS, f"{seconds:.1f} s"
    with ls.open(tmp_path / "run") as stopped:
        done = stopped.attrs["steps_done"]
        assert done > 0 or config is SLOW  # its first piece takes a while
        every = 100 if config is CONFIG else 1_000_000
        assert stopped.sizes.get("draw", 0) == done // every
    if config is CONFIG:
        goal = done + 2_000 - done % 1_000
        spec = tomllib.loads(CONFIG)
        whole = ls.run({**spec, "steps": goal, "record": {"every": 100}})
        with pytest.MonkeyPatch.context() as patch, runs.killed_at_commit(patch, goal):
            ls.resume(tmp_path / "run", checkpoint_every=1_000)
        with ls.open(tmp_path / "run") as longer:
            assert longer.attrs["steps_done"] >= goal
            assert (longer.position[:, : whole.sizes["draw"]].values == whole.position.values).all()


def test_a_second_writer_in_the_same_process(tmp_path):
    """Refused while the first is at work; the first goes on."""
    refusals = []
    real = os.replace

    def second(source, target, *arguments, **settings):
        real(source, target, *arguments, **settings)
        if Path(target).name == "manifest.json" and not refusals:
            refusals.append("")
            refusals[0] = runs.refusal(lambda: ls.resume(tmp_path / "run"))

    call = runs.recipes()["walls BAOAB compiled"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", second)
        call(output=tmp_path / "run", checkpoint_every=20)
    assert refusals[0].startswith("StorageError")
    call(output=tmp_path / "alone")
    assert runs.differing(runs.digests(tmp_path / "run"), runs.digests(tmp_path / "alone")) == []


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    call = runs.recipes()["walls BAOAB compiled"]
    call(output=tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch, runs.killed_at_commit(patch, 20):
        call(output=tmp_path / "killed", checkpoint_every=20)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_can_run(tmp_path):
    """Signals belong to the main thread: elsewhere a run does without."""
    results = []
    call = runs.recipes()["walls BAOAB compiled"]
    worker = threading.Thread(target=lambda: results.append(call(output=tmp_path / "run")))
    worker.start()
    worker.join()
    assert results and results[0].attrs["status"] == "complete"


def test_an_interrupt_inside_python(tmp_path):
    """SIGINT in a program of one's own: KeyboardInterrupt after a checkpoint, and the same call goes on."""
    call = runs.recipes()["walls BAOAB batched"]
    real, sent = os.replace, []

    def replace(source, target, *arguments, **settings):
        real(source, target, *arguments, **settings)
        if Path(target).name.startswith("draw") and not sent:
            sent.append(target)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 600)
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            call(output=tmp_path / "run", checkpoint_every=20)
    assert sent
    with ls.open(tmp_path / "run") as stopped:
        assert 0 < stopped.attrs["steps_done"] < runs.STEPS
    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 600)
        call(output=tmp_path / "run")
        call(output=tmp_path / "whole")
    assert runs.differing(runs.digests(tmp_path / "run"), runs.digests(tmp_path / "whole")) == []
