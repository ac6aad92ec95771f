"""Runs as plain data: the same bits from a dict, from TOML and from the attribute of a stored run; errors by name."""

import copy
import json
import tomllib

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, FormulaError, LandscapeError
from landscape.potentials import Expression, Function, NetworkLoss, architectures, datasets, toys
from landscape.workflows.specification import build, resolve, run

SPRINGS = {
    "task": "simulate",
    "potential": {"kind": "Quadratic", "stiffness": [1.0, 4.0]},
    "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
    "steps": 6,
    "chains": 3,
    "temperature": 0.5,
    "seed": 1,
}
NETWORK = {
    "kind": "NetworkLoss",
    "module": {"kind": "mlp", "sizes": [10, 5, 3], "seed": 4, "activation": "tanh"},
    "data": {"kind": "random_labels", "samples": 30, "seed": 2},
    "batch_size": 8,
}
TRAIN = {
    "task": "train",
    "potential": NETWORK,
    "integrator": {"kind": "SGD", "lr": 0.1, "momentum": 0.9},
    "epochs": 3,
    "schedule": {"0": 1.0, "2": 0.1},
    "siblings": 2,
    "split_epoch": 1,
}


def springs(**changes):
    """The specification above with keys changed, or removed where they are None."""
    spec = copy.deepcopy(SPRINGS) | changes
    return {key: value for key, value in spec.items() if value is not None}


def same_bits(first, second):
    assert set(first.variables) == set(second.variables)
    for name in first.variables:
        np.testing.assert_array_equal(first[name].values, second[name].values)


# -- the same run ------------------------------------------------------------------------------------------------------


def test_a_specification_is_the_call():
    called = ls.simulate(
        toys.Quadratic([1.0, 4.0]), ls.EulerMaruyama(dt=0.1), steps=6, chains=3, temperature=0.5, seed=1
    )
    same_bits(run(SPRINGS), called)
    same_bits(ls.run(springs(task=None)), called)


def test_toml_is_the_dict():
    text = """
    task = "simulate"
    steps = 12
    chains = 2
    temperature = [0.1, 0.2]
    seed = 7
    potential = { kind = "Valley", g = "1 + y**2", bounds = { y = [-3, 3] } }

    [integrator]
    kind = "LeimkuhlerMatthews"
    dt = 1e-2
    noise = { kind = "ThermalNoise", precision = "float64" }

    [record]
    every = 3
    observables = ["position", "energy"]
    snapshots = 2
    """
    spec = {
        "task": "simulate",
        "steps": 12,
        "chains": 2,
        "temperature": [0.1, 0.2],
        "seed": 7,
        "potential": {"kind": "Valley", "g": "1 + y**2", "bounds": {"y": [-3, 3]}},
        "integrator": {
            "kind": "LeimkuhlerMatthews",
            "dt": 1e-2,
            "noise": {"kind": "ThermalNoise", "precision": "float64"},
        },
        "record": {"every": 3, "observables": ["position", "energy"], "snapshots": 2},
    }
    assert tomllib.loads(text) == spec
    noise = ls.ThermalNoise("float64")
    called = ls.simulate(
        toys.Valley("1 + y**2", bounds={"y": (-3, 3)}),
        ls.LeimkuhlerMatthews(dt=1e-2, noise=noise),
        temperature=[0.1, 0.2],
        steps=12,
        seed=7,
        record=ls.Record(every=3, observables=["position", "energy"], snapshots=2),
    )
    same_bits(run(tomllib.loads(text)), called)


@pytest.mark.parametrize("name", toys.__all__)
def test_every_toy_by_its_name(name):
    needed = {"Quadratic": {"stiffness": [1.0, 2.0]}, "Valley": {"g": "1 + y**2"}}.get(name, {})
    built, _ = build(springs(potential={"kind": name, **needed})).arguments
    assert type(built) is getattr(toys, name)


