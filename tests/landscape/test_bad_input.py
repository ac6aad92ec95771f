"""Wrong arguments: only errors of this package, which name what was given and what was expected."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError, LandscapeError, NonFiniteError, ShapeError
from landscape.potentials import Expression, Function, NetworkLoss, architectures


def bowl(bounds=None):
    return Expression("x**2/2 + y**2", ["x", "y"], bounds=bounds)


def network(**settings):
    inputs = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    return NetworkLoss(architectures.mlp([2, 3]), inputs, torch.tensor([0, 1, 2, 0, 1, 2]), **settings)


def simulate(potential=None, integrator=None, **settings):
    settings = {"steps": 3, **settings}
    return ls.simulate(potential or bowl(), integrator or ls.EulerMaruyama(dt=0.1), **settings)


def refused(call, words, error=LandscapeError):
    """The call raises that error, whose message holds all of the words and is no longer than a paragraph."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 600


def cases(*groups):
    """All cases of several lists."""
    return [case for group in groups for case in group]


# -- simulate ----------------------------------------------------------------------------------------------------------

SIMULATE = [
    ("steps", -1, ConfigError, ["steps", "-1", "0 or more"]),
    ("steps", 1.5, ConfigError, ["steps", "1.5"]),
    ("steps", 3.0, ConfigError, ["steps", "3.0"]),
    ("steps", True, ConfigError, ["steps", "True"]),
    ("steps", "3", ConfigError, ["steps", "'3'"]),
    ("steps", None, ConfigError, ["steps", "None"]),
    ("steps", math.nan, ConfigError, ["steps", "nan"]),
    ("temperature", -0.1, ConfigError, ["temperature", "-0.1", "not negative"]),
    ("temperature", math.nan, ConfigError, ["temperature", "nan", "finite"]),
    ("temperature", math.inf, ConfigError, ["temperature", "inf", "finite"]),
    ("temperature", [0.1, -0.1], ConfigError, ["temperature", "-0.1"]),
    ("temperature", "hot", ConfigError, ["temperature", "'hot'", "number"]),
    ("temperature", None, ConfigError, ["temperature", "None"]),
    ("temperature", 1j, ConfigError, ["temperature", "1j"]),
    ("temperature", [], ShapeError, ["temperature", "(0,)"]),
    ("temperature", [[0.1]], ShapeError, ["temperature", "(1, 1)"]),
    ("chains", 0, ConfigError, ["chains", "0", "positive"]),
    ("chains", -3, ConfigError, ["chains", "-3"]),
    ("chains", 2.5, ConfigError, ["chains", "2.5"]),
    ("chains", True, ConfigError, ["chains", "True"]),
    ("chains", "2", ConfigError, ["chains", "'2'"]),
    ("seed", -1, ConfigError, ["seed", "-1", "2**64"]),
    ("seed", 2**64, ConfigError, ["seed", str(2**64), "2**64 - 1"]),
    ("seed", 1.5, ConfigError, ["seed", "1.5", "integer"]),
    ("seed", True, ConfigError, ["seed", "True"]),
    ("seed", "one", ConfigError, ["seed", "'one'"]),
    ("seed", None, ConfigError, ["seed", "None"]),
    ("data_seed", -1, ConfigError, ["data_seed", "-1"]),
    ("data_seed", 1.5, ConfigError, ["data_seed", "1.5"]),
    ("state", "old", ConfigError, ["state", "'old'", "fresh", "keep"]),
    ("state", "keep", ConfigError, ["keep", "start", "run"]),
    ("backend", "gpu", ConfigError, ["backend", "'gpu'", "compiled", "batched"]),
    ("backend", None, ConfigError, ["backend", "None", "auto"]),
    ("on_nonfinite", "ignore", ConfigError, ["on_nonfinite", "'ignore'", "raise", "drop"]),
    ("dtype", torch.int64, LandscapeError, ["dtype", "int64", "floating"]),
    ("dtype", torch.complex64, LandscapeError, ["dtype", "complex64", "floating"]),
    ("constraint", "wall", ConfigError, ["constraint", "Reflect", "Periodic", "str"]),
    ("constraint", [3], ConfigError, ["constraint", "int"]),
    ("start", [0.0], ShapeError, ["(1,)", "2", "(x, y)"]),
    ("start", [0.0, 0.0, 0.0], ShapeError, ["(3,)", "2"]),
    ("start", 3.0, ShapeError, ["()", "2"]),
    ("start", np.zeros((4, 3)), ShapeError, ["(4, 3)", "2"]),
    ("start", np.zeros((1, 4, 2)), ShapeError, ["(1, 4, 2)", "(chain, 2)"]),
    ("start", "origin", ShapeError, ["numbers"]),
    ("start", [1j, 0], ShapeError, ["complex"]),
    ("start", {}, ShapeError, ["numbers"]),
    ("start", xr.Dataset({"a": 1}), ConfigError, ["start", "last_position"]),
    ("start", [math.nan, 0.0], NonFiniteError, ["'x'", "chain 0", "nan"]),
    ("start", [[0, 0], [0, math.inf]], NonFiniteError, ["'y'", "chain 1", "inf"]),
]
SIMULATE_UNCHECKED = [
    ("start", np.zeros((0, 2)), ShapeError, ["(0, 2)"]),
    ("dtype", int, LandscapeError, ["dtype", "int"]),
    ("dtype", "float32", LandscapeError, ["dtype", "'float32'"]),
    ("dtype", np.float64, LandscapeError, ["dtype", "float64"]),
    ("device", "nowhere", LandscapeError, ["device", "'nowhere'"]),
    ("record", 3, LandscapeError, ["Record", "int"]),
    ("record", "energy", LandscapeError, ["Record", "str"]),
    ("record", ls.Record, LandscapeError, ["Record"]),
    ("record", {"every": 10}, LandscapeError, ["Record", "dict"]),
]


