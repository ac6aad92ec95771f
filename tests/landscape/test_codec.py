"""Every kind goes to its table and back; what cannot come back is told apart, and what was stored before still fits."""

import json

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import noise, observers, potentials
from landscape.common.codec import Described, plain
from landscape.common.tables import differences
from landscape.errors import CheckpointError, ConfigError
from landscape.integrators import Mobility
from landscape.potentials import architectures, datasets, toys
from landscape.spec.building import build, kinds

DATA = datasets.random_labels(12, 4, seed=1)
IMAGES = datasets.Data(
    torch.zeros(6, 1, 4, 4), torch.arange(6) % 3, 3, "zeros", recipe={"kind": "random_labels", "samples": 6}
)


def network(**settings):
    return potentials.NetworkLoss(architectures.mlp([4, 3, 3], seed=2), DATA, **settings)


EXAMPLES = {
    "potentials": [
        *(getattr(toys, name)() for name in toys.__all__ if name not in ("Quadratic", "Valley")),
        toys.Quadratic(np.array([1, 2.5])),
        toys.Valley("1 + y**2", 0.1, {"y": (-3, None)}),
        toys.DoubleWell(2, 3),
        toys.EntropicBarrier(3.0, 0.2, 2, {"y": (-2, None)}),
        toys.Ring("3 + cos(theta)", 2),
        toys.ExponentialWall(2.0, 3.0, 10, "exponential"),
        potentials.Expression("k*(x - c)**2", ["x"], {"k": [1.0, 2.0], "c": ls.ramp(0, 1, 2.0)}, {"x": (0, None)}),
        potentials.Drift("a*y", "-a*x", coordinates=["x", "y"], parameters={"a": 2.0}, potential="x**2 + y**2"),
        network(batch_size=4, sampling="replacement", shared_batches=True, weight_decay=0.1, dtype=torch.float64),
    ],
    "integrators": [
        ls.EulerMaruyama(ls.cosine(0.1, 0.2, 3.0), noise.TwoPointNoise()),
        ls.EulerMaruyama([0.1, 0.2], mobility=Mobility("1 + a*x**2", interpretation="ito", parameters={"a": 2})),
        ls.LeimkuhlerMatthews(0.1), ls.Heun(0.1, noise.ColoredNoise(0.5)), ls.Diffusion(0.1), ls.MALA(0.1),
        ls.BAOAB(0.1, friction=[1.0, 2.0], mass=[1.0, 2.0]), ls.HMC(0.1, leapfrog_steps=5), ls.NUTS(0.1),
        ls.SGD(ls.piecewise({0: 0.1, 3: 0.01}, by="step"), momentum=0.9, clip_norm=1.0), ls.Adam(0.1, betas=(0.5, 0.9)),
        ls.AdamW(0.1), ls.SGLD(0.1), ls.SGHMC(0.1, friction=0.1),
        ls.Preconditioned(ls.EulerMaruyama(0.1), np.array([1.0, 2.0])),
        ls.Optimizer(torch.optim.RMSprop, lr=0.1, settings={"alpha": 0.9}, base_lr=0.2),
    ],
    "noises": [
        noise.ThermalNoise(), noise.TwoPointNoise(), noise.ColoredNoise([0.5, 1.0]), noise.CovarianceNoise(np.eye(2)),
        noise.HessianNoise(),
    ],
    "observers": [
        ls.Moments(("x", "y"), covariance=True), ls.Histogram("x", 20, (-1, 1), every=5), ls.Residence("x", [-1, 0, 1]),
        ls.Autocorrelation("x", every=10), observers.CoreSets({"A": "x < -1", "B": (1.0, 2.0)}, of="x"),
    ],
    "constraints": [
        ls.Reflect({"x": (0, None)}), ls.Periodic({"x": (0, 1)}), ls.Absorb({"x": (None, 1)}),
        ls.Absorb("x**2 + y**2", below=1, above=2), ls.Restrain([1, 0], ls.ramp(0, 1, 2.0), [1, 2], period=3.0),
        ls.Metadynamics(["x", "y"], height=0.1, width=[0.2, 0.3], every=5, range=[[-1, 1], [-1, 1]], walkers=2),
        ls.ProjectOntoPath(ls.paths.Path(torch.arange(6).double().reshape(3, 2)), every=3),
    ],
    "schedules": [
        ls.ramp([0.0, 1.0], 1, 2.0), ls.cycle(0.0, 1.0, 2.0), ls.piecewise({0: 1.0, 3.5: 0.5}, by="step"),
        ls.cosine(1.0, 0.0, 2.0),
    ],
    "mobilities": [Mobility([["1 + x**2", "0"], ["0", "2"]]), Mobility(np.eye(2), interpretation="stratonovich")],
    "augmentations": [datasets.FlipCrop(2, fill=(0.1, 0.2), flip=False)],
}  # fmt: skip
CASES = [(group, one) for group, some in EXAMPLES.items() for one in some]


