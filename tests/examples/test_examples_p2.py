"""The scripts on fluctuations at their quickest: what they write, and the claims that have a closed form."""

import importlib
import json
import math

import pytest

import landscape as ls
from landscape.workflows.reproduction import UNRESOLVED, Reproduction, carry_out
from tests.cases import LONG_ONLY, Z_MAX

pyplot = pytest.importorskip("matplotlib.pyplot")

SCRIPTS = (
    "entropic_force",
    "quadratic_loss",
    "exponential_wall",
    "loss_fluctuations",
    "correlation_times",
    "hessian_spectra",
)
# What a closed form says, by script: these are held to |z| < 4.5. Laws as misprinted must fail.
RIGHT = {
    "entropic_force": ("P ~ g^(-1/2)", "c = 1/2", "P ~ k^(-1/2)", "thermal noise", "Hessian-shaped noise"),
    "quadratic_loss": ("is N_c/2", "springs: beta T", "<L>/T", "heat capacity", "exp(-2 k t)", "entropy", "is n/2"),
    "exponential_wall": ("<l>/T, exact", "var l/T^2, exact", "by moments, exact", "(a^2 T), exact"),
}
MISPRINTED = {  # endings of claims
    "entropic_force": ("P ~ 1/g", "c = 1", "P ~ 1/k"),
    "quadratic_loss": ("is 2 N_c", "mean of exp(-k t)"),
    "exponential_wall": ("here at T = 1e-6",),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Each script once, at size quick."""
    pyplot.switch_backend("Agg")
    folder = tmp_path_factory.mktemp("examples")
    results = {}

    def reproduction(name):
        if name not in results:
            script = importlib.import_module(f"landscape.examples.{name}")
            results[name] = carry_out(script.reproduce, folder / name, size="quick", seed=0), folder / name
            pyplot.close(results[name][0].figure)
        return results[name]

    return reproduction


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in RIGHT else LONG_ONLY) for name in SCRIPTS])
def test_script_writes_data_figure_and_verdicts(name, found):
    result, folder = found(name)
    assert isinstance(result, Reproduction)
    for file in result.datasets:
        with ls.open(folder / f"{file}.nc") as stored:
            assert stored.data_vars
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert len(verdicts) == len(result.verdicts) >= 6
    for verdict in result.verdicts:
        known = math.isfinite(verdict.value) and math.isfinite(verdict.stderr)
        assert known or verdict.outcome == UNRESOLVED
    # numbers are there for nearly all claims: a script that measures nothing is no reproduction
    assert sum(verdict["value"] is not None for verdict in verdicts) >= 0.6 * len(verdicts)
    assert result.verdicts[0].claim in (folder / "outcome.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_closed_forms_hold(name, found):
    for text in RIGHT[name]:
        chosen = [verdict for verdict in found(name)[0].verdicts if text in verdict.claim]
        assert chosen, text
        for verdict in chosen:
            off = abs(verdict.value - float(verdict.expected))
            assert off < Z_MAX * verdict.stderr + 0.01 * abs(verdict.value), verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", MISPRINTED)
def test_misprinted_laws_fail(name, found):
    for ending in MISPRINTED[name]:
        (verdict,) = [verdict for verdict in found(name)[0].verdicts if verdict.claim.endswith(ending)]
        assert verdict.outcome == "does not hold", verdict
