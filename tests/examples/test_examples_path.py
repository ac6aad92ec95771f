"""The free energy of a network's path at its quick size: ways that agree, and laws that do not."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

import landscape as ls
from landscape.workflows.reproduction import FAILS, carry_out
from tests.cases import LONG_ONLY

pytest.importorskip("sklearn")


@LONG_ONLY
def test_thermal_motion_and_curvature_agree(tmp_path):
    from landscape.examples import free_energy_of_a_path

    plt.switch_backend("Agg")
    found = carry_out(free_energy_of_a_path.reproduce, tmp_path, size="quick")
    plt.close(found.figure)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    held, projected = found.verdicts[:4], found.verdicts[4:]
    energetic, cold, printed, warm = held
    assert printed.outcome == FAILS
    slope, filtered, unfiltered, hot = projected
    assert unfiltered.outcome == FAILS  # k steps do not feel the whole of log det (H + epsilon)
    for one in (energetic, slope):
        assert abs(one.value - 1) < 0.1
    for one in (cold, filtered):
        assert abs(one.value - 1) < 4.5 * one.stderr + 0.05
    for one in (warm, hot):
        assert abs(one.value - 1) < 4.5 * one.stderr + 0.3
    for name in ("curvature", "filtered", "held", "projected"):
        with ls.open(tmp_path / f"{name}.nc") as stored:
            assert stored.sizes["pivot"] == (9 if name in ("curvature", "held") else 7)


def test_forces_are_integrated():
    """A cubic comes back, with errors that grow as the root of independent forces."""
    from landscape.examples.free_energy_of_a_path import forces, integrated, share

    s = np.linspace(0.0, 2.0, 9)
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, 9, 4000))
    found = integrated(forces((0.0, 0.1), 3.0 * s[None, :, None] ** 2 + noise), s)
    exact = s**3 - np.mean(s**3)
    z = (found.free_energy - exact) / found.free_energy_stderr
    assert float(abs(z).max()) < 4.5
    assert float(abs((found.free_energy - 1.1 * exact) / found.free_energy_stderr).max()) > 8
    theory = found.free_energy.isel(temperature=0, drop=True).copy(data=s**3)
    value, error = share(found, theory, 0.1)
    assert 0 < error < 0.01
    assert math.isclose(value, 1.0, abs_tol=4.5 * error)