@pytest.mark.parametrize(("setting", "value", "error", "words"), [*SIMULATE, *SIMULATE_UNCHECKED])
def test_settings_of_simulate(setting, value, error, words):
    refused(lambda: simulate(**{setting: value}), words, error)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    refused(lambda: simulate(device="cuda"), ["device", "'cuda'"], ConfigError)


@pytest.mark.parametrize("device", ["meta", "mps"])
def test_devices_that_cannot_run(device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is an MPS device")
    refused(lambda: simulate(device=device), ["device", repr(device)], ConfigError)


def test_a_dtype_that_numpy_does_not_have():
    refused(lambda: simulate(dtype=torch.bfloat16), ["dtype", "bfloat16"])
    refused(lambda: simulate(network(dtype=torch.bfloat16)), ["dtype", "bfloat16"])


@pytest.mark.parametrize("thing", ["x**2", Expression, None, lambda x: (x**2).sum(-1), torch.nn.Linear(2, 1)])
def test_only_potentials_are_simulated(thing):
    refused(lambda: ls.simulate(thing, ls.EulerMaruyama(dt=0.1), steps=1), ["Potential"], ConfigError)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (ls.EulerMaruyama, ["Integrator", "EulerMaruyama(...)"]),
        ("EulerMaruyama", ["Integrator", "'EulerMaruyama'"]),
        (None, ["Integrator", "None"]),
        (torch.optim.SGD, ["Integrator"]),
        (0.1, ["Integrator", "0.1"]),
    ],
)
def test_only_integrators_integrate(thing, words):
    refused(lambda: ls.simulate(bowl(), thing, steps=1), words, ConfigError)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": [0.1, 0.2], "chains": 3}, ["temperature: 2", "chains: 3"]),
        ({"start": np.zeros((4, 2)), "chains": 3}, ["start: 4", "chains: 3"]),
        ({"data_seed": [1, 2], "chains": 3}, ["data_seed: 2", "chains: 3"]),
        ({"integrator": ls.EulerMaruyama(dt=[0.1, 0.1]), "temperature": [0.1] * 3}, ["2", "temperature: 3"]),
        ({"integrator": ls.SGD(lr=[0.1, 0.1]), "chains": 4}, ["2", "chains: 4"]),
        ({"start": np.zeros((4, 2)), "temperature": [0.1] * 3, "data_seed": [1, 2]}, ["start: 4", "temperature: 3"]),
    ],
)
def test_lengths_that_do_not_agree_are_listed(settings, words):
    refused(lambda: simulate(**settings), ["chains", *words], ShapeError)


