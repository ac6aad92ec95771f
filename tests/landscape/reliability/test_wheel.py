"""What a wheel holds, and what it says when data are missing."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import landscape as ls

ROOT = Path(ls.__file__).parents[1]
FOLDERS = {"landscape": "landscape"} | {name: f"landscape/{name}" for name in ("examples", "potentials", "probes")}

USE = """
import sys, socket

def refuse(*arguments):
    raise SystemExit("the network was tried")

socket.socket.connect = refuse
import landscape as ls
assert ls.__file__.startswith(sys.argv[1]), ls.__file__
spring, rule = ls.potentials.Quadratic([1.0]), ls.EulerMaruyama(0.1)
ls.simulate(spring, rule, temperature=1.0, steps=20, output="run", backend="batched")
assert ls.resume("run", steps=40).sizes["draw"] == 40
try:
    ls.potentials.datasets.cifar10(root="nowhere")
except ls.errors.DatasetNotFound as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("building a wheel takes pip and setuptools")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        unwanted = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(target)]
    built = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(target.glob("*.whl"))


def sources() -> set[str]:
    """Every module, stub, template and table of the package, by its name in the wheel."""
    return {
        f"{inside}/{file.relative_to(ROOT / outside).as_posix()}"
        for outside, inside in FOLDERS.items()
        for file in (ROOT / outside).rglob("*")
        if file.is_file() and not file.is_symlink() and "__pycache__" not in file.parts
        and not any(parent.is_symlink() for parent in file.parents if ROOT in parent.parents)
        and file.suffix in {".py", ".pyi", ".toml", ".html", ".typed", ".css", ".js", ".json", ".csv"}
    }  # fmt: skip


def test_a_wheel_holds_everything(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert sorted(sources() - names) == []
    assert "landscape/py.typed" in names
    assert not [name for name in names if "test" in Path(name).parts[0] or name.endswith((".nbi", ".pyc", ".nc"))]


@pytest.mark.slow
def test_a_wheel_runs_outside_the_tree(wheel, tmp_path):
    """Unpacked elsewhere; a data set that is not there says how to get it, and no network is tried."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "site")], cwd=tmp_path, capture_output=True, text=True,
        env={**environment, "PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nowhere" in done.stdout and ("http" in done.stdout or "download" in done.stdout), done.stdout