PYTHON = {
    "toy": lambda: ls.simulate(toys.DoubleWell(height=2.0), ls.Diffusion(dt=0.1), temperature=0.3, steps=5, seed=3),
    "walls": lambda: ls.simulate(
        toys.Valley("1 + y**2", bounds={"y": (-3, None)}), ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=5, chains=2
    ),
    "formula": lambda: ls.simulate(
        Expression("k*softplus(x)**2 + abs(y)/3", ["x", "y"], {"k": 1 / 3}, bounds={"x": (None, 2.5)}),
        ls.EulerMaruyama(dt=[0.1, 0.05], noise=ls.ThermalNoise("float64", refinement=2)),
        temperature=[0.1, 0.2],
        steps=7,
        seed=2**64 - 1,
    ),
    "record": lambda: ls.simulate(
        toys.Quadratic([1.0, 3.0]),
        ls.SGD(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.01),
        chains=2,
        steps=9,
        record=ls.Record(every=2, observables=["energy", "momentum", "distance"], snapshots=3),
    ),
    "constraints": lambda: ls.simulate(
        Expression("cos(x)*y", ["x", "y"]),
        ls.EulerMaruyama(dt=0.1),
        temperature=1.0,
        steps=20,
        constraint=[ls.Periodic({"x": (0.0, 2.0)}), ls.Reflect({"y": (-1.0, None)})],
    ),
    "batched": lambda: ls.simulate(
        toys.Himmelblau(), ls.AdamW(lr=0.01, betas=(0.8, 0.99), eps=1e-6), steps=5, backend="batched"
    ),
    "float32": lambda: ls.simulate(toys.Himmelblau(), ls.Adam(lr=0.01), steps=5, dtype=torch.float32),
    "network": lambda: ls.simulate(
        NetworkLoss(architectures.mlp([10, 5, 3]), datasets.random_labels(30), batch_size=8, weight_decay=0.1),
        ls.SGD(lr=0.1),
        steps=9,
        chains=2,
        data_seed={0: 5, 4: [6, 7]},
        record=ls.Record(every=3),
    ),
    "network by value": lambda: ls.simulate(
        NetworkLoss(
            architectures.mlp([10, 5, 3], activation="gelu", seed=9),
            datasets.random_labels(30, seed=3),
            batch_size=8,
            sampling="replacement",
            shared_batches=True,
            dtype=torch.float64,
        ),
        ls.EulerMaruyama(dt=0.01),
        temperature=1e-4,
        steps=5,
        chains=2,
    ),
}


@pytest.mark.parametrize("case", PYTHON)
def test_the_specification_stored_in_a_run_gives_the_run_again(case):
    original = PYTHON[case]()
    again = run(json.loads(original.attrs["spec"]))
    same_bits(again, original)
    assert again.attrs["backend"] == original.attrs["backend"]
    third = run(json.loads(again.attrs["spec"]))
    same_bits(third, original)


@pytest.mark.parametrize("start", [[0.5, 0.25], [[1.0, 2.0], [0.1, 1 / 3]]])
def test_the_specification_of_a_run_from_given_positions_gives_the_run_again(start):
    original = ls.simulate(toys.Quadratic([1.0, 3.0]), ls.SGD(lr=0.1), start=start, steps=3)
    same_bits(run(json.loads(original.attrs["spec"])), original)


def test_the_specification_of_a_run_that_drops_chains_gives_the_run_again():
    hill = Expression("-x**4 + x", ["x"])
    original = ls.simulate(hill, ls.SGD(lr=[0.1, 1e-4]), steps=50, on_nonfinite="drop")
    same_bits(run(json.loads(original.attrs["spec"])), original)


def test_a_file_carries_its_specification(tmp_path):
    original = run(SPRINGS)
    ls.save(original, tmp_path / "run.nc")
    with ls.open(tmp_path / "run.nc") as stored:
        same_bits(run(json.loads(stored.attrs["spec"])), original)


NOT_WHOLE = "spec holds the task's own settings but not {}"


def test_the_specification_of_a_minimum_gives_the_minimum_again():
    minimum = ls.minimize(toys.DoubleWell(), [0.4], method="lbfgs")
    same_bits(run(json.loads(minimum.attrs["spec"])), minimum)


def test_the_specification_of_a_training_gives_the_training_again():
    loss = NetworkLoss(architectures.mlp([10, 5, 3]), datasets.random_labels(30), batch_size=8)
    trained = ls.train(loss, ls.SGD(lr=0.1), epochs=3, schedule={0: 1.0, 2: 0.1}, siblings=2, split_epoch=1)
    same_bits(run(json.loads(trained.attrs["spec"])), trained)


def test_a_training_as_plain_data():
    module = architectures.mlp([10, 5, 3], seed=4, activation="tanh")
    loss = NetworkLoss(module, datasets.random_labels(30, seed=2), batch_size=8)
    called = ls.train(
        loss, ls.SGD(lr=0.1, momentum=0.9), epochs=3, schedule={0: 1.0, 2: 0.1}, siblings=2, split_epoch=1
    )
    specified = run(TRAIN)
    same_bits(specified, called)
    assert json.loads(specified.attrs["spec"])["task"] == "train"
    same_bits(run(json.loads(specified.attrs["spec"])), called)


