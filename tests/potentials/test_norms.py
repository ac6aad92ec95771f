"""Batch normalisation in a landscape: three policies, private buffers, and no silent choice."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import ConfigError, LandscapeError
from landscape.potentials import NetworkLoss, architectures
from landscape.potentials.network.norms import (
    apply_policy,
    check_policy,
    has_running_statistics,
    reestimated_statistics,
)

SAMPLES = 13


def draws(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = draws(SAMPLES, 4), torch.randint(3, (SAMPLES,), generator=torch.Generator().manual_seed(1))


def network():
    """Linear, batch norm, tanh, batch norm, linear; running statistics that fit no data.

    The layers do not count their batches: see `test_networks_that_count_their_batches_can_be_simulated`.
    """
    module = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)
    ).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    module[1].num_batches_tracked = module[4].num_batches_tracked = None
    return module


def loss(policy, **settings):
    return NetworkLoss(network(), X, Y, batchnorm=policy, **settings)


def around(potential, count=3, seed=7):
    return potential.position() + draws(count, potential.dim, seed=seed, scale=0.3)


def with_weights(position):
    module = network()
    start = 0
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(position[start : start + parameter.numel()].view(parameter.shape))
            start += parameter.numel()
    return module


def value(module):
    return float(functional.cross_entropy(module(X), Y).detach())


def data_statistics(module):
    """Mean and unbiased variance of what enters each normalisation, the first normalised by those of all data."""
    first = module[0](X)
    mean, variance = first.mean(0), first.var(0)
    normal = (first - mean) / torch.sqrt(first.var(0, unbiased=False) + module[1].eps)
    second = module[3](torch.tanh(normal * module[1].weight + module[1].bias))
    return [mean.detach(), variance.detach(), second.mean(0).detach(), second.var(0).detach()]


# -- what has to be chosen ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "running"),
    [
        (nn.BatchNorm1d(3), True),
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm1d(3, affine=False), True),
        pytest.param(nn.InstanceNorm1d(3, track_running_stats=True), True),
        (nn.BatchNorm1d(3, track_running_stats=False), False),
        (nn.InstanceNorm1d(3), False),
        (nn.GroupNorm(1, 3), False),
        (nn.LayerNorm(3), False),
        (nn.Linear(3, 3), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_which_layers_keep_running_statistics(layer, running):
    module = nn.Sequential(nn.Linear(3, 3), nn.Sequential(layer))
    assert has_running_statistics(module) == running
    if running:
        with pytest.raises(ConfigError):
            check_policy(module, None)
    else:
        by_batch = isinstance(layer, nn.BatchNorm1d)  # without running statistics, in evaluation mode too
        assert check_policy(module, None) == ("batch" if by_batch else None)


def test_no_policy_is_refused_with_the_choices():
    with pytest.raises(ConfigError) as caught:
        NetworkLoss(network(), X, Y)
    assert all(word in str(caught.value) for word in ("batchnorm", "frozen", "batch", "reestimate"))
    with pytest.raises(ConfigError, match="batchnorm"):
        NetworkLoss(architectures.resnet_cifar(8, width=2, channels=1), torch.zeros(4, 1, 4, 4), torch.arange(4))


def test_unknown_policies_are_refused():
    with pytest.raises(ConfigError, match="'train'"):
        loss("train")


def test_without_running_statistics_there_is_nothing_to_choose():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    potential = NetworkLoss(module, X, Y)
    expected = functional.cross_entropy(module(X), Y).detach()
    assert float(potential.energy(potential.position())) == pytest.approx(float(expected))


# -- the three policies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_frozen_is_the_modules_own_evaluation(training):
    potential = NetworkLoss(network().train(training), X, Y, batchnorm="frozen")
    for position in around(potential):
        assert float(potential.energy(position)) == pytest.approx(value(with_weights(position).eval()), rel=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_batch_is_the_modules_own_training_pass(training):
    potential = NetworkLoss(network().train(training), X, Y, batchnorm="batch")
    for position in around(potential):
        assert float(potential.energy(position)) == pytest.approx(value(with_weights(position).train()), rel=1e-12)


def test_reestimate_evaluates_with_the_statistics_of_the_data():
    potential = loss("reestimate")
    for position in around(potential):
        module = with_weights(position).eval()
        means_and_variances = data_statistics(module)
        buffers = potential.buffers_at(position)
        for name, expected in zip(
            ("1.running_mean", "1.running_var", "4.running_mean", "4.running_var"), means_and_variances, strict=True
        ):
            torch.testing.assert_close(buffers[name], expected, rtol=1e-12, atol=1e-13)
            module.get_buffer(name).copy_(expected)
        assert float(potential.energy(position)) == pytest.approx(value(module), rel=1e-12)


def test_the_policies_are_three_different_landscapes():
    """Control: the comparisons above could not pass by accident."""
    position = around(loss("frozen"), 1)[0]
    energies = [float(loss(policy).energy(position)) for policy in ("frozen", "batch", "reestimate")]
    assert min(abs(a - b) for i, a in enumerate(energies) for b in energies[:i]) > 1e-4


@pytest.mark.parametrize("policy", ["frozen", "batch", "reestimate"])
def test_many_positions_have_their_own_statistics(policy):
    potential = loss(policy)
    points = around(potential, 4)
    torch.testing.assert_close(potential.energy(points), torch.stack([potential.energy(p) for p in points]))
    torch.testing.assert_close(potential.gradient(points), torch.stack([potential.gradient(p) for p in points]))


@pytest.mark.parametrize("policy", ["frozen", "batch"])
def test_gradients_follow_the_statistics(policy):
    """With "batch" the statistics move with the weights, with "frozen" they do not."""
    potential, step = loss(policy), 1e-4
    start = around(potential, 1)[0]
    for direction in functional.normalize(draws(5, potential.dim, seed=3), dim=-1):
        near = potential.energy(start + step * direction) - potential.energy(start - step * direction)
        far = potential.energy(start + 2 * step * direction) - potential.energy(start - 2 * step * direction)
        slope = float(potential.gradient(start) @ direction)
        assert slope == pytest.approx(float(8 * near - far) / (12 * step), rel=1e-7, abs=1e-9)


def test_reestimated_buffers_are_those_of_the_position():
    potential = loss("batch")
    first, second = around(potential, 2)
    for position in (first, second):
        for buffer, expected in zip(
            [potential.buffers_at(position)[name] for name in ("1.running_mean", "1.running_var")],
            data_statistics(with_weights(position))[:2],
            strict=True,
        ):
            torch.testing.assert_close(buffer, expected)


def test_accuracy_under_frozen_statistics():
    potential = loss("frozen", evaluation=(X[:5], Y[:5]))
    position = around(potential, 1)[0]
    module = with_weights(position).eval()
    accuracy = (module(X[:5]).argmax(-1) == Y[:5]).double().mean()
    assert float(potential.accuracy(position)) == pytest.approx(float(accuracy))
    expected = functional.cross_entropy(module(X[:5]), Y[:5]).detach()
    assert float(potential.evaluation_energy(position)) == pytest.approx(float(expected))


def test_held_out_data_are_judged_by_the_statistics_of_the_data():
    potential = loss("reestimate", evaluation=(X[:5], Y[:5]))
    position = around(potential, 1)[0]
    module = with_weights(position).eval()
    for name, buffer in potential.buffers_at(position).items():
        if "running" in name:
            module.get_buffer(name).copy_(buffer)
    expected = functional.cross_entropy(module(X[:5]), Y[:5]).detach()
    assert float(potential.evaluation_energy(position)) == pytest.approx(float(expected))


@pytest.mark.parametrize("policy", ["frozen", "batch"])
@pytest.mark.parametrize("chunk_size", [2, 6, 13])
def test_the_chunk_size_changes_nothing(policy, chunk_size):
    whole, chunked = loss(policy), loss(policy, chunk_size=chunk_size)
    points = around(whole)
    torch.testing.assert_close(chunked.energy(points), whole.energy(points), rtol=1e-10, atol=0)
    torch.testing.assert_close(chunked.gradient(points), whole.gradient(points), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [2, 5, 7])
def test_the_chunk_size_changes_no_reestimated_statistics(chunk_size):
    whole, chunked = loss("reestimate"), loss("reestimate", chunk_size=chunk_size)
    points = around(whole)
    torch.testing.assert_close(chunked.energy(points), whole.energy(points), rtol=1e-10, atol=0)


def test_a_last_chunk_of_one_sample():
    potential = loss("reestimate", chunk_size=6)  # 13 = 6 + 6 + 1
    assert np.isfinite(float(potential.energy(potential.position())))


# -- private modules ---------------------------------------------------------------------------------------------------


def test_apply_policy_sets_a_private_module():
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Linear(6, 3)).double().train()
    by_batch, by_store = copy.deepcopy(module), copy.deepcopy(module)
    apply_policy(by_batch, use_batch_statistics=True)
    apply_policy(by_store, use_batch_statistics=False)
    hidden = module[0](X)
    normal = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, unbiased=False) + module[2].eps)
    torch.testing.assert_close(by_batch(X), module[3](normal))
    torch.testing.assert_close(by_store(X), module.eval()(X))


def test_averages_weigh_batches_by_their_size():
    module = network()
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    for batches in ([X], [X[:8], X[8:]], [X[:11], X[11:]]):
        private = copy.deepcopy(module).eval()

        def run(buffers, private=private, batches=batches):
            for batch in batches:
                torch.func.functional_call(private, (parameters, buffers), (batch,))

        statistics = reestimated_statistics(private, run)
        torch.testing.assert_close(statistics["1.running_mean"], module[0](X).mean(0).detach())
        assert not any(child.training for child in private.modules())


# -- dynamics ----------------------------------------------------------------------------------------------------------


def test_dynamics_under_reestimate_uses_the_batch():
    """Steps follow the minibatch's statistics; recorded energies are those of the re-estimated network."""
    by_batch, by_estimate = loss("batch", batch_size=5), loss("reestimate", batch_size=5)
    runs = [
        ls.simulate(potential, ls.SGD(lr=0.1, momentum=0.5), steps=7, chains=2, seed=4)
        for potential in (by_batch, by_estimate)
    ]
    np.testing.assert_array_equal(runs[0].last_position, runs[1].last_position)
    assert not np.array_equal(runs[0].energy, runs[1].energy)
    for run, potential in zip(runs, (by_batch, by_estimate), strict=True):
        last = potential.energy(torch.tensor(run.last_position.values))
        np.testing.assert_allclose(run.energy[:, -1], last, rtol=1e-12)


