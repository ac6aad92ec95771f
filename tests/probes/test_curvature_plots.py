"""Pictures of curvature, and the probe on a stored run from the command line."""

import json

import matplotlib
import numpy as np
import pytest
import torch
import xarray as xr

from landscape.cli.app import run as command
from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.probes import curvature
from landscape.storage.files import save
from landscape.workflows.opening import open as open_run
from tests.probes.curvature_cases import NETWORKS, draws

matplotlib.use("Agg")


@pytest.fixture
def axes():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    yield ax
    figure.canvas.draw()
    plt.close(figure)


@pytest.fixture(scope="module")
def path():
    """Five pivots of the small convnet with their arc length."""
    loss = NETWORKS["convnet"].loss()
    s = np.linspace(0.0, 1.0, 5)
    pivots = loss.position().numpy() + 0.3 * s[:, None] * draws(loss.dim, seed=8).numpy()
    about = {"long_name": "arc length", "units": "length"}
    return loss, xr.DataArray(pivots, dims=("pivot", "coordinate"), coords={"arc_length": ("pivot", s, about)})


def spectra():
    levels = np.array([1e-6, 1e-5])
    values = levels[:, None, None] * np.random.default_rng(0).lognormal(0, 2, (2, 3, 40))
    values[..., :4] *= -1
    dims = ("chain", "snapshot", "eigenvalue")
    return xr.Dataset({"eigenvalue": (dims, values)}, {"temperature": ("chain", levels)})


def test_a_spectrum_along_a_path(path, axes):
    loss, pivots = path
    found = curvature.extreme_eigenvalues(loss, pivots)
    assert curvature.plot_extreme_eigenvalues(found, axes) is axes
    assert axes.get_xlabel() == "arc length [length]" or axes.get_xlabel() == "arc length"
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["largest"].get_ydata(), found.largest)
    np.testing.assert_allclose(lines["smallest"].get_xdata(), pivots.arc_length)


def test_open_circles_have_not_converged(path, axes):
    loss, pivots = path
    curvature.plot_largest_eigenvalue(curvature.largest_eigenvalue(loss, pivots, products=2), axes)
    assert any(line.get_markerfacecolor() == "white" and len(line.get_xdata()) == 5 for line in axes.get_lines())


@pytest.mark.parametrize(
    ("measure", "plot"),
    [
        (lambda *at: curvature.trace(*at, probes=6), curvature.plot_trace),
        (lambda *at: curvature.fisher_trace(*at, labels="sampled"), curvature.plot_fisher_trace),
        (lambda *at: curvature.score_singular_values(*at, examples=4), curvature.plot_score_singular_values),
        (lambda *at: curvature.spectral_density(*at, probes=2, steps=8), curvature.plot_spectral_density),
        (lambda *at: curvature.eigenvalues(*at), curvature.plot_eigenvalues),
        (lambda *at: curvature.extreme_eigenvalues(*at, blocks="layer"), curvature.plot_largest_eigenvalue),
    ],
)
def test_every_result_has_a_picture(path, axes, measure, plot):
    loss, pivots = path
    assert plot(measure(loss, pivots[:2]), axes).get_ylabel()
    axes.clear()
    assert plot(measure(loss, pivots[0]), axes).get_ylabel()
    with pytest.raises(ConfigError, match="no"):
        plot(xr.Dataset({"energy": 1.0}), axes)


def test_spectra_collapse_in_units_of_the_temperature(axes):
    curvature.plot_eigenvalues(spectra(), axes)
    assert axes.get_xlabel() == r"$\lambda / T$"
    medians = [np.median(line.get_xdata()) for line in axes.get_lines()]
    assert 0.5 < medians[0] / medians[1] < 2.0
    axes.clear()
    curvature.plot_eigenvalues(spectra(), axes, scaled=False)
    medians = [np.median(line.get_xdata()) for line in axes.get_lines()]
    assert medians[1] > 5 * medians[0]
    with pytest.raises(ConfigError, match="temperature"):
        curvature.plot_eigenvalues(spectra().drop_vars("temperature"), axes, scaled=True)


def test_outliers_are_marked(axes):
    matrix = np.diag(np.concatenate([np.linspace(-1, 1, 100), [5.0, 8.0]]))
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((102, 102)))[0]
    curvature.plot_spectral_density(curvature.spectral_density(rotation @ matrix @ rotation.T, steps=30), axes)
    marks = [line.get_xdata() for line in axes.get_lines() if line.get_marker() == "v"]
    np.testing.assert_allclose(np.sort(np.concatenate(marks)), [5.0, 8.0], atol=1e-6)


# -- command line ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run of a small network with snapshots at two temperatures, as `simulate` would store it."""
    module = architectures.mlp((4, 5, 3), seed=1)
    loss = NetworkLoss(module, datasets.random_labels(samples=12, features=4, classes=3), dtype=torch.float64)
    levels = np.array([0.1, 0.1, 0.4])
    snapshots = loss.position().numpy() + np.sqrt(levels)[:, None, None] * draws(3, 4, loss.dim).numpy()
    run = xr.Dataset(
        {"snapshot": (("chain", "snapshot", "coordinate"), snapshots)},
        {"chain": [0, 1, 2], "temperature": ("chain", levels)},
        {"spec": json.dumps({"task": "simulate", "potential": loss.spec()})},
    )
    target = tmp_path_factory.mktemp("run") / "run.nc"
    save(run, target)
    return loss, run, target


def test_eigenvalues_from_the_command_line(stored, tmp_path, capsys):
    loss, run, source = stored
    target = tmp_path / "spectra.nc"
    assert command(["probe", "curvature", str(source), "--quantity", "eigenvalues", "-o", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "exponent p of the median" in printed
    with open_run(target) as found:
        np.testing.assert_allclose(found.eigenvalue, curvature.eigenvalues(loss, run).eigenvalue, atol=1e-12)
        assert found.eigenvalue.dims == ("chain", "snapshot", "eigenvalue")


@pytest.mark.parametrize(
    ("quantity", "options"),
    [
        ("largest_eigenvalue", []),
        ("extreme_eigenvalues", ["--seed", "3"]),
        ("trace", ["--snapshots", "2"]),
        ("fisher_trace", ["--labels", "model"]),
        ("score_singular_values", []),
    ],
)
def test_other_quantities_from_the_command_line(stored, tmp_path, quantity, options):
    _, _, source = stored
    target = tmp_path / "found.nc"
    assert command(["probe", "curvature", str(source), "-q", quantity, "-o", str(target), *options]) == 0
    with open_run(target) as found:
        assert found.sizes["snapshot"] == (2 if options[:1] == ["--snapshots"] else 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-q", "colour"], "--quantity"),
        (["-q", "fisher_trace"], "--labels"),
        (["-q", "trace", "--labels", "model"], "--labels"),
        (["-q", "fisher_trace", "--labels", "true"], "labels"),
    ],
)
def test_bad_input_on_the_command_line(stored, tmp_path, capsys, options, words):
    _, _, source = stored
    assert command(["probe", "curvature", str(source), "-o", str(tmp_path / "x.nc"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.nc").exists()
