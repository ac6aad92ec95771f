"""Presets: they are whole, they start from data sets of the real layout, and they say what they will cost."""

import pickle

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.cli.app import run
from landscape.cli.studying import override
from landscape.errors import ConfigError
from landscape.spec.building import build_potential
from landscape.workflows import presets
from landscape.workflows.study import stages_of
from tests.cases import LONG_ONLY

PAPER = [f"{net}-cifar{n}" for net in ("resnet-110", "resnet-20", "wrn-16-4") for n in (10, 100)]
WEIGHTS = {"wrn-16-4": 2_748_890, "resnet-20": 269_722, "resnet-110": 1_727_962}
TRAINED = 40  # images in each file of the real layout; the real ones have 10,000


def images(rows, classes, label, seed):
    draw = np.random.default_rng(seed)
    # a class is a colour, so that there is something to learn
    labels = np.arange(rows) % classes
    pixels = draw.integers(0, 128, size=(rows, 3, 1024)) + (40 * (labels[:, None, None] % 3 == [[0], [1], [2]]))
    return {"data": pixels.reshape(rows, 3072).astype(np.uint8), label: labels.tolist()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tiny files as torchvision keeps CIFAR-10 and CIFAR-100, in one folder."""
    root = tmp_path_factory.mktemp("data")
    ten, hundred = root / "cifar-10-batches-py", root / "cifar-100-python"
    ten.mkdir()
    hundred.mkdir()
    files = {ten / f"data_batch_{i}": images(TRAINED // 5, 10, "labels", i) for i in range(1, 6)}
    files[ten / "test_batch"] = images(10, 10, "labels", 6)
    files[ten / "batches.meta"] = {"label_names": [f"class {i}" for i in range(10)]}
    files[hundred / "train"] = images(TRAINED, 100, "fine_labels", 7) | {"coarse_labels": [0] * TRAINED}
    files[hundred / "test"] = images(10, 100, "fine_labels", 8) | {"coarse_labels": [0] * 10}
    files[hundred / "meta"] = {"fine_label_names": [f"class {i}" for i in range(100)], "coarse_label_names": ["all"]}
    for file, content in files.items():
        file.write_bytes(pickle.dumps(content, protocol=2))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of each of ten classes, as a folder of PNG files."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 1)):
        for label in range(10):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return root


def assignments(*texts):
    return [part for text in texts for part in ("--set", text)]


def small_batches(root):
    """Ten images to a chunk, two to a minibatch: 20 steps are an epoch of the tiny files."""
    return [
        f"potential.data.root={root}", "potential.chunk_size=10", "train.potential.batch_size=2",
        "connect.potential.batch_size=2", "projected.potential.batch_size=2",
    ]  # fmt: skip


# -- what they say ----------------------------------------------------------------------------------------------------


def test_names():
    assert presets.names() == sorted(["cifar10-reduced", "cifar10-small", *PAPER])
    for wrong in ("_paper.toml", "../study", "cifar10"):
        with pytest.raises(ConfigError, match=r"there is no preset .* cifar10-reduced, cifar10-small, resnet-110"):
            presets.load(wrong)


@pytest.mark.parametrize("name", ["cifar10-reduced", "cifar10-small", *PAPER])
def test_every_preset_is_the_whole_chain(name):
    stages = list(stages_of(presets.load(name)))
    tasks = [stage.spec["task"] for stage in stages]
    assert tasks.index("train") < tasks.index("connect") < tasks.index("probe") < tasks.index("simulate")
    probes = {stage.spec["probe"] for stage in stages if stage.spec["task"] == "probe"}
    assert probes == {"confinement.along_path", "confinement.drift"}
    for stage in stages:
        if stage.spec["task"] == "simulate":
            assert stage.spec["constraint"]["kind"] == "ProjectOntoPath" and stage.spec["constraint"]["every"] == 15
            assert stage.spec["steps"] % 15 == 0
            assert ("batch_size" in stage.spec["potential"]) == ("full-batch" not in stage.name)
        if stage.spec["task"] == "train":
            assert stage.spec["seed"] == stage.spec["potential"]["module"]["seed"]


@pytest.mark.parametrize("name", PAPER)
def test_the_settings_of_the_paper(name):
    spec = presets.load(name)
    stages = {stage.name: stage.spec for stage in stages_of(spec)}
    train = stages["train-a"]
    assert train["epochs"] == 200 and train["potential"]["batch_size"] == 256
    assert train["integrator"] == {"kind": "SGD", "lr": 0.1, "momentum": 0.9}
    assert train["potential"]["weight_decay"] == 5e-4
    assert train["potential"]["augment"] == {"kind": "FlipCrop", "padding": 4}
    expected = {str(int(part * 200)): 5.0**-i for i, part in enumerate((0, 0.3, 0.6, 0.8, 0.9))}
    assert train["schedule"] == pytest.approx(expected)
    cycles = [[0.1, "10 epochs"], [0.05, "5 epochs"], [0.01, "5 epochs"], [0.001, "5 epochs"]]
    assert stages["path"]["settings"]["cycles"] == cycles
    assert tuple(map(tuple, cycles)) == ls.paths.automated_band.CYCLES
    projected = stages["projected"]
    assert projected["integrator"]["lr"] == 0.02 and projected["potential"]["batch_size"] == 16
    assert projected["constraint"]["every"] == 15
    assert train["potential"]["module"]["classes"] == int(name.rpartition("cifar")[2])


def test_reduced_and_small_are_residual_networks_of_eight_layers():
    for name, width, samples in (("cifar10-reduced", 16, 2000), ("cifar10-small", 8, 10_000)):
        potential = presets.load(name)["defaults"]["potential"]
        assert potential["module"] == {"kind": "resnet_cifar", "depth": 8, "width": width, "norm": "group"}
        assert potential["data"]["size"] == 16 and potential["data"]["samples"] == samples


def test_a_study_of_ones_own_on_top_of_a_preset(tmp_path, data, capsys):
    file = tmp_path / "mine.toml"
    file.write_text('base = "resnet-20-cifar10"\n[defaults.train]\nepochs = 3\n[defaults.train.integrator]\nlr = 0.2\n')
    (stage, *_) = stages_of(presets.complete({"base": "resnet-20-cifar10", "defaults": {"train": {"epochs": 3}}}))
    assert stage.spec["epochs"] == 3 and stage.spec["integrator"]["lr"] == 0.1
    assert run(["study", str(file), "--dry-run", *assignments(*small_batches(data))]) == 0
    assert "train-a" in capsys.readouterr().out


# -- what they do -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG_ONLY if "100" in name else ()) for name in PAPER])
def test_the_papers_networks_start_and_say_what_they_cost(name, data, capsys):
    assert run(["study", name, "--dry-run", *assignments(*small_batches(data))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["train-a", "train"],
        ["train-b", "train"],
        ["path", "connect"],
    ]
    assert all("GiB" in line for line in lines[1:-1]) and "from one measured step" in lines[-1]
    table = presets.load(name)["defaults"]["potential"]
    loss = build_potential(overlay(table, data))
    network, _, classes = name.rpartition("-cifar")
    last = (int(classes) - 10) * (257 if network == "wrn-16-4" else 65)  # each class more has its weights and a bias
    assert loss.dim == WEIGHTS[network] + last


def overlay(table, root):
    return table | {"data": table["data"] | {"root": str(root)}, "chunk_size": 10}


def trained(name, data, folder):
    """20 steps of training at the paper's settings, in batches of two."""
    spec = presets.load(name)
    for text in (*small_batches(data), "train.epochs=1", "train.schedule={0 = 1.0}"):
        override(spec, text)
    spec["stage"] = spec["stage"][:1]
    files = ls.study(spec, output=folder)
    with ls.open(files["train-a"]) as stored:
        return stored.load()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG_ONLY if "110" in name or "wrn" in name else ()) for name in PAPER]
)
def test_twenty_steps_of_the_papers_networks(name, data, tmp_path):
    found = trained(name, data, tmp_path)
    assert found.step.values.tolist() == [20]
    assert np.isfinite(found.energy).all() and np.isfinite(found.last_position).all()
    table = presets.load(name)["defaults"]["potential"]
    start = build_potential(overlay(table | {"module": table["module"] | {"seed": 1}}, data)).position()
    moved = torch.linalg.norm(torch.from_numpy(found.last_position.values[0]) - start)
    assert float(moved) > 0.1  # how far is up to the batches of two: the deepest network goes far at this rate


