"""What a run keeps: when, under which names and dims, and that looking changes nothing."""

import json

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.potentials import Expression, Function, NetworkLoss, architectures, toys
from landscape.recording.record import OBSERVABLES
from tests.cases import BACKENDS

DOCUMENTED = {
    "position",
    "unwrapped",
    "energy",
    "batch_energy",
    "gradient_norm",
    "distance",
    "momentum",
    "sample_energies",
    "accuracy",
    "evaluation_energy",
    "batch_gradient",
    "kinetic_energy",
    "work",
    "heat",
    "dissipated",
    "entropy_production",
    "tree_depth",
    "divergent",
}


def valley():
    return toys.Valley("1 + y**2", bounds={"y": (-3, 3)})


def simulate(potential=None, integrator=None, **settings):
    settings = {"steps": 12, "chains": 3, "seed": 1, **settings}
    integrator = integrator or ls.EulerMaruyama(dt=0.01)
    if integrator.thermal:
        settings.setdefault("temperature", 0.3)
    return ls.simulate(potential or valley(), integrator, **settings)


def network(**settings):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(11, 4, generator=generator), torch.randint(3, (11,), generator=generator)
    held_out = torch.randn(7, 4, generator=generator), torch.randint(3, (7,), generator=generator)
    module = architectures.mlp([4, 5, 3], seed=1)
    return NetworkLoss(module, inputs, targets, evaluation=held_out, dtype=torch.float64, **settings)


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("steps", "every"), [(12, 1), (12, 3), (12, 5), (12, 12), (1, 1), (500, 7)])
def test_draws_come_after_every_so_many_steps(steps, every, backend):
    run = simulate(steps=steps, record=ls.Record(every=every), backend=backend)
    draws = steps // every
    assert run.sizes["draw"] == draws
    assert run.draw.values.tolist() == list(range(draws))
    assert run.step.values.tolist() == [every * (draw + 1) for draw in range(draws)]
    np.testing.assert_allclose(run.time, 0.01 * run.step, rtol=1e-12)
    assert run.time.dims == ("draw",)
    assert run.attrs["last_step"] == steps
    everything = simulate(steps=steps, backend=backend)
    np.testing.assert_array_equal(run.position, everything.position[:, every - 1 :: every])
    np.testing.assert_array_equal(run.energy, everything.energy[:, every - 1 :: every])
    np.testing.assert_array_equal(run.last_position, everything.last_position)


@pytest.mark.parametrize(("steps", "every"), [(12, 13), (0, 1)])
def test_runs_without_draws_keep_their_variables(steps, every):
    run = simulate(steps=steps, record=ls.Record(every=every))
    assert run.sizes["draw"] == 0
    assert run.energy.shape == (3, 0)
    assert run.position.shape == (3, 0, 2)
    assert run.last_position.shape == (3, 2)


