"""Minibatches: who sees which sample when, in law and to the bit, and what dynamics makes of it."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import landscape as ls
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials import NetworkLoss, architectures
from landscape.potentials.network.batches import BatchKeys, BatchSampler
from tests.cases import P_CONTROL, P_MIN

CPU = torch.device("cpu")


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(batch_size=4, samples=23, hidden="tanh", **settings):
    module = architectures.mlp([5, 6, 3], activation=hidden, seed=1)
    targets = torch.randint(3, (samples,), generator=torch.Generator().manual_seed(1))
    return NetworkLoss(module, draws(samples, 5), targets, batch_size=batch_size, dtype=torch.float64, **settings)


def independent(chains, seed=0):
    return BatchKeys(seeds=(seed,) * chains, streams=tuple(range(chains)))


def p_value(counts, expected):
    """Of Pearson's chi-squared for a table of counts whose total is fixed."""
    statistic = ((np.asarray(counts) - expected) ** 2 / expected).sum()
    return chi2.sf(statistic, np.size(counts) - 1)


# -- epochs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "batch_size"), [(12, 4), (13, 4), (5, 5), (7, 1), (100, 33), (1, 1)])
def test_an_epoch_visits_every_sample_once(samples, batch_size):
    sampler = BatchSampler(samples, batch_size)
    steps = math.ceil(samples / batch_size)
    assert sampler.steps_per_epoch == steps
    for epoch in range(3):
        batches = [sampler.indices(independent(4), epoch * steps + step, CPU) for step in range(steps)]
        assert [batch.shape[1] for batch in batches[:-1]] == [batch_size] * (steps - 1)
        assert batches[-1].shape == (4, samples - (steps - 1) * batch_size)
        assert all(batch.dtype == torch.int64 for batch in batches)
        for visited in torch.cat(batches, dim=1):
            assert sorted(visited.tolist()) == list(range(samples))


def test_orders_differ_between_epochs_chains_and_seeds():
    sampler = BatchSampler(50, 50)
    orders = [sampler.indices(independent(3, seed), epoch, CPU) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(order.tolist()) for group in orders for order in group}) == 3 * 2 * 3


def test_batches_are_a_function_of_their_arguments():
    """In any order of the calls, from a fresh sampler or a used one, alone or in company."""
    used, keys = BatchSampler(23, 4), independent(5, 9)
    steps = [17, 3, 0, 3, 40, 17]
    first = [used.indices(keys, step, CPU) for step in steps]
    for step, batch in zip(steps, first, strict=True):
        assert torch.equal(BatchSampler(23, 4).indices(keys, step, CPU), batch)
        alone = BatchKeys(seeds=(9,), streams=(3,))
        assert torch.equal(BatchSampler(23, 4).indices(alone, step, CPU)[0], batch[3])


def test_equal_seed_and_stream_see_the_same():
    keys = BatchKeys(seeds=(4, 5, 4, 4), streams=(0, 0, 0, 1))
    batch = BatchSampler(40, 8).indices(keys, 3, CPU)
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    assert not torch.equal(batch[0], batch[3])
    shared = BatchKeys(seeds=(4, 4), streams=(0, 0))
    assert shared.shared
    assert not keys.shared
    assert torch.equal(BatchSampler(40, 8).indices(shared, 3, CPU)[0], batch[0])


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_permutations_are_uniform(seed):
    """All 24 orders of 4 samples over 24 000 chains."""
    orders = BatchSampler(4, 4).indices(independent(24_000, seed), 0, CPU).numpy()
    ranks = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    counts = np.bincount([ranks[tuple(order)] for order in orders.tolist()], minlength=24)
    assert p_value(counts, 1000) > P_MIN


def test_a_naive_shuffle_fails_that_test():
    """Control: exchanging every place with a random one is not uniform."""
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for partners in rng.integers(4, size=(24_000, 4)):
        order = list(range(4))
        for i, j in enumerate(partners):
            order[i], order[j] = order[j], order[i]
        counts[tuple(order)] += 1
    assert p_value(list(counts.values()), 1000) < P_CONTROL


def test_places_are_uniform_in_larger_sets():
    """Where each of 20 samples lands, over 20 000 chains; rows and columns of the table both sum to 20 000."""
    orders = BatchSampler(20, 20).indices(independent(20_000), 5, CPU).numpy()
    table = np.stack([np.bincount(orders[:, place], minlength=20) for place in range(20)])
    statistic = ((table - 1000) ** 2 / 1000).sum() * 19 / 20
    assert P_MIN < chi2.sf(statistic, 19 * 19) < 1 - P_MIN


