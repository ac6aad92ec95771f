"""MBAR from the command line and from a specification: windows of one run, a center and a stiffness for each chain."""

import numpy as np
import pytest

import landscape as ls
from landscape.cli.app import run
from landscape.errors import ConfigError

WINDOWS = """
temperature = 0.2
steps = 800
seed = 3
backend = "batched"
[potential]
kind = "Expression"
energy = "k*x**2/2"
coordinates = ["x"]
parameters = {{ k = 1.0 }}
[integrator]
kind = "MALA"
dt = 0.4
[record]
every = 8
[constraint]
kind = "Restrain"
coordinate = "x"
center = {center}
stiffness = {stiffness}
"""
CENTER, STIFFNESS = np.repeat([-1.4, -0.7, 0.0, 0.7, 1.4], 8), np.repeat([2.0, 2.0, 3.0, 2.0, 2.0], 8)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    config = tmp_path_factory.mktemp("mbar") / "windows.toml"
    config.write_text(WINDOWS.format(center=CENTER.tolist(), stiffness=STIFFNESS.tolist()))
    assert run(["simulate", str(config)]) == 0
    return config.with_suffix(".nc")


def test_windows_from_the_command_line_and_from_a_specification(windows, capsys):
    asked = [
        "--mbar",
        "-c",
        "x",
        "--bins",
        "8",
        "--temperature",
        "0.18",
        "--observable",
        "x**2",
        "--parameter",
        "k=1.2",
    ]
    assert run(["probe", "free-energy", str(windows), *asked]) == 0
    said = capsys.readouterr().out
    assert "center 0.7, stiffness 2" in said and "x**2" in said
    settings = {"coordinate": "x", "at": 8, "temperature": 0.18, "observables": ["x**2"], "parameters": {"k": 1.2}}
    by_spec = ls.run(
        {"task": "probe", "probe": "free_energy.mbar", "run": [{"file": str(windows)}], "settings": settings}
    )
    with ls.open(windows.with_suffix(".mbar.nc")) as found:
        assert np.array_equal(found.profile, by_spec.profile, equal_nan=True)
        stiff, center = STIFFNESS[::8], CENTER[::8]
        exact = 0.5 * stiff * center**2 / (1.0 + stiff) + 0.1 * np.log(1.0 + stiff)
        z = ((found.free_energy - (exact - exact[0])) / found.free_energy_stderr)[1:]
        assert float(abs(z).max()) < 4.5
        z = (found.expectation - 0.18 / 1.2) / found.expectation_stderr
        assert float(abs(z).max()) < 4.5
        assert float(abs((found.expectation - 0.09) / found.expectation_stderr).min()) > 4.5  # with the springs on


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--observable", "x"], "no option --observable"),
        (["--mbar", "--force", "--parameter", "k"], "name=value"),
        (["--mbar", "--force", "-c", "z"], "z"),
    ],
)
def test_what_is_wrong_is_said(windows, capsys, options, message):
    assert run(["probe", "free-energy", str(windows), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_setting_that_mbar_does_not_have(windows):
    with pytest.raises(ConfigError, match="no setting 'bins'"):
        ls.run({"task": "probe", "probe": "free_energy.mbar", "run": {"file": str(windows)}, "settings": {"bins": 3}})
