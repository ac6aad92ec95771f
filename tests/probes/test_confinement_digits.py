"""Networks on digits: a path between two minima, curvature along it, and what minibatches do to chains on it."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.probes import confinement
from tests.cases import LONG_ONLY

pytest.importorskip("sklearn")
LR, K, STEPS, CHAINS = 0.1, 20, 400, 32
SIDES = (0.2, 0.8)


def network(batch_size=None, seed=0):
    data = datasets.digits()
    module = architectures.mlp([64, 32, 32, 10], seed=seed)
    return NetworkLoss(module, data.inputs, data.targets, batch_size=batch_size, weight_decay=1e-3)


@pytest.fixture(scope="module")
def path():
    starts = torch.stack([network(seed=seed).position().detach() for seed in (0, 1)])
    trained = ls.train(network(32), ls.SGD(lr=0.1), epochs=80, siblings=2, start=starts, seed=1)
    full = network()
    ends = ls.simulate(full, ls.SGD(lr=0.1, momentum=0.9), start=trained, steps=1500, record=ls.Record(1500))
    line = ls.paths.straight_line(*ends.last_position.to_numpy(), 17)
    assert float(line.profile(full).barrier) > 0.5
    found = ls.paths.string(full, line, steps=700, lr=0.1, end_tolerance=0.1).spline
    assert float(found.profile(full, between=3).barrier) < 0.05
    return found


def velocity(loss, path, fraction, chains):
    """Drift of every chain in units of the path's length; all data move a chain exactly."""
    run = ls.simulate(
        loss, ls.SGD(lr=LR), start=np.float32(path.at(fraction * path.length)), chains=chains, steps=STEPS,
        constraint=ls.ProjectOntoPath(path, every=K, update="tangent"), record=ls.Record(STEPS), seed=3,
        data_seed=list(range(chains)),
    )  # fmt: skip
    assert not run.at_vertex.any() and not run.at_end.any()
    s = run.arc_length.to_numpy()
    return (s[:, -1] - s[:, 0]) / (LR * STEPS * path.length)


def excess(make, path, fraction, batch_size):
    """Mean drift beyond that on all data, and its error."""
    noisy = velocity(make(batch_size), path, fraction, CHAINS)
    energetic = velocity(make(None), path, fraction, 1)
    return noisy.mean() - energetic.item(), noisy.std(ddof=1) / np.sqrt(CHAINS)


@LONG_ONLY
def test_minibatches_push_away_from_the_maximum_of_curvature(path):
    """With the sign that the trace predicts before the runs, at two batch sizes, from both sides."""
    settings = {"trace": {"method": "exact"}}
    profile = confinement.along_path(network(), path, ["energy", "largest_eigenvalue", "trace"], settings=settings)
    for name in ("trace", "largest_eigenvalue"):
        assert float(confinement.instability(profile[name]).ratio) > 1.5, name
    predicted = confinement.barriers(profile, 1.0, noise="hessian").entropic_force
    for fraction in SIDES:
        sign = np.sign(np.interp(fraction * path.length, profile.arc_length, predicted))
        assert sign == (-1 if fraction < 0.5 else 1)
        z = []
        for batch_size in (16, 8):
            more, error = excess(network, path, fraction, batch_size)
            z.append(sign * more / error)
        assert min(z) > 4.5, (fraction, z)


def linear(batch_size=None):
    data = datasets.digits()
    labels = torch.nn.functional.one_hot(torch.as_tensor(data.targets).long(), 10).float()
    module = architectures.mlp([64, 10], seed=0)
    return NetworkLoss(module, data.inputs, labels, loss="mse", batch_size=batch_size)


@pytest.mark.slow
def test_a_twin_of_constant_curvature_is_not_pushed():
    """The squared loss of a linear network: its mean step is that on all data, so nothing is left beyond it."""
    full = linear()
    middle = ls.minimize(full, method="lbfgs", tolerance=1e-4).position.to_numpy()
    away = np.random.default_rng(0).normal(size=len(middle)) / np.sqrt(len(middle))
    twin = ls.paths.straight_line(middle - 5 * away, middle + 5 * away, 5)
    for fraction in SIDES:
        for batch_size in (16, 8):
            more, error = excess(linear, twin, fraction, batch_size)
            assert error > 0
            assert abs(more) < 2 * error, (fraction, batch_size, more / error)
