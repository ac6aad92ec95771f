"""Training: torch.optim written out by hand on the same minibatches, siblings, schedules."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss, architectures
from tests.cases import BACKENDS

SAMPLES, BATCH = 23, 5
STEPS = 5  # per epoch: 5 + 5 + 5 + 5 + 3 samples
CPU = torch.device("cpu")


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (SAMPLES,), generator=generator)


def network(activation="tanh", **settings):
    settings = {"batch_size": BATCH, "dtype": torch.float64, **settings}
    return NetworkLoss(architectures.mlp([4, 6, 3], activation=activation, seed=1), *data(), **settings)


def by_torch(loss, optimizer, keys_at, epochs, factor=lambda epoch: 1.0):
    """Weights after every epoch of a torch optimiser on the sampler's minibatches, one chain at a time."""
    inputs, targets = data()
    chains = len(keys_at(0).seeds)
    histories = []
    for chain in range(chains):
        module = loss.module_at(loss.position()).double()
        torch_optimizer = optimizer(module.parameters())
        rates = [group["lr"] for group in torch_optimizer.param_groups]
        history = []
        for epoch in range(epochs):
            for group, rate in zip(torch_optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(epoch)
            for step in range(epoch * STEPS, (epoch + 1) * STEPS):
                indices = loss.sampler.indices(keys_at(step), step, CPU)
                chosen = indices[chain if len(indices) > 1 else 0]
                torch_optimizer.zero_grad()
                functional.cross_entropy(module(inputs[chosen]), targets[chosen]).backward()
                torch_optimizer.step()
            history.append(torch.cat([p.detach().flatten() for p in module.parameters()]).numpy())
        histories.append(history)
    return np.array(histories)


def train(loss, integrator, **settings):
    record = settings.pop("record", None) or ls.Record(every=STEPS, observables=["position", "energy"])
    return ls.train(loss, integrator, record=record, **settings)


OPTIMISERS = {
    "SGD": (ls.SGD(lr=0.2), lambda p: torch.optim.SGD(p, lr=0.2)),
    "momentum": (
        ls.SGD(lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    "Nesterov": (
        ls.SGD(lr=0.1, momentum=0.8, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    ),
    "Adam": (
        ls.Adam(lr=0.01, betas=(0.8, 0.95), eps=1e-6),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    ),
    "AdamW": (
        ls.AdamW(lr=0.01, weight_decay=0.2),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.2),
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_training_is_a_hand_written_loop(name, backend):
    integrator, optimizer = OPTIMISERS[name]
    loss = network()
    run = train(loss, integrator, epochs=4, seed=3, backend=backend)
    keys = loss.batch_keys(1, 0, tuple(_data_seeds(run)[0]))
    expected = by_torch(loss, optimizer, lambda step: keys, 4)
    np.testing.assert_allclose(run.position, expected, rtol=0, atol=1e-10)
    assert np.abs(expected[:, -1] - expected[:, 0]).max() > 1e-3  # control: it moves


def _data_seeds(run):
    """Data seeds of the chains at the start and after the split."""
    table = json.loads(run.attrs["data_seed"])
    return [np.broadcast_to(seeds, run.sizes["chain"]).tolist() for _, seeds in table]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_schedule_multiplies_the_rate(backend):
    factors = {0: 1.0, 1: 0.5, 3: 0.1}
    loss = network()
    run = train(loss, ls.SGD(lr=0.2, momentum=0.9), epochs=5, schedule=factors, seed=3, backend=backend)
    in_force = [1.0, 0.5, 0.5, 0.1, 0.1]
    np.testing.assert_allclose(run.rate_factor, in_force)
    assert run.rate_factor.dims == ("draw",)
    keys = loss.batch_keys(1, 0, tuple(_data_seeds(run)[0]))
    expected = by_torch(
        loss, lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9), lambda step: keys, 5, lambda epoch: in_force[epoch]
    )
    np.testing.assert_allclose(run.position, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(run.time, 0.2 * STEPS * np.cumsum(in_force))
    np.testing.assert_array_equal(run.step, STEPS * np.arange(1, 6))


def test_a_schedule_may_be_a_function_of_the_epoch():
    by_table = train(network(), ls.SGD(lr=0.2), epochs=4, schedule={0: 1.0, 1: 0.5, 2: 0.25, 3: 0.125})
    by_function = train(network(), ls.SGD(lr=0.2), epochs=4, schedule=lambda epoch: 0.5**epoch)
    np.testing.assert_array_equal(by_table.position, by_function.position)
    np.testing.assert_array_equal(by_table.time, by_function.time)
    np.testing.assert_allclose(by_function.rate_factor, [1.0, 0.5, 0.25, 0.125])


def test_a_constant_schedule_changes_nothing():
    runs = [
        train(network(), ls.Adam(lr=0.01), epochs=4, schedule=schedule)
        for schedule in (None, {0: 1.0}, {0: 1.0, 2: 1.0}, lambda epoch: 1.0)
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.position, runs[0].position)
        np.testing.assert_allclose(run.time, runs[0].time)


# -- siblings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("split", [0, 1, 3])
@pytest.mark.parametrize("schedule", [None, {0: 1.0, 2: 0.1}])
def test_siblings_share_their_history_up_to_the_split(schedule, split, backend):
    run = train(
        network(),
        ls.SGD(lr=0.2, momentum=0.9),
        epochs=5,
        siblings=3,
        split_epoch=split,
        schedule=schedule,
        record=ls.Record(every=1, observables=["position"]),
        backend=backend,
    )
    at = run.position.values
    shared = split * STEPS
    for sibling in (1, 2):
        np.testing.assert_array_equal(at[sibling, :shared], at[0, :shared])
        assert (at[sibling, shared:] != at[0, shared:]).any(axis=-1).all()
    assert (at[1, shared:] != at[2, shared:]).any(axis=-1).all()


def test_siblings_are_different_from_the_start_without_a_split():
    run = train(network(), ls.SGD(lr=0.2), epochs=2, siblings=2, record=ls.Record(every=1, observables=["position"]))
    assert (run.position[0] != run.position[1]).any("coordinate").all()


def test_split_siblings_follow_their_own_orders():
    loss = network()
    run = train(loss, ls.SGD(lr=0.2, momentum=0.9), epochs=4, siblings=2, split_epoch=2, seed=9)
    before, after = (loss.batch_keys(2, 0, tuple(seeds)) for seeds in _data_seeds(run))
    expected = by_torch(
        loss,
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9),
        lambda step: before if step < 2 * STEPS else after,
        4,
    )
    np.testing.assert_allclose(run.position, expected, rtol=0, atol=1e-10)


def test_the_first_sibling_does_not_depend_on_the_others():
    few = train(network(), ls.SGD(lr=0.2), epochs=3, siblings=2, split_epoch=1, seed=4)
    many = train(network(), ls.SGD(lr=0.2), epochs=3, siblings=5, split_epoch=1, seed=4)
    np.testing.assert_array_equal(few.position, many.position[:2])


def test_thermal_noise_also_splits():
    """Siblings with thermal noise are equal before the split only if their noise is: it is keyed by chain."""
    run = train(
        network(),
        ls.EulerMaruyama(dt=0.05),
        epochs=3,
        siblings=2,
        split_epoch=2,
        temperature=0.0,
        record=ls.Record(every=1, observables=["position"]),
    )
    equal = (run.position[0] == run.position[1]).all("coordinate").values
    assert equal.tolist() == [True] * (2 * STEPS) + [False] * STEPS


# -- the record --------------------------------------------------------------------------------------------------------


def test_the_default_record_is_once_an_epoch():
    run = ls.train(network(), ls.SGD(lr=0.2), epochs=3)
    assert run.step.values.tolist() == [STEPS, 2 * STEPS, 3 * STEPS]
    assert "energy" in run
    assert "position" not in run
    np.testing.assert_allclose(run.energy[:, -1], network().energy(run.last_position.values))


@pytest.mark.parametrize("every", [1, 5])
def test_time_and_step_go_on_across_changes_of_rate(every):
    """Records fall where they would without a schedule."""
    settings = {"epochs": 4, "record": ls.Record(every=every, observables=["position"])}
    plain = train(network(), ls.SGD(lr=0.2), **settings)
    changed = train(network(), ls.SGD(lr=0.2), schedule={0: 1.0, 1: 0.5, 3: 0.1}, siblings=2, split_epoch=2, **settings)
    np.testing.assert_array_equal(changed.step, plain.step)
    np.testing.assert_array_equal(changed.draw, plain.draw)
    factor = np.repeat([1.0, 0.5, 0.5, 0.1], STEPS)
    np.testing.assert_allclose(changed.time, 0.2 * np.cumsum(factor)[changed.step.values - 1])
    assert (np.diff(changed.time) > 0).all()


def test_records_that_do_not_meet_a_change_of_rate_are_refused():
    with pytest.raises(ConfigError, match=r"every=3.*5 steps per epoch"):
        train(network(), ls.SGD(lr=0.2), epochs=4, schedule={0: 1.0, 2: 0.1}, record=ls.Record(every=3))
    run = train(network(), ls.SGD(lr=0.2), epochs=4, record=ls.Record(every=3))
    assert run.step.values.tolist() == [3, 6, 9, 12, 15, 18]


def test_without_minibatches_an_epoch_is_a_step():
    loss = network(batch_size=None)
    run = ls.train(loss, ls.SGD(lr=0.2), epochs=6)
    assert run.step.values.tolist() == [1, 2, 3, 4, 5, 6]
    by_hand = ls.simulate(loss, ls.SGD(lr=0.2), steps=6)
    np.testing.assert_array_equal(run.last_position, by_hand.last_position)


@pytest.mark.parametrize("backend", BACKENDS)
def test_momenta_are_handed_on_across_changes_of_rate(backend):
    loss = network()
    one = train(loss, ls.Adam(lr=0.01), epochs=4, backend=backend)
    parts = train(loss, ls.Adam(lr=0.01), epochs=4, schedule=lambda epoch: 1.0 + 1e-15 * epoch, backend=backend)
    np.testing.assert_allclose(parts.position, one.position, rtol=0, atol=1e-12)


def test_seeds():
    first, same, other = (train(network(), ls.SGD(lr=0.2), epochs=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.position, same.position)
    assert not np.array_equal(first.position, other.position)


def test_a_start_may_be_given():
    loss = network()
    start = 0.1 * np.arange(loss.dim) / loss.dim
    run = train(loss, ls.SGD(lr=0.2), epochs=1, start=start, record=ls.Record(every=1, observables=["position"]))
    gradient = (start - run.position.values[0, 0]) / 0.2
    keys = loss.batch_keys(1, 0, tuple(_data_seeds(run)[0]))
    expected = loss.step_gradient(torch.tensor(start)[None], step=0, keys=keys)[0]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)


def test_further_arguments_reach_simulate():
    run = ls.train(network(), ls.EulerMaruyama(dt=0.01), epochs=1, temperature=0.1, siblings=2, backend="batched")
    assert run.temperature.values.tolist() == [0.1, 0.1]
    assert run.attrs["backend"] == "batched"


def test_training_learns():
    loss = network("relu")
    run = ls.train(loss, ls.SGD(lr=0.3, momentum=0.9), epochs=60, schedule={0: 1.0, 40: 0.1}, siblings=3)
    start = float(loss.energy(loss.position()))
    assert (run.energy[:, -1] < 0.8 * start).all()