@pytest.mark.parametrize("other", ["epoch", "chain", "seed"])
def test_orders_are_independent(other):
    """First sample of one order against the first of another: a 10 x 10 table over 20 000 pairs."""
    sampler = BatchSampler(10, 10)
    first = sampler.indices(independent(20_000), 0, CPU)[:, 0].numpy()
    second = {
        "epoch": lambda: sampler.indices(independent(20_000), 1, CPU)[:, 0].numpy(),
        "chain": lambda: np.roll(first, 1),
        "seed": lambda: sampler.indices(independent(20_000, 1), 0, CPU)[:, 0].numpy(),
    }[other]()
    assert p_value(np.bincount(10 * first + second, minlength=100), 200) > P_MIN


# -- replacement ------------------------------------------------------------------------------------------------------


def test_draws_with_replacement_are_uniform_and_independent():
    sampler = BatchSampler(7, 5, "replacement")
    batches = np.stack([sampler.indices(independent(2000), step, CPU).numpy() for step in range(7)])
    assert batches.shape == (7, 2000, 5)
    assert p_value(np.bincount(batches.ravel(), minlength=7), batches.size / 7) > P_MIN
    for pair in (
        7 * batches[:, :, 0] + batches[:, :, 1],  # within a batch
        7 * batches[:-1, :, 0] + batches[1:, :, 0],  # between steps
        7 * batches[:, :-1, 0] + batches[:, 1:, 0],  # between chains
    ):
        assert p_value(np.bincount(pair.ravel(), minlength=49), pair.size / 49) > P_MIN


def test_an_epoch_fails_that_test():
    """Control: without replacement a sample never follows itself."""
    batches = BatchSampler(7, 5).indices(independent(14_000), 0, CPU).numpy()
    pair = 7 * batches[:, 0] + batches[:, 1]
    assert p_value(np.bincount(pair, minlength=49), pair.size / 49) < P_CONTROL


def test_with_replacement_no_batch_is_short():
    sampler = BatchSampler(7, 5, "replacement")
    assert {sampler.indices(independent(2), step, CPU).shape for step in range(10)} == {(2, 5)}
    assert sampler.steps_per_epoch == 2


# -- what a network's dynamics uses -----------------------------------------------------------------------------------


def test_batch_energy_and_gradient_are_means_over_the_batch():
    potential = loss(weight_decay=0.4)
    positions = potential.position() + 0.3 * draws(3, potential.dim, seed=5)
    keys = potential.batch_keys(3, seed=11)
    for step in (0, 3, 5, 8):
        chosen = potential.sampler.indices(keys, step, CPU)
        energy, gradient = potential.batch_energy_and_gradient(positions, step=step, keys=keys)
        torch.testing.assert_close(potential.batch_energy(positions, step=step, keys=keys), energy)
        torch.testing.assert_close(potential.step_gradient(positions, step=step, keys=keys), gradient)
        for chain in range(3):
            ridge = 0.2 * (positions[chain] ** 2).sum()
            expected = potential.sample_energies(positions[chain])[chosen[chain]].mean() + ridge
            torch.testing.assert_close(energy[chain], expected)
            expected = potential.sample_gradients(positions[chain])[chosen[chain]].mean(0) + 0.4 * positions[chain]
            torch.testing.assert_close(gradient[chain], expected)


@pytest.mark.parametrize("model", ["mlp", "gelu"])
@pytest.mark.parametrize(("samples", "batch_size"), [(24, 4), (24, 23), (23, 4)])
def test_gradients_of_an_epoch_average_to_the_full_gradient(samples, batch_size, model):
    """Weighted by the sizes of the batches, which are equal but for a short last one."""
    potential = loss(batch_size, samples, "tanh" if model == "mlp" else "gelu", weight_decay=0.1)
    position = potential.position()[None]
    keys = potential.batch_keys(1, seed=3)
    total = torch.zeros_like(position)
    steps = potential.sampler.steps_per_epoch
    for step in range(2 * steps, 3 * steps):
        size = potential.sampler.indices(keys, step, CPU).shape[1]
        total += size / samples * potential.step_gradient(position, step=step, keys=keys)
    torch.testing.assert_close(total, potential.gradient(position), rtol=1e-11, atol=1e-13)


def by_hand(potential, positions, lr, steps, keys_at):
    """Plain SGD on the batches that the sampler names."""
    positions = positions.clone()
    for step in range(steps):
        positions -= lr * potential.step_gradient(positions, step=step, keys=keys_at(step))
    return positions.numpy()


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@pytest.mark.parametrize("sampling", ["epoch", "independent", "replacement"])
@pytest.mark.parametrize("shared", [False, True])
def test_dynamics_follows_the_sampler(shared, sampling, backend):
    potential = loss(sampling=sampling, shared_batches=shared)
    run = ls.simulate(potential, ls.SGD(lr=0.2), steps=15, chains=3, seed=8, backend=backend)
    keys = potential.batch_keys(3, seed=8)
    assert keys.shared == shared
    expected = by_hand(potential, potential.position().expand(3, -1), 0.2, 15, lambda step: keys)
    np.testing.assert_allclose(run.last_position, expected, rtol=0, atol=1e-12)
    equal = np.array_equal(run.last_position[0], run.last_position[1])
    assert equal == shared