def test_the_number_of_chains_of_a_run():
    run = simulate(chains=2)
    refused(lambda: simulate(start=run, chains=3), ["start: 2", "chains: 3"], ShapeError)
    refused(lambda: simulate(Expression("x", ["x"]), start=run), ["(2, 2)", "1"], ShapeError)


@pytest.mark.parametrize("integrator", [ls.SGD(lr=0.1), ls.Adam(lr=0.1), ls.AdamW(lr=0.1)])
@pytest.mark.parametrize("temperature", [0.1, [0.0, 0.1]])
def test_a_temperature_without_thermal_noise(integrator, temperature):
    words = [type(integrator).__name__, "temperature", "0.1", "EulerMaruyama"]
    refused(lambda: simulate(integrator=integrator, temperature=temperature), words, ConfigError)


def test_state_that_a_run_does_not_have():
    run = simulate()
    adam = simulate(integrator=ls.Adam(lr=0.1))
    momentum = ls.SGD(lr=0.1, momentum=0.5)
    for start in (run, adam):
        refused(
            lambda start=start: simulate(integrator=momentum, start=start, state="keep"), ["momentum", "SGD", "fresh"]
        )


@pytest.mark.parametrize(
    ("start", "words"),
    [([0.0, 4.0], ["y = 4", "(-3, 3)", "chain 0"]), ([[0, 0], [0, -5]], ["y = -5", "(-3, 3)", "chain 1"])],
)
def test_starts_beyond_a_wall(start, words):
    refused(lambda: simulate(bowl({"y": (-3, 3)}), start=start), words, ConfigError)
    refused(lambda: simulate(constraint=ls.Reflect({"y": (-3, 3)}), start=start), words, ConfigError)


def test_a_start_of_infinite_energy():
    refused(lambda: simulate(Expression("log(x)", ["x"])), ["energy", "chain 0", "-inf"], NonFiniteError)
    start = [[1.0], [2.0], [-1.0]]
    refused(lambda: simulate(Expression("log(x)", ["x"]), start=start), ["energy", "chain 2", "nan"], NonFiniteError)
    refused(lambda: simulate(Function(lambda x: 1 / x[..., 0], 1)), ["energy", "chain 0", "inf"], NonFiniteError)


def test_compiled_where_it_cannot_be():
    for potential, settings in (
        (Function(lambda x: (x**2).sum(-1), 2), {}),
        (bowl(), {"dtype": torch.float32}),
        (NetworkLoss(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GELU()), torch.ones(2, 2), [0, 1]), {}),
    ):
        refused(
            lambda p=potential, s=settings: simulate(p, backend="compiled", **s), ["compiled", "batched"], ConfigError
        )


def test_networks_keep_their_own_dtype():
    words = ["float32", "float64", "NetworkLoss"]
    refused(lambda: simulate(network(), dtype=torch.float64), words, ConfigError)


