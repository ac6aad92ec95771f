"""`landscape report`: one page that stands alone, holds the numbers, and shows what it is given as text."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape.cli.app import run
from landscape.cli.estimates import estimate_tables
from landscape.cli.plotting import plot_places
from landscape.common.text import measured
from landscape.errors import ConfigError
from landscape.probes import confinement, curvature, fluctuations, free_energy
from landscape.report.comparison import comparison
from landscape.report.figures import picture, pictures
from landscape.report.page import Note, Picture, Table
from landscape.spec.toml_text import to_toml
from landscape.workflows.reproduction import Reproduction, judge

HOSTILE = '</title><script>alert(1)</script><img src=x onerror=alert(1)>" onload="alert(1)\' $\\frac{'
VOID = {"meta", "link", "img"}


class Reader(HTMLParser):
    """The elements of a page with their attributes, the text of each block, and a check that all are closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.codes = [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag == "pre":
            self.codes.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""
        if "pre" in self.open:
            self.codes[-1] += data

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


def read(path):
    page = Reader(path.read_text("utf-8"))
    check_alone(page)
    return page


def check_alone(page):
    """No network, no scripts, pictures with words for them, tables that scroll in their own box."""
    assert not page.all("script")
    assert not page.all("iframe")
    for tag, attributes, parents in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes[name][:80])
        if tag in ("table", "pre"):
            assert parents[-1] == "div"
    for image in page.all("img"):
        assert len(image["alt"]) > 10
        kind, content = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", image["src"]).groups()
        assert base64.b64decode(content).startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    policies = [one.get("content", "") for one in page.all("meta") if one.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "width=device-width" in next(one["content"] for one in page.all("meta") if one.get("name") == "viewport")
    assert page.all("html")[0]["lang"] == "en"


SPEC = {
    "potential": {"kind": "Quadratic", "stiffness": [1.0, 2.0, 3.0]},
    "integrator": {"kind": "BAOAB", "dt": 0.2, "friction": 1.0},
    "steps": 4000, "chains": 12, "temperature": [0.1] * 4 + [0.2] * 4 + [0.4] * 4, "seed": 3,
    "record": {"every": 10, "observables": ["position", "energy", {"kind": "Moments", "of": "x0"}]}, "certify": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def thermal():
    return ls.run(SPEC)


@pytest.fixture(scope="module")
def folder(thermal, tmp_path_factory):
    """A run, results of probes, a minimum, a path, a run folder, a sweep, an example with its verdicts, and damage."""
    folder = tmp_path_factory.mktemp("everything")
    ls.save(thermal, folder / "run.nc")
    ls.save(fluctuations.summary(thermal.energy, by="temperature"), folder / "fluctuations.nc")
    ls.save(free_energy.profile(thermal.position.sel(coordinate="x0")[:4], temperature=0.1), folder / "profile.nc")
    well = ls.potentials.MullerBrown()
    ls.save(curvature.eigenvalues(well, well.minima()), folder / "spectra.nc")
    ls.save(ls.minimize(well, start=[0.0, 0.5]), folder / "minimum.nc")
    ls.save(ls.paths.straight_line(*well.minima()[:2], 9).to_dataset(), folder / "path.nc")
    ls.simulate(
        well, ls.EulerMaruyama(dt=1e-4), temperature=5.0, steps=100, constraint=ls.Absorb({"x": (-1.0, None)}),
        output=folder / "absorbed",
    )  # fmt: skip
    spec = {
        "potential": SPEC["potential"],
        "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
        "steps": 400,
        "chains": 2,
    }
    ls.sweep(spec, over={"temperature": [0.1, 0.4], "integrator.dt": [0.1, 5.0]}, output=folder / "table")
    figure = Figure()
    figure.subplots().plot([0, 1])
    claims = [
        judge("heat flows down", 1.02, 0.01, expected=1.0, resolve=0.1, source="Fig. 1", note="with luck"),
        judge("and up", 1.0, 0.01, expected=2.0),
        judge("sideways", float("nan"), 0.1, above=0.0),
    ]
    Reproduction({"data": xr.Dataset({"x": 1.0, "x_stderr": 0.1})}, figure, claims).save(folder / "example")
    (folder / "broken.nc").write_bytes(b"CDF nonsense")
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    assert run(["report", str(folder), "-o", str(target)]) == 0
    return target


@pytest.fixture(scope="module")
def run_page(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("run") / "report.html"
    assert run(["report", str(folder / "run.nc"), "-o", str(target)]) == 0
    return target


def test_a_run_with_its_numbers(run_page, thermal):
    found = read(run_page)
    summary = fluctuations.summary(thermal.energy, by="temperature")
    for i, heat in enumerate((0.1, 0.2, 0.4)):
        number = measured(float(summary["mean"][i]) / heat, float(summary.mean_stderr[i]) / heat).replace("+-", "±")
        assert number in found.text
    for word in (
        "BAOAB on Quadratic",
        "Certificate: ",
        "equipartition",
        "seed",
        "x0 mean",
        "Python 3",
        "torch",
        "numpy",
    ):
        assert word in found.text
    assert thermal.attrs["certificate"].partition(": ")[2] in found.text
    assert len(found.all("img")) >= 4


def test_the_specification_on_the_page_makes_the_run_again(run_page, thermal, tmp_path):
    text, command = read(run_page).codes
    config = tmp_path / "again.toml"
    config.write_text(text, "utf-8")
    assert command == "landscape simulate run.toml -o run.nc"
    assert run(["simulate", str(config)]) == 0
    with ls.open(tmp_path / "again.nc") as again:
        assert np.array_equal(again.position, thermal.position)


@pytest.mark.always
def test_energies_alone_are_a_run(thermal, tmp_path):
    ls.save(thermal[["energy"]].drop_attrs(), tmp_path / "energies.nc")
    assert run(["report", str(tmp_path / "energies.nc")]) == 0
    assert "Fluctuations of the energy by temperature" in read(tmp_path / "energies.html").text


def test_what_came_from_python_is_said(tmp_path):
    bowl = ls.potentials.Function(lambda x: (x**2).sum(-1), 2)
    ls.save(ls.simulate(bowl, ls.EulerMaruyama(dt=0.1), temperature=0.1, steps=5), tmp_path / "run.nc")
    assert run(["report", str(tmp_path / "run.nc")]) == 0
    found = read(tmp_path / "run.html")
    assert "not to be had from plain data" in found.text
    assert "landscape simulate" not in found.text
    assert "Fewer than 50 draws" in found.text


def test_a_folder_is_one_page_with_all_that_is_in_it(page):
    found = read(page)
    for word in (
        "run.nc: BAOAB on Quadratic", "fluctuations.nc: Energy fluctuations", "spectra.nc", "converged",
        "chains that left", "2 of 4 points have a result", "NonFiniteError", "heat flows down", "1.020 ± 0.010",
        "Fig. 1", "with luck", "does not hold", "not resolved at this size", "figure.png", "Not readable:", "broken.nc",
    ):  # fmt: skip
        assert word in found.text, word
    assert {"good", "bad", "open"} <= {one["class"].split()[-1] for one in found.all("span")}
    anchors = {one["href"][1:] for one in found.all("a")}
    assert anchors == {one["id"] for one in found.all("section")}
    assert len(anchors) == 11
    for prefix in ("prefers-color-scheme: dark", "@media print", "overflow-x: auto"):
        assert prefix in page.read_text("utf-8")


def test_the_specification_of_a_sweep_makes_it_again(folder, tmp_path, capsys):
    assert run(["report", str(folder / "table"), "-o", str(tmp_path / "report.html")]) == 0
    text, command = read(tmp_path / "report.html").codes
    assert tomllib.loads(text)["over"] == {"temperature": [0.1, 0.4], "integrator.dt": [0.1, 5.0]}
    assert command == "landscape sweep table.toml -o table"
    (tmp_path / "table.toml").write_text(text, "utf-8")
    assert run(["sweep", str(tmp_path / "table.toml"), "--dry-run", "-o", str(folder / "table")]) == 0
    assert "4 points, 2 of them to run" in capsys.readouterr().out


def test_the_same_result_makes_the_same_pictures(folder):
    with ls.open(folder / "fluctuations.nc") as dataset:
        assert pictures(dataset) == pictures(dataset)


def test_all_text_is_escaped(tmp_path):
    about = {"long_name": HOSTILE, "units": HOSTILE}
    hostile = xr.Dataset(
        {"x": ("chain", [1.0], about), "x_stderr": ("chain", [0.1], about), "free_energy": ("q", [0.0, 1.0], about),
         "free_energy_stderr": ("q", [0.1, 0.1], about), "density": ("q", [1.0, 1.0]), "count": ("q", [1, 1])},
        {"chain": [HOSTILE], "q": ("q", [0.0, 1.0], about)},
        dict.fromkeys(("title", "comment", "certificate"), HOSTILE) | {"spec": json.dumps({"kind": HOSTILE})},
    )  # fmt: skip
    folder = tmp_path / "<script>alert(1)<"
    ls.save(hostile, folder / "<img src=x onerror=alert(1)>.nc")
    ls.save(hostile.assign(last_position=("chain", [0.0])), folder / "run.nc")
    verdict = dict.fromkeys(("claim", "expected", "outcome", "source", "note"), HOSTILE) | {"value": 1.0, "stderr": 0.1}
    (folder / "verdicts.json").write_text(json.dumps([verdict]), "utf-8")
    (folder / "outcome.txt").write_text(HOSTILE, "utf-8")
    (folder / "<b>.png").write_bytes(b"\x89PNG")
    assert run(["report", str(folder), "-o", str(tmp_path / "report.html")]) == 0
    found = read(tmp_path / "report.html")
    assert found.text.count(HOSTILE) >= 10
    allowed = {"html", "head", "meta", "link", "title", "style", "body", "header", "h1", "nav", "ul", "li", "a", "main",
               "section", "h2", "dl", "dt", "dd", "p", "span", "div", "table", "caption", "thead", "tbody", "tr", "th",
               "td", "figure", "img", "figcaption", "pre", "footer"}  # fmt: skip
    assert {tag for tag, _, _ in found.elements} <= allowed


@pytest.mark.parametrize(
    "content", ["", "{", "3", "[3]", '{"claim": "x"}', '[{"value": "a"}]', '[{"value": []}]', "[[1]]"]
)
def test_verdicts_that_are_none_are_reported(tmp_path, content):
    ls.save(xr.Dataset({"x": 1.0, "x_stderr": 0.1}), tmp_path / "data.nc")
    (tmp_path / "verdicts.json").write_text(content, "utf-8")
    assert run(["report", str(tmp_path)]) == 0
    assert "Not readable:" in read(tmp_path / "report.html").text


def test_every_result_has_its_picture(thermal):
    """The plot function of each probe draws what that probe has found, and no other does."""
    well, spring = ls.potentials.MullerBrown(), ls.potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})
    at, floor = np.linspace(-1, 1, 4), ls.potentials.Valley(g="1 + y**2", bounds={"y": (-3, 3)})
    summary = fluctuations.summary(thermal.energy, by="temperature")
    path = confinement.along_path(well, ls.paths.straight_line(*well.minima()[:2], 9))
    found = {
        fluctuations.plot_summary: summary,
        fluctuations.plot_autocorrelation: fluctuations.autocorrelation(thermal.energy),
        fluctuations.plot_half_time: fluctuations.half_time(thermal.energy),
        fluctuations.plot_equilibration: fluctuations.equilibration(thermal.energy),
        fluctuations.plot_spikes: fluctuations.spikes(thermal.energy),
        fluctuations.plot_distance: fluctuations.distance(thermal.position, np.zeros(3)),
        curvature.plot_eigenvalues: curvature.eigenvalues(well, well.minima()),
        curvature.plot_trace: curvature.trace(well, well.minima()),
        curvature.plot_extreme_eigenvalues: curvature.extreme_eigenvalues(well, well.minima()),
        confinement.plot_along_path: path,
        confinement.plot_barriers: confinement.barriers(path, 5.0),
        free_energy.plot_profile: free_energy.profile(thermal.position.sel(coordinate="x0")[:4], temperature=0.1),
        free_energy.plot_effective_potential: free_energy.effective_potential(floor, "y", at, 0.1),
        free_energy.plot_nonequilibrium_work: free_energy.nonequilibrium_work(
            spring, "k", 1.0, 2.0, 0.1, steps=100, chains=50
        ),
        free_energy.plot_entropy: free_energy.entropy(thermal.energy, [0.1, 0.2, 0.4]),
    }
    for plot, dataset in found.items():
        descriptions = [one.description for one in pictures(dataset) if isinstance(one, Picture)]
        assert descriptions == [plot.__doc__.partition("\n")[0]], plot.__name__


def test_a_broad_density_is_drawn():
    places = xr.DataArray(
        np.random.default_rng(0).normal(0.0, 50.0, (10, 20_000, 2)), dims=("chain", "draw", "coordinate"),
        coords={"coordinate": ["x", "y"]},
    )  # fmt: skip
    ax = Figure().subplots()
    plot_places(places, ax)
    (image,) = ax.collections
    drawn = np.ma.masked_invalid(image.get_array())
    counts, _, _ = np.histogram2d(*places.values.reshape(-1, 2).T, bins=100)
    assert int(drawn.count()) == int((counts > 0).sum())


def test_a_picture_that_fails_leaves_a_sentence():
    def broken(ax):
        raise KeyError("no such thing")

    found = picture("Something.", broken)
    assert isinstance(found, Note)
    assert "no such thing" in found.text


def test_many_lines_become_pixels():
    few = picture("A few lines.", lambda ax: ax.plot(np.arange(10)))
    many = picture("Many lines.", lambda ax: ax.plot(np.random.default_rng(0).random((300, 60))))
    assert isinstance(few, Picture)
    assert isinstance(many, Picture)
    assert few.source.startswith("data:image/svg+xml")
    assert many.source.startswith("data:image/png")


@pytest.mark.parametrize(
    ("content", "code", "said"), [(None, 4, "nowhere"), ("empty", 4, "holds no run"), ("file", 4, "")]
)
def test_nothing_to_report_is_exit_code_4(tmp_path, capsys, content, code, said):
    source = tmp_path / "nowhere"
    if content == "empty":
        source.mkdir()
    elif content == "file":
        source.write_text("no run")
    assert run(["report", str(source), "-o", str(tmp_path / "report.html")]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_report_is_not_replaced_unless_asked(tmp_path, capsys):
    ls.save(xr.Dataset({"x": 1.0, "x_stderr": 0.1}), tmp_path / "data.nc")
    assert run(["report", str(tmp_path)]) == 0
    assert run(["report", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["report", str(tmp_path), "--force"]) == 0
    assert run(["report", "--help"]) == 0
    assert "Example:" in capsys.readouterr().out


# -- several ----------------------------------------------------------------------------------------------------------


def test_several_are_compared(thermal, folder):
    """Differing keys, energies with errors, and differences between equal temperatures."""
    warm = ls.run(SPEC | {"seed": 4, "temperature": [0.2] * 6 + [0.8] * 6, "certify": False})
    with ls.open(folder / "table") as table:
        section = comparison({"cold.nc": thermal, "warm.nc": warm, "table": table})
    settings, energies, differences = (one for one in section.blocks if isinstance(one, Table))
    keys = {row[0]: row[1:] for row in settings.rows}
    assert keys["seed"] == ["3", "4", "0"]
    assert keys["integrator.kind"] == ["BAOAB", "BAOAB", "EulerMaruyama"]
    assert keys["integrator.dt"] == ["0.2", "0.2", "[0.1, 5.0]"]
    assert "potential.stiffness" not in keys  # the control: the same for all
    rows = [["cold.nc", "0.1"], ["cold.nc", "0.2"], ["cold.nc", "0.4"], ["warm.nc", "0.2"], ["warm.nc", "0.8"]]
    assert [row[:2] for row in energies.rows][:5] == rows
    assert ["table dt=0.1", "0.4"] in [row[:2] for row in energies.rows]
    one, other = (fluctuations.summary(run.energy, by="temperature") for run in (thermal, warm))
    change = float(other["mean"][0] - one["mean"][1])
    error = float(np.hypot(other.mean_stderr[0], one.mean_stderr[1]))
    (row,) = (row for row in differences.rows if row[0] == "warm.nc")
    assert row == ["warm.nc", "0.2", "cold.nc", measured(change, error).replace("+-", "±"), f"{change / error:+.1f}"]
    assert abs(change / error) < 4.5  # equipartition at the same temperature, of independent runs
    assert [one.description for one in section.blocks if isinstance(one, Picture)] == [
        "Distributions of the energy, all chains of a run together."
    ]


def test_results_of_probes_are_compared(thermal):
    """Side by side where the grid is the same; as curves where it is another."""
    places = thermal.position.sel(coordinate="x0")
    one, other, coarse = (
        free_energy.profile(places[chains], range=(-0.5, 0.5), bins=bins, zero=0.0)
        for chains, bins in ((slice(0, 4), 9), (slice(4, 8), 9), (slice(8, 12), 5))
    )
    section = comparison({"one": one, "other": other})
    (table,) = (one for one in section.blocks if isinstance(one, Table))
    assert table.headings[:2] == ["x0", "of"]
    assert [row[1] for row in table.rows[:4]] == ["one", "other"] * 2
    section = comparison({"one": one, "coarse": coarse})
    assert {type(one) for one in section.blocks} == {Picture}
    assert any("Free energy of each" in one.description for one in section.blocks)


def test_a_damaged_one_among_several_is_said_and_the_same_twice_refused(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    target = str(tmp_path / "report.html")
    assert run(["report", "minimum.nc", "broken.nc", "path.nc", "-o", target]) == 0
    found = read(tmp_path / "report.html")
    for word in ("Report of minimum.nc and broken.nc", "Comparison", "Not readable:", "converged", "The path"):
        assert word in found.text
    assert run(["report", "minimum.nc", f"../{folder.name}/minimum.nc"]) == 2
    assert "given once" in capsys.readouterr().err


def test_a_training_is_one_run(tmp_path):
    spec = {
        "task": "train", "epochs": 4, "backend": "batched", "siblings": 2, "integrator": {"kind": "SGD", "lr": 0.1},
        "potential": {"kind": "NetworkLoss", "batch_size": 10, "module": {"kind": "mlp", "sizes": [4, 3, 2]},
                      "data": {"kind": "random_labels", "samples": 30, "features": 4, "classes": 2}},
    }  # fmt: skip
    ls.run(spec, output=tmp_path / "training")
    assert run(["report", str(tmp_path / "training")]) == 0
    assert "SGD on NetworkLoss" in read(tmp_path / "training.html").text


# -- in a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FRAMES = """<!DOCTYPE html><meta charset="utf-8"><body>
<iframe id="f375" style="width:375px;height:900px" srcdoc="{page}"></iframe>
<iframe id="f1280" style="width:1280px;height:900px" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  for (const frame of document.querySelectorAll("iframe")) {{
    const root = frame.contentDocument.documentElement;
    const broken = [...root.querySelectorAll("img")].filter((image) => !image.naturalWidth).length;
    const cut = [...root.querySelectorAll("h1, h2, p, dd, dt, img, .scroll, figcaption")]
      .filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1).length;
    console.log(`seen ${{frame.id}} wide ${{root.scrollWidth - root.clientWidth}} broken ${{broken}} cut ${{cut}}`);
  }}
}});
</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium to look at the page")
def test_a_browser_shows_the_page_at_two_widths(page, tmp_path):
    """No console error, no picture that fails to load, nothing wider than the page; the control is too wide."""
    control = '<p style="width:2000px">wide</p><img src="data:image/png;base64,AAAA">'
    for text, good in ((page.read_text("utf-8"), True), (control, False)):
        frames = tmp_path / "frames.html"
        frames.write_text(FRAMES.format(page=html.escape(text, quote=True)), "utf-8")
        done = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
             f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'shot.png'}", frames.as_uri()],
            capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"HOME": str(tmp_path)},
        )  # fmt: skip
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        seen = re.findall(r"seen f(\d+) wide (\d+) broken (\d+) cut (\d+)", "\n".join(console))
        assert [one[0] for one in seen] == ["375", "1280"], done.stderr
        assert (len(console) == 2 and all(one[1:] == ("0", "0", "0") for one in seen)) == good, console