def test_a_batch_of_everything_is_the_full_batch():
    whole, none = loss(batch_size=23), loss(batch_size=None)
    runs = [
        ls.simulate(potential, ls.SGD(lr=0.2), steps=10, chains=2) for potential in (whole, none, loss().full_batch())
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run.last_position, runs[0].last_position, rtol=0, atol=1e-12)


def test_a_batch_of_as_many_with_replacement_is_not_the_full_batch():
    run = ls.simulate(loss(23, sampling="replacement"), ls.SGD(lr=0.2), steps=3, chains=2)
    assert not np.allclose(run.last_position[0], run.last_position[1])


def test_recorded_batch_energies_are_those_of_the_next_batch_or_the_last():
    """`batch_energy` belongs to the position it is recorded with, on one of the run's own minibatches."""
    potential = loss()
    record = ls.Record(every=1, observables=["position", "batch_energy", "energy"])
    run = ls.simulate(potential, ls.SGD(lr=0.2), steps=6, chains=2, seed=5, record=record)
    keys = potential.batch_keys(2, seed=5)
    for draw in range(6):
        at = torch.tensor(run.position[:, draw].values)
        choices = [potential.batch_energy(at, step=step, keys=keys) for step in (draw, draw + 1)]
        assert any(np.allclose(run.batch_energy.values[:, draw], choice.numpy(), rtol=1e-12) for choice in choices)


# -- data seeds -------------------------------------------------------------------------------------------------------


def positions_of(potential, backend="auto", chains=3, steps=12, **settings):
    record = ls.Record(observables=["position"])
    run = ls.simulate(potential, ls.SGD(lr=0.2), steps=steps, chains=chains, record=record, backend=backend, **settings)
    return run.position.values


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_equal_data_seeds_are_equal_histories(backend):
    at = positions_of(loss(), backend, data_seed=[6, 7, 6])
    np.testing.assert_array_equal(at[0], at[2])
    assert (at[0] != at[1]).any(axis=-1).all()
    everywhere = positions_of(loss(), backend, data_seed=6)
    np.testing.assert_allclose(everywhere, np.stack([at[0]] * 3), rtol=0, atol=1e-13)


def test_data_seeds_set_batches_and_nothing_else():
    """Another seed of the noise leaves the batches; another data seed leaves the noise."""
    np.testing.assert_array_equal(positions_of(loss(), seed=1, data_seed=6), positions_of(loss(), seed=2, data_seed=6))
    full = loss(batch_size=None)
    settings = {"temperature": 0.1, "steps": 5, "chains": 2}
    runs = [ls.simulate(full, ls.EulerMaruyama(dt=0.1), seed=3, data_seed=s, **settings) for s in (None, 1, 2)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.last_position, runs[0].last_position)
    noisy = loss()
    runs = [ls.simulate(noisy, ls.EulerMaruyama(dt=0.1), seed=3, data_seed=s, **settings) for s in (1, 2)]
    assert not np.array_equal(runs[0].last_position, runs[1].last_position)


