"""The command line as a newcomer uses it, mistakes included."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import landscape as ls
from landscape.cli import main
from landscape.cli.app import run

CONFIG = """
steps = 200
chains = 20
temperature = 0.1
seed = 1

[potential]
kind = "Valley"
g = "1 + y**2"
bounds = { y = [-3, 3] }

[integrator]
kind = "EulerMaruyama"
dt = 1e-2

[record]
every = 2
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "valley.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def stored(config):
    assert run(["simulate", str(config)]) == 0
    return config.with_suffix(".nc")


def test_simulate_writes_a_run_that_carries_its_specification(config, stored):
    with ls.open(stored) as dataset:
        assert dict(dataset.sizes) == {"chain": 20, "draw": 100, "coordinate": 2}
        again = ls.run(json.loads(dataset.attrs["spec"]))
        assert np.array_equal(again.position, dataset.position)


def test_set_overrides_a_key(config, tmp_path):
    target = tmp_path / "warm.nc"
    assert (
        run(["simulate", str(config), "--set", "temperature=0.4", "--set", "record.every=50", "-o", str(target)]) == 0
    )
    with ls.open(target) as dataset:
        assert float(dataset.temperature[0]) == 0.4
        assert dataset.sizes["draw"] == 4


def test_dry_run_shows_the_plan_and_runs_nothing(config, capsys):
    assert run(["simulate", str(config), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert '"kind": "Valley"' in shown
    assert "MiB" in shown
    assert "time: about" in shown
    assert not config.with_suffix(".nc").exists()


def test_a_result_is_not_replaced_unless_asked(config, stored, capsys):
    before = stored.read_bytes()
    assert run(["simulate", str(config)]) == 2
    assert "--force" in capsys.readouterr().err
    assert stored.read_bytes() == before
    assert run(["simulate", str(config), "--force"]) == 0


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("integrator.dt=-1", "dt must be finite and positive"),
        ("integrator.size=1", "unknown key 'integrator.size'"),
        ("potential.g=1 + z**2", "unknown symbol 'z'"),
        ("potential.kind=Valey", "Did you mean 'Valley'?"),
        ("temprature=1", "Did you mean 'temperature'?"),
        ("temperature=-1", "not negative"),
        ("steps=ten", "whole number"),
        ("nonsense", "key=value"),
        ("steps.deep=1", "not a table"),
    ],
)
def test_wrong_settings_are_exit_code_2_and_explained(config, capsys, assignment, said):
    assert run(["simulate", str(config), "--set", assignment]) == 2
    assert said in capsys.readouterr().err
    assert not config.with_suffix(".nc").exists()


def test_divergence_is_exit_code_3_and_keeps_what_was_recorded(config, capsys):
    code = run(
        ["simulate", str(config), "--set", "potential={kind='Expression', energy='x**4', coordinates=['x']}",
         "--set", "integrator.dt=0.5", "--set", "start=[3.0]", "--set", "record.every=1"]
    )  # fmt: skip
    assert code == 3
    error = capsys.readouterr().err
    assert "step" in error
    assert "chain 0" in error
    with ls.open(config.with_suffix(".nc")) as kept:
        assert kept.sizes["draw"] >= 1
        assert np.isfinite(kept.position).all()


@pytest.mark.parametrize("command", [["simulate"], ["info"], ["plot"], ["probe", "fluctuations"]])
def test_a_missing_file_is_exit_code_4(command, tmp_path, capsys):
    assert run([*command, str(tmp_path / "nowhere.nc")]) == 4
    assert "nowhere.nc" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["info"], ["plot"], ["probe", "fluctuations"]])
def test_a_damaged_file_is_exit_code_4(command, stored, capsys):
    stored.write_bytes(stored.read_bytes()[:3000])
    assert run([*command, str(stored)]) == 4
    assert str(stored) in capsys.readouterr().err


def test_a_config_that_is_not_toml_is_exit_code_2(config, capsys):
    config.write_text("steps = = 3")
    assert run(["simulate", str(config)]) == 2
    assert "not TOML" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["simulate"], ["simulate", "x.toml", "--what"], ["probe", "moments"]]
)
def test_usage_errors_are_exit_code_2(arguments):
    assert run(arguments) == 2


def test_info_names_variables_and_specification(stored, capsys):
    assert run(["info", str(stored)]) == 0
    shown = capsys.readouterr().out
    for word in ("EulerMaruyama on Valley", "last_position", "potential energy", '"g": "1 + y**2"'):
        assert word in shown


def test_plot_draws_a_picture(stored):
    assert run(["plot", str(stored)]) == 0
    with Image.open(stored.with_suffix(".png")) as picture:
        assert picture.width > 1000


def test_probe_prints_and_stores_a_summary(stored, tmp_path, capsys):
    target = tmp_path / "summary.nc"
    assert run(["probe", "fluctuations", str(stored), "-o", str(target)]) == 0
    assert "beta T" in capsys.readouterr().out
    with ls.open(target) as summary:
        assert "gamma_shape_stderr" in summary


