"""Potentials, integrators, observers and probes of other packages; CONTRIBUTING does what it says."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.cli.app import run
from landscape.errors import ConfigError
from landscape.spec import plugins

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PROJECT = tomllib.loads(re.search(r"```toml\n# pyproject.toml\n(.*?)```", TEXT, re.DOTALL)[1])["project"]
FILES = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = re.search(r"```console\n(.*?)```", TEXT, re.DOTALL)[1].splitlines()


def install(folder, name, entry_points, modules):
    """What pip leaves behind: modules, and metadata beside them."""
    for path, code in modules.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(code, "utf-8")
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in table.items()) for group, table in entry_points.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines), "utf-8")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path where packages can be installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if getattr(sys.modules[name], "__file__", None)]:
        if str(sys.modules[name].__file__).startswith(str(folder)):
            del sys.modules[name]


def register(folder, group, name, code, package="other"):
    module = f"{package}_{group}_{name}".lower()
    target = f"{module}:{name}"
    install(folder, f"{package}-{group}-{name}".lower(), {f"landscape.{group}": {name: target}}, {f"{module}.py": code})


# -- CONTRIBUTING -----------------------------------------------------------------------------------------------------


def walk(site, path):
    """What a module of CONTRIBUTING defines."""
    (site / path).parent.mkdir(exist_ok=True)
    (site / path).write_text(FILES[path], "utf-8")
    sys.modules.pop("my_landscape", None)  # of another test's folder
    importlib.invalidate_caches()
    return vars(importlib.import_module(path.removesuffix(".py").replace("/", ".")))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The package of CONTRIBUTING installed, and the commands there run one after the other, each its own process."""
    folder = tmp_path_factory.mktemp("walk")
    project = PROJECT
    modules = {path: code for path, code in FILES.items() if path.endswith(".py")}
    install(folder, project["name"], project["entry-points"], modules)
    (folder / "morse.toml").write_text(FILES["morse.toml"], "utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    shown = {}
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "landscape"
        done = subprocess.run(
            [sys.executable, "-m", "landscape.cli", *arguments],
            capture_output=True, text=True, cwd=folder, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        shown[arguments[0]] = done.stdout
    return folder, shown


def test_every_walk_of_contributing_touches_as_many_files_as_it_says():
    """In about 20 lines each. An entry is one file more where the heading says so, and is there."""
    walks = re.findall(r"^### (.+?): (\d) files?(.*?)$\n(.*?)(?=^##)", TEXT, re.DOTALL | re.MULTILINE)
    said = {title: int(number) for title, number, _, _ in walks}
    assert said["An observable"] == said["An observer, and a dimension in what is stored"] == 1
    assert (
        said["An architecture with a fast Hessian"]
        == said["A probe with a command"]
        == said["An integrator on both backends"]
        == 2
    )
    entries = " ".join(target for group in PROJECT["entry-points"].values() for target in group.values())
    for title, number, more, text in walks:
        modules = re.findall(r"```python\n# (\S+?)\.py\n(.*?)```", text, re.DOTALL)
        registered = "the entry" in more
        assert len(modules) + registered == int(number) or "script" in more, title
        for path, code in modules:
            assert 5 < len([line for line in code.splitlines() if line.strip()]) <= 26
            assert not registered or path.replace("/", ".") in entries


def test_the_integrator_of_contributing_runs_on_both_backends(site):
    """The same numbers from both; a larger step is noticed."""
    tamed = walk(site, "my_landscape/tamed.py")["TamedEuler"]
    well = ls.potentials.DoubleWell()

    def run(backend, dt=0.01):
        settings = {"temperature": 0.5, "chains": 8, "steps": 50, "record": ls.Record(50), "seed": 1}
        return ls.simulate(well, tamed(dt), backend=backend, **settings).position.values

    np.testing.assert_allclose(run("compiled"), run("batched"), rtol=1e-10)
    assert not np.allclose(run("compiled"), run("batched", dt=0.011), rtol=1e-3)


def test_an_observable_of_contributing_is_recorded_with_its_dim(site, tmp_path):
    """<r^2> = T (1/k_1 + 1/k_2) / (1 - dt k/2) each, from 400 chains; the control is 15 % hotter."""
    recorded = walk(site, "my_landscape/radii.py")["recorded"]
    ls.save(recorded(seed=3), tmp_path / "radii.nc")
    with ls.open(tmp_path / "radii.nc") as run:
        assert run.radii.dims == ("chain", "draw", "radii_dim_0")
        square = run.radii.isel(draw=slice(10, None), radii_dim_0=0).to_numpy() ** 2
    mean, error = square.mean(), square.mean(axis=1).std(ddof=1) / 20
    assert abs(mean - (1 / (1 - 0.025) + 0.25 / (1 - 0.1))) < 4.5 * error
    assert abs(mean - 1.5) > 4.5 * error


def test_a_hessian_of_contributing_is_what_differentiation_gives(site):
    """Entry by entry and through the probes, which take the products that are written out; twice them is noticed."""
    from landscape.probes import curvature

    retrieval, loss = (walk(site, f"my_landscape/{name}.py") for name in ("retrieval", "retrieval_loss"))
    fast = loss["RetrievalLoss"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, dtype=torch.float64, generator=generator)
    module, y, at = retrieval["Retrieval"](4), x[:, :1].square(), torch.tensor([0.5, -1.0, 0.3, 0.2]).double()
    settings = {"loss": "mse", "dtype": torch.float64, "weight_decay": 0.1}
    slow = ls.potentials.NetworkLoss(module, x, y, **settings)

    class Twice(fast):
        def hessian_product(self, *given):
            return lambda vectors: 2 * fast.hessian_product(self, *given)(vectors)

    for kind, same in ((fast, True), (Twice, False)):
        written = kind(module, x, y, **settings)
        for found, expected in (
            (written.hessian(at), slow.hessian(at)),
            (written.hvp(at, at), slow.hvp(at, at)),
            (curvature.eigenvalues(written, at).eigenvalue, curvature.eigenvalues(slow, at).eigenvalue),
        ):
            assert np.allclose(found, expected, rtol=1e-10, atol=1e-10) == same


def test_plugins_of_contributing_are_listed(walked):
    _, shown = walked
    for word in (
        "Morse",
        "TamedEuler",
        "ThreePoint",
        "Extremes",
        "mean_square",
        "my-landscape 1.0",
        "Morse potential depth",
    ):
        assert word in shown["plugins"]


def test_plugins_of_contributing_run(walked):
    """Its numbers are those of a dense quadrature of exp(-V/T), and the run can be rebuilt from what it stored."""
    folder, shown = walked
    assert "mean square of x" in shown["probe"]
    with ls.open(folder / "morse.nc") as stored, ls.open(folder / "morse.mean_square.nc") as found:
        assert '"kind": "Morse"' in stored.attrs["spec"]
        assert '"kind": "TamedEuler"' in stored.attrs["spec"]
        low, high = stored.x_range.squeeze().transpose("end", "chain")
        assert (low <= stored.position.min("draw").squeeze()).all()
        assert (high >= stored.position.max("draw").squeeze()).all()
        x = np.linspace(-2, 6, 20_001)
        weight = np.exp(-2.0 * (1 - np.exp(-x)) ** 2 / 0.1)
        exact = (x**2 * weight).sum() / weight.sum()
        assert abs(float(found.mean_square) - exact) < 4.5 * float(found.mean_square_stderr) + 0.05 * exact
        control = abs(float(found.mean_square) - 2 * exact)
        assert control > 4.5 * float(found.mean_square_stderr) + 0.05 * exact


# -- what may go wrong ------------------------------------------------------------------------------------------------

WELL = """
from landscape.potentials import Expression
def {name}(depth=1.0):
    "A well [/bold] of x^2."
    return Expression('x**2', ['x'])
"""


def test_nothing_is_imported_before_it_is_asked_for(site):
    register(site, "potentials", "Well", "raise RuntimeError('imported')")
    assert plugins.names("potentials") == ["Well"]
    ls.run({"potential": {"kind": "DoubleWell"}, "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 1})


def test_a_specification_names_a_plugin_with_its_settings(site):
    register(site, "potentials", "Well", WELL.format(name="Well"))
    spec = {"integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 1}
    assert ls.run(spec | {"potential": {"kind": "Well", "depth": 2.0}}).sizes["draw"] == 1
    with pytest.raises(ConfigError, match=r"unknown key 'potential\.width'"):
        ls.run(spec | {"potential": {"kind": "Well", "width": 2.0}})


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("1/0", "ZeroDivisionError"),
        ("Other = 1", "AttributeError"),
        ("Well = 3", "expected a class or a function"),
        ("class Another: pass\nWell = Another", "register it under that name"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_nobody(site, capsys, code, said):
    register(site, "potentials", "Well", code)
    register(site, "potentials", "Good", WELL.format(name="Good"))
    assert run(["plugins"]) == 0
    shown = capsys.readouterr()
    assert "A well [/bold] of x^2." in shown.out
    assert "warning: 'Well' (potential of other-potentials-well 1.0)" in shown.err
    assert said in shown.err
    with pytest.raises(ConfigError, match=f"'Well'.*{said}"):
        ls.run({"potential": {"kind": "Well"}, "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 1})


def test_our_names_are_refused_and_stay_ours(site, capsys):
    register(site, "potentials", "Valley", "raise RuntimeError('imported')")
    register(site, "probes", "fluctuations", "raise RuntimeError('imported')")
    register(site, "probes", "rates.core_sets", "raise RuntimeError('imported')")
    assert plugins.names("potentials") == plugins.names("probes") == []
    spec = {"kind": "Valley", "g": "1 + y**2"}
    assert (
        ls.run({"potential": spec, "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 1}).sizes["draw"] == 1
    )
    assert run(["probe", "fluctuations", "--help"]) == 0
    assert "correlated draws" in capsys.readouterr().out
    assert run(["plugins"]) == 0
    assert capsys.readouterr().err.count("landscape has one of that name itself") == 3


def test_a_name_that_two_packages_give_is_refused(site):
    for package in ("one", "two"):
        register(site, "potentials", "Well", WELL.format(name="Well"), package=package)
    assert plugins.names("potentials") == []
    with pytest.raises(ConfigError, match="several packages register that name"):
        ls.run({"potential": {"kind": "Well"}, "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 1})


def test_every_name_of_ours_is_reserved():
    from landscape.cli.short_probes import SHORT
    from landscape.probes.registry import ROOMS

    assert {*SHORT, *ROOMS} <= set(plugins._OWN["probes"])
    assert {"Valley", "Expression", "NetworkLoss", "python"} <= set(plugins._OWN["potentials"])


@pytest.mark.parametrize(
    "kind", ["os:system", "os.system", "landscape.potentials.toys:Valley", "subprocess:run", 3, None]
)
def test_a_specification_cannot_name_a_module(kind):
    """Nothing that is loaded can run code: a kind is looked up among what is registered, never imported."""
    for table in ("potential", "integrator"):
        spec = {"potential": {"kind": "DoubleWell"}, "integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "steps": 1}
        with pytest.raises(ConfigError, match=r"unknown kind|needs a kind"):
            ls.run(spec | {table: {"kind": kind, "command": "true"}})


# -- probes on the command line ---------------------------------------------------------------------------------------

PROBE = """
import xarray as xr
def {name}(run, potential, scale=1.0):
    return xr.Dataset({{"mean": scale * run.energy.mean(), "dim": potential.dim}})
"""


@pytest.fixture
def stored(tmp_path):
    integrator = {"kind": "EulerMaruyama", "dt": 0.1}
    dataset = ls.run(
        {"potential": {"kind": "Quadratic", "stiffness": [1.0, 2.0]}, "integrator": integrator, "steps": 20,
         "temperature": 1.0}
    )  # fmt: skip
    return ls.save(dataset, tmp_path / "run.nc")


def test_a_probe_takes_run_landscape_and_settings(site, stored, capsys):
    register(site, "probes", "level", PROBE.format(name="level"))
    assert run(["probe", "--help"]) == 0
    assert "level" in capsys.readouterr().out
    assert run(["probe", "level", "--help"]) == 0
    assert "Example:" in capsys.readouterr().out
    assert run(["probe", "level", str(stored), "--set", "scale=3.0"]) == 0
    with ls.open(stored.with_suffix(".level.nc")) as found, ls.open(stored) as made:
        assert float(found["mean"]) == pytest.approx(3 * float(made.energy.mean()))
        assert int(found["dim"]) == 2
    table = {"task": "probe", "probe": "level", "run": {"file": str(stored)}, "settings": {"scale": 3.0}}
    with ls.open(stored.with_suffix(".level.nc")) as found:  # a specification reaches it in the same way
        assert float(ls.run(table)["mean"]) == float(found["mean"])
    assert run(["probe", "level", str(stored), "--scale", "2.0", "-o", str(stored.with_suffix(".again.nc"))]) == 0
    assert run(["probe", "level", str(stored)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "arguments", "said"),
    [
        (PROBE, ["--set", "size=2"], "no setting 'size'"),
        ("def {name}(run):\n    return 3", [], "returned int"),
        ("import nothing_of_that_name", [], "cannot be loaded"),
    ],
)
def test_wrong_use_of_a_probe_is_exit_code_2(site, stored, capsys, code, arguments, said):
    register(site, "probes", "level", code.format(name="level"))
    assert run(["probe", "level", str(stored), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not stored.with_suffix(".level.nc").exists()


def test_an_unknown_group_or_name(site):
    with pytest.raises(ConfigError, match="no group 'schedules'"):
        plugins.installed("schedules")
    assert plugins.find("probes", "nothing") is None
