"""Data sets made on the spot: laws of the random ones, seeds, subsets, standardisation, plain descriptions."""

import copy
import json
import math
import random
import sys

import numpy as np
import pytest
import torch

from landscape.errors import ConfigError, DatasetNotFound, ShapeError
from landscape.potentials import datasets


def global_state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def same(a, b):
    pairs = [(a.inputs, b.inputs), (a.targets, b.targets)]
    if a.evaluation_inputs is not None:
        pairs += [(a.evaluation_inputs, b.evaluation_inputs), (a.evaluation_targets, b.evaluation_targets)]
    return all(one.equal(other) for one, other in pairs)


def six():
    inputs = torch.arange(12.0).reshape(6, 2)
    return datasets.Data(inputs, torch.tensor([0, 0, 0, 0, 1, 1]), classes=2, name="six")


# -- random labels ----------------------------------------------------------------------------------------------------


def test_random_labels_have_the_shapes_of_the_paper():
    data = datasets.random_labels()
    assert data.inputs.shape == (300, 10) and data.inputs.dtype == torch.float32
    assert data.targets.shape == (300,) and data.targets.dtype == torch.int64
    assert data.classes == 3 and set(data.targets.tolist()) == {0, 1, 2}
    assert data.evaluation_inputs is None and len(data) == 300


def test_random_labels_have_their_laws():
    n, f, c = 4000, 5, 4
    data = datasets.random_labels(n, f, classes=c, seed=2)
    x = data.inputs.double()
    assert abs(x.sum().item()) / math.sqrt(n * f) < 4.5
    square = (x**2).sum().item()
    assert abs(square - n * f) / math.sqrt(2 * n * f) < 4.5
    assert abs(square / 1.1**2 - n * f) / math.sqrt(2 * n * f) > 8  # control: 10 % too wide
    counts = data.targets.bincount().double()
    p = 1 / c
    assert ((counts - n * p).abs() / math.sqrt(n * p * (1 - p))).max() < 4.5
    # independent of the inputs: the mean input of each class is that of all
    means = torch.stack([x[data.targets == label].sum(0) / counts[label].sqrt() for label in range(c)])
    assert means.abs().max() < 4.5
    leaning = torch.stack([x[x[:, 0] > 0].mean(0), x[x[:, 0] <= 0].mean(0)]) * math.sqrt(n / 2)
    assert leaning.abs().max() > 8  # control: labels that follow an input


def test_random_labels_depend_on_the_seed_alone():
    before = global_state()
    first = datasets.random_labels(seed=1)
    assert global_state() == before
    torch.randn(3)
    torch.set_default_dtype(torch.float64)
    try:
        again = datasets.random_labels(seed=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(first, again)
    other = datasets.random_labels(seed=2)
    assert not other.inputs.equal(first.inputs) and not other.targets.equal(first.targets)
    assert datasets.random_labels(features=3, seed=1).targets.equal(first.targets)


@pytest.mark.parametrize(
    "options", [{"samples": 0}, {"features": 1.5}, {"classes": 0}, {"seed": -1}, {"seed": None}, {"samples": "many"}]
)
def test_random_labels_refuse_nonsense(options):
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        datasets.random_labels(**options)


# -- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_split_scaled_and_shuffled():
    from sklearn.datasets import load_digits  # first: its import draws from the global state

    before = global_state()
    data = datasets.digits(1000, 3)
    assert global_state() == before
    assert data.inputs.shape == (1000, 64) and data.evaluation_inputs.shape == (797, 64)
    assert data.inputs.min() == 0 and data.inputs.max() == 1 and data.classes == 10
    images, labels = load_digits(return_X_y=True)
    known = {row.tobytes(): label for row, label in zip((images / 16).astype(np.float32), labels, strict=True)}
    both = [(data.inputs, data.targets), (data.evaluation_inputs, data.evaluation_targets)]
    rows = [row.numpy().tobytes() for inputs, _ in both for row in inputs]
    assert [known[row] for row in rows] == [label for _, targets in both for label in targets.tolist()]
    assert sorted(rows) == sorted(row.tobytes() for row in (images / 16).astype(np.float32))
    assert len(set(data.targets[:50].tolist())) == 10


def test_digits_as_images_and_with_all_for_training():
    data = datasets.digits(1797, flat=False)
    assert data.inputs.shape == (1797, 1, 8, 8) and data.evaluation_inputs is None
    assert data.inputs.flatten(1).equal(datasets.digits(1797).inputs)
    assert not same(datasets.digits(100, 0), datasets.digits(100, 1))
    assert same(datasets.digits(100, 1), datasets.digits(100, 1))


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DatasetNotFound, match=r'pip install "landscape-langevin\[digits\]"'):
        datasets.digits()