def test_walls_need_names():
    refused(lambda: simulate(network(), constraint=ls.Reflect({"x": (0, 1)})), ["'x'", "0.weight"], ConfigError)


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "gibibytes"),
    [
        ({"chains": 10**6, "steps": 10**7}, 10**13 * 3 * 8 / 2**30),
        ({"chains": 10**6, "steps": 10**7, "record": ls.Record(every=10)}, 10**12 * 3 * 8 / 2**30),
        ({"chains": 10**6, "steps": 10**7, "record": ls.Record(observables=["energy"])}, 10**13 * 8 / 2**30),
        ({"chains": 10**6, "steps": 10**7, "record": ls.Record(10**7, ["energy"], 10**6)}, 10**12 * 2 * 8 / 2**30),
    ],
)
def test_records_far_larger_than_the_memory_are_refused_with_the_number(settings, gibibytes):
    with pytest.raises(ConfigError) as caught:
        simulate(**settings)
    message = str(caught.value)
    assert "GiB" in message
    assert "Record" in message
    number = float(message.split(" GiB")[0].split()[-1])
    assert number == pytest.approx(gibibytes, rel=0.02)


# -- integrators and noise ---------------------------------------------------------------------------------------------

STEPS = [
    (0, ["0", "positive"]),
    (-0.1, ["-0.1", "positive"]),
    (math.inf, ["inf", "finite"]),
    (math.nan, ["nan", "finite"]),
    ([0.1, 0.0], ["0.0", "positive"]),
    ([], ["(0,)"]),
    ([[0.1]], ["(1, 1)"]),
    ("small", ["'small'", "number"]),
    (None, ["None"]),
    (1j, ["1j"]),
]


@pytest.mark.parametrize("make", [ls.EulerMaruyama, ls.LeimkuhlerMatthews, ls.Diffusion, ls.SGD, ls.Adam, ls.AdamW])
@pytest.mark.parametrize(("step", "words"), STEPS)
def test_step_sizes(make, step, words):
    name = "dt" if make in (ls.EulerMaruyama, ls.LeimkuhlerMatthews, ls.Diffusion) else "lr"
    refused(lambda: make(step), [name, *words], ConfigError)


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    cases(
        [
            (ls.SGD, {"momentum": 1.0}, ["momentum", "1.0", "below 1"]),
            (ls.SGD, {"momentum": -0.1}, ["momentum", "-0.1"]),
            (ls.SGD, {"momentum": math.nan}, ["momentum", "nan"]),
            (ls.SGD, {"nesterov": True}, ["nesterov", "momentum"]),
            (ls.SGD, {"weight_decay": -0.1}, ["weight_decay", "-0.1"]),
            (ls.SGD, {"weight_decay": math.inf}, ["weight_decay", "inf"]),
            (ls.Adam, {"betas": (1.0, 0.9)}, ["betas", "(1.0, 0.9)"]),
            (ls.Adam, {"betas": (0.9, -0.1)}, ["betas", "-0.1"]),
            (ls.Adam, {"betas": (0.9,)}, ["betas", "(0.9,)", "two"]),
            (ls.Adam, {"eps": 0.0}, ["eps", "0.0"]),
            (ls.Adam, {"eps": -1e-8}, ["eps", "-1e-08"]),
            (ls.AdamW, {"weight_decay": -0.1}, ["weight_decay", "-0.1"]),
            (ls.AdamW, {"weight_decay": math.nan}, ["weight_decay", "nan"]),
        ],
        [
            (ls.SGD, {"momentum": "heavy"}, ["momentum", "'heavy'"]),
            (ls.Adam, {"betas": 0.9}, ["betas", "0.9", "two"]),
            (ls.EulerMaruyama, {"noise": "white"}, ["noise", "'white'", "ThermalNoise"]),
        ],
    ),
)
def test_settings_of_integrators(make, settings, words):
    refused(lambda: make(0.1, **settings), words, ConfigError)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "float16"}, ["precision", "'float16'", "float32", "float64"]),
        ({"refinement": 0}, ["refinement", "0", "positive"]),
        ({"refinement": 1.5}, ["refinement", "1.5"]),
        ({"refinement": True}, ["refinement", "True"]),
    ],
)
def test_settings_of_the_noise(settings, words):
    refused(lambda: ls.ThermalNoise(**settings), words, ConfigError)


