"""SIGKILL at random instants of the command line, gone on with until done: file by file the undisturbed run."""

import random
import signal
import subprocess
import sys
import time
import tomllib

import pytest

import landscape as ls
from tests.landscape.reliability import runs

CONFIG = """
steps = {steps}
chains = 4
temperature = 0.3
seed = 1

[potential]
kind = "Valley"
g = "1 + y**2"

[integrator]
kind = "BAOAB"
dt = 0.02
friction = 1.0

[record]
every = 10
snapshots = 40
observables = ["position", "energy", {{ kind = "Moments", of = "position" }}]
"""
KILLS = 100 if runs.LONG else 3
STEPS = 20_000_000 if runs.LONG else 100_000
EVERY = 2_000
SMALL_PARTS = (
    "import sys, landscape.simulate; sys.modules['landscape.simulate'].PART_BYTES = 2**16;"
    "from landscape.cli import main; main()"
)


def command_line(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_PARTS, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def commits(folder) -> int:
    """Something that grows as the run goes on."""
    return len(list(folder.glob("draw-*.nc")))


def killed(process, folder, wait: float) -> bool:
    """Wait until the process is at work in the folder, then a random while, then kill it."""
    before, begun = commits(folder), time.monotonic()
    while commits(folder) == before and process.poll() is None and time.monotonic() - begun < 120:
        time.sleep(0.002)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode in (-signal.SIGKILL, 0), errors
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_kills_leave_no_trace(tmp_path, capsys):
    config, stormy, calm = tmp_path / "run.toml", tmp_path / "stormy", tmp_path / "calm"
    config.write_text(CONFIG.format(steps=STEPS))
    chance, kills, seen = random.Random(8), 0, 0
    while kills < KILLS:
        process = command_line("simulate", config, "-o", stormy, "--checkpoint-every", EVERY)
        if not killed(process, stormy, chance.uniform(0, 0.3)):
            break  # the run was over before it could be killed
        kills += 1
        with ls.open(stormy) as so_far:
            assert so_far.attrs["steps_done"] >= seen
            seen = so_far.attrs["steps_done"]
            assert so_far.sizes.get("draw", 0) == seen // 10
    assert kills >= min(KILLS, 3), f"only {kills} kills: make the run longer"
    process = command_line("resume", stormy, "--checkpoint-every", EVERY * 100)
    assert process.wait() == 0, process.stderr.read().decode()
    process.stderr.close()
    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 2**16)
        ls.run(tomllib.loads(config.read_text()), output=calm)
    assert runs.differing(runs.digests(stormy), runs.digests(calm)) == []
    with capsys.disabled():
        if runs.LONG:
            print(f"\n{kills} kills, {len(runs.digests(calm))} files byte-equal")