@pytest.mark.parametrize("options", [{"train": 1798}, {"train": 0}, {"flat": 1}])
def test_digits_refuse_nonsense(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        datasets.digits(**options)


# -- subsets ----------------------------------------------------------------------------------------------------------


def test_subset_takes_rows_without_replacement():
    data = datasets.digits(500)
    part = data.subset(100, 4)
    known = {row.numpy().tobytes(): label for row, label in zip(data.inputs, data.targets.tolist(), strict=True)}
    assert [known[row.numpy().tobytes()] for row in part.inputs] == part.targets.tolist()
    assert len({row.numpy().tobytes() for row in part.inputs}) == 100
    assert part.evaluation_inputs is data.evaluation_inputs
    assert same(part, data.subset(100, 4)) and not same(part, data.subset(100, 5))
    assert same(data.subset(500), data)


def test_every_row_is_equally_likely_in_a_subset():
    data = six()
    trials = 2000
    hits = torch.zeros(6)
    for seed in range(trials):
        hits[(data.subset(2, seed).inputs[:, 0] / 2).long()] += 1
    p = 2 / 6
    assert ((hits - trials * p).abs() / math.sqrt(trials * p * (1 - p))).max() < 4.5


@pytest.mark.parametrize(("samples", "counts"), [(2, [1, 1]), (3, [2, 1]), (4, [2, 2])])
def test_balanced_subset(samples, counts):
    assert six().subset(samples, balanced=True).targets.bincount().tolist() == counts


def test_subset_refuses_too_many():
    with pytest.raises(ConfigError, match="there are 6"):
        six().subset(7)
    with pytest.raises(ConfigError, match="need 3 of class 1, which has 2"):
        six().subset(6, balanced=True)
    with pytest.raises(ConfigError, match="samples = 0"):
        six().subset(0)


# -- standardisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 3), (50, 2, 4, 5)])
def test_standardize_uses_training_statistics_for_both_parts(shape):
    draw = torch.Generator().manual_seed(0)
    scale = torch.arange(1.0, shape[1] + 1).reshape(-1, *(1 for _ in shape[2:]))
    inputs, held_out = (torch.randn(shape, generator=draw) * scale + 3 * scale for _ in range(2))
    targets = torch.zeros(50, dtype=torch.int64)
    data = datasets.Data(inputs, targets, 1, "g", held_out + 1, targets).standardize()
    axes = [axis for axis in range(len(shape)) if axis != 1]
    torch.testing.assert_close(data.inputs.mean(axes), torch.zeros(shape[1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.inputs.var(axes, unbiased=False), torch.ones(shape[1]))
    assert data.mean.shape == data.deviation.shape == (shape[1],)
    view = (-1, *(1 for _ in shape[2:]))
    torch.testing.assert_close(
        data.evaluation_inputs, (held_out + 1 - data.mean.view(view)) / data.deviation.view(view)
    )
    torch.testing.assert_close(data.mean, inputs.mean(axes))


def test_standardize_leaves_constant_channels_finite():
    inputs = torch.stack([torch.full((9,), 0.1), torch.arange(9.0)], 1)
    data = datasets.Data(inputs, torch.zeros(9, dtype=torch.int64), 1, "c").standardize()
    assert data.inputs[:, 0].abs().max() < 1e-6 and data.deviation[0] == 1
    assert datasets.digits(standardize=True).inputs.isfinite().all()


def test_standardize_twice_is_refused():
    with pytest.raises(ConfigError, match="once"):
        six().standardize().standardize()


# -- plain descriptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        lambda: datasets.random_labels(31, 4, classes=2, seed=7),
        lambda: datasets.random_labels(31).subset(20, 3, balanced=True).standardize(),
        lambda: datasets.digits(900, 5, flat=False, standardize=True).subset(30),
    ],
)
def test_data_can_be_made_again_from_their_description(data):
    data = data()
    spec = json.loads(json.dumps(data.spec()))
    kept = copy.deepcopy(spec)
    again = datasets.from_spec(spec)
    assert spec == kept
    assert same(data, again) and again.spec() == data.spec() and again.name == data.name
    assert (data.mean is None and again.mean is None) or data.mean.equal(again.mean)


def test_the_description_is_a_copy():
    data = datasets.random_labels(5).standardize()
    data.spec()["then"].append("junk")
    assert data.spec()["then"] == [{"kind": "standardize"}]


def test_data_made_by_hand_have_no_description():
    for data in (six(), six().subset(2), six().standardize()):
        with pytest.raises(ConfigError, match="by hand"):
            data.spec()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "kind = None"),
        ({"kind": "eval"}, "kind = 'eval'"),
        ({"kind": ["digits"]}, "kind = "),
        ({"kind": "random_labels", "sample": 3}, "no option 'sample'"),
        ({"kind": "cifar10"}, "needs 'root'"),
        ({"kind": "random_labels", "then": 3}, "then = 3"),
        ({"kind": "random_labels", "then": ["standardize"]}, "step 'standardize'"),
        ({"kind": "random_labels", "then": [{"kind": "spec"}]}, "kind = 'spec'"),
        ({"kind": "random_labels", "then": [{"kind": "subset", "n": 3}]}, "no option 'n'"),
    ],
)
def test_wrong_descriptions_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        datasets.from_spec(spec)