def test_settings_do_not_change():
    for frozen, name in (
        (ls.EulerMaruyama(dt=0.1), "dt"),
        (ls.SGD(lr=0.1), "lr"),
        (ls.Record(), "every"),
        (ls.ThermalNoise(), "refinement"),
        (ls.Reflect({"x": (0, 1)}), "walls"),
    ):
        with pytest.raises(AttributeError):
            setattr(frozen, name, 0.2)


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every": 0}, ["every", "0", "from 1"]),
        ({"every": -1}, ["every", "-1"]),
        ({"every": 1.5}, ["every", "1.5"]),
        ({"every": True}, ["every", "True"]),
        ({"snapshots": 0}, ["snapshots", "0", "from 1"]),
        ({"snapshots": -1}, ["snapshots", "-1"]),
        ({"snapshots": 2.5}, ["snapshots", "2.5"]),
        ({"observables": "energy"}, ["observables", '["energy"]']),
    ],
)
def test_settings_of_records(settings, words):
    refused(lambda: ls.Record(**settings), words, ConfigError)


@pytest.mark.parametrize(
    ("observables", "words"),
    cases(
        [
            (["entropy"], ["'entropy'", "energy", "gradient_norm", "callable"]),
            ([3], ["3", "energy"]),
            ({"radius": 3}, ["'radius'", "callable", "3"]),
            ({"radius": None}, ["'radius'", "energy"]),
            (["momentum"], ["'momentum'", "integrator"]),
            (["accuracy"], ["'accuracy'", "NetworkLoss", "Expression"]),
            (["batch_energy"], ["'batch_energy'", "NetworkLoss"]),
            (["sample_energies"], ["'sample_energies'", "NetworkLoss"]),
            (["evaluation_energy"], ["'evaluation_energy'", "NetworkLoss"]),
            ({"total": lambda potential, x: x.sum()}, ["'total'", "()", "1"]),
            ({"total": lambda potential, x: 1.0}, ["'total'", "float", "tensor"]),
            ({"total": lambda potential, x: x.numpy()}, ["'total'", "ndarray", "tensor"]),
        ],
        [
            ({"chain": lambda potential, x: x[:, 0]}, ["'chain'"]),
            ({"time": lambda potential, x: x[:, 0]}, ["'time'"]),
            ({"last_position": lambda potential, x: x}, ["'last_position'"]),
        ],
    ),
)
def test_observables(observables, words):
    refused(lambda: simulate(record=ls.Record(observables=observables)), words)


def test_observables_of_networks():
    for name, word in (("momentum", "integrator"), ("evaluation_energy", "evaluation")):
        refused(lambda n=name: simulate(network(), record=ls.Record(observables=[n])), [repr(name), word], ConfigError)
    by_value = NetworkLoss(architectures.mlp([2, 3]), torch.ones(6, 2), torch.zeros(6, 3), loss="mse")
    refused(lambda: simulate(by_value, record=ls.Record(observables=["accuracy"])), ["accuracy", "labels"], ConfigError)


# -- constraints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "words"),
    cases(
        [
            (ls.Reflect({"z": (0, 1)}), ["'z'", "['x', 'y']"]),
            (ls.Reflect({"x": (1, 0)}), ["'x'", "low < high", "1.0"]),
            (ls.Reflect({"x": 3}), ["'x'", "pair", "3"]),
            (ls.Reflect({"x": (math.nan, 1)}), ["'x'", "nan"]),
            (ls.Periodic({"x": (None, 1)}), ["'x'", "finite"]),
            (ls.Periodic({"x": (0, math.inf)}), ["'x'", "finite", "inf"]),
            (ls.Periodic({"x": (1, 0)}), ["'x'", "low < high"]),
            ([ls.Reflect({"x": (-1, 1)}), ls.Periodic({"x": (-1, 1)})], ["'x'", "two"]),
            ([ls.Reflect({"x": (-1, 1)}), ls.Reflect({"x": (-1, 1)})], ["'x'", "two"]),
        ],
        [(ls.Reflect(3), ["3"]), (ls.Reflect({"x": ("left", 1)}), ["'x'", "'left'"])],
    ),
)
def test_constraints(constraint, words):
    refused(lambda: simulate(constraint=constraint), words, ConfigError)


