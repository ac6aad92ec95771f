"""No room: the message says where and how much, what was committed is there, and the run goes on when there is room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import landscape as ls
from tests.landscape.reliability import runs

CONFIG = """
steps = 6000
chains = 3
temperature = 0.3
seed = 1
[potential]
kind = "Quadratic"
stiffness = [1.0, 2.0]
[integrator]
kind = "EulerMaruyama"
dt = 0.02
"""

LIMITED = """
import importlib, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from landscape.cli.app import run
simulate = importlib.import_module("landscape.dynamics.simulate")
simulate.PART_BYTES = 40_000
command = ["simulate", "run.toml", "-o"]
codes = []
for limit, folder in ((1_000, "none"), (30_000, "few"), (None, "enough")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit or resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("##", folder, file=sys.stderr, flush=True)
    codes.append(run([*command, folder, "--checkpoint-every", "1000"]))
simulate.PART_BYTES = 40_000_000
print("## grown", file=sys.stderr, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, resource.RLIM_INFINITY))
codes.append(run([*command, "grown", "--checkpoint-every", "1000"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(codes)
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """Four runs in one process, under limits on the size of a file."""
    home = tmp_path_factory.mktemp("full")
    (home / "run.toml").write_text(CONFIG)
    environment = {**os.environ, "PYTHONPATH": str(Path(ls.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr  # no segmentation fault either
    said = dict(part.split("\n", 1) for part in done.stderr.split("## ")[1:])
    codes = zip(("none", "few", "enough", "grown"), json.loads(done.stdout.splitlines()[-1]), strict=True)
    return home, dict(codes), said


def test_exit_codes(limited):
    assert limited[1] == {"none": 4, "few": 4, "enough": 0, "grown": 4}, limited[2]


@pytest.mark.parametrize("name", ["none", "few", "grown"])
def test_the_message_says_where_and_how_much(name, limited):
    message = " ".join(limited[2][name].replace("│", " ").split())
    assert name in message and "bytes" in message and "File too large" in message, message
    assert "HDF error" not in message and "Traceback" not in message


def test_what_was_committed_is_there_and_goes_on(limited):
    home = limited[0]
    with ls.open(home / "grown") as so_far, ls.open(home / "enough") as whole:
        done = so_far.attrs["steps_done"]
        assert 0 < done < 6000 and so_far.sizes["draw"] == done
        assert (so_far.position.values == whole.position[:, :done].values).all()
    ls.resume(home / "grown")
    with ls.open(home / "grown") as grown, ls.open(home / "enough") as whole:
        assert runs.differing(runs.bits(grown), runs.bits(whole)) == []
