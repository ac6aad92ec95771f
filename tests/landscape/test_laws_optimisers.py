"""Optimisers step by step against torch.optim and exact recursions; free diffusion against its exact moments."""

import functools
import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression, Function, NetworkLoss
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score

TEXT = "(x**2 - 1)**2 + x*y/2 + 3*y**2 + log(1 + z**2) + cos(y - z)"
STARTS = np.array([[0.9, -0.4, 0.7], [-1.3, 0.2, -1.1], [0.1, 0.5, 2.0]])
STEPS = 60


def torch_energy(q):
    x, y, z = q.unbind(-1)
    return (x**2 - 1) ** 2 + x * y / 2 + 3 * y**2 + torch.log(1 + z**2) + torch.cos(y - z)


@functools.cache
def torch_path(name):
    """Every chain by torch.optim on its own, ``(chain, step, coordinate)``, and its final state."""
    _, make_optimiser = PAIRS[name]
    paths, states = [], []
    for start in STARTS:
        q = torch.tensor(start, requires_grad=True)
        optimiser = make_optimiser([q])
        path = []
        for _ in range(STEPS):
            optimiser.zero_grad()
            torch_energy(q).backward()
            optimiser.step()
            path.append(q.detach().clone().numpy())
        paths.append(path)
        states.append({name: value.numpy() for name, value in optimiser.state[q].items() if torch.is_tensor(value)})
    return np.array(paths), states


def sgd(**settings):
    return ls.SGD(**settings), lambda q: torch.optim.SGD(q, **settings)


def adam(**settings):
    return ls.Adam(**settings), lambda q: torch.optim.Adam(q, **settings)


def adamw(**settings):
    return ls.AdamW(**settings), lambda q: torch.optim.AdamW(q, **settings)


PAIRS = {
    "SGD": sgd(lr=0.03),
    "SGD other rate": sgd(lr=0.07),
    "SGD weight decay": sgd(lr=0.03, weight_decay=0.4),
    "SGD momentum": sgd(lr=0.03, momentum=0.8),
    "SGD more momentum": sgd(lr=0.03, momentum=0.95),
    "SGD momentum and decay": sgd(lr=0.03, momentum=0.8, weight_decay=0.4),
    "SGD Nesterov": sgd(lr=0.03, momentum=0.8, nesterov=True),
    "SGD Nesterov and decay": sgd(lr=0.03, momentum=0.9, nesterov=True, weight_decay=0.4),
    "Adam": adam(lr=0.02),
    "Adam other rate": adam(lr=0.05),
    "Adam beta1": adam(lr=0.02, betas=(0.5, 0.999)),
    "Adam beta2": adam(lr=0.02, betas=(0.9, 0.9)),
    "Adam eps": adam(lr=0.02, eps=0.3),
    "AdamW": adamw(lr=0.02),
    "AdamW decay": adamw(lr=0.02, weight_decay=0.5),
    "AdamW all": adamw(lr=0.05, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.2),
}
LANDSCAPES = {
    "Expression": lambda: Expression(TEXT, ["x", "y", "z"]),
    "Function": lambda: Function(torch_energy, 3),
}


@pytest.mark.parametrize(
    ("kind", "backend"), [("Expression", "compiled"), ("Expression", "batched"), ("Function", "batched")]
)
@pytest.mark.parametrize("name", PAIRS)
def test_optimisers_are_those_of_torch(name, kind, backend):
    ours, _ = PAIRS[name]
    run = ls.simulate(LANDSCAPES[kind](), ours, start=STARTS, steps=STEPS, backend=backend)
    path, states = torch_path(name)
    assert run.position.dtype == np.float64
    assert np.allclose(run.position, path, rtol=1e-12, atol=1e-12)
    assert np.allclose(run.energy, torch_energy(torch.from_numpy(path)).numpy(), rtol=1e-12, atol=1e-12)
    for ours_name, theirs_name in (
        ("last_momentum", "momentum_buffer"),
        ("last_first_moment", "exp_avg"),
        ("last_second_moment", "exp_avg_sq"),
    ):
        if theirs_name in states[0]:
            expected = np.stack([state[theirs_name] for state in states])
            assert np.allclose(run[ours_name], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_settings_are_told_apart(backend):
    """No two of the settings above give the same path, so that each symbol is tested."""
    ends = [
        ls.simulate(LANDSCAPES["Expression"](), p[0], start=STARTS, steps=20, backend=backend) for p in PAIRS.values()
    ]
    ends = [run.last_position.values for run in ends]
    for i, one in enumerate(ends):
        for other in ends[:i]:
            assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [lambda lr: ls.SGD(lr, momentum=0.6), ls.Adam, ls.AdamW], ids=["SGD", "Adam", "AdamW"])
