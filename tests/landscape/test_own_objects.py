"""Objects of one's own: what is said of them where plain data cannot carry them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import xarray as xr

import landscape as ls
from landscape.cli.free_energy import _steps_needed
from landscape.errors import ConfigError
from landscape.integrators import Integrator

SPEC = {"potential": {"kind": "Quadratic", "stiffness": [1.0]}, "steps": 20, "backend": "batched", "seed": 1,
        "integrator": {"kind": "EulerMaruyama", "dt": 0.1}}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Mine(Integrator):
    """Descent."""

    dt: float

    @property
    def step_size(self):
        return self.dt

    def step(self, position, memory, at):
        return position - at.dt * at.gradient(position)


def bowl(x):
    return (x**2).sum(dim=-1)


def square(x):
    return x[..., 0] ** 2


def test_resume_asks_for_all_objects_at_once(tmp_path):
    potential, spring = ls.potentials.Function(bowl, 2), ls.Restrain(square, 0.5, 1.0)
    settings = {"temperature": 0.1, "start": [0.1, 0.2], "constraint": spring}
    ls.simulate(potential, ls.EulerMaruyama(dt=0.1), steps=10, output=tmp_path / "run", **settings)
    with pytest.raises(ConfigError) as caught:
        ls.resume(tmp_path / "run", steps=20)
    said = str(caught.value)
    assert "bowl" in said and "square" in said
    assert "landscape.resume(folder, potential=..., constraint=...)" in said and "integrator" not in said
    with pytest.raises(ConfigError, match=r"resume\(folder, constraint=..., potential=...\)"):
        ls.resume(tmp_path / "run", steps=20, potential=potential)
    longer = ls.resume(tmp_path / "run", steps=20, potential=potential, constraint=spring)
    assert longer.attrs["steps_done"] == 20


@pytest.mark.parametrize(("given", "said"), [("x", "lambda potential, x: x"), ("energy", '"energy": None')])
def test_a_name_in_place_of_a_function_gets_a_hint(given, said):
    with pytest.raises(ConfigError, match=said):
        ls.simulate(ls.potentials.Quadratic([1.0]) if given == "energy" else ls.potentials.Expression("x**2", ["x"]),
                    ls.EulerMaruyama(dt=0.1), steps=1, record=ls.Record(1, {"q": given}))  # fmt: skip


def test_a_sweep_takes_objects_of_ours_and_says_how_others_are_registered():
    table = ls.sweep({**SPEC, "integrator": ls.EulerMaruyama(dt=0.1)}, {"temperature": [0.1, 0.2]})
    plain = ls.sweep(SPEC, {"temperature": [0.1, 0.2]})
    assert (table.energy.values == plain.energy.values).all()
    with pytest.raises(ConfigError, match=r'landscape.integrators"\] Mine = "module:Mine"'):
        ls.sweep({**SPEC, "integrator": Mine(dt=0.1)}, {"temperature": [0.1, 0.2]})
    with pytest.raises(ConfigError, match="plain data"):
        ls.sweep({**SPEC, "start": object()}, {"temperature": [0.1, 0.2]})


def test_the_preconditioner_of_contributing_samples_its_law():
    """Of variance T/[k^2 (1 - dt/2)] where the stiffness is k: 500 chains, z-scores; the control is Boltzmann's T/k."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    code = re.search(r"A callable of potential and positions.*?```python\n(.*?)```", text, re.DOTALL)[1]
    names: dict = {}
    exec(code, names)  # noqa: S102  # that is what is tested
    variance = (names["run"].position.values[:, -1] ** 2).mean(axis=0)
    for found, k in zip(variance, (1.0, 100.0), strict=True):
        exact = 1.0 / (k**2 * (1.0 - 0.1 / 2.0))
        assert abs(found - exact) / (exact * (2.0 / 500) ** 0.5) < 4.5
        assert k == 1.0 or abs(found - exact * k) / (exact * (2.0 / 500) ** 0.5) > 4.5  # the control


@pytest.mark.parametrize(("given", "said"), [
    ({"temperature": "300K"}, r"^temperature: expected a number in units of energy[^;]*, got '300K'$"),
    ({"steps": 1e3}, "write 1000"), ({"record": {"observables": "energy"}}, r"write \['energy'\]"),
    ({"start": "minimum.nc"}, "file = 'minimum.nc'"), ({"steps": 1.5}, r"got 1.5$"),
])  # fmt: skip
def test_wrong_values_of_a_specification_say_what_to_write(given, said):
    with pytest.raises(ConfigError, match=said):
        ls.run(SPEC | given)


def test_what_is_not_resolved_says_how_many_steps_would_be_needed():
    """50 correlation times: of 25 in 1000 steps twice as many; none where nothing is known of them."""
    run = xr.Dataset(coords={"step": ("draw", [500, 1000])})
    assert "about 2e+03 steps" in _steps_needed(run, xr.Dataset({"correlation_times": 25.0}))
    assert "about 1e+04 steps" in _steps_needed(run, xr.Dataset({"correlation_times": 5.0}))
    assert "too few to tell" in _steps_needed(run, xr.Dataset({"correlation_times": 0.0}))
