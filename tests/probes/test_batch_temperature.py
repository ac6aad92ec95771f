"""The heat of minibatches by the way they are drawn: enumerated, and in runs of a network."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials.network.batches import BatchKeys, BatchSampler
from landscape.probes.fluctuations import batch_temperature, effective_temperature

A = np.array([-1.0, 0.3, 0.7, 2.0, -0.4, 0.1])
C = A.var(ddof=1)
SAMPLINGS = ("epoch", "independent", "replacement")


def enumerated(curvature, lr, momentum, batch, sampling):
    """k <x^2> over the steps, from all ways to draw the batches of an epoch, all equally likely."""
    step = np.array([[1 - lr * curvature, momentum], [-lr * curvature, momentum]])
    deviation = A - A.mean()
    if sampling == "epoch":
        rows = {tuple(tuple(sorted(o[i : i + batch])) for i in range(0, 6, batch)) for o in permutations(range(6))}
        ways = [[deviation[list(part)].mean() for part in row] for row in rows]
    else:
        draw = combinations(range(6), batch) if sampling == "independent" else product(range(6), repeat=batch)
        ways = [[deviation[list(part)].mean()] for part in draw]
    states, moments = np.zeros((len(ways), 2)), []
    powers = []
    for kicks in np.array(ways).T:
        states = states @ step.T - lr * kicks[:, None]
        moments.append(states.T @ states / len(ways))
        powers.append(step if not powers else step @ powers[-1])
    start = np.zeros((2, 2))
    for _ in range(4000):
        start = powers[-1] @ start @ powers[-1].T + moments[-1]
    return curvature * np.mean([(p @ start @ p.T + m)[0, 0] for p, m in zip(powers, moments, strict=True)])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    ("curvature", "lr", "momentum", "batch"),
    [
        (1.0, 0.1, 0.0, 2),
        (0.3, 0.1, 0.0, 2),
        (1.0, 0.9, 0.0, 3),
        (1.0, 0.1, 0.7, 2),
        (2.0, 0.2, 0.0, 1),
        (1, 0.3, 0, 6),
    ],
)
def test_the_law_is_that_of_all_batches_of_six_samples(curvature, lr, momentum, batch, sampling):
    setting = {"noise": C, "lr": lr, "batch_size": batch, "samples": 6, "momentum": momentum}
    found = float(batch_temperature(curvature, sampling=sampling, **setting))
    assert found == pytest.approx(enumerated(curvature, lr, momentum, batch, sampling), rel=1e-9, abs=1e-15)
    if batch < 6:
        same = {"independent", "replacement"} if batch == 1 else {sampling}
        for other in set(SAMPLINGS) - (same | {sampling}):
            assert abs(float(batch_temperature(curvature, sampling=other, **setting)) / found - 1) > 0.05


def test_epochs_that_end_with_a_short_batch():
    """Five samples of six in batches of four and two: covariances C (delta / b - 1/n), whatever the sizes."""
    rows = {(tuple(sorted(o[:4])), tuple(sorted(o[4:]))) for o in permutations(range(6))}
    means = np.array([[A[list(part)].mean() - A.mean() for part in row] for row in rows])
    np.testing.assert_allclose(means.T @ means / len(means), C * (np.diag([1 / 4, 1 / 2]) - 1 / 6), atol=1e-14)
    two = batch_temperature(1.0, C, 0.1, 4, 6, sampling="epoch")
    assert 0 < float(two) < float(batch_temperature(1.0, C, 0.1, 4, 6, sampling="independent"))


def test_limits():
    setting = {"noise": 2.0, "lr": 1e-4, "batch_size": 5, "samples": 60}
    slow = np.array([0.5, 1.0, 2.0])
    epoch = batch_temperature(slow, sampling="epoch", **setting)
    np.testing.assert_allclose(epoch, 1e-8 * slow * 2 / 5 * (1 - 5 / 60) * 13 / 6, rtol=2e-3)
    np.testing.assert_allclose(
        batch_temperature(slow, sampling="independent", **setting), 1e-4 * 55 / 60 / 5, rtol=1e-3
    )
    # directions that relax within an epoch do not see that it adds up to zero
    ratio = batch_temperature(50.0, 2.0, 1e-2, 1, 1000, sampling="epoch") / batch_temperature(
        50.0, 2.0, 1e-2, 1, 1000, sampling="independent"
    )
    assert 0.98 < float(ratio) < 1.0
    assert np.isnan(batch_temperature(30.0, 2.0, 0.1, 1, 10, sampling="epoch"))


@pytest.mark.parametrize("change", [{"sampling": "shuffled"}, {"lr": -1.0}, {"batch_size": 7}, {"momentum": 1.0}])
def test_senseless_settings_are_refused(change):
    setting = {"noise": 1.0, "lr": 0.1, "batch_size": 2, "samples": 6, "sampling": "epoch"} | change
    with pytest.raises(ConfigError):
        batch_temperature(1.0, **setting)


def network(sampling, batch=2):
    """Loss k (w - a_i)^2 / 2 with k = 2, all of one curvature."""
    module = torch.nn.Linear(1, 1, bias=False).double()
    targets = torch.as_tensor(A)[:, None]
    return ls.potentials.NetworkLoss(
        module, torch.ones_like(targets), targets, loss="mse", batch_size=batch, sampling=sampling
    )


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_runs_follow_the_law(sampling):
    loss, chains, steps = network(sampling), 100, 150
    run = ls.simulate(
        loss, ls.SGD(lr=0.1), steps=steps, start=[A.mean()], chains=chains, seed=1,
        record=ls.Record(1, ["position"]), progress=False,
    )  # fmt: skip
    moved = run.position.values[:, 60:, 0] - A.mean()
    each = 2.0 * (moved**2).mean(axis=1)
    error = each.std(ddof=1) / np.sqrt(chains)
    law = {s: float(batch_temperature(2.0, 4.0 * C, 0.1, 2, 6, sampling=s)) for s in SAMPLINGS}
    assert abs(each.mean() - law[sampling]) < 4.5 * error
    assert min(abs(each.mean() - law[s]) for s in SAMPLINGS if s != sampling) > 4.5 * error


def test_independent_subsets_are_new_at_each_step():
    sampler, keys = BatchSampler(6, 2, "independent"), BatchKeys((3,) * 1500, tuple(range(1500)))
    first, second = (sampler.indices(keys, step, torch.device("cpu")).numpy() for step in (0, 1))
    assert first.shape == (1500, 2)
    for drawn in (first, second):
        assert (drawn[:, 0] != drawn[:, 1]).all()
        counts = np.unique(np.sort(drawn, axis=1) @ [6, 1], return_counts=True)[1]
        assert len(counts) == 15
        assert ((counts - 100) ** 2 / 100).sum() < 45  # chi-square of 14: one in 30,000
    both = np.bincount(6 * first[:, 0] + second[:, 0], minlength=36)
    assert ((both - 1500 / 36) ** 2 / (1500 / 36)).sum() < 80  # of 35: one in 30,000
    # the second batch of an epoch never repeats the first: the control of that test
    epoch = BatchSampler(6, 2, "epoch")
    first, second = (epoch.indices(keys, step, torch.device("cpu")).numpy() for step in (0, 1))
    both = np.bincount(6 * first[:, 0] + second[:, 0], minlength=36)
    assert ((both - 1500 / 36) ** 2 / (1500 / 36)).sum() > 160


def test_temperatures_of_networks_know_their_sampling():
    at = torch.tensor([A.mean()], dtype=torch.float64)
    found = {s: effective_temperature(network(s), at, 0.1, 2) for s in SAMPLINGS}
    assert [one.attrs["sampling"] for one in found.values()] == list(SAMPLINGS)
    for sampling in ("independent", "replacement"):
        limit = batch_temperature(1e-6, 4.0 * C, 0.1, 2, 6, sampling=sampling)
        assert float(found[sampling].temperature) == pytest.approx(float(limit), rel=1e-5)
    assert np.isnan(found["epoch"].temperature)
    assert np.isnan(found["epoch"].temperature_stderr)
    named = effective_temperature(network("epoch"), at, 0.1, 2, sampling="independent")
    assert float(named.temperature) == float(found["independent"].temperature)
    assert float(effective_temperature(network("epoch"), at, 0.1, 6).temperature) == 0.0


def test_the_old_name_is_told_the_new_one():
    at = torch.tensor([A.mean()], dtype=torch.float64)
    with pytest.warns(FutureWarning, match='sampling="replacement"'):
        old = effective_temperature(network("epoch"), at, 0.1, 2, replacement=True)
    assert float(old.temperature) == float(
        effective_temperature(network("epoch"), at, 0.1, 2, sampling="replacement").temperature
    )
    with pytest.raises(ConfigError):
        effective_temperature(network("epoch"), at, 0.1, 2, replacement=True, sampling="epoch")
