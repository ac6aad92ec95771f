"""Every public probe: from the command line on a stored run, its figure, and a wrong setting refused in one line."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape import probes
from landscape.cli.app import run
from landscape.common.provenance import run_spec
from landscape.probes.registry import ROOMS, registered
from landscape.report.figures import plots_of

PROBES = registered()
SPRING = {"kind": "Quadratic", "stiffness": [1.0, 2.0]}
STEPS = {"integrator": {"kind": "EulerMaruyama", "dt": 0.1}, "seed": 1, "backend": "batched"}
WELL = {
    "potential": {"kind": "Expression", "energy": "(x**2 - 1)**2", "coordinates": ["x"]},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.05}, "seed": 1, "backend": "batched",
}  # fmt: skip
RAMP = {"kind": "Expression", "energy": "k*x**2/2", "coordinates": ["x"], "parameters": {
    "k": {"kind": "ramp", "start": 1.0, "end": 2.0, "duration": 1.0}}}  # fmt: skip
BACK = RAMP | {"parameters": {"k": RAMP["parameters"]["k"] | {"start": 2.0, "end": 1.0}}}
SOFT = {"kind": "Expression", "energy": "k*x**2/2", "coordinates": ["x"], "parameters": {"k": 1.0}}
NETWORK = {
    "kind": "NetworkLoss", "batch_size": 5, "module": {"kind": "mlp", "sizes": [3, 2, 2], "seed": 0},
    "data": {"kind": "random_labels", "samples": 20, "features": 3, "classes": 2, "seed": 0},
}  # fmt: skip
DRIFT = {"kind": "Drift", "drift": ["-x + 2*y", "-2*x - y"], "coordinates": ["x", "y"]}
HILLS = {
    "kind": "Metadynamics",
    "coordinate": "x",
    "range": [-4.0, 4.0],
    "height": 0.05,
    "width": 0.3,
    "every": 5,
    "bias_factor": 4.0,
}
LINE = {"kind": "ProjectOntoPath", "path": {"pivots": [[0.0, 0.0], [1.0, 1.0]]}, "every": 2}
CORES = ["--core", "A=x < -0.8", "--core", "B=x > 0.8"]
SHOTS = ["--temperature", "0.5", "--shots", "10"]

# probe: the stored file it is asked about, and the settings that it needs
CASES = {
    "confinement.along_path": ("path", ["-q", "energy", "-q", "trace"]),
    "confinement.barriers": ("along_path", ["--temperature", "0.1"]),
    "confinement.drift": ("projected", ["--bins", "2"]),
    "confinement.first_passage": ("projected", ["--at", "0.8"]),
    "confinement.instability": ("along_path", []),
    "confinement.linear_connectivity": ("spring", ["-q", "energy", "--points", "3"]),
    "confinement.relaxation": ("projected", ["--target", "0.0"]),
    "curvature.diagonal": ("spring", []),
    "curvature.eigenvalues": ("spring", []),
    "curvature.extreme_eigenvalues": ("spring", []),
    "curvature.fisher_trace": ("network", ["--labels", "model"]),
    "curvature.largest_eigenvalue": ("spring", []),
    "curvature.project": ("spring", ["--vectors", "top_eigenpairs.nc"]),
    "curvature.score_singular_values": ("network", []),
    "curvature.sharpness": ("minimum", ["--radius", "0.1"]),
    "curvature.spectral_density": ("minimum", ["--probes", "2"]),
    "curvature.temperature_scaling": ("eigenvalues", []),
    "curvature.top_eigenpairs": ("minimum", ["--pairs", "1"]),
    "curvature.trace": ("spring", []),
    "fluctuations.autocorrelation": ("spring", ["--max-lag", "20"]),
    "fluctuations.current": ("drift", ["-c", "x", "-c", "y", "--bins", "4"]),
    "fluctuations.diffusion": ("spring", ["-c", "x0"]),
    "fluctuations.distance": ("spring", ["--reference", "[0.0, 0.0]"]),
    "fluctuations.effective_temperature": (
        "network", ["--lr", "0.1", "--batch-size", "5", "--probes", "2", "--variable", "last_position"]),
    "fluctuations.entropy_production": ("drift", []),
    "fluctuations.equilibration": ("spring", []),
    "fluctuations.half_time": ("spring", []),
    "fluctuations.participation_ratio": ("network", []),
    "fluctuations.spikes": ("spring", []),
    "fluctuations.summary": ("spring", ["--by", "temperature"]),
    "fluctuations.temperature_scan": ("summary", []),
    "free_energy.effective_potential": ("spring", ["-c", "x0", "--at", "[-1.0, 0.0, 1.0]", "--temperature", "0.1"]),
    "free_energy.entropy": ("spring", ["--free-energy", "[0.1, 0.2]"]),
    "free_energy.harmonic": ("minimum", ["--temperature", "[0.1, 0.2]"]),
    "free_energy.local_learning_coefficient": (
        "minimum", ["--temperature", "0.1", "--dt", "0.1", "--steps", "60", "--chains", "8"]),
    "free_energy.mbar": ("spring", ["-c", "x0", "--temperature", "0.15", "--at", "5", "--observable", "energy"]),
    "free_energy.mean_force": (
        "spring", ["-c", "x0", "--at", "[-0.5, 0.5]", "--temperature", "0.1", "--chains", "8", "--steps", "8"]),
    "free_energy.metadynamics": ("hills", ["--bins", "6"]),
    "free_energy.nonequilibrium_work": (
        "soft", ["--parameter", "k", "--start", "1.0", "--end", "2.0", "--temperature", "0.5", "--stages", "6",
                 "--chains", "60"]),
    "free_energy.profile": ("spring", ["-c", "x0", "--bins", "8", "--temperature", "0.2"]),
    "free_energy.thermodynamic_integration": (
        "soft", ["--parameter", "k", "--values", "[1.0, 2.0]", "--temperature", "0.5", "--chains", "8", "--steps",
                 "200"]),
    "free_energy.umbrella": (
        "soft", ["-c", "x", "--at", "[-0.5, 0.0, 0.5]", "--temperature", "0.2", "--chains", "8", "--steps", "200"]),
    "free_energy.work_average": ("pulled", ["--reverse", "pushed.nc"]),
    "rates.committor": ("barrier", [*CORES, *SHOTS]),
    "rates.committor_test": ("committor", ["--bins", "2"]),
    "rates.core_sets": ("well", CORES),
    "rates.escape_rate": ("well", CORES),
    "rates.forward_flux": (
        "well", ["-c", "x", "--from", "-0.9", "--to", "-0.4", "--interfaces", "[-0.7]", "--copies", "10",
         "--replicas", "8", "--backend", "batched"]),
    "rates.reactive_flux": (
        "well_profile", ["-c", "x", "--at", "0.0", *SHOTS, "--steps", "20", "--settling", "20"]),
}  # fmt: skip
MADE_BY = {
    # results that other probes read: probe, file, settings
    name: (f"{room}.{name}", *CASES[f"{room}.{name}"])
    for room, name in (("confinement", "along_path"), ("curvature", "eigenvalues"), ("curvature", "top_eigenpairs"),
                       ("fluctuations", "summary"), ("rates", "committor"))
} | {"well_profile": ("free_energy.profile", "well", ["-c", "x", "--bins", "24"])}  # fmt: skip
WITHOUT_PICTURE = {
    "curvature.project", "curvature.temperature_scaling", "fluctuations.current", "fluctuations.entropy_production",
}  # fmt: skip
NOT_OF_RUNS = {"batch_temperature"}  # arithmetic on numbers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small runs of every kind, and the results that other probes read."""
    home = tmp_path_factory.mktemp("stored")
    heats = {"temperature": [0.1] * 4 + [0.2] * 4, "steps": 400}
    runs = {
        "spring": STEPS | heats | {"potential": SPRING, "record": {"every": 4, "observables": ["position", "energy"]}},
        "well": WELL | {"temperature": 0.5, "chains": 8, "steps": 600, "record": {"every": 4}},
        "drift": STEPS | {"potential": DRIFT, "temperature": 0.2, "chains": 8, "steps": 400, "record": {
            "every": 4, "observables": ["position", "entropy_production"]}},
        "pulled": WELL | {"potential": RAMP, "temperature": 0.5, "chains": 100, "steps": 20, "record": {
            "every": 20, "observables": ["work"]}},
        "pushed": WELL | {"potential": BACK, "temperature": 0.5, "chains": 100, "steps": 20, "record": {
            "every": 20, "observables": ["work"]}},
        "barrier": WELL | {"temperature": 0.5, "start": np.linspace(-0.6, 0.6, 12)[:, None].tolist(), "steps": 1},
        "soft": STEPS | {"potential": SOFT, "temperature": 0.5, "chains": 2, "steps": 10},
        "hills": STEPS | {"potential": SOFT, "temperature": 0.5, "chains": 4, "steps": 600, "constraint": HILLS,
                          "record": {"every": 5}},
        "projected": STEPS | {"potential": SPRING, "temperature": [0.1, 0.2] * 4,
                              "steps": 100, "start": [[0.5, 0.5]] * 8, "constraint": LINE},
        "network": STEPS | {"potential": NETWORK, "integrator": {"kind": "SGD", "lr": 0.1}, "steps": 60, "chains": 2,
                            "record": {"every": 1, "observables": ["energy", "sample_energies"], "snapshots": 2}},
        "minimum": {"task": "minimize", "potential": SPRING, "start": [1.0, 1.0]},
    }  # fmt: skip
    for name, spec in runs.items():
        ls.save(ls.run(spec, progress=False), home / f"{name}.nc")
    path = ls.paths.straight_line([-1.0, -1.0], [1.0, 1.0], 3).to_dataset()
    ls.save(path.assign_attrs(spec=json.dumps({"task": "connect", "potential": SPRING})), home / "path.nc")
    for name, (probe, source, settings) in MADE_BY.items():
        assert run(["probe", probe, str(home / f"{source}.nc"), "-o", str(home / f"{name}.nc"), *settings]) == 0
    return home