CHAIN = [
    "train.epochs=1", "train.schedule={0 = 1.0}", "potential.chunk_size=40", "path.settings.cycles=[[0.1, 20]]",
    "path.settings.end_tolerance=1e9", "projected.steps=30", "projected-full-batch.steps=15",
    "projected.record.every=30", "projected-full-batch.record.every=15",
    "largest-eigenvalue.settings.settings={largest_eigenvalue = {rtol = 0.5}}",
    "trace.settings.settings={trace = {probes = 6}}", "drift.settings.bins=2", "drift-full-batch.settings.bins=1",
]  # fmt: skip


def check_chain(folder):
    with ls.open(folder / "path.nc") as path, ls.open(folder / "trace.nc") as trace:
        assert path.sizes["pivot"] == 5 and path.cycle_steps.values.tolist() == [20]
        assert np.isfinite(trace.trace).all() and trace.sizes["pivot"] == 5
    with ls.open(folder / "largest-eigenvalue.nc") as found:
        assert np.isfinite(found.largest_eigenvalue).all()
    with ls.open(folder / "projected.nc") as projected, ls.open(folder / "drift.nc") as drift:
        assert projected.sizes["projection"] == 3 and np.isfinite(projected.arc_length).all()
        assert np.isfinite(drift.velocity).all()


@LONG_ONLY
def test_the_chain_of_the_paper(data, tmp_path, capsys):
    """All stages with a smaller network on batches of four; the band makes 20 steps, projected dynamics 30."""
    small = [
        *small_batches(data), *CHAIN, "potential.module.width=4", "potential.module.depth=8",
        "train.potential.batch_size=4", "connect.potential.batch_size=4", "projected.start.at=[0.3, 0.7]",
    ]  # fmt: skip
    assert run(["study", "resnet-20-cifar10", "-o", str(tmp_path), *assignments(*small)]) == 0
    check_chain(tmp_path)


def test_the_reduced_chain(folder, tmp_path):
    small = [
        *CHAIN, f"potential.data.path={folder}", "potential.data.samples=40", "potential.data.evaluation_samples=10",
        "minimize.steps=2", "minimize.tolerance=1e3", "train.potential.batch_size=4",
        "connect.potential.batch_size=4", "projected.potential.batch_size=2", "projected.start.at=[0.3, 0.7]",
    ]  # fmt: skip
    assert run(["study", "cifar10-reduced", "-o", str(tmp_path), *assignments(*small)]) == 0
    check_chain(tmp_path)


def test_the_small_preset_says_what_it_costs(folder, capsys):
    small = [f"potential.data.path={folder}", "potential.data.samples=40", "potential.data.evaluation_samples=10",
             "train.potential.batch_size=4", "connect.potential.batch_size=4"]  # fmt: skip
    assert run(["study", "cifar10-small", "--dry-run", *assignments(*small)]) == 0
    out = capsys.readouterr().out
    assert all(f"{stage}-{pair}" in out for stage in ("path", "trace", "drift") for pair in ("ab", "cd"))
