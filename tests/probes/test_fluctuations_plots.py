"""Every picture shows what it says: data where they were measured, theory beside, labels with units."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr

from landscape.errors import ConfigError
from landscape.probes import fluctuations
from tests.probes.processes import correlation, energies

mpl.use("Agg")
import matplotlib.pyplot as plt

TEMPERATURES = np.array([0.01, 0.03, 0.1, 0.3])
STIFFNESS, DT = [1.0, 2.0, 5.0, 10.0], 0.02


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def energy():
    rng = np.random.default_rng(0)
    per_chain = np.repeat(TEMPERATURES, 2)
    values = energies(rng, 8, 6000, STIFFNESS, per_chain, DT)
    values[6:] *= np.linspace(0.3, 1.7, 6000)  # the hottest drifts
    values[0, 100:105] *= 500.0
    coords = {"time": ("draw", DT * np.arange(1, 6001), {"units": "ps"}), "temperature": ("chain", per_chain)}
    return xr.DataArray(values, dims=("chain", "draw"), coords=coords, attrs={"units": "kJ"}, name="energy")


@pytest.fixture(scope="module")
def summary(energy):
    return fluctuations.summary(energy, by="temperature")


@pytest.fixture(scope="module")
def scan(energy):
    clean = energy.copy()
    clean[0, 100:105] /= 500.0
    return fluctuations.temperature_scan(fluctuations.summary(clean, by="temperature"))


@pytest.fixture(scope="module")
def pictures(energy, summary, scan):
    """Each plot function with a result it can draw."""
    rng = np.random.default_rng(1)
    position = np.cumsum(rng.standard_normal((6, 50, 2)), axis=1)
    losses = rng.gamma(0.3, 1.0, (8, 400, 20))
    samples = xr.DataArray(losses, dims=("chain", "draw", "sample"), coords={"temperature": energy.temperature})

    class Springs:
        anchors = torch.as_tensor(rng.standard_normal((50, 2)))

        def sample_gradients(self, at):
            return at - self.anchors

        def hvp(self, at, vector):
            return vector

    f = fluctuations
    return {
        "summary": (f.plot_summary, (summary,)),
        "autocorrelation": (f.plot_autocorrelation, (f.autocorrelation(energy, 100, by="temperature"),)),
        "half_time": (f.plot_half_time, (scan,)),
        "temperature_scan": (f.plot_temperature_scan, (scan,)),
        "fluctuation_relation": (f.plot_fluctuation_relation, (scan,)),
        "participation_ratio": (f.plot_participation_ratio, (f.participation_ratio(samples),)),
        "equilibration": (f.plot_equilibration, (f.equilibration(energy),)),
        "spikes": (f.plot_spikes, (f.spikes(energy),)),
        "distance": (f.plot_distance, (f.distance(position, np.zeros(2)),)),
        "effective_temperature": (
            f.plot_effective_temperature,
            (f.effective_temperature(Springs(), torch.zeros((3, 2), dtype=torch.float64), 0.1, 5),),
        ),
        "energy_trace": (f.plot_energy_trace, (energy,)),
        "energy_distribution": (f.plot_energy_distribution, (energy, summary)),
    }


ELSEWHERE = {"current", "diffusion"}  # test_current_plot, test_diffusion
WITHOUT = {"batch_temperature", "entropy_production"}  # numbers
NAMES = [
    name.removeprefix("plot_")
    for name in fluctuations.__all__
    if name.startswith("plot_") and name.removeprefix("plot_") not in ELSEWHERE
]


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("name", NAMES)
def test_axes_are_made_or_used_and_labelled(pictures, name):
    function, arguments = pictures[name]
    own = function(*arguments)
    assert own.get_xlabel()
    assert own.get_ylabel()
    assert own.get_legend() is not None
    assert own.has_data()
    given = plt.figure().add_subplot()
    assert function(*arguments, ax=given) is given
    given.figure.canvas.draw()


def test_there_is_a_picture_of_every_result():
    functions = {name for name in fluctuations.__all__ if not name.startswith("plot_")}
    assert functions - ELSEWHERE - WITHOUT <= set(NAMES)


def test_units_are_in_the_labels(energy, pictures):
    assert fluctuations.plot_energy_trace(energy).get_xlabel().endswith("[ps]")
    assert fluctuations.plot_energy_trace(energy).get_ylabel().endswith("[kJ]")
    function, arguments = pictures["half_time"]
    assert function(*arguments).get_ylabel().endswith("[ps]")
    assert fluctuations.plot_summary(fluctuations.summary(energy.to_numpy())).get_xlabel() == "chain"


def test_theory_is_drawn_beside_the_measurement(energy, pictures):
    result = fluctuations.autocorrelation(energy.isel(chain=slice(2, 6)), 60, by="temperature")
    ax = fluctuations.plot_autocorrelation(result, theory=lambda t: correlation(STIFFNESS, t))
    theory = next(line for line in ax.lines if line.get_label() == "theory")
    np.testing.assert_allclose(theory.get_ydata(), correlation(STIFFNESS, theory.get_xdata()))
    measured = ax.lines[0]
    np.testing.assert_allclose(measured.get_xdata(), DT * np.arange(1, 61))
    np.testing.assert_allclose(measured.get_ydata(), result.autocorrelation[0, 1:])
    distance = pictures["distance"][1][0]
    assert "theory" in texts(fluctuations.plot_distance(distance, theory=np.sqrt))


def test_points_left_out_are_hollow(scan):
    ax = fluctuations.plot_temperature_scan(scan)
    assert scan.used.to_numpy().tolist() == [True, True, True, False]
    assert "not resolved or not stationary" in texts(ax)
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata()) == 1]
    assert [float(line.get_xdata()[0]) for line in hollow] == [0.3, 0.3]
    assert any("exponent" in text for text in texts(ax))


def test_the_gamma_law_is_normalised_over_the_histogram(energy, summary):
    ax = fluctuations.plot_energy_distribution(energy, summary)
    line = ax.lines[1]
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1.0, abs=0.02)
    stairs = ax.patches[1].get_data()
    assert np.sum(stairs.values * np.diff(stairs.edges)) == pytest.approx(1.0, abs=0.002)
    by_chain = fluctuations.plot_energy_distribution(energy, fluctuations.summary(energy))
    assert len(by_chain.lines) == 7


def test_participation_against_shape(pictures, energy):
    result = pictures["participation_ratio"][1][0]
    by_chain = fluctuations.summary(energy)
    ax = fluctuations.plot_participation_ratio(result, summary=by_chain)
    assert r"$\phi=\alpha$" in texts(ax)
    with pytest.raises(ConfigError):
        fluctuations.plot_participation_ratio(result, summary=by_chain.isel(chain=slice(3)))


def test_starts_are_marked_on_the_series(energy):
    result = fluctuations.equilibration(energy, by="temperature")
    ax = fluctuations.plot_equilibration(result, energy=energy)
    assert "starts to count" in texts(ax)


def test_wrong_results_are_refused(energy, summary):
    empty = xr.Dataset({"x": 1.0})
    for name in ("summary", "autocorrelation", "half_time", "temperature_scan", "participation_ratio"):
        with pytest.raises(ConfigError):
            getattr(fluctuations, f"plot_{name}")(empty)
    with pytest.raises(ConfigError):
        fluctuations.plot_energy_distribution(energy, empty)
    with pytest.raises(ConfigError):
        fluctuations.plot_energy_distribution(energy, fluctuations.summary(energy.isel(chain=slice(3))))
    with pytest.raises(ConfigError):
        fluctuations.plot_distance(fluctuations.distance(np.zeros((3, 2)), np.zeros(2)))


def test_probes_load_without_plotting_or_torch():
    code = (
        "import sys, landscape.probes.fluctuations; "
        "raise SystemExit(any(name in sys.modules for name in ('matplotlib', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