def test_all_that_is_public_is_registered_or_measures_nothing():
    for room in ROOMS:
        module = getattr(probes, room)
        functions = {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
        plain = {name for name in functions if not name.startswith("plot_")} - NOT_OF_RUNS
        assert plain == {name.partition(".")[2] for name in PROBES if name.startswith(f"{room}.")}
        drawn = {plot.__name__ for name, one in PROBES.items() if name.startswith(f"{room}.") for plot in one.plots}
        assert drawn <= functions  # and the rest are of series, not of results
    assert set(CASES) == set(PROBES)
    assert {name for name, one in PROBES.items() if not one.plots} == WITHOUT_PICTURE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_probe_from_the_command_line(name, folder, tmp_path, monkeypatch, capsys):
    """It runs, its file says where it is from, its figure is drawn, and it refuses a setting that it does not have."""
    source, settings = CASES[name]
    monkeypatch.chdir(folder)
    target = tmp_path / "found.nc"
    assert run(["probe", name, f"{source}.nc", "-o", str(target), *settings]) == 0, capsys.readouterr().err
    assert f"wrote {target}" in capsys.readouterr().out.replace("\n", "")
    with ls.open(target) as found, ls.open(f"{source}.nc") as measured:
        assert found.attrs["probe"] == name
        assert found.attrs["source"].startswith("landscape ")
        assert found.attrs["Conventions"] == "CF-1.11" and found.attrs["history"].endswith(name)
        assert run_spec(found) == run_spec(measured)
        for plot in plots_of(found.load()):
            plot(found, ax=Figure().subplots())
    assert run(["probe", name, f"{source}.nc", *settings, "--setting", "colour=3"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {name} has no setting 'colour'") and told.count("\n") == 1


@pytest.mark.filterwarnings("ignore")
def test_figures_of_results(folder, capsys):
    assert run(["plot", str(folder / "summary.nc")]) == 0
    assert (folder / "summary.png").exists()
    assert run(["probe", "fluctuations.current", str(folder / "drift.nc"), "-c", "x", "--force"]) == 0
    assert run(["plot", str(folder / "drift.current.nc")]) == 2
    assert "no picture" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["fluctuations.sumary", "spring.nc"], "Did you mean 'fluctuations.summary'?"),
    (["fluctuations.summary", "spring.nc", "--disard", "0.1"], "Did you mean '--discard'?"),
    (["fluctuations.summary", "spring.nc", "--variable", "height"], "no variable 'height'"),
    (["curvature.sharpness", "spring.nc"], "needs the setting 'radius'"),
    (["confinement.drift", "spring.nc"], "ProjectOntoPath"),
    (["fluctuations.summary", "spring.nc", "well.nc"], "got 2 of them"),
    (["rates", "well.nc", "--core", "A"], "must be name=value"),
])  # fmt: skip
def test_mistakes_are_one_line(arguments, said, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run(["probe", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("error: ") and told.count("\n") == 1


def test_help_is_the_docstring(capsys):
    assert run(["probe", "free_energy.profile", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Free energy along one or two coordinates" in told and "In units of energy, k_B = 1" in told
    assert "default: 60" in told and "Example: landscape probe free_energy.profile run.nc" in told


def test_results_from_python_know_their_run():
    made = ls.run(STEPS | {"potential": SPRING, "temperature": 0.1, "steps": 40}, progress=False)
    found = probes.fluctuations.summary(made)
    assert (
        found.attrs["probe"] == "fluctuations.summary" and run_spec(found)["potential"] == run_spec(made)["potential"]
    )
    assert "run_spec" not in probes.fluctuations.summary(made.energy).attrs
    # of an inner probe nothing is left in the result of the outer one
    assert probes.fluctuations.half_time(made).attrs["probe"] == "fluctuations.half_time"
    assert plots_of(xr.Dataset()) == []
    assert np.isfinite(found["mean"]).all()
