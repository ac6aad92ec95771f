"""`landscape probe confinement` on a path of a formula, on one of a network, and on a projected run."""

import json

import numpy as np
import pytest

import landscape as ls
from landscape.cli.app import run

VALLEY = {"kind": "Valley", "g": "1 + y**2"}
NETWORK = {
    "kind": "NetworkLoss",
    "module": {"kind": "mlp", "sizes": [4, 5, 3], "seed": 0},
    "data": {"kind": "random_labels", "samples": 20, "features": 4, "classes": 3, "seed": 0},
}


@pytest.fixture
def stored(tmp_path):
    path = ls.paths.straight_line([0.0, -2.0], [0.0, 2.0], 5).to_dataset()
    path.attrs["spec"] = json.dumps({"task": "connect", "potential": VALLEY})
    return ls.save(path, tmp_path / "path.nc")


def test_a_path_is_measured_and_stored(stored, capsys):
    arguments = ["probe", "confinement", str(stored), "-q", "energy", "-q", "log_determinant", "--temperature", "0.1"]
    assert run(arguments) == 0
    assert "log determinant" in capsys.readouterr().out
    with ls.open(stored.with_suffix(".confinement.nc")) as found:
        np.testing.assert_allclose(found.log_determinant, np.log([5, 2, 1, 2, 5]), atol=1e-12)
        np.testing.assert_allclose(found.entropic, 0.0, atol=1e-12)  # highest at the ends
        np.testing.assert_allclose(found.entropic_profile[2], -0.05 * np.log(5))
    assert run(arguments) == 2  # not to be overwritten
    assert run([*arguments, "--force"]) == 0


def test_quantities_by_default(stored, tmp_path):
    target = tmp_path / "found.nc"
    assert run(["probe", "confinement", str(stored), "--between", "1", "-o", str(target)]) == 0
    with ls.open(target) as found:
        assert {"energy", "largest_eigenvalue", "trace", "trace_stderr"} <= set(found.data_vars)
        np.testing.assert_allclose(found.trace, 1 + np.linspace(-2, 2, 9) ** 2, rtol=1e-6)


def test_a_path_between_networks(tmp_path):
    for seed in (0, 1):
        config = NETWORK | {"module": NETWORK["module"] | {"seed": seed}}
        minimum = ls.run({"task": "minimize", "potential": config, "steps": 20, "tolerance": 1e9})
        ls.save(minimum, tmp_path / f"{seed}.nc")
    settings = ["--method", "string", "--set", "steps=2", "--set", "lr=0.1", "--set", "pivots=3"]
    ends = [str(tmp_path / "0.nc"), str(tmp_path / "1.nc")]
    target = tmp_path / "path.nc"
    with pytest.warns(UserWarning, match="not a minimum"):
        assert run(["connect", *ends, "-o", str(target), *settings]) == 0
    quantities = ["-q", "energy", "-q", "accuracy", "-q", "fisher_trace", "--labels", "model"]
    assert run(["probe", "confinement", str(target), *quantities]) == 0
    with ls.open(target.with_suffix(".confinement.nc")) as found:
        assert {"energy", "accuracy", "fisher_trace"} <= set(found.data_vars)
        assert found.sizes["pivot"] == 3
    assert run(["probe", "confinement", str(target), *quantities[:-2], "--force"]) == 2  # labels have to be chosen


def test_a_projected_run(tmp_path, capsys):
    config = tmp_path / "projected.toml"
    config.write_text(
        """
        steps = 400
        chains = 20
        temperature = [0.1, 0.2]
        start = [[0.0, 2.0], [0.0, 2.0]]
        [potential]
        kind = "Valley"
        g = "1 + y**2"
        [integrator]
        kind = "EulerMaruyama"
        dt = 0.01
        [record]
        every = 400
        [constraint]
        kind = "ProjectOntoPath"
        path = { pivots = [[0.0, -3.0], [0.0, 3.0]] }
        every = 10
        """.replace("chains = 20", "chains = 2")
    )
    assert run(["simulate", str(config)]) == 0
    stored = config.with_suffix(".nc")
    assert run(["probe", "confinement", str(stored), "--bins", "2"]) == 0
    assert "velocity" in capsys.readouterr().out
    with ls.open(stored.with_suffix(".confinement.nc")) as found:
        assert {"velocity", "entropic_force", "relaxation_time"} <= set(found.data_vars)


def test_neither_a_path_nor_a_projected_run(tmp_path, capsys):
    spring = ls.potentials.Quadratic([1.0])
    plain = ls.save(ls.simulate(spring, ls.SGD(lr=0.1), steps=2), tmp_path / "run.nc")
    assert run(["probe", "confinement", str(plain)]) == 2
    assert "ProjectOntoPath" in capsys.readouterr().err