# -- the container ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": np.zeros((6, 2))}, ShapeError, "ndarray"),
        ({"inputs": torch.zeros(6, 2, dtype=torch.int64)}, ShapeError, "floating"),
        ({"inputs": torch.zeros(6)}, ShapeError, "samples, features"),
        ({"targets": torch.zeros(6)}, ShapeError, "torch.int64"),
        ({"targets": torch.zeros(5, dtype=torch.int64)}, ShapeError, r"\(6,\)"),
        ({"targets": torch.full((6,), 2)}, ConfigError, "from 0 to 1"),
        ({"targets": torch.full((6,), -1)}, ConfigError, "from 0 to 1"),
        ({"inputs": torch.zeros(0, 2), "targets": torch.zeros(0, dtype=torch.int64)}, ShapeError, "no samples"),
        ({"classes": 0}, ConfigError, "classes = 0"),
        ({"evaluation_inputs": torch.zeros(1, 2)}, ConfigError, "both or neither"),
        (
            {"evaluation_inputs": torch.zeros(1, 3), "evaluation_targets": torch.zeros(1, dtype=torch.int64)},
            ShapeError,
            "per sample",
        ),
        ({"class_names": ("a",)}, ConfigError, "class_names"),
    ],
)
def test_inconsistent_data_are_refused(change, error, message):
    given = {"inputs": torch.zeros(6, 2), "targets": torch.zeros(6, dtype=torch.int64), "classes": 2, "name": "x"}
    with pytest.raises(error, match=message):
        datasets.Data(**given | change)


def test_data_are_frozen_and_print_in_one_line():
    data = six()
    with pytest.raises(AttributeError):
        data.classes = 3
    assert repr(data) == "Data('six', 6 samples of shape (2,), 2 classes, 0 for evaluation)"


def test_load_by_name():
    assert same(datasets.load("random-labels", samples=9, seed=3), datasets.random_labels(9, seed=3))
    assert same(datasets.load("random_labels"), datasets.random_labels())
    assert same(datasets.load("digits", train=50), datasets.digits(50))
    with pytest.raises(ConfigError, match="no option 'size'"):
        datasets.load("digits", size=3)
    with pytest.raises(ConfigError, match="neither a name nor a path"):
        datasets.load(3)
    with pytest.raises(DatasetNotFound, match=r"nothing at no-such-thing: .*'digits'"):
        datasets.load("no-such-thing")