def through_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(("group", "one"), CASES, ids=[f"{group}-{one.spec()['kind']}" for group, one in CASES])
def test_to_a_table_and_back(group, one):
    table = through_json(one.spec())
    again = build(table, group)
    assert type(again) is type(one)
    assert through_json(again.spec()) == table


def test_every_kind_has_an_example():
    for group, some in EXAMPLES.items():
        assert set(kinds(group)) == {one.spec()["kind"] for one in some}


def test_a_class_of_ones_own_needs_no_table_by_hand():
    class Kick(noise.Noise):
        def __init__(self, size, direction=None):
            self.size, self.direction = size, direction

        draw = increment = None

    Kick.__abstractmethods__ = frozenset()
    assert Kick(np.float64(0.5)).spec() == {"kind": "Kick", "size": 0.5}
    assert Kick(ls.ramp(0, 1, 2.0), (1, 2)).spec()["size"]["kind"] == "ramp"

    class Half(Described):
        def __init__(self, whole):
            self.half = whole / 2

    with pytest.raises(AttributeError, match="whole"):  # the control: it keeps the argument nowhere
        Half(2).spec()


@pytest.mark.parametrize("group", ["potentials", "integrators", "constraints"])
def test_what_python_gave_is_named_and_not_rebuilt(group):
    with pytest.raises(ConfigError, match=f"the {group[:-1]} is the Python object 'm:f'"):
        build({"kind": "python", "name": "m:f"}, group)


# -- what was stored before --------------------------------------------------------------------------------------------


def observable(potential, x):
    return x.norm(dim=-1)


def other(potential, x):
    return 2 * x.norm(dim=-1)


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ({"kind": "python", "name": "observable"}, plain(observable)),
        ({"kind": "python", "name": f"{__name__}:observable"}, plain(observable)),
        (["radius"], ls.Record(1, {"radius": observable}).spec()["observables"]),
        ("FlipCrop(padding=1, fill=0.0, flip=True)", datasets.FlipCrop(1).spec()),
        ({"kind": "NetworkLoss"}, {"kind": "NetworkLoss", "evaluation": {"kind": "python", "sha256": "1"}}),
    ],
)
def test_tables_that_said_less_still_fit(former, now):
    assert not differences({"one": former}, through_json({"one": now}))


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (plain(other), plain(observable)),
        ({"kind": "python", "name": "other"}, plain(observable)),
        (plain(observable) | {"sha256": "1"}, plain(observable)),
        (["length"], ls.Record(1, {"radius": observable}).spec()["observables"]),
        ("FlipCrop(padding=2, fill=0.0, flip=True)", datasets.FlipCrop(1).spec()),
    ],
)
def test_another_object_does_not(former, now):
    assert differences({"one": former}, through_json({"one": now}))


# -- what used to be lost ----------------------------------------------------------------------------------------------


def test_an_augmentation_is_part_of_the_table():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    loss = potentials.NetworkLoss(module, IMAGES.inputs, IMAGES.targets, augment=datasets.FlipCrop(1), batch_size=2)
    assert loss.spec()["augment"] == {"kind": "FlipCrop", "padding": 1, "fill": 0.0, "flip": True}
    assert build(loss.spec()["augment"], "augmentations") == datasets.FlipCrop(1)


