"""Objects of one's own: what is said of them where plain data cannot carry them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import xarray as xr

import landscape as ls
from landscape.common.flags import remarks
from landscape.errors import ConfigError
from landscape.probes.estimation.needed import Length, with_steps_needed

SPEC = {"potential": {"kind": "Quadratic", "stiffness": [1.0]}, "steps": 20, "backend": "batched", "seed": 1,
        "integrator": {"kind": "EulerMaruyama", "dt": 0.1}}  # fmt: skip


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


def test_a_sweep_takes_objects_of_ours():
    table = ls.sweep({**SPEC, "integrator": ls.EulerMaruyama(dt=0.1)}, {"temperature": [0.1, 0.2]})
    plain = ls.sweep(SPEC, {"temperature": [0.1, 0.2]})
    assert (table.energy.values == plain.energy.values).all()
    with pytest.raises(ConfigError, match="plain data"):
        ls.sweep({**SPEC, "start": object()}, {"temperature": [0.1, 0.2]})


NOTEBOOK = """
import landscape as ls
from dataclasses import dataclass
from landscape.integrators import Integrator

RATE = 1.0

@dataclass(frozen=True, slots=True, eq=False)
class Descent(Integrator):
    "x <- x - c dt grad V(x)."
    dt: float
    @property
    def step_size(self):
        return self.dt
    def step(self, position, memory, at):
        return position - RATE * at.dt * at.gradient(position)

class Spring(ls.potentials.Potential):
    "k x^2 / 2."
    dim, coordinates, bounds = 1, ("x",), {}
    def __init__(self, k):
        self.k = k
    def _energy(self, position):
        return self.k * (position**2).sum(-1) / 2

def square(potential, position):
    return position[..., 0] ** 2
"""


def notebook(text=NOTEBOOK):
    """The names of a notebook: a module that no worker can import."""
    names = {"__name__": "__main__"}
    exec(text, names)  # noqa: S102  # a notebook does
    return names


def of_notebook(names, k=2.0):
    return {"potential": names["Spring"](k), "integrator": names["Descent"](dt=0.1), "steps": 10, "start": [1.0],
            "record": {"every": 10, "observables": {"energy": None, "square": names["square"]}}}  # fmt: skip


def exact(k, dt, rate=1.0):
    """x^2 after ten steps."""
    return (1.0 - rate * k * dt) ** 20


def test_a_sweep_runs_objects_of_a_notebook_here_and_on_workers(tmp_path):
    """x_n = (1 - k dt)^n: the step is swept inside the object; the same bytes from a worker process."""
    names = notebook()
    over = {"integrator.dt": [0.1, 0.2], "potential": [names["Spring"](k) for k in (1.0, 3.0)]}
    table = ls.sweep(of_notebook(names), over, output=tmp_path / "here")
    for i, dt in enumerate((0.1, 0.2)):
        for j, k in enumerate((1.0, 3.0)):
            assert table.square.values[i, j, 0, 0] == pytest.approx(exact(k, dt), rel=1e-12)
            assert table.energy.values[i, j, 0, 0] == pytest.approx(0.5 * k * exact(k, dt), rel=1e-12)
    ls.sweep(of_notebook(names), over, output=tmp_path / "there", executor=1)
    files = sorted(path.name for path in (tmp_path / "here").glob("*.nc"))
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_what_a_sweep_of_own_objects_stores_is_data_alone(tmp_path):
    """The folder holds JSON and netCDF that say what came from Python; resume asks for it, once, and goes on."""
    names = notebook()
    spec = of_notebook(names)
    table = ls.sweep(spec, {"seed": [1]}, output=tmp_path / "sweep")
    assert {path.suffix for path in (tmp_path / "sweep").iterdir()} == {".nc", ".json"}
    told = json.loads(table.attrs["spec"])
    assert [told[key]["kind"] for key in ("potential", "integrator")] == ["python", "python"]
    assert told["integrator"]["name"] == "__main__:Descent" and told["integrator"]["dt"] == 0.1
    with pytest.raises(ConfigError, match=r"__main__:Spring.*which plain data cannot rebuild: run it from Python"):
        ls.run(told)
    with pytest.raises(ConfigError, match="integrator is the Python object '__main__:Descent'"):
        ls.run(told | {"potential": {"kind": "Quadratic", "stiffness": [1.0]}})
    objects = {"potential": spec["potential"], "integrator": spec["integrator"]}
    ls.simulate(*objects.values(), steps=5, start=[1.0], output=tmp_path / "run")
    with pytest.raises(ConfigError) as caught:
        ls.resume(tmp_path / "run", steps=10)
    said = str(caught.value)
    assert "Spring" in said and "Descent" in said
    assert "landscape.resume(folder, potential=..., integrator=...)" in said
    assert ls.resume(tmp_path / "run", steps=10, **objects).energy.values[0, -1] == pytest.approx(exact(2.0, 0.1))


def test_other_code_is_another_point(tmp_path):
    """A constant of the notebook, a method or a setting that changes: nothing stored is taken for it."""
    ls.sweep(of_notebook(notebook()), {"seed": [1]}, output=tmp_path)
    again = ls.sweep(of_notebook(notebook()), {"seed": [1]}, output=tmp_path)  # the control: the same notebook
    assert again.square.values.item() == pytest.approx(exact(2.0, 0.1))
    assert len(list(tmp_path.glob("*.nc"))) == 1
    for other in (
        of_notebook(notebook(NOTEBOOK.replace("RATE = 1.0", "RATE = 2.0"))),
        of_notebook(notebook(NOTEBOOK.replace("/ 2\n", "/ 4\n"))),
        of_notebook(notebook(), k=3.0),
    ):
        with pytest.raises(ConfigError, match="holds another sweep"):
            ls.sweep(other, {"seed": [1]}, output=tmp_path)


def test_an_object_of_ours_that_holds_a_function_is_swept():
    """<(x^2 - c)> settles where the spring pulls the square to c."""
    spec = SPEC | {"steps": 400, "start": [1.0], "temperature": 0.0, "constraint": ls.Restrain(square, 0.5, 1.0)}
    table = ls.sweep(spec | {"record": ls.Record(400, {"square": lambda potential, x: x[..., 0] ** 2})},
                     {"potential.stiffness": [[0.1], [0.2]]})  # fmt: skip
    # (k/2) x^2 + (x^2 - c)^2/2 is least where x^2 = c - k/2
    assert table.square.values.ravel() == pytest.approx([0.45, 0.4], abs=1e-6)


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
    length = Length.of(xr.Dataset(coords={"step": ("draw", [500, 1000])}))

    def said(times, resolved=False, chains=1):
        found = xr.Dataset({"correlation_times": times, "resolved": resolved, "chains_used": chains})
        return remarks(with_steps_needed(found, length))

    assert said(25.0) == ["not resolved: needs about 2e+03 steps"]
    assert said(5.0) == ["not resolved: needs about 1e+04 steps"]
    assert said(0.0) == ["not resolved: too short to tell how many steps it needs"]
    assert said(25.0, True) == []
    # 1000 correlation times of 100 chains are 10 in each, where 20 are wanted
    assert said(1000.0, chains=100) == ["not resolved: needs about 2e+03 steps"]