@pytest.mark.parametrize("method", ["adam", "lbfgs", "gd"])
def test_a_minimisation_as_plain_data(method):
    spec = {"task": "minimize", "potential": {"kind": "DoubleWell"}, "start": [0.4], "method": method}
    found = run(spec)
    same_bits(found, ls.minimize(toys.DoubleWell(), [0.4], method=method))
    same_bits(run(json.loads(found.attrs["spec"])), found)


def test_a_start_from_a_minimum_and_from_a_file(tmp_path):
    potential = {"kind": "DoubleWell", "width": 2.0}
    spec = springs(potential=potential, start={"kind": "minimum", "method": "lbfgs", "tolerance": 1e-9})
    minimum = ls.minimize(toys.DoubleWell(width=2.0), method="lbfgs", tolerance=1e-9)
    settings = {"steps": 6, "chains": 3, "temperature": 0.5, "seed": 1}
    called = ls.simulate(toys.DoubleWell(width=2.0), ls.EulerMaruyama(dt=0.1), start=minimum, **settings)
    same_bits(run(spec), called)
    ls.save(minimum, tmp_path / "minimum.nc")
    same_bits(run(springs(potential=potential, start={"file": str(tmp_path / "minimum.nc")})), called)


def test_a_user_s_own_object_is_named_and_not_rebuilt():
    function = Function(lambda x: (x**2).sum(-1), 2)
    stored = json.loads(ls.simulate(function, ls.SGD(lr=0.1), steps=1).attrs["spec"])
    assert stored["potential"]["kind"] == "python"
    with pytest.raises(ConfigError, match="Python"):
        run(stored)
    with pytest.raises(ConfigError, match="os:system"):
        run(springs(potential={"kind": "python", "name": "os:system"}))


# -- build and resolve -------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in():
    filled = resolve(springs(task=None))
    assert filled.task == "simulate"
    assert filled.backend == "auto"
    assert filled.on_nonfinite == "raise"
    assert filled.record.every == 1
    assert filled.start is None


def test_built_objects_are_the_real_ones():
    prepared = build(SPRINGS)
    potential, integrator = prepared.arguments
    assert isinstance(potential, toys.Quadratic)
    assert isinstance(integrator, ls.EulerMaruyama)
    assert integrator.dt == 0.1
    assert prepared.function is ls.simulate
    assert prepared.settings["steps"] == 6
    same_bits(prepared.call(), run(SPRINGS))
    assert build(TRAIN).function is ls.train


def test_the_users_table_is_left_alone():
    spec = copy.deepcopy(TRAIN)
    run(spec)
    assert spec == TRAIN


# -- errors by name ----------------------------------------------------------------------------------------------------


