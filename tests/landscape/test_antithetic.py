"""Pairs of chains with opposite noise: the same law, and drifts that diffusion would hide."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError
from landscape.probes import confinement, fluctuations, free_energy
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX

PAIRED = ls.ThermalNoise(antithetic=True)
VALLEY = ls.potentials.Valley("1 + y**2")
AXIS = ls.paths.straight_line([0.0, -4.0], [0.0, 4.0])
T, ETA, Y = 0.01, 0.02, 1.5


def network(activation="tanh"):
    module = ls.potentials.architectures.mlp([3, 4, 2], activation=activation, seed=1)
    return ls.potentials.NetworkLoss(
        module, ls.potentials.datasets.random_labels(8, 3, classes=2, seed=2), dtype=torch.float64
    )


def cases():
    for backend in BACKENDS:
        yield f"formula, {backend}", VALLEY, backend
        yield f"network, {backend}", network(), backend


@pytest.mark.parametrize(("name", "potential", "backend"), list(cases()), ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("refinement", [1, 3])
def test_chains_of_a_pair_move_oppositely(name, potential, backend, refinement):
    settings = {"temperature": 0.3, "steps": 5, "seed": 3, "backend": backend}
    noise = ls.ThermalNoise(antithetic=True, refinement=refinement)
    run = ls.simulate(potential, ls.Diffusion(dt=0.1, noise=noise), chains=5, **settings)
    start = np.asarray(potential.default_start(), dtype=float)
    moved = run.last_position.to_numpy() - start
    np.testing.assert_allclose(moved[0::2][:2], -moved[1::2], rtol=1e-12, atol=1e-14)
    plain = ls.simulate(
        potential, ls.Diffusion(dt=0.1, noise=ls.ThermalNoise(refinement=refinement)), chains=3, **settings
    )
    np.testing.assert_allclose(moved[0::2], plain.last_position.to_numpy() - start, rtol=1e-12, atol=1e-14)
    assert run.pair.values.tolist() == [0, 0, 1, 1, 2]


def test_both_backends_and_any_parts():
    settings = {"temperature": 1e-2, "chains": 4, "seed": 3, "start": network().position().detach().numpy()}
    rule = ls.EulerMaruyama(dt=0.1, noise=PAIRED)
    compiled = ls.simulate(network(), rule, steps=9, backend="compiled", **settings)
    batched = ls.simulate(network(), rule, steps=9, backend="batched", **settings)
    np.testing.assert_allclose(compiled.last_position, batched.last_position, rtol=1e-11, atol=1e-13)
    assert float(abs(compiled.last_position[0] - compiled.last_position[1]).max()) > 1e-3
    first = ls.simulate(network(), rule, steps=4, backend="compiled", **settings)
    again = ls.simulate(network(), rule, steps=5, backend="compiled", state="keep", **settings | {"start": first})
    np.testing.assert_array_equal(again.last_position, compiled.last_position)


@pytest.mark.parametrize("chains", [1, 7, 40, 700])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_compiled_formulas_ride_the_same_pairs(chains, precision):
    """Few chains and many, also where a block begins inside a pair, draw what the batched form draws."""
    rule = ls.EulerMaruyama(dt=0.01, noise=ls.ThermalNoise(precision=precision, antithetic=True))
    runs = [
        ls.simulate(VALLEY, rule, temperature=0.3, chains=chains, steps=6, seed=3, backend=backend).last_position
        for backend in BACKENDS
    ]
    np.testing.assert_allclose(*runs, rtol=1e-12, atol=1e-14)


def test_each_chain_has_the_law_of_a_plain_one():
    """<x^2> = T/[k (1 - dt k/2)], from one chain of each pair; noise 1.05 times as large is seen."""
    spring, temperature = ls.potentials.Quadratic([2.0]), 0.5
    for scale, right in ((1.0, True), (1.05, False)):
        run = ls.simulate(
            spring, ls.EulerMaruyama(dt=0.1, noise=PAIRED), temperature=temperature * scale**2, chains=80_000,
            steps=60, seed=5, record=ls.Record(60),
        )  # fmt: skip
        for chain in (0, 1):
            square = run.last_position[chain::2, 0].to_numpy() ** 2
            z = (square.mean() - temperature / (2.0 * (1 - 0.1))) / (square.std() / len(square) ** 0.5)
            assert abs(z) < Z_MAX if right else abs(z) > Z_CONTROL, (scale, chain, z)


def v_k(k):
    rho = 1 - ETA * (1 + Y**2)
    return -Y * 2 * ETA * T / (1 - rho**2) * (1 - (1 - rho ** (2 * k)) / (k * (1 - rho**2)))


def drift(k, noise, seed, pairs=200):
    run = ls.simulate(
        VALLEY, ls.EulerMaruyama(dt=ETA, noise=noise), start=[0.0, Y], temperature=T, chains=2 * pairs, steps=k,
        seed=seed, constraint=ls.ProjectOntoPath(AXIS, every=k), record=ls.Record(k),
    )  # fmt: skip
    found = confinement.drift(run, bins=[0.0, 8.0])
    return float(found.velocity[0, 0]), float(found.velocity_stderr[0, 0])


@pytest.mark.parametrize("k", [5, 15, 60])
def test_a_drift_below_the_diffusion(k):
    """The drift of k projected steps, with a tenth of the error of as many independent chains."""
    value, error = drift(k, PAIRED, seed=11)
    expected = v_k(k)
    assert abs(value - expected) < Z_MAX * error + 0.01 * abs(expected)  # y moves within the block: 0.5 %
    assert abs(value - 2 * expected) > Z_CONTROL * error
    assert error < 0.1 * drift(k, None, seed=11)[1]


def test_errors_are_those_of_pairs():
    """95 % intervals cover; those of chains taken for independent do not even touch the mark."""
    found = np.array([drift(15, PAIRED, seed, pairs=100) for seed in range(200)])
    truth = np.array([drift(15, PAIRED, 1000 + seed, pairs=1000)[0] for seed in range(20)]).mean()
    inside = abs(found[:, 0] - truth) < 1.96 * found[:, 1]
    assert 0.90 < inside.mean() < 0.985
    wide = np.array([drift(15, None, seed, pairs=100)[1] for seed in range(20)])
    assert (abs(found[:, 0] - truth)[:20] < 0.2 * wide).all()


def test_pairs_are_not_taken_for_independent():
    rule = ls.EulerMaruyama(dt=0.1, noise=PAIRED)
    run = ls.simulate(ls.potentials.Quadratic([1.0]), rule, temperature=0.1, chains=8, steps=2000, seed=1)
    assert np.array_equal(run.energy[0], run.energy[1])  # even in the noise: the second chain says nothing new
    refused = [
        lambda given: fluctuations.summary(given.energy, by="temperature"),
        lambda given: free_energy.profile(given.position[..., 0], 0.1),
        lambda given: free_energy.profile(given, 0.1, coordinate="x"),
    ]
    for probe in refused:
        with pytest.raises(ConfigError, match="opposite noise"):
            probe(run)
        probe(run.isel(chain=slice(None, None, 2)))
    assert fluctuations.summary(run.energy).sizes["chain"] == 8
    with pytest.raises(ConfigError, match="opposite noise"):
        ls.simulate(ls.potentials.Quadratic([1.0]), rule, temperature=0.1, chains=4, steps=200, certify=True)
    line = ls.paths.straight_line([0.0], [2.0])
    projected = ls.simulate(
        ls.potentials.Quadratic([1.0]), rule, start=[1.0], temperature=0.1, chains=8, steps=200, seed=1,
        constraint=ls.ProjectOntoPath(line, every=10), record=ls.Record(200),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="opposite noise"):
        confinement.first_passage(projected, 0.5)
    assert bool(np.isfinite(confinement.relaxation(projected).relaxation_time_stderr).all())


def test_what_is_no_switch_is_refused():
    for wrong in (1, "yes", None):
        with pytest.raises(ConfigError, match="antithetic"):
            ls.ThermalNoise(antithetic=wrong)