# -- grid --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    cases(
        [
            ({}, ["temperature="]),
            ({"temperature": []}, ["temperature", "(0,)"]),
            ({"temperature": ["hot"]}, ["temperature", "'hot'"]),
            ({"temperature": [[0.1]]}, ["temperature", "(1, 1)"]),
            ({"temperature": [0.1], "replicas": 0}, ["replicas", "0"]),
            ({"temperature": [0.1], "replicas": 1.5}, ["replicas", "1.5"]),
        ],
        [({"replica": [3, 4]}, ["replica"])],
    ),
)
def test_grids(settings, words):
    refused(lambda: ls.grid(**settings), words)


def test_a_grid_by_hand():
    settings = ls.grid(temperature=[0.1, 0.2], dt=[1e-3, 2e-3, 3e-3], replicas=2)
    assert settings["temperature"].values.tolist() == [0.1] * 6 + [0.2] * 6
    assert settings["dt"].values.tolist() == [1e-3, 1e-3, 2e-3, 2e-3, 3e-3, 3e-3] * 2
    assert settings["replica"].values.tolist() == [0, 1] * 6
    run = simulate(integrator=ls.EulerMaruyama(dt=settings["dt"]), temperature=settings["temperature"])
    assert run.sizes["chain"] == 12
    assert run.temperature.values.tolist() == settings["temperature"].values.tolist()
    assert run.dt.values.tolist() == settings["dt"].values.tolist()


# -- minimize and train ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    cases(
        [
            ({"method": "simplex"}, ["method", "'simplex'", "adam", "lbfgs", "newton", "gd"]),
            ({"tolerance": 0.0}, ["tolerance", "0.0", "positive"]),
            ({"tolerance": -1.0}, ["tolerance", "-1.0"]),
            ({"tolerance": math.nan}, ["tolerance", "nan"]),
            ({"steps": 0}, ["steps", "0", "positive"]),
            ({"steps": 1.5}, ["steps", "1.5"]),
            ({"lr": 0.0}, ["lr", "0.0", "positive"]),
            ({"lr": "fast"}, ["lr", "'fast'"]),
            ({"start": [0.0, 0.0, 0.0]}, ["(3,)", "2"]),
            ({"start": [[0.0, 0.0], [1.0, 1.0]]}, ["one start", "2"]),
            ({"start": [0.0, 5.0]}, ["y = 5", "(-3, 3)"]),
            ({"start": [math.nan, 0.0]}, ["'x'", "nan"]),
        ],
        [({"tolerance": "small"}, ["tolerance", "'small'"])],
    ),
)
def test_settings_of_minimize(settings, words):
    refused(lambda: ls.minimize(bowl({"y": (-3, 3)}), **settings), words)


def test_only_potentials_are_minimised():
    refused(lambda: ls.minimize("x**2"), ["Potential", "x**2"], ConfigError)