def test_the_seed_sets_the_batches_where_no_data_seed_is_given():
    assert not np.array_equal(positions_of(loss(), seed=1), positions_of(loss(), seed=2))
    np.testing.assert_array_equal(positions_of(loss(), seed=1), positions_of(loss(), seed=1))


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@pytest.mark.parametrize("split", [1, 5, 6, 11])
def test_a_schedule_of_data_seeds_splits_exactly_at_its_step(split, backend):
    """Draw i is after i + 1 steps; the first step with other batches is number `split`."""
    potential = loss()
    at = positions_of(potential, backend, data_seed={0: 1, split: [2, 3, 2]})
    for chain in (1, 2):
        np.testing.assert_array_equal(at[chain, :split], at[0, :split])
    assert (at[1, split:] != at[0, split:]).any(axis=-1).all()
    np.testing.assert_array_equal(at[2], at[0])
    before, after = potential.batch_keys(3, 0, (1, 1, 1)), potential.batch_keys(3, 0, (2, 3, 2))
    expected = by_hand(
        potential, potential.position().expand(3, -1), 0.2, 12, lambda step: before if step < split else after
    )
    np.testing.assert_allclose(at[:, -1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_a_schedule_of_data_seeds_counts_from_the_very_first_step(backend):
    """A run in two calls meets the split where the run in one call does; a fresh one counts anew."""
    settings = {"chains": 2, "data_seed": {0: 1, 8: [2, 3]}, "backend": backend}
    integrator = ls.SGD(lr=0.2, momentum=0.5)
    whole = ls.simulate(loss(), integrator, steps=12, **settings)
    first = ls.simulate(loss(), integrator, steps=5, **settings)
    kept = ls.simulate(loss(), integrator, steps=7, start=first, state="keep", **settings)
    fresh = ls.simulate(loss(), integrator, steps=7, start=first, **settings)
    np.testing.assert_array_equal(kept.last_position, whole.last_position)
    assert not np.array_equal(fresh.last_position, whole.last_position)
    np.testing.assert_array_equal(fresh.last_position[0], fresh.last_position[1])


def test_a_schedule_may_change_more_than_once():
    at = positions_of(loss(), data_seed={0: [1, 1, 1], 4: [1, 2, 2], 8: [1, 2, 3]})
    equal = [[np.array_equal(at[a, i], at[b, i]) for i in range(12)] for a, b in ((0, 1), (1, 2))]
    assert equal[0] == [True] * 4 + [False] * 8
    assert equal[1] == [True] * 8 + [False] * 4


@pytest.mark.parametrize(
    ("data_seed", "error", "words"),
    [
        ([1, 2], ShapeError, ["2", "3"]),
        (-1, ConfigError, ["-1"]),
        (2**64, ConfigError, [str(2**64)]),
        (1.5, ConfigError, ["1.5"]),
        ("one", ConfigError, ["'one'"]),
        ({5: 1}, ConfigError, ["0"]),
        ({0: 1, 5: [1, 2]}, ShapeError, ["2", "3"]),
        pytest.param({0: 1, -5: 2}, ConfigError, ["-5"]),
        ({}, ConfigError, ["step 0"]),
    ],
)
def test_data_seeds_that_make_no_sense(data_seed, error, words):
    with pytest.raises(error) as caught:
        positions_of(loss(), data_seed=data_seed, chains=3)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# -- augmentation -----------------------------------------------------------------------------------------------------


class Recorder:
    """Adds a function of the random words to the inputs and keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, inputs, words):
        self.calls.append((inputs.clone(), words.clone()))
        return inputs + (words[..., :1].to(inputs.dtype) / 2**32 - 0.5)


def test_augmentation_gets_inputs_and_words():
    augment = Recorder()
    potential = loss(augment=augment)
    assert not augment.calls
    run = ls.simulate(potential, ls.SGD(lr=0.2), steps=7, chains=2, seed=5)
    assert run.attrs["backend"] == "batched"
    keys = potential.batch_keys(2, seed=5)
    chosen = [potential.sampler.indices(keys, step, CPU).flatten() for step in range(7)]
    inputs, words = (torch.cat([call[part] for call in augment.calls]) for part in (0, 1))
    torch.testing.assert_close(inputs, draws(23, 5)[torch.cat(chosen)])  # step by step, chain by chain
    assert words.dtype == torch.int64
    assert words.shape == (len(inputs), 4)
    assert int(words.min()) >= 0
    assert int(words.max()) < 2**32
    everything = words.flatten().tolist()
    assert len(set(everything)) >= len(everything) - 1  # different for every chain, step, sample and word
    assert 0.35 < np.mean(everything) / 2**32 < 0.65


def test_augmentation_is_a_function_of_chain_and_step():
    one, two = Recorder(), Recorder()
    first = ls.simulate(loss(augment=one), ls.SGD(lr=0.2), steps=6, chains=2, seed=5)
    half = ls.simulate(loss(augment=two), ls.SGD(lr=0.2), steps=2, chains=2, seed=5)
    second = ls.simulate(loss(augment=two), ls.SGD(lr=0.2), steps=4, start=half, state="keep", seed=5)
    np.testing.assert_array_equal(first.last_position, second.last_position)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one.calls, two.calls, strict=True))
    plain = ls.simulate(loss(), ls.SGD(lr=0.2), steps=6, chains=2, seed=5)
    assert not np.allclose(first.last_position, plain.last_position)


def test_full_data_are_never_augmented():
    augment = Recorder()
    potential, without = loss(augment=augment), loss()
    position = potential.position()
    for name in ("energy", "gradient", "hessian", "sample_energies", "sample_gradients", "accuracy"):
        torch.testing.assert_close(getattr(potential, name)(position), getattr(without, name)(position))
    ls.minimize(potential, steps=3)
    assert not augment.calls


# -- bad settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((0, 1, "epoch"), ["0"]),
        ((5, 0, "epoch"), ["batch_size", "0"]),
        ((5, 6, "epoch"), ["batch_size", "5", "6"]),
        ((5, 2, "bootstrap"), ["'bootstrap'", "epoch", "replacement"]),
    ],
)
def test_samplers_that_make_no_sense(settings, words):
    with pytest.raises(LandscapeError) as caught:
        BatchSampler(*settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_sampling_of_a_network():
    with pytest.raises(ConfigError, match="'bootstrap'"):
        loss(sampling="bootstrap")
