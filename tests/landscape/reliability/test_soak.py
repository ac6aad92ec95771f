"""Many parts and checkpoints: memory and open files stay where they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import landscape as ls
from tests.landscape.reliability import runs

STEPS, COMMITS = (30_000_000, 1000) if runs.LONG else (100_000, 60)
SOAK = """
import gc, importlib, json, os, sys
import psutil
import landscape as ls

importlib.import_module("landscape.dynamics.simulate").PART_BYTES = 2**16
steps, number, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
process, seen, commits = psutil.Process(), [], []
real = os.replace


def replace(source, target, *arguments, **settings):
    real(source, target, *arguments, **settings)
    if os.path.basename(target) == "manifest.json":
        commits.append(target)
    if os.path.basename(target) == "manifest.json" and len(commits) % 5 == 0:
        gc.collect()
        seen.append((process.memory_info().rss, process.num_fds()))


os.replace = replace
ls.simulate(
    ls.potentials.Quadratic([1.0, 2.0]), ls.BAOAB(0.1, friction=1.0), temperature=0.5, chains=8, steps=steps,
    output=folder, record=ls.Record(every=10, observables=["position", "energy", ls.Moments(every=10)]),
    checkpoint_every=steps // number,
)
print(json.dumps(seen))
"""


def test_memory_and_files(tmp_path, capsys):
    done = subprocess.run(
        [sys.executable, "-c", SOAK, str(STEPS), str(COMMITS), str(tmp_path / "run")], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(ls.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(seen) >= COMMITS // 5
    memory, files = zip(*seen[len(seen) // 4 :], strict=True)  # the first commits warm up
    growth = (max(memory[-3:]) - max(memory[:3])) / 1e6
    assert growth < 5, f"{growth:.1f} MB"
    assert max(files) == min(files)
    assert len(list((tmp_path / "run").glob("draw-*"))) > 15
    if runs.LONG:
        with capsys.disabled():
            print(f"\n{growth:.2f} MB more after {COMMITS} checkpoints, {max(files)} files open")


def test_opening_again_and_again(tmp_path):
    """Reading leaves no files open."""
    import psutil

    call = runs.recipes()["walls BAOAB compiled"]
    call(output=tmp_path / "run")
    process = psutil.Process()

    def look():
        with ls.open(tmp_path / "run") as seen:
            runs.bits(seen)
        ls.resume(tmp_path / "run").close()

    look()
    before = process.num_fds()
    for _ in range(20):
        look()
    assert process.num_fds() <= before