def test_time_is_per_chain_where_the_step_size_is():
    run = simulate(integrator=ls.EulerMaruyama(dt=[0.01, 0.02, 0.05]), record=ls.Record(every=4))
    assert run.time.dims == ("chain", "draw")
    np.testing.assert_allclose(run.time, np.outer([0.01, 0.02, 0.05], [4, 8, 12]))
    np.testing.assert_array_equal(run.dt, [0.01, 0.02, 0.05])
    same = simulate(integrator=ls.EulerMaruyama(dt=[0.01, 0.01, 0.01]))
    np.testing.assert_allclose(same.time, simulate().time if same.time.ndim == 1 else [simulate().time] * 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_continued_run_goes_on_counting(backend):
    whole = simulate(steps=12, record=ls.Record(every=2), backend=backend)
    first = simulate(steps=5, record=ls.Record(every=2), backend=backend)
    second = simulate(steps=7, start=first, state="keep", chains=None, record=ls.Record(every=1), backend=backend)
    assert second.step.values.tolist() == list(range(6, 13))
    np.testing.assert_array_equal(second.last_position, whole.last_position)
    np.testing.assert_array_equal(second.position[:, -1], whole.position[:, -1])


# -- what --------------------------------------------------------------------------------------------------------------


def test_the_documented_names_and_no_others():
    assert set(OBSERVABLES) == DOCUMENTED


def test_defaults():
    assert {"position", "energy", "last_position", "last_time"} == set(simulate().data_vars)
    bowl = Function(lambda x: (x**2).sum(-1), 2)
    assert {"position", "energy", "last_position", "last_time"} == set(simulate(bowl).data_vars)
    run = simulate(network())
    assert {"energy", "last_position", "last_time"} == set(run.data_vars)
    assert "coordinate" not in run.coords
    layout = json.loads(run.attrs["layout"])
    assert [slot["name"] for slot in layout] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [slot["offset"] for slot in layout] == [0, 20, 25, 40]
    assert [slot["shape"] for slot in layout] == [[5, 4], [5], [3, 5], [3]]


def test_labels():
    run = simulate(temperature=[0.1, 0.2, 0.3])
    assert run.position.dims == ("chain", "draw", "coordinate")
    assert run.energy.dims == ("chain", "draw")
    assert run.last_position.dims == ("chain", "coordinate")
    assert run.coordinate.values.tolist() == ["x", "y"]
    assert run.chain.values.tolist() == [0, 1, 2]
    assert run.temperature.dims == ("chain",)
    np.testing.assert_array_equal(run.position.sel(coordinate="y"), run.position[..., 1])
    np.testing.assert_array_equal(run.last_position, run.position[:, -1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_observables_of_a_formula(backend):
    potential, start = valley(), np.array([0.2, 1.0])
    names = ["position", "energy", "gradient_norm", "distance", "momentum"]
    run = simulate(potential, ls.SGD(lr=0.01, momentum=0.7), start=start, record=ls.Record(3, names), backend=backend)
    assert {*names, "last_position", "last_momentum", "last_time"} == set(run.data_vars)
    at = run.position.values
    np.testing.assert_allclose(run.energy, potential.energy(at), rtol=1e-13)
    np.testing.assert_allclose(run.gradient_norm, np.linalg.norm(potential.gradient(at), axis=-1), rtol=1e-12)
    np.testing.assert_allclose(run.distance, np.linalg.norm(at - start, axis=-1), rtol=1e-12)
    np.testing.assert_array_equal(run.momentum[:, -1], run.last_momentum)
    position, momentum = start.copy(), np.zeros(2)
    for step in range(1, 13):
        momentum = 0.7 * momentum + potential.gradient(position)
        position = position - 0.01 * momentum
        if step % 3 == 0:
            np.testing.assert_allclose(run.momentum[0, step // 3 - 1], momentum, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_observables_of_a_network(batch_size, backend):
    potential = network(batch_size=batch_size)
    names = ["position", "energy", "batch_energy", "gradient_norm", "distance", "sample_energies", "accuracy"]
    names += ["evaluation_energy", "momentum"]
    run = simulate(potential, ls.SGD(lr=0.1, momentum=0.5), record=ls.Record(4, names), backend=backend)
    at = torch.tensor(run.position.values)
    np.testing.assert_allclose(run.energy, potential.energy(at), rtol=1e-12)
    np.testing.assert_allclose(run.gradient_norm, potential.gradient(at).norm(dim=-1), rtol=1e-10)
    np.testing.assert_allclose(run.distance, (at - potential.position()).norm(dim=-1), rtol=1e-10)
    np.testing.assert_allclose(run.sample_energies, potential.sample_energies(at), rtol=1e-10)
    np.testing.assert_allclose(run.accuracy, potential.accuracy(at))
    np.testing.assert_allclose(run.evaluation_energy, potential.evaluation_energy(at), rtol=1e-10)
    assert run.sample_energies.dims == ("chain", "draw", "sample")
    assert run.sample_energies.sizes["sample"] == 11
    if batch_size is None:
        np.testing.assert_allclose(run.batch_energy, run.energy, rtol=1e-12)
    else:
        assert not np.allclose(run.batch_energy, run.energy)
    assert run.momentum.dims == ("chain", "draw", "coordinate")


@pytest.mark.parametrize("backend", BACKENDS)
def test_observables_of_ones_own(backend):
    observables = {
        "energy": None,
        "radius": lambda potential, x: x.norm(dim=-1),
        "both": lambda potential, x: torch.stack([x.sum(-1), x.prod(-1)], dim=-1),
        "curvature": lambda potential, x: potential.hessian(x),
        "right": lambda potential, x: x[:, 0] > 0,
        "position": None,
    }
    run = simulate(record=ls.Record(2, observables), backend=backend)
    at = run.position.values
    np.testing.assert_allclose(run.radius, np.linalg.norm(at, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(run.both, np.stack([at.sum(-1), at.prod(-1)], axis=-1), rtol=1e-13)
    np.testing.assert_allclose(run["curvature"], valley().hessian(at), rtol=1e-13)
    np.testing.assert_array_equal(run.right, at[..., 0] > 0)
    assert run.radius.dims == ("chain", "draw")
    assert run.both.dims[:2] == ("chain", "draw")
    assert run.both.shape == (3, 6, 2)
    assert run["curvature"].shape == (3, 6, 2, 2)


def test_an_observable_of_ones_own_cannot_move_the_chains():
    def meddle(potential, x):
        x += 1.0
        return x[:, 0]

    for backend in BACKENDS:
        run = simulate(record=ls.Record(1, {"meddled": meddle, "position": None}), backend=backend)
        np.testing.assert_array_equal(run.position, simulate(backend=backend).position)


@pytest.mark.parametrize("backend", BACKENDS)
def test_looking_changes_nothing(backend):
    """The same trajectory, to the bit, whatever is recorded."""
    quiet = simulate(record=ls.Record(12, ["energy"]), backend=backend)
    for record in (
        ls.Record(),
        ls.Record(5, ["gradient_norm"]),
        ls.Record(1, ["position", "distance"], snapshots=5),
        ls.Record(100),
        ls.Record(2, {"radius": lambda potential, x: x.norm(dim=-1)}),
    ):
        np.testing.assert_array_equal(simulate(record=record, backend=backend).last_position, quiet.last_position)


def test_nothing_may_be_recorded():
    run = simulate(record=ls.Record(observables=[]))
    assert set(run.data_vars) == {"last_position", "last_time"}


def test_names_given_twice_are_recorded_once():
    run = simulate(record=ls.Record(observables=["energy", "energy"]))
    assert set(run.data_vars) == {"energy", "last_position", "last_time"}


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(12, 1, [12]), (12, 2, [6, 12]), (12, 3, [4, 8, 12]), (12, 12, range(1, 13)), (10, 4, None), (1000, 7, None)],
)
def test_snapshots_are_evenly_spaced_and_end_at_the_end(steps, count, expected, backend):
    run = simulate(steps=steps, record=ls.Record(every=1, snapshots=count), backend=backend)
    at = run.snapshot_step.values
    if expected is not None:
        assert at.tolist() == list(expected)
    assert len(at) == count
    assert at[-1] == steps
    gaps = np.diff(np.concatenate([[0], at]))
    assert gaps.max() - gaps.min() <= 1
    assert run.snapshot.dims == ("chain", "snapshot", "coordinate")
    np.testing.assert_array_equal(run.snapshot, run.position[:, at - 1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_more_snapshots_than_steps(backend):
    run = simulate(steps=3, record=ls.Record(snapshots=10), backend=backend)
    assert run.snapshot_step.values.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(run.snapshot, run.position)


def test_snapshots_of_networks_without_positions():
    potential = network()
    run = simulate(potential, record=ls.Record(every=5, snapshots=2))
    assert "position" not in run
    assert run.snapshot.shape == (3, 2, potential.dim)
    assert run.snapshot_step.values.tolist() == [6, 12]
    np.testing.assert_array_equal(run.snapshot[:, -1], run.last_position)
    energies = potential.energy(torch.tensor(run.snapshot.values))
    assert energies.shape == (3, 2)


def test_continued_runs_count_the_steps_of_snapshots_on():
    first = simulate(steps=4)
    run = simulate(steps=6, start=first, state="keep", chains=None, record=ls.Record(snapshots=2))
    assert run.snapshot_step.values.tolist() == [7, 10]


# -- kinds of numbers --------------------------------------------------------------------------------------------------


def test_dtypes_are_those_of_the_state():
    single = simulate(Expression("x**2 + y**2", ["x", "y"]), dtype=torch.float32)
    assert single.position.dtype == single.last_position.dtype == np.float32
    assert single.attrs["dtype"] == "float32"
    double = simulate()
    assert double.position.dtype == np.float64
    assert double.energy.dtype == np.float64
    assert simulate(network()).last_position.dtype == np.float64


def test_a_record_describes_itself():
    assert ls.Record(every=5, observables=["energy"], snapshots=3).spec() == {
        "every": 5,
        "observables": ["energy"],
        "snapshots": 3,
    }
    plain = json.dumps(ls.Record(1, {"radius": lambda potential, x: x.norm(dim=-1)}).spec())
    assert "radius" in plain


class Ringed(ls.potentials.Quadratic):
    """A landscape with an observable of its own, as another package may bring one."""

    @property
    def observables(self):
        return ("radius",)

    def radius(self, position):
        return position.norm(dim=-1)


def test_a_potential_adds_an_observable_of_its_own():
    options = {"temperature": 0.5, "chains": 3, "steps": 6, "seed": 1, "backend": "batched"}
    record = ls.Record(2, ["position", "radius", ls.Moments("radius")])
    run = ls.simulate(Ringed([1.0, 4.0]), ls.EulerMaruyama(dt=0.1), record=record, **options)
    np.testing.assert_allclose(run.radius, np.linalg.norm(run.position, axis=-1))
    np.testing.assert_allclose(run.radius_mean, run.radius.mean("draw"))
    with pytest.raises(ls.errors.ConfigError, match=r"known are position, .*, evaluation_energy, radius"):
        ls.simulate(Ringed([1.0, 4.0]), ls.EulerMaruyama(dt=0.1), record=ls.Record(2, ["diameter"]), **options)
