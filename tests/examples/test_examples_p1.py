"""The scripts on confinement along paths, at their quick size: files, figures, and numbers that are numbers."""

import importlib
import math

import matplotlib.pyplot as plt
import pytest

import landscape as ls
from landscape.workflows.reproduction import carry_out
from tests.cases import LONG_ONLY

pytest.importorskip("sklearn")
NAMES = (
    "curvature_along_paths",
    "linear_mode_connectivity",
    "relaxation",
    "relaxation_optimizers",
    "universality",
    "weight_averaging",
)


QUICKEST = ("linear_mode_connectivity", "weight_averaging")  # the others run with the long tests


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICKEST else LONG_ONLY) for name in NAMES])
def test_a_script_at_its_quick_size(name, tmp_path):
    script = importlib.import_module(f"landscape.examples.{name}")
    title, line = script.__doc__.splitlines()[:2]
    assert set(line) == {"="} and len(line) >= len(title)
    found = carry_out(script.reproduce, tmp_path, size="quick")
    plt.close(found.figure)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    for dataset in found.datasets:
        with ls.open(tmp_path / f"{dataset}.nc") as stored:
            assert stored.sizes
    assert found.verdicts
    for verdict in found.verdicts:
        assert math.isfinite(verdict.value) and math.isfinite(verdict.stderr), verdict


def test_seeds_of_pairs_were_fixed_in_advance():
    from landscape.examples._digits import PAIRS

    assert PAIRS == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def test_the_curvature_of_the_twin_is_constant():
    from landscape.examples._controls import linear_twin

    twin = linear_twin()
    here = twin.position()
    vector = here.flip(0)
    assert abs(twin.hvp(here, vector) - twin.hvp(here + 3.0, vector)).max() < 1e-5


def test_laws_of_the_valley_differ_by_more_than_their_errors():
    from landscape.examples.relaxation_optimizers import LAWS, mean_square

    plain, preconditioned, shaped = (mean_square(law) for law in LAWS.values())
    assert plain == shaped
    assert abs(preconditioned - plain) > 0.05