def test_version_and_help(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("landscape ")
    for command in ([], ["demo"], ["simulate"], ["plot"], ["info"], ["probe", "fluctuations"]):
        assert run([*command, "--help"]) == 0
        if command:
            assert "Example:" in capsys.readouterr().out


def images(path, per_class=12, classes=3):
    """An archive of small pictures in class folders."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for label in range(classes):
            for i in range(per_class):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(buffer, "PNG")
                archive.writestr(f"train/class{label}/{i}.png", buffer.getvalue())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("data", ["random-labels", "digits", "archive"])
@pytest.mark.always
def test_demo_writes_runs_a_figure_and_a_table(data, tmp_path, capsys):
    source = str(images(tmp_path / "pictures.zip")) if data == "archive" else data
    folder = tmp_path / "out"
    samples = "30" if data == "archive" else "100"
    whole = data == "random-labels"  # as a newcomer runs it: every number is resolved, and agrees with the theory
    quick = [] if whole else ["--quick"]
    assert run(["demo", *quick, "--data", source, "--samples", samples, "-o", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "theory" in shown
    assert "<y^2>" in shown
    if whole:
        assert "not " not in shown.replace("(not 0.6290 = T ln g)", "").replace("4 are not", "")
        off = [float(z) for z in re.findall("([+-][0-9]+[.][0-9]) \N{GREEK SMALL LETTER SIGMA}", shown)]
        assert len(off) == 10
        assert max(map(abs, off)) < 4.5
    for name in ("network", "valley", "minimum", "fluctuations", "valley_profile"):
        with xr.open_dataset(folder / f"{name}.nc") as dataset:
            assert dataset.sizes
    with Image.open(folder / "demo.png") as picture:
        assert picture.width > 1000


def test_demo_with_data_that_are_not_there_is_exit_code_4(tmp_path, capsys):
    assert run(["demo", "--data", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 4
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_warnings_are_one_line_without_the_code_that_gave_them(tmp_path, monkeypatch, capsys):
    ends = []
    for name, place in (("a", -0.6), ("b", 0.6)):
        ends.append(str(ls.save(ls.minimize(ls.potentials.DoubleWell(), [place], steps=1), tmp_path / f"{name}.nc")))
    monkeypatch.setattr("warnings.showwarning", None)  # put back afterwards
    with warnings.catch_warnings(action="always"), pytest.raises(SystemExit) as stop:
        main(["connect", *ends, "-o", str(tmp_path / "path.nc"), "--set", "cycles=[[0.01, 1]]"])
    assert stop.value.code == 0
    errors = [line for line in capsys.readouterr().err.splitlines() if "gradient there" in line]
    assert len(errors) == 2 and all(line.startswith("warning: the ") for line in errors)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plot", "RUN", "-o", "picture.xyz"], 2, "a picture is .png, .pdf or .svg"),
        (["consolidate", "RUN"], 2, "is one file already"),
        (["sweep", "CONFIG", "--over", "temperature=0.1,0.2", "-o", "RUN"], 2, "the output of a sweep is a folder"),
        (["connect", "FOREIGN", "FOREIGN"], 2, "does not say which landscape"),
        (["probe", "fluctuations", "RUN", "-q", "entropy_production"], 2, 'observables = ["entropy_production"]'),
        (["probe", "free-energy", "FOREIGN", "--work"], 2, "the forward run has no works"),
        (["probe", "rates", "RUN", "-q", "dance"], 2, "escape_rate, forward_flux"),
        (["probe", "rates", "RUN"], 2, "no core sets were followed"),
        (["simulate", "CONFIG", "--set", "steps=many"], 2, "steps: expected a whole number, got 'many'"),
        (["simulate", "CONFIG", "--set", "potential=Valley"], 2, "potential: expected a table, such as { kind ="),
        (["simulate", "CONFIG", "--set", "potential={}"], 2, "potential: the table needs a kind"),
        (
            ["simulate", "CONFIG", "--set", "backend=gpu"],
            2,
            "backend: expected 'auto', 'compiled' or 'batched', got 'gpu'",
        ),
        (["simulate", "CONFIG", "--set", 'start=["a"]'], 2, "error: start: expected a list of numbers"),
        (["simulate", "CONFIG", "--set", 'constraint={kind="Reflect"}'], 2, "constraint: Reflect missing 1 required"),
        (["simulate", "CONFIG", "--set", "record.observables=energy"], 2, "got 'energy': write ['energy']"),
    ],
)
def test_mistakes_end_in_one_line_that_says_what_to_do(arguments, code, said, config, stored, tmp_path, capsys):
    xr.Dataset({"x": ("draw", [1.0, 2.0])}).to_netcdf(tmp_path / "foreign.nc")
    paths = {"RUN": stored, "CONFIG": config, "FOREIGN": tmp_path / "foreign.nc"}
    capsys.readouterr()
    assert run([str(paths.get(one, one)) for one in arguments]) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1 and told.startswith("error: ")


def test_one_chain_of_few_draws_has_no_diffusion_and_no_traceback(tmp_path, capsys):
    run_of_one = ls.simulate(ls.potentials.Quadratic([1.0]), ls.EulerMaruyama(dt=0.1), steps=20, temperature=0.1)
    ls.save(run_of_one, tmp_path / "one.nc")
    assert run(["probe", "fluctuations", str(tmp_path / "one.nc"), "-q", "diffusion"]) == 0
    assert "not resolved" in capsys.readouterr().out
