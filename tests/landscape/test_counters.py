"""Counters of the random numbers at the boundaries of their words: steps, seeds, chains, epochs, on every backend.

Runs are set down just before a boundary: a run of one step whose number of steps made is replaced, then gone on with.
"""

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape import random
from landscape.kernels.compilation import exact
from landscape.kernels.philox import fill_words
from landscape.potentials import Expression, NetworkLoss
from tests.cases import BACKENDS, INTEGRATORS

NAMES = ["x", "y", "z", "u", "v"]
SPRINGS = {dim: Expression(" + ".join(f"{name}**2/2" for name in NAMES[:dim]), NAMES[:dim]) for dim in (1, 2, 3, 5)}
BEFORE, AFTER = 20, 90  # a tile of the compiled loops holds 64 calls, which may serve several steps


@exact
def fill(words, seed, stream, chain, step, call, along_chains, along_steps, along_calls):
    fill_words(words, seed, stream, chain, step, call, along_chains, along_steps, along_calls)


def bits(run):
    return run.last_position.values.tobytes()


def beside(potential, rule, boundary, pieces, chains, backend, **settings):
    """A run across a step `boundary`, in pieces; the dataset of the last one."""
    thermal = {"temperature": 1.0 if rule.thermal else 0.0, "backend": backend, **settings}
    start = [0.1] * potential.dim
    at = ls.simulate(potential, rule, start=start, chains=chains, steps=1, **thermal)
    at = at.assign_attrs(last_step=boundary - BEFORE)
    for steps in pieces:
        at = ls.simulate(potential, rule, start=at, state="keep", steps=steps, record=ls.Record(steps), **thermal)
    assert at.attrs["last_step"] == boundary - BEFORE + sum(pieces)
    return at


def differ(one, other):
    """How far apart the last positions are, in the chains that both have."""
    few = min(one.sizes["chain"], other.sizes["chain"])
    return np.abs(one.last_position.values[:few] - other.last_position.values[:few]).max()


def same_bits(one, other):
    few = min(one.sizes["chain"], other.sizes["chain"])
    return one.last_position.values[:few].tobytes() == other.last_position.values[:few].tobytes()


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_words_carry(seed):
    """Rows along steps, calls and chains: each word of the compiled form is that of the torch form."""
    for first in (0, 2**32 - 5, 2**33 - 31, 2**34 - 1, 2**40 - 7, 2**56 - 40):
        for stream in (0, 3, 255):
            for strides in ((0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 3, 1), (1, 0, 2)):
                made = np.empty((4, 12), np.uint32)
                chain, call = 7, 5
                fill(made, np.uint64(seed), stream, chain, first, call, *strides)
                i = torch.arange(12)
                told = random.random_words(
                    seed, stream, chain + strides[0] * i, first + strides[1] * i, call + strides[2] * i
                )
                assert np.array_equal(made.T, told.numpy()), (first, stream, strides)
    wrapped = random.random_words(seed, 0, torch.tensor(7), torch.arange(4), torch.tensor(5))
    carried = random.random_words(seed, 0, torch.tensor(7), 2**32 + torch.arange(4), torch.tensor(5))
    assert not (wrapped == carried).all(dim=1).any()  # the control: without the carry these would be equal


def test_seeds_differ():
    """Neighbours, those that agree in one word, and those that an int64 or a float64 would confuse."""
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]
    for dim in (1, 3):
        ends = {}
        for seed in seeds:
            runs = [
                ls.simulate(
                    SPRINGS[dim], ls.EulerMaruyama(0.1), temperature=1.0, start=[0.0] * dim, chains=chains, steps=9,
                    seed=seed, backend=backend,
                )
                for backend in BACKENDS
                for chains in (1, 40)
            ]  # fmt: skip
            assert all(differ(runs[0], run) < 1e-12 for run in runs[1:])
            ends[seed] = runs[0].last_position.values.tobytes()
        assert len(set(ends.values())) == len(seeds)


# -- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", SPRINGS)
@pytest.mark.parametrize("power", [32, 33, 34, 40, 52])
def test_runs_across_a_boundary(dim, power):
    """Divided elsewhere, in other numbers of chains and on the other backend, a run is the same."""
    rule = ls.EulerMaruyama(0.1)
    whole = beside(SPRINGS[dim], rule, 2**power, [AFTER], 3, "compiled")
    for pieces in ([BEFORE, AFTER - BEFORE], [7, 30, AFTER - 37]):
        assert bits(beside(SPRINGS[dim], rule, 2**power, pieces, 3, "compiled")) == bits(whole)
    for chains in (1, 40):
        assert same_bits(beside(SPRINGS[dim], rule, 2**power, [AFTER], chains, "compiled"), whole)
    assert differ(beside(SPRINGS[dim], rule, 2**power, [AFTER], 3, "batched"), whole) < 1e-12
    # the control: the numbers of the steps from 0 on, which a counter that does not carry would give
    assert differ(beside(SPRINGS[dim], rule, BEFORE, [AFTER], 3, "compiled"), whole) > 0.1