def test_held_out_data_are_part_of_the_table():
    inputs, targets = torch.randn(5, 4), torch.arange(5) % 3
    one, same, another = (
        network(evaluation=held_out).spec()
        for held_out in ((inputs, targets), (inputs.clone(), targets), (inputs + 1, targets))
    )
    assert one == same
    assert one["evaluation"] != another["evaluation"]
    assert "evaluation" not in network().spec()


def test_held_out_tensors_are_not_needed_for_the_energy():
    table = network(evaluation=(torch.randn(5, 4), torch.arange(5) % 3)).spec()
    again = build(table, "potentials")
    assert float(again.energy(again.position())) == float(network().energy(network().position()))


def test_data_that_several_processes_held_are_refused_by_name():
    part = network().spec()["data"]
    data = {"kind": "shards", "samples": [12, 12], "parts": [part, part]}
    with pytest.raises(ConfigError, match="held by 2 processes"):
        build(network().spec() | {"data": data, "process_group": {"ranks": 2}}, "potentials")


def test_the_table_of_a_training_is_whole(tmp_path):
    loss = network(batch_size=4)
    given = {"temperature": 0.1, "constraint": ls.Reflect({"0.bias": (-1.0, 1.0)})}
    run = ls.train(loss, ls.SGLD(0.01), epochs=2, **given, output=tmp_path / "kept", backend="batched")
    table = json.loads(run.attrs["spec"])
    assert table["temperature"] == 0.1
    assert table["constraint"] == [{"kind": "Reflect", "walls": {"0.bias": [-1.0, 1.0]}}]
    again = ls.run({key: value for key, value in table.items() if key != "start"})
    np.testing.assert_array_equal(again.energy.values, run.energy.values)
    assert ls.resume(tmp_path / "kept", epochs=3).sizes["draw"] == 3
    with pytest.raises(CheckpointError, match="temperature"):
        ls.train(loss, ls.SGLD(0.01), epochs=2, **(given | {"temperature": 0.2}), output=tmp_path / "kept",
                 backend="batched")  # fmt: skip


def test_a_training_in_a_named_type_goes_on(tmp_path):
    loss = network(batch_size=4, dtype=torch.float64)
    kept = {"dtype": torch.float64, "device": torch.device("cpu"), "output": tmp_path / "kept"}
    run = ls.train(loss, ls.SGD(0.01), epochs=2, **kept)
    assert json.loads(run.attrs["spec"])["dtype"] == "float64"
    assert ls.resume(tmp_path / "kept", epochs=3).sizes["draw"] == 3


def test_paths_know_a_landscape_by_its_code():
    def wells(x):
        return (x[..., 0] ** 2 - 1) ** 2 + x[..., 1] ** 2

    function = potentials.Function(wells, 2)
    path = ls.paths.neb(function, [-1.0, 0.1], [1.0, 0.1], pivots=3, steps=1, lr=0.01, end_tolerance=1.0)
    assert json.loads(path.attributes["spec"])["potential"] == function.spec()
    assert "sha256" in function.spec()


def test_a_class_of_ones_own_is_known_by_its_methods():
    def made(power):
        class Wells(potentials.Potential):
            dim, bounds = 1, {}

            def _energy(self, x):
                return x[..., 0] ** 2 if power == 2 else x[..., 0] ** 4

        return Wells()

    def others():
        class Wells(potentials.Potential):
            dim, bounds = 1, {}

            def _energy(self, x):
                return 3 * x[..., 0] ** 2

        return Wells()

    assert made(2).spec() == made(2).spec() != made(4).spec()
    assert made(2).spec()["sha256"] != others().spec()["sha256"]


def test_a_function_may_close_over_a_module():
    def made(library, power):
        return lambda x: library.pow(x, power)

    assert plain(made(torch, 2)) == plain(made(torch, 2)) != plain(made(torch, 3))


def test_what_holds_itself_has_a_fingerprint():
    def recursive(n):
        return 1 if n == 0 else n * recursive(n - 1)

    class Own(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    for one in (recursive, Own):
        assert plain(one) == plain(one)
