"""How hot SGLD gets by its minibatches: laws of the docstring, each symbol varied.

Samples of one curvature k, whose minima a_i differ: gradients k (x - a_i), of variance S^2 = k^2 var(a).
"""

import numpy as np
import pytest
import torch

import landscape as ls
from tests.cases import Z_CONTROL, Z_MAX, z_score

A = np.array([-1.3, 0.2, 0.9, 1.6, -0.4, -2.0, 0.3, 1.1, -0.7, 0.5, 2.2, -1.9])


def samples(width, count, batch_size, sampling):
    """Mean of (width w - b_i)^2: k = 2 width^2 and minima a_i = b_i/width, as a network of one weight."""
    minima = torch.tensor(A[:count] - A[:count].mean())[:, None]
    inputs = torch.full((count, 1), width, dtype=torch.float64)
    module = torch.nn.Linear(1, 1, bias=False).double()
    return ls.potentials.NetworkLoss(
        module, inputs, minima, loss="mse", batch_size=batch_size, sampling=sampling, dtype=torch.float64
    )


def law(k, temperature, lr, variance, count, batch, sampling, phase=None):
    """<x^2> after `phase` batches of an epoch (averaged over the epoch where None)."""
    rho, thermal = 1 - lr * k, temperature / k / (1 - lr * k / 2)
    if sampling != "epoch":
        subsets = 1.0 if sampling == "replacement" else (count - batch) / (count - 1)
        return (temperature + lr * variance * subsets / batch / 2) / (k * (1 - lr * k / 2))
    batches, c = count // batch, variance / batch * (count - batch) / (count - 1)
    i = np.arange(batches + 1)
    squares, sums = np.cumsum(np.append(0, rho ** (2 * i[:-1]))), np.cumsum(np.append(0, rho ** i[:-1]))
    s = (batches * squares - sums**2) / (batches - 1)
    found = thermal + lr**2 * c * (s + rho ** (2 * i) * s[-1] / (1 - rho ** (2 * batches)))
    return found[1:].mean() if phase is None else found[phase]


def sampled(width, temperature, lr, count, batch, sampling, phase=None):
    """<x^2> of every chain, and k and S^2."""
    k, batches, chains = 2 * width**2, count // batch, 150
    warm = batches * int(np.ceil(6 / (lr * k) / batches)) + (phase or 0)
    loss = samples(width, count, batch, sampling)
    settings = {"temperature": temperature, "seed": 3, "chains": chains}
    first = ls.simulate(loss, ls.SGLD(lr), start=[0.0], steps=warm, record=ls.Record(warm), **settings)
    every = 1 if phase is None else batches
    run = ls.simulate(
        loss, ls.SGLD(lr), start=first, state="keep", steps=12 * batches, record=ls.Record(every, ["position"]),
        **settings,
    )  # fmt: skip
    gradients = 2 * width * (A[:count] - A[:count].mean())
    return (run.position.values[..., 0] ** 2).mean(axis=1), k, gradients.var()


@pytest.mark.parametrize("sampling", ["replacement", "independent", "epoch"])
@pytest.mark.parametrize(
    ("width", "temperature", "lr", "count", "batch"),
    [
        (1.0, 0.01, 0.1, 12, 3), (0.6, 0.01, 0.1, 12, 3), (1.0, 0.3, 0.1, 12, 3), (1.0, 0.01, 0.25, 12, 3),
        (1.0, 0.01, 0.1, 12, 2), (1.0, 0.01, 0.1, 9, 3),
    ],
)  # fmt: skip
def test_heat_of_minibatches(width, temperature, lr, count, batch, sampling):
    found, k, variance = sampled(width, temperature, lr, count, batch, sampling)
    assert abs(z_score(found, law(k, temperature, lr, variance, count, batch, sampling))) < Z_MAX
    if temperature < 0.1:
        other = {"replacement": "epoch", "independent": "epoch", "epoch": "replacement"}[sampling]
        assert abs(z_score(found, law(k, temperature, lr, variance, count, batch, other))) > Z_CONTROL


def test_the_heat_of_an_epoch_comes_and_goes():
    """Half way through an epoch of six batches, and at its end, where next to nothing is left."""
    k_law = []
    for phase in (3, 0):
        found, k, variance = sampled(1.0, 0.002, 0.05, 12, 2, "epoch", phase or 6)
        exact = law(k, 0.002, 0.05, variance, 12, 2, "epoch", phase or 6)
        assert abs(z_score(found, exact)) < Z_MAX
        k_law.append(exact)
    assert k_law[0] > 1.5 * k_law[1]


def test_the_limit_of_small_rates():
    """T + lr C (lr k)(M + 1)/6, and T + lr C/2 with replacement."""
    k, lr, temperature, variance, count, batch = 1.7, 1e-4, 0.0, 2.3, 60, 5
    c, m = variance / batch * (count - batch) / (count - 1), count // batch
    assert k * law(k, temperature, lr, variance, count, batch, "epoch") == pytest.approx(
        lr * c * (lr * k) * (m + 1) / 6, rel=2e-3
    )
    assert k * law(k, temperature, lr, variance, count, batch, "replacement") == pytest.approx(
        lr * variance / batch / 2, rel=1e-3
    )