@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_integrator_crosses_boundaries(name):
    rule = INTEGRATORS[name](0.05)
    width = 128 if "two-point" in name else 4
    fine = getattr(rule.thermal_noise, "refinement", 1)
    for dim in (1, 3):
        for boundary in {2**32, 2**32 * width // (4 if dim == 3 else 1), -(-(2**32) // fine)}:
            whole = beside(SPRINGS[dim], rule, boundary, [AFTER], 3, "compiled")
            parted = beside(SPRINGS[dim], rule, boundary, [7, AFTER - 7], 3, "compiled")
            assert bits(parted) == bits(whole)
            assert same_bits(beside(SPRINGS[dim], rule, boundary, [AFTER], 40, "compiled"), whole)
            if rule.thermal:
                assert differ(beside(SPRINGS[dim], rule, boundary + 1, [AFTER], 3, "compiled"), whole) > 1e-3
        assert differ(beside(SPRINGS[dim], rule, boundary, [AFTER], 3, "batched"), whole) < 1e-9


@pytest.mark.parametrize("backend", BACKENDS)
def test_exits_across_a_boundary(backend):
    """The test between steps draws from its own stream."""
    walls = {"constraint": ls.Absorb({"x": (-1.5, 1.5)})}
    whole = beside(SPRINGS[1], ls.EulerMaruyama(0.02), 2**32, [AFTER], 40, backend, **walls)
    parted = beside(SPRINGS[1], ls.EulerMaruyama(0.02), 2**32, [BEFORE, AFTER - BEFORE], 40, backend, **walls)
    assert int((whole.exit_side != 0).sum()) > 5
    assert np.array_equal(whole.exit_side, parted.exit_side)
    assert np.allclose(whole.exit_time, parted.exit_time, rtol=1e-12, equal_nan=True)
    if backend == "batched":
        other = beside(SPRINGS[1], ls.EulerMaruyama(0.02), 2**32, [AFTER], 40, "compiled", **walls)
        assert np.allclose(other.exit_time, whole.exit_time, rtol=1e-12, equal_nan=True)


# -- networks and their minibatches -----------------------------------------------------------------------------------


def network(**settings):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    inputs = torch.randn(7, 2, dtype=torch.float64)
    return NetworkLoss(module, inputs, torch.arange(7) % 2, **settings)


@pytest.mark.parametrize("sampling", ["epoch", "replacement"])
def test_networks_cross_boundaries(sampling):
    """Noise by step, minibatches by step or by epoch of three steps."""
    rule = ls.SGLD(1e-2)
    for boundary in (2**32, 3 * 2**32, 2**53 - 2**40):
        loss = network(batch_size=3, sampling=sampling)
        start = {"start": loss.position().numpy()}
        runs = []
        for backend, pieces in (("compiled", [24]), ("compiled", [BEFORE, 4]), ("batched", [24]), ("batched", [7, 17])):
            at = ls.simulate(loss, rule, temperature=1e-3, chains=2, steps=1, backend=backend, **start)
            at = at.assign_attrs(last_step=boundary - BEFORE)
            for steps in pieces:
                at = ls.simulate(loss, rule, temperature=1e-3, start=at, state="keep", steps=steps, backend=backend)
            runs.append(at)
        assert all(differ(runs[0], run) < 1e-12 for run in runs[1:])
        other = at.assign_attrs(last_step=0)
        other = ls.simulate(loss, rule, temperature=1e-3, start=other, state="keep", steps=24, backend="batched")
        assert differ(runs[0], other) > 1e-3


def test_epochs_and_keys_at_their_boundaries():
    """An order of the samples is a function of all bits of seed, stream and epoch."""
    orders = [
        tuple(random.permutation(seed, torch.tensor([stream]), epoch, 30)[0].tolist())
        for seed in (0, 2**32, 2**64 - 1)
        for stream in (0, 2**32 - 1)
        for epoch in (0, 1, 2**32 - 1, 2**32, 2**33, 2**56 - 1)
    ]
    assert len(set(orders)) == len(orders)
    assert all(sorted(order) == list(range(30)) for order in orders)
