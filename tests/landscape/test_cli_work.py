"""Free energies from stored driven runs, on the command line and by a specification: a spring made stiffer."""

from __future__ import annotations

import numpy as np
import pytest

import landscape as ls
from landscape.cli.app import run
from landscape.probes import free_energy

T, STEPS, CHAINS = 0.5, 60, 800
SPEC = """
steps = {steps}
chains = {chains}
temperature = {t}
seed = {seed}
backend = "batched"
integrator = {{ kind = "EulerMaruyama", dt = 0.02 }}
record = {{ every = {steps}, observables = ["work"] }}
start = {start}
[potential]
kind = "Expression"
energy = "k*x**2/2"
coordinates = ["x"]
parameters = {{ k = {{ kind = "ramp", start = {first}, end = {last}, duration = 1.0 }} }}
"""


@pytest.fixture(scope="module")
def pulled(tmp_path_factory):
    """Stored runs from k = 1 to 2 and back, from equilibrium at either end."""
    folder, rng = tmp_path_factory.mktemp("works"), np.random.default_rng(0)
    for name, first, last, seed in (("ahead", 1.0, 2.0, 1), ("back", 2.0, 1.0, 2)):
        start = rng.normal(0.0, np.sqrt(T / first), (CHAINS, 1)).tolist()
        text = SPEC.format(steps=STEPS, chains=CHAINS, t=T, seed=seed, first=first, last=last, start=start)
        (folder / f"{name}.toml").write_text(text)
        assert run(["simulate", str(folder / f"{name}.toml")]) == 0
    return folder


def test_the_command_finds_the_difference(pulled, tmp_path, capsys):
    """(T/2) ln(k_1/k_0), by Bennett within 4.5 errors; the control is the mean work, which dissipates."""
    target = tmp_path / "found.nc"
    assert run(["probe", "free-energy", *(str(pulled / f"{one}.nc") for one in ("ahead", "back")), "--work",
                "-o", str(target)]) == 0  # fmt: skip
    assert "free energy" in capsys.readouterr().out
    with ls.open(target) as found, ls.open(pulled / "ahead.nc") as ahead:
        exact = 0.5 * T * np.log(2.0)
        assert found.attrs["temperature"] == T
        assert abs(float(found.free_energy) - exact) < 4.5 * float(found.free_energy_stderr) < 0.05
        assert float(ahead.work.isel(draw=-1).mean()) - exact > 4.5 * float(found.free_energy_stderr)


def test_a_specification_finds_the_same(pulled):
    spec = {"task": "probe", "probe": "free_energy.work_average", "run": {"file": str(pulled / "ahead.nc")},
            "settings": {"reverse": {"file": str(pulled / "back.nc")}}}  # fmt: skip
    found = ls.run(spec)
    with ls.open(pulled / "ahead.nc") as ahead, ls.open(pulled / "back.nc") as back:
        plain = free_energy.work_average(ahead.work.values[:, -1], back.work.values[:, -1], temperature=T)
    assert float(found.free_energy) == float(plain.free_energy)
    one = ls.run({key: value for key, value in spec.items() if key != "settings"})
    assert one.attrs["method"] == "Jarzynski"


@pytest.mark.parametrize(("arguments", "said"), [
    (["--temperature", "0.3"], "the samples are of a run at 0.5"),
    (["--mbar"], "no option --mbar"),
    (["-c", "x"], "no option -c"),
])  # fmt: skip
def test_mistakes_are_one_line(pulled, arguments, said, capsys):
    assert run(["probe", "free-energy", str(pulled / "ahead.nc"), "--work", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_run_without_works_is_told_what_to_record(tmp_path, capsys):
    ls.save(ls.simulate(ls.potentials.Quadratic([1.0]), ls.EulerMaruyama(dt=0.1), steps=5, temperature=1.0, chains=9),
            tmp_path / "plain.nc")  # fmt: skip
    assert run(["probe", "free-energy", str(tmp_path / "plain.nc"), "--work"]) == 2
    assert 'record them, observables ["work"]' in capsys.readouterr().err