@pytest.mark.parametrize(
    ("settings", "words"),
    cases(
        [
            ({"epochs": 0}, ["epochs", "0", "positive"]),
            ({"epochs": -1}, ["epochs", "-1"]),
            ({"epochs": 1.5}, ["epochs", "1.5"]),
            ({"epochs": True}, ["epochs", "True"]),
            ({"siblings": 0}, ["siblings", "0"]),
            ({"siblings": 1.5}, ["siblings", "1.5"]),
            ({"split_epoch": 1}, ["split_epoch", "siblings"]),
            ({"split_epoch": -1, "siblings": 2}, ["split_epoch", "-1"]),
            ({"split_epoch": 1.5, "siblings": 2}, ["split_epoch", "1.5"]),
            ({"schedule": {}}, ["schedule", "epoch 0"]),
            ({"schedule": {1: 0.1}}, ["schedule", "epoch 0", "[1]"]),
            ({"schedule": {0: -1.0}}, ["schedule", "-1.0", "0 or more"]),
            ({"schedule": {0: math.nan}}, ["schedule", "nan"]),
            ({"schedule": lambda epoch: -1.0}, ["schedule", "-1.0"]),
            ({"seed": -1}, ["seed", "-1"]),
        ],
        [
            ({"epochs": None}, ["epochs", "None"]),
            ({"schedule": {0: "slow"}}, ["schedule", "'slow'"]),
            ({"schedule": {0: 1.0, -1: 0.1}}, ["schedule", "-1"]),
            ({"schedule": {0: 1.0, 0.5: 0.1}}, ["schedule", "0.5"]),
            ({"schedule": 3}, ["schedule", "3"]),
            ({"schedule": [1.0, 0.1]}, ["schedule", "list"]),
            ({"record": 3}, ["Record", "int"]),
        ],
    ),
)
def test_settings_of_train(settings, words):
    refused(lambda: ls.train(network(), ls.SGD(lr=0.1), **{"epochs": 2, **settings}), words)


def test_only_networks_are_trained():
    refused(lambda: ls.train(bowl(), ls.SGD(lr=0.1), epochs=1), ["NetworkLoss", "Expression", "simulate"], ConfigError)


def test_only_integrators_train():
    refused(lambda: ls.train(network(), ls.SGD, epochs=1), ["Integrator", "SGD"], ConfigError)


# -- what belongs to the user ------------------------------------------------------------------------------------------


def test_the_users_arrays_are_left_alone():
    start, temperature, dt = np.ones((3, 2)), np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.05, 0.01])
    tensor = torch.ones(3, 2, dtype=torch.float64)
    for array in (start, temperature, dt):
        array.flags.writeable = False
    for backend in ("compiled", "batched"):
        for given in (start, tensor):
            simulate(
                integrator=ls.EulerMaruyama(dt=dt), temperature=temperature, start=given, backend=backend, steps=20
            )
        simulate(integrator=ls.SGD(lr=dt, momentum=0.5), start=tensor, backend=backend, steps=20)
    ls.minimize(bowl(), tensor[0])
    assert torch.equal(tensor, torch.ones(3, 2, dtype=torch.float64))
    assert (start == 1.0).all()
    assert temperature.tolist() == [0.1, 0.2, 0.3]
    assert dt.tolist() == [0.1, 0.05, 0.01]


def test_a_run_given_as_start_is_left_alone():
    for backend in ("compiled", "batched"):
        run = simulate(integrator=ls.SGD(lr=0.1, momentum=0.5), start=[1.0, 1.0], backend=backend)
        before = run.copy(deep=True)
        simulate(integrator=ls.SGD(lr=0.1, momentum=0.5), start=run, state="keep", backend=backend, steps=20)
        assert run.identical(before)


def test_refusals_leave_the_users_arrays_alone():
    start = np.array([[0.5, 0.5], [0.5, 9.0]])
    copy = start.copy()
    with pytest.raises(ConfigError):
        simulate(bowl({"y": (-3, 3)}), start=start)
    np.testing.assert_array_equal(start, copy)


def test_errors_are_also_standard_ones():
    for error, standard, call in (
        (ConfigError, ValueError, lambda: simulate(steps=-1)),
        (ShapeError, ValueError, lambda: simulate(start=[0.0])),
        (NonFiniteError, FloatingPointError, lambda: simulate(start=[math.nan, 0.0])),
    ):
        for kind in (error, standard, LandscapeError):
            with pytest.raises(kind):
                call()