# -- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        SPEC,
        {"a": True, "b": -3, "c": 1e-300, "d": float("inf"), "e": "", "f": [], "g": {}},
        {"text": 'quotes " and \\ and \n and \t and \x7f and \x01 and é and 😀', "with space": {"ä.b": 1}},
        {"deep": {"table": {"x": [{"y": [1, 2.5]}, {"z": "q"}]}}, "list": [[1, 2], ["a"]]},
    ],
)
def test_toml_is_read_back(table):
    assert tomllib.loads(to_toml(table)) == table


def test_toml_leaves_out_what_has_no_value_and_refuses_what_it_cannot_say():
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}
    with pytest.raises(ConfigError, match="TOML has no word for None"):
        to_toml({"data_seed": [[0, None]]})


def test_estimates_of_any_shape():
    rng = np.random.default_rng(0)
    dims = ("chain", "coordinate")
    dataset = xr.Dataset(
        {"mean": 0.5, "mean_stderr": 0.01, "x": (dims, rng.random((3, 2))), "x_stderr": (dims, np.full((3, 2), 0.1)),
         "flag": ("chain", [True, False, True]), "text": "word"},
        {"temperature": ("chain", [0.1, 0.2, 0.3])},
    )  # fmt: skip
    scalars, table = estimate_tables(dataset)
    assert [str(*column.cells) for column in scalars.columns] == ["mean", "0.500 +- 0.010"]
    assert [str(column.header) for column in table.columns] == ["chain", "coordinate", "temperature", "x"]
    assert table.row_count == 6
    assert list(table.columns[3].cells)[3] == measured(float(dataset.x[1, 1]), 0.1)
    (without,) = estimate_tables(dataset[["flag"]])
    assert list(without.columns[-1].cells) == ["yes", "no", "yes"]
    (odd,) = estimate_tables(xr.Dataset({"x": ((), 1.0, {"long_name": "[/red] and [bold]"})}))
    assert str(*odd.columns[0].cells) == "[/red] and [bold]"
    long = xr.Dataset({"x": ("draw", np.zeros(100)), "x_stderr": ("draw", np.ones(100))})
    assert list(estimate_tables(long)[0].columns[0].cells)[-1] == "and 60 more rows"
    assert estimate_tables(xr.Dataset()) == []