def test_a_step_of_dynamics_is_the_modules_own_training_step():
    potential = loss("batch", batch_size=5)
    keys = potential.batch_keys(1, 4)
    run = ls.simulate(potential, ls.SGD(lr=0.1), steps=1, seed=4)
    chosen = potential.sampler.indices(keys, 0, torch.device("cpu"))[0]
    module = network().train()
    functional.cross_entropy(module(X[chosen]), Y[chosen]).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
    expected = potential.position() - 0.1 * gradient
    np.testing.assert_allclose(run.last_position[0], expected, rtol=0, atol=1e-13)


def test_frozen_statistics_stay_constant_in_dynamics():
    potential = loss("frozen", batch_size=5)
    run = ls.simulate(potential, ls.SGD(lr=0.1), steps=6, chains=2, seed=4)
    at = torch.tensor(run.last_position.values)
    for chain in range(2):
        expected = value(with_weights(at[chain]).eval())
        assert float(run.energy[chain, -1]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("policy", ["batch", "reestimate"])
def test_final_states_carry_their_own_buffers(policy):
    potential = loss(policy, batch_size=5)
    run = ls.simulate(potential, ls.SGD(lr=0.3), steps=5, chains=3, seed=4)
    names = [name for name in run if name.startswith("buffer_")]
    assert {"buffer_1_running_mean", "buffer_1_running_var", "buffer_4_running_mean"} <= set(names)
    for chain in range(3):
        expected = potential.buffers_at(run.last_position[chain].values)
        for name, buffer in expected.items():
            if "running" in name:
                stored = run["buffer_" + name.replace(".", "_")][chain]
                np.testing.assert_allclose(stored, buffer, rtol=1e-12)
    assert not np.allclose(run.buffer_1_running_mean[0], run.buffer_1_running_mean[1])


def test_minima_carry_their_own_buffers():
    potential = loss("batch")
    minimum = ls.minimize(potential, steps=5)
    expected = potential.buffers_at(minimum.position.values)
    np.testing.assert_allclose(minimum.buffer_1_running_mean, expected["1.running_mean"], rtol=1e-12)
    np.testing.assert_allclose(minimum.buffer_4_running_var, expected["4.running_var"], rtol=1e-12)


def test_chains_are_independent():
    """A chain of three is the chain alone, whatever its neighbours' statistics."""
    potential = loss("batch", batch_size=5, shared_batches=True)
    starts = around(potential).numpy()
    together = ls.simulate(potential, ls.SGD(lr=0.1), start=starts, steps=6, seed=4)
    for chain in range(3):
        alone = ls.simulate(potential, ls.SGD(lr=0.1), start=starts[chain], steps=6, seed=4)
        np.testing.assert_allclose(alone.last_position[0], together.last_position[chain], rtol=0, atol=1e-12)


def test_a_short_last_batch_of_one_sample():
    """13 = 4 * 3 + 1: one sample has no variance, and the run must not go on with NaN."""
    with pytest.raises(LandscapeError, match="batch_size=4"):
        loss("batch", batch_size=4)


def test_networks_that_count_their_batches_can_be_simulated():
    module = architectures.resnet_cifar(8, width=2, classes=3, channels=1)
    potential = NetworkLoss(module, draws(6, 1, 4, 4), Y[:6], batchnorm="batch")
    assert np.isfinite(ls.simulate(potential, ls.SGD(lr=0.1), steps=2).energy).all()


@pytest.mark.parametrize("policy", ["frozen", "batch"])
def test_dynamics_of_a_converted_network_uses_its_dtype(policy):
    """Frozen statistics are converted with the weights."""
    double, single = loss(policy), loss(policy, dtype=torch.float32)
    back = single.converted(torch.float64)
    at = around(double)
    assert back.step_gradient(at, step=0).dtype == torch.float64
    torch.testing.assert_close(back.step_gradient(at, step=0), double.step_gradient(at, step=0), rtol=1e-5, atol=1e-5)
