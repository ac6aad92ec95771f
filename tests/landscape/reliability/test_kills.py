"""SIGKILL at random instants of the command line, gone on with until done: file by file the undisturbed run."""

import json
import subprocess
import sys
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
KILLS, STEPS, EVERY = (100, 3_000_000, 2_000) if runs.LONG else (5, 60_000, 500)


@pytest.mark.slow
@pytest.mark.always
def test_kills_leave_no_trace(tmp_path, capsys):
    config, stormy, calm = tmp_path / "run.toml", tmp_path / "stormy", tmp_path / "calm"
    config.write_text(CONFIG.format(steps=STEPS))
    process = subprocess.run(
        [sys.executable, "-m", "tests.landscape.reliability.deeds", "storm", config, stormy, str(KILLS), str(EVERY)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    seen = json.loads(process.stdout.splitlines()[-1])
    assert seen["code"] == 0, process.stderr
    assert seen["found"] == sorted(seen["found"]), "a step that was committed was lost"
    assert len(seen["found"]) == KILLS, "the run ended before it was killed that often: make it longer"
    assert seen["found"][-1] > 0, "no run came as far as a step that was committed: no kill was in the midst of one"
    with pytest.MonkeyPatch.context() as patch:
        runs.part_bytes(patch, 2**16)
        ls.run(tomllib.loads(config.read_text()), output=calm)
    assert runs.differing(runs.digests(stormy), runs.digests(calm)) == []
    if runs.LONG:
        with capsys.disabled():
            print(f"\n{KILLS} kills, {len(runs.digests(calm))} files byte-equal")
