"""`landscape probe free-energy` and `landscape train`, mistakes included."""

from __future__ import annotations

import pytest

import landscape as ls
from landscape.cli.app import run

VALLEY = """
steps = 40_000
chains = 100
temperature = [{temperature}]
seed = 1
[potential]
kind = "Valley"
g = "1 + y**2"
bounds = {{ y = [-3, 3] }}
[integrator]
kind = "EulerMaruyama"
dt = 1e-2
[record]
every = 50
"""
DIGITS = """
epochs = 2
siblings = 2
[potential]
kind = "NetworkLoss"
batch_size = 64
module = { kind = "mlp", sizes = [64, 8, 10], seed = 0 }
data = { kind = "digits" }
[integrator]
kind = "SGD"
lr = 0.1
"""


def stored(folder, temperature="0.1"):
    config = folder / "valley.toml"
    config.write_text(VALLEY.format(temperature=", ".join([temperature] * 100)))
    assert run(["simulate", str(config)]) == 0
    return config.with_suffix(".nc")


def test_a_profile_beside_theory(tmp_path, capsys):
    path = stored(tmp_path)
    assert run(["probe", "free-energy", str(path), "-c", "y", "--bins", "20"]) == 0
    assert "theory" in capsys.readouterr().out
    with ls.open(tmp_path / "valley.free-energy.nc") as found:
        theory = ls.potentials.Valley("1 + y**2", bounds={"y": (-3, 3)}).effective_potential(found.y.values, 0.1)
        off = (found.free_energy - (theory - theory.mean())) / found.free_energy_stderr
        assert float(abs(off).max()) < 4.5
        assert float(abs(off + theory / found.free_energy_stderr).max()) > 8  # control: twice the law


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "takes one coordinate"),
        (["-c", "z"], "z"),
        (["-c", "x", "-c", "y", "-c", "x"], "one coordinate or two"),
        (["-c", "y", "--temperature", "0.3"], "of a run at 0.1"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, capsys, options, message):
    path = stored(tmp_path)
    assert run(["probe", "free-energy", str(path), *options]) == 2
    assert message in capsys.readouterr().err


def test_train_to_a_file_and_to_a_folder_that_goes_on(tmp_path, capsys):
    config = tmp_path / "digits.toml"
    config.write_text(DIGITS)
    assert run(["train", str(config)]) == 0
    assert run(["train", str(config), "-o", str(tmp_path / "digits")]) == 0
    assert run(["train", str(config), "-o", str(tmp_path / "digits")]) == 0
    with ls.open(tmp_path / "digits.nc") as file, ls.open(tmp_path / "digits") as folder:
        assert (file.last_position.values == folder.last_position.values).all()
    assert run(["train", str(config), "--set", "steps=3"]) == 2
    assert "steps" in capsys.readouterr().err