def refused(spec, words, error=ConfigError):
    for call in (run, build):
        with pytest.raises(error) as caught:
            call(spec)
        message = str(caught.value)
        assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": 3}, ["'stepz'", "Did you mean 'steps'"]),
        ({"temprature": 0.1}, ["'temprature'", "Did you mean 'temperature'"]),
        ({"colour": "red"}, ["'colour'", "potential", "integrator", "steps"]),
        ({"record": {"evry": 2}}, ["'record.evry'", "Did you mean 'every'"]),
        ({"potential": {"kind": "Quadratic", "stifness": [1.0]}}, ["'potential.stifness'", "Did you mean 'stiffness'"]),
        ({"integrator": {"kind": "EulerMaruyama", "dtt": 0.1}}, ["'integrator.dtt'", "Did you mean 'dt'"]),
        ({"potential": {**NETWORK, "batchsize": 3}}, ["'potential.batchsize'", "Did you mean 'batch_size'"]),
        ({"task": "simulat"}, ["'simulat'", "simulate", "minimize", "train"]),
        ({"potential": {"kind": "Quadratik", "stiffness": [1.0]}}, ["'Quadratik'", "Did you mean 'Quadratic'"]),
        ({"potential": {"kind": "__class__"}}, ["'__class__'", "Valley"]),
        ({"potential": {"kind": "Potential"}}, ["'Potential'", "Valley"]),
        ({"potential": {"kind": 3}}, ["3", "Valley"]),
        ({"integrator": {"kind": "EulerMarujama", "dt": 0.1}}, ["'EulerMarujama'", "Did you mean 'EulerMaruyama'"]),
        ({"potential": {**NETWORK, "module": {"kind": "mpl", "sizes": [2, 3]}}}, ["'mpl'", "mlp"]),
        ({"potential": {**NETWORK, "data": {"kind": "labels"}}}, ["'labels'", "random_labels"]),
        ({"constraint": {"kind": "Wall"}}, ["'Wall'", "Reflect", "Periodic"]),
    ],
)
def test_unknown_keys_and_kinds_are_named_with_a_suggestion(changes, words):
    refused(springs(**changes), words)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (springs(potential=None), ["'potential'", "missing"]),
        (springs(integrator=None), ["'integrator'", "missing"]),
        (springs(steps=None), ["'steps'", "missing"]),
        ({}, ["'potential'", "'integrator'", "'steps'"]),
        (springs(potential={"kind": "Quadratic"}), ["stiffness", "missing"]),
        (springs(potential={"stiffness": [1.0]}), ["potential", "kind"]),
        (springs(potential={"kind": "NetworkLoss", "module": NETWORK["module"]}), ["data"]),
        (springs(potential={"kind": "NetworkLoss", "data": NETWORK["data"]}), ["module"]),
        ({"task": "train", "potential": NETWORK, "integrator": TRAIN["integrator"]}, ["'epochs'", "missing"]),
        ({"task": "minimize"}, ["'potential'", "missing"]),
    ],
)
def test_missing_keys_are_named(spec, words):
    refused(spec, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 1.5}, ["steps", "1.5"]),
        ({"steps": "many"}, ["steps", "'many'"]),
        ({"seed": 1.5}, ["seed", "1.5"]),
        ({"temperature": "hot"}, ["temperature", "'hot'"]),
        ({"chains": [2]}, ["chains", "[2]"]),
        ({"potential": "Quadratic"}, ["potential", "'Quadratic'"]),
        ({"integrator": 0.1}, ["integrator", "0.1"]),
        ({"record": 3}, ["record", "3"]),
        ({"record": {"every": "often"}}, ["every", "'often'"]),
        ({"backend": "gpu"}, ["backend", "'gpu'", "compiled"]),
        ({"dtype": "float16"}, ["dtype", "'float16'", "float32", "float64"]),
        ({"on_nonfinite": "ignore"}, ["on_nonfinite", "'ignore'", "drop"]),
        ({"start": {"kind": "maximum"}}, ["start", "'maximum'", "minimum", "file"]),
        pytest.param({"steps": "4"}, ["steps", "'4'"]),
        pytest.param({"steps": True}, ["steps", "True"]),
        pytest.param({"temperature": "0.5"}, ["temperature", "'0.5'"]),
    ],
)
def test_values_of_the_wrong_type_are_named(changes, words):
    with pytest.raises(ConfigError) as caught:
        run(springs(**changes))
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"steps": -1}, ConfigError, ["steps", "-1"]),
        ({"temperature": -0.5}, ConfigError, ["temperature", "-0.5"]),
        ({"integrator": {"kind": "EulerMaruyama", "dt": -1}}, ConfigError, ["dt", "-1"]),
        ({"record": {"every": 0}}, ConfigError, ["every", "0"]),
        ({"record": {"observables": ["entropy"]}}, ConfigError, ["'entropy'"]),
        ({"potential": {"kind": "Quadratic", "stiffness": [-1.0]}}, ConfigError, ["-1"]),
        ({"temperature": [0.1, 0.2]}, LandscapeError, ["temperature: 2", "chains: 3"]),
        ({"start": [0.1]}, LandscapeError, ["(1,)", "2"]),
        ({"start": {"file": "/no/such/run.nc"}}, LandscapeError, ["start", "/no/such/run.nc"]),
        ({"start": {"kind": "minimum", "methd": "adam"}}, ConfigError, ["'start.methd'", "Did you mean 'method'"]),
        (
            {"potential": {"kind": "Expression", "energy": "__import__('os')", "coordinates": ["x"]}},
            FormulaError,
            ["'os'"],
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_as_in_a_call(changes, error, words):
    with pytest.raises(error) as caught:
        run(springs(**changes))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize("thing", [None, [1], "steps = 3", 3])
def test_only_tables_are_specifications(thing):
    refused(thing, ["table", type(thing).__name__])


def test_the_place_of_an_unknown_constraint_is_named():
    refused(springs(constraint={"kind": "Wall"}), ["constraint"])


def test_the_schedule_of_a_training_has_epochs_as_keys():
    refused({**TRAIN, "schedule": {"first": 1.0}}, ["schedule", "'first'"])