def test_one_rate_per_chain(make, backend):
    rates = np.array([0.01, 0.03, 0.002])
    scan = ls.simulate(LANDSCAPES["Expression"](), make(rates), start=STARTS, steps=30, backend=backend)
    for chain, rate in enumerate(rates):
        alone = ls.simulate(LANDSCAPES["Expression"](), make(rate), start=STARTS[chain], steps=30, backend=backend)
        assert np.allclose(scan.position[chain], alone.position[0], rtol=1e-13, atol=1e-13)
    assert np.allclose(scan.time, rates[:, None] * np.arange(1, 31))


# -- the linear recursion of heavy ball on a quadratic ----------------------------------------------------------------


def heavy_ball(k, lr, momentum, nesterov, decay):
    """Matrix of one step of (x, m)."""
    stiff = k + decay
    m = np.array([stiff, momentum])  # m' = momentum m + stiff x
    x = np.array([1.0, 0.0]) - lr * (np.array([stiff, 0.0]) + momentum * m if nesterov else m)
    return np.stack([x, m])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("k", "lr", "momentum", "nesterov", "decay"),
    [
        (2.0, 0.1, 0.0, False, 0.0),
        (2.0, 0.1, 0.9, False, 0.0),
        (5.0, 0.1, 0.9, False, 0.0),
        (2.0, 0.3, 0.9, False, 0.0),
        (2.0, 0.1, 0.5, False, 0.0),
        (2.0, 0.1, 0.9, True, 0.0),
        (2.0, 0.1, 0.9, False, 0.7),
        (2.0, 0.1, 0.9, True, 0.7),
    ],
)
def test_heavy_ball_on_a_spring(k, lr, momentum, nesterov, decay, backend):
    spring = Expression("k*x**2/2", ["x"], {"k": k})
    rule = ls.SGD(lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    run = ls.simulate(spring, rule, start=[1.0], steps=100, backend=backend)
    matrix, state = heavy_ball(k, lr, momentum, nesterov, decay), np.array([1.0, 0.0])
    expected = []
    for _ in range(100):
        state = matrix @ state
        expected.append(state)
    expected = np.array(expected)
    assert np.allclose(run.position[0, :, 0], expected[:, 0], rtol=1e-11, atol=1e-12)
    assert np.allclose(run.last_momentum[0, 0], expected[-1, 1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_observables_of_heavy_ball(backend):
    names = ["position", "momentum", "gradient_norm", "distance"]
    spring = Expression("k*(x**2 + y**2)/2", ["x", "y"], {"k": 3.0})
    start = np.array([1.0, -0.5])
    run = ls.simulate(
        spring, ls.SGD(0.1, momentum=0.6), start=start, steps=50, backend=backend, record=ls.Record(1, names)
    )
    path = np.concatenate([start[None], run.position.values[0]])
    assert np.allclose(run.momentum[0], (path[:-1] - path[1:]) / 0.1, rtol=1e-11, atol=1e-12)
    assert np.allclose(run.gradient_norm[0], 3.0 * np.linalg.norm(path[1:], axis=-1), rtol=1e-11, atol=1e-12)
    assert np.allclose(run.distance[0], np.linalg.norm(path[1:] - start, axis=-1), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_instability_sets_in_where_it_should(backend):
    """Gradient descent on a spring converges for lr k < 2, with momentum for lr k < 2 (1 + momentum)."""
    spring = Expression("2*x**2", ["x"])  # k = 4
    for momentum in (0.0, 0.5):
        edge = 2 * (1 + momentum) / 4
        for lr, stable in ((0.97 * edge, True), (1.03 * edge, False)):
            run = ls.simulate(spring, ls.SGD(lr, momentum=momentum), start=[1.0], steps=800, backend=backend)
            assert (abs(float(run.last_position[0, 0])) < 1e-2) == stable
            assert (abs(float(run.last_position[0, 0])) > 1e2) != stable


@pytest.mark.parametrize("backend", BACKENDS)
def test_optimisers_have_no_temperature(backend):
    for rule in (ls.SGD(0.1), ls.Adam(0.1), ls.AdamW(0.1)):
        with pytest.raises(ConfigError, match="temperature"):
            ls.simulate(Expression("x**2/2", ["x"]), rule, temperature=0.1, steps=2, backend=backend)


# -- minibatch noise: the temperature of gradient descent -------------------------------------------------------------


def noisy_spring(k, targets, batch_size):
    """V(w) = k/2 mean (w - t_i)^2, whose minibatch gradient has variance C = k^2 var(t) / batch."""
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    inputs = torch.ones(len(targets), 1)
    return NetworkLoss(
        module,
        inputs,
        torch.tensor(targets)[:, None],
        loss=lambda outputs, target: 0.5 * k * ((outputs - target) ** 2).flatten(1).sum(1),
        batch_size=batch_size,
        sampling="replacement",
        dtype=torch.float64,
    )


@pytest.mark.parametrize(
    ("k", "lr", "momentum", "batch_size", "spread"),
    [(1.0, 0.3, 0.0, 2, 1.0), (2.5, 0.3, 0.0, 2, 1.0), (1.0, 0.3, 0.6, 4, 1.0), (1.0, 0.8, 0.6, 2, 0.5)],
)
@pytest.mark.always
def test_temperature_of_minibatches(k, lr, momentum, batch_size, spread):
    """<x^2> = lr C / [k (1 - momentum)(2 - lr k / (1 + momentum))]."""
    rng = np.random.default_rng(4)
    targets = rng.normal(size=16)
    targets = spread * (targets - targets.mean()) / targets.std()
    loss = noisy_spring(k, targets, batch_size)
    run = ls.simulate(
        loss, ls.SGD(lr, momentum=momentum), chains=2000, steps=300, record=ls.Record(5, ["position"]), seed=2
    )
    x = run.position.values[:, 10:, 0]
    noise = k**2 * spread**2 / batch_size
    exact = lr * noise / (k * (1 - momentum) * (2 - lr * k / (1 + momentum)))
    squares = (x**2).mean(axis=1)
    assert abs(z_score(squares, exact)) < Z_MAX
    assert abs(z_score(x.mean(axis=1), 0.0)) < Z_MAX
    assert abs(z_score(1.1025 * squares, exact)) > Z_CONTROL
    assert abs(z_score(squares, exact / 2)) > Z_CONTROL
    assert abs(z_score(squares, lr * noise / (2 * k * (1 - momentum)))) > Z_CONTROL  # continuum limit


# -- free diffusion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("names", [["x"], ["x", "y", "z"]], ids=len)
def test_mean_square_displacement(names, backend):
    """<|x(t) - x(0)|^2> = 2 dim T t, whatever the landscape; increments are Gaussian and independent."""
    dim = len(names)
    steep = Expression(" + ".join(f"50*{name}**4" for name in names), names)
    for temperature, dt in ((0.5, 0.01), (3.0, 0.01), (0.5, 2.0)):
        run = ls.simulate(
            steep,
            ls.Diffusion(dt),
            temperature=temperature,
            start=np.arange(1.0, dim + 1),
            chains=20_000,
            steps=40,
            record=ls.Record(10),
            seed=8,
            backend=backend,
        )
        moves = run.position.values - np.arange(1.0, dim + 1)
        exact = 2 * dim * temperature * run.time.values
        squares = (moves**2).sum(-1)
        assert np.all(np.abs(z_score(squares, exact)) < Z_MAX)
        assert np.all(np.abs(z_score(squares**2, exact**2 * (1 + 2 / dim))) < Z_MAX)
        assert np.all(np.abs(z_score(moves.reshape(20_000, -1), 0.0)) < Z_MAX)
        later = moves[:, 1:] - moves[:, :-1]
        assert np.all(np.abs(z_score((later * moves[:, :-1]).sum(-1), 0.0)) < Z_MAX)
        assert np.all(np.abs(z_score(squares, exact / 2)) > Z_CONTROL)  # sqrt(T dt) in place of sqrt(2 T dt)
        assert np.all(np.abs(z_score(squares, exact / dim if dim > 1 else 2 * exact)) > Z_CONTROL)


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_five_percent_too_strong_is_noticed(backend):
    flat = Expression("0*x + 0*y", ["x", "y"])
    settings = {"chains": 20_000, "steps": 10, "record": ls.Record(10), "seed": 9, "backend": backend}
    scores = []
    for temperature in (0.4, 0.4 * 1.05**2):
        run = ls.simulate(flat, ls.Diffusion(0.1), temperature=temperature, **settings)
        scores.append(z_score((run.last_position.values**2).sum(-1), 2 * 2 * 0.4 * 1.0))
    assert abs(scores[0]) < Z_MAX
    assert abs(scores[1]) > Z_CONTROL


@pytest.mark.parametrize("backend", BACKENDS)
def test_at_zero_temperature_nothing_diffuses(backend):
    start = np.array([0.3, -0.2])
    bowl = Expression("x**2 + y**2", ["x", "y"])
    run = ls.simulate(bowl, ls.Diffusion(0.1), start=start, chains=3, steps=5, backend=backend)
    assert np.array_equal(run.position, np.broadcast_to(start, (3, 5, 2)))
    cold = ls.simulate(bowl, ls.EulerMaruyama(0.1), start=start, chains=3, steps=5, backend=backend)
    descent = ls.simulate(bowl, ls.SGD(0.1), start=start, chains=3, steps=5, backend=backend)
    assert np.allclose(cold.position, descent.position, rtol=1e-14)
    assert math.isclose(float(cold.energy[0, 0]), 0.8**2 * float(bowl.energy(start)), rel_tol=1e-12)
