"""Optimizers of torch and of libraries as dynamics: against the same rules written here, and against a loop by hand."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.common.codec import python_object
from landscape.errors import ConfigError, NonFiniteError
from landscape.integrators.optimizer_state import NotPlainError, numbers_of, restore, state_bytes
from landscape.potentials import Expression, NetworkLoss, architectures, toys
from tests.cases import LANDSCAPES, run_case

CASES = {case.name: case for case in LANDSCAPES}
CPU = torch.device("cpu")
SAMPLES = 23
SAME_RULES = {
    "SGD": (lambda lr: ls.Optimizer("SGD", lr=lr), ls.SGD),
    "SGD momentum": (
        lambda lr: ls.Optimizer(torch.optim.SGD, lr=lr, momentum=0.7, weight_decay=0.1),
        lambda lr: ls.SGD(lr, momentum=0.7, weight_decay=0.1),
    ),
    "SGD nesterov": (
        lambda lr: ls.Optimizer(torch.optim.SGD, lr=lr, momentum=0.9, nesterov=True),
        lambda lr: ls.SGD(lr, momentum=0.9, nesterov=True),
    ),
    "Adam": (
        lambda lr: ls.Optimizer(torch.optim.Adam, lr=lr, betas=(0.8, 0.95), eps=1e-6),
        lambda lr: ls.Adam(lr, betas=(0.8, 0.95), eps=1e-6),
    ),
    "AdamW": (
        lambda lr: ls.Optimizer(torch.optim.AdamW, lr=lr, weight_decay=0.3),
        lambda lr: ls.AdamW(lr, weight_decay=0.3),
    ),
}


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (SAMPLES,), generator=generator)


def network(activation="tanh", **settings):
    settings = {"batch_size": 5, "dtype": torch.float64, **settings}
    return NetworkLoss(architectures.mlp([4, 6, 3], activation=activation, seed=1), *data(), **settings)


def simulate(potential, rule, steps=17, **settings):
    settings = {"record": ls.Record(5), "seed": 3, **settings}
    return ls.simulate(potential, rule, steps=steps, **settings)


def difference(one, other):
    return float(np.abs(one.last_position.values - other.last_position.values).max())


def bits(run):
    return {name: values.values.tobytes() for name, values in run.data_vars.items() if name.startswith("last_")}


def library(name, **settings):
    """A rule of a library that may be missing, with settings under which the network's loss falls."""
    if name == "Shampoo":
        module = pytest.importorskip("pytorch_optimizer", reason="needs the extra `bench`: pytorch_optimizer")
        return ls.Optimizer(module.Shampoo, **{"lr": 0.1, "momentum": 0.5, **settings})
    module = pytest.importorskip("singd.optim.optimizer", reason="needs the extra `bench`: singd")
    if name == "K-FAC":
        settings = {"kfac_like": True, "alpha1": 0.0, "damping": 0.03, "lr_cov": 0.05, **settings}
    return ls.Optimizer(module.SINGD, of="module", **{"lr": 0.05, "T": 2, "lr_cov": 0.1, **settings})


# -- against the rules of this package --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", SAME_RULES)
@pytest.mark.parametrize("name", ["springs", "quartic", "MullerBrown"])
def test_torch_rules_are_the_rules_of_this_package_on_formulas(name, rule):
    by_torch, ours = (run_case(CASES[name], make, chains=3, steps=30, backend="batched") for make in SAME_RULES[rule])
    scale = np.abs(ours.position.values).max()
    assert np.abs(by_torch.position.values - ours.position.values).max() < 1e-12 * scale
    assert by_torch.energy.values == pytest.approx(ours.energy.values, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rule", SAME_RULES)
@pytest.mark.parametrize("loss", [network(), network(batch_size=None, chunk_size=7), network(shared_batches=True)])
def test_torch_rules_are_the_rules_of_this_package_on_a_network(loss, rule):
    by_torch, ours = SAME_RULES[rule]
    lr = [0.02, 0.05, 0.1]
    expected = simulate(loss, ours(lr), backend="batched")
    assert difference(simulate(loss, by_torch(lr)), expected) < 1e-12
    assert difference(simulate(loss, by_torch(lr), seed=4), expected) > 1e-4 or loss.sampler is None
    assert difference(simulate(loss, by_torch([0.02, 0.05, 0.11])), expected) > 1e-4


def test_a_schedule_sets_the_rate_of_every_step():
    schedule = ls.ramp(0.02, [0.1, 0.2], duration=0.5)
    loss = network()
    expected = simulate(loss, ls.SGD(schedule, momentum=0.5), backend="batched")
    run = simulate(loss, ls.Optimizer("SGD", lr=schedule, momentum=0.5))
    assert difference(run, expected) < 1e-12
    assert run.dt.dims == ("chain", "draw")
    constant = simulate(loss, ls.Optimizer("SGD", lr=[0.1, 0.2], momentum=0.5))
    assert difference(constant, expected) > 1e-3


def test_training_with_a_schedule_of_epochs():
    settings = {"epochs": 4, "schedule": {0: 1.0, 2: 0.1}, "siblings": 2, "seed": 5}
    run = ls.train(network(), ls.Optimizer("SGD", lr=0.1, momentum=0.9), **settings)
    expected = ls.train(network(), ls.SGD(0.1, momentum=0.9), **settings)
    assert difference(run, expected) < 1e-12
    settings["schedule"] = {0: 1.0, 2: 0.11}
    assert difference(ls.train(network(), ls.Optimizer("SGD", lr=0.1, momentum=0.9), **settings), expected) > 1e-5


def test_weight_decay_of_the_loss_and_the_module_mode_agree():
    loss = network(weight_decay=0.1)
    rules = {
        "ours": ls.SGD(0.1, momentum=0.5),
        "parameters": ls.Optimizer(torch.optim.SGD, lr=0.1, momentum=0.5),
        "module": ls.Optimizer(
            lambda module, lr: torch.optim.SGD(module.parameters(), lr=lr, momentum=0.5), lr=0.1, of="module"
        ),
    }
    runs = {name: simulate(loss, rule, chains=2) for name, rule in rules.items()}
    for name in ("parameters", "module"):
        assert difference(runs[name], runs["ours"]) < 1e-12
    assert difference(simulate(network(), rules["module"], chains=2), runs["ours"]) > 1e-3


# -- against a loop by hand -------------------------------------------------------------------------------------------


def by_hand(loss, make, steps, seed=3):
    """Weights of chain 0 after a loop as in torch's tutorials, on the chain's minibatches."""
    module = loss.module_at(loss.position()).double()
    optimizer = make(module)
    for step in range(steps):
        chosen = loss.sampler.indices(loss.batch_keys(1, seed), step, CPU)[0]
        optimizer.zero_grad()
        loss.loss(module(loss.inputs[chosen]), loss.targets[chosen]).mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()]).numpy()


@pytest.mark.parametrize("name", ["RMSprop", "Adagrad", "NAdam", "Rprop", "Adamax"])
def test_other_rules_of_torch_are_the_loop_by_hand(name):
    loss, make = network(), getattr(torch.optim, name)
    run = simulate(loss, ls.Optimizer(make, lr=0.01), steps=12)
    expected = by_hand(loss, lambda module: make(module.parameters(), lr=0.01), 12)
    assert np.abs(run.last_position.values[0] - expected).max() < 1e-12
    wrong = by_hand(loss, lambda module: make(module.parameters(), lr=0.011), 12)
    assert np.abs(run.last_position.values[0] - wrong).max() > 1e-5


def test_lbfgs_calls_its_closure_and_solves_a_quadratic():
    bowl = toys.Quadratic([0.5, 2.0, 9.0])
    rule = ls.Optimizer(torch.optim.LBFGS, lr=1.0, line_search_fn="strong_wolfe")
    run = ls.simulate(bowl, rule, start=[[1.0, 1.0, 1.0], [0.0, 2.0, -1.0]], steps=1)
    assert np.abs(run.last_position.values).max() < 1e-5
    one = ls.simulate(bowl, ls.Optimizer("LBFGS", lr=1.0, max_iter=1), start=[1.0, 1.0, 1.0], steps=1)
    assert np.abs(one.last_position.values).max() > 0.1  # the control: a single gradient does not get there
    loss = network(batch_size=None)
    fit = simulate(loss, ls.Optimizer("LBFGS", lr=0.5, max_iter=5), steps=10)
    assert fit.energy.values[0, -1] < 0.3 * loss.energy(loss.position())


def shampoo_by_hand(loss, steps, **settings):
    """With the gradients of the loss: round-off in others would grow where a matrix has hardly any rank."""
    parameters = [nn.Parameter(part.clone()) for part in loss.layout.unflatten(loss.position()).values()]
    optimizer = library("Shampoo").factory(parameters, **settings)
    for step in range(steps):
        position = torch.cat([p.detach().flatten() for p in parameters])
        gradient = loss.step_gradient(position[None], step=step, keys=loss.batch_keys(1, 3))[0]
        for parameter, part in zip(parameters, loss.layout.unflatten(gradient).values(), strict=True):
            parameter.grad = part.clone()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters]).numpy()


@pytest.mark.parametrize("steps", [1, 6])
def test_a_step_of_shampoo_is_that_of_the_library(steps):
    loss, every = network(), {"preconditioning_compute_steps": 1 if steps == 1 else 2}
    rule = library("Shampoo", **every)
    run = simulate(loss, rule, steps=steps)
    expected = shampoo_by_hand(loss, steps, lr=0.1, momentum=0.5, **every)
    assert np.array_equal(run.last_position.values[0], expected)
    assert np.abs(expected - loss.position().numpy()).max() > 0.01
    wrong = shampoo_by_hand(loss, steps, lr=0.1, momentum=0.5, matrix_eps=1e-3, **every)
    assert np.abs(expected - wrong).max() > 1e-4
    # by autograd through the module, with its round-off
    close = by_hand(loss, lambda module: rule.factory(module.parameters(), lr=0.1, momentum=0.5, **every), steps)
    assert np.abs(expected - close).max() < 1e-6


def test_shampoo_knows_the_shapes_of_the_parameters():
    rule, loss = library("Shampoo"), network()
    flat = ls.potentials.Function(lambda x: loss.energy(x), dim=loss.dim)
    whole = network(batch_size=None)
    shaped = simulate(whole, rule, steps=4, chains=1)
    assert difference(simulate(flat, rule, steps=4, start=loss.position()), shaped) > 1e-3


def test_singd_is_the_library_hooked_to_the_module():
    rule = library("SINGD")
    loss = network()
    run = simulate(loss, rule, steps=7)
    expected = by_hand(loss, lambda module: rule.factory(module, lr=0.05, T=2, lr_cov=0.1), 7)
    assert np.abs(run.last_position.values[0] - expected).max() < 1e-12
    wrong = by_hand(loss, lambda module: rule.factory(module, lr=0.05, T=2, lr_cov=0.1, loss_average=None), 7)
    assert np.abs(run.last_position.values[0] - wrong).max() > 1e-5


@pytest.mark.parametrize("name", ["Shampoo", "SINGD", "K-FAC"])
def test_the_loss_falls_under_second_order_optimizers(name):
    loss = network()
    run = simulate(loss, library(name), steps=60, chains=2)
    assert (run.energy.values[:, -1] < 0.85 * float(loss.energy(loss.position()))).all()
    small = simulate(loss, library(name, lr=1e-7), steps=10, chains=2)
    assert (small.energy.values[:, -1] > 0.99 * float(loss.energy(loss.position()))).all()


def test_layers_are_hooked_in_training_mode_and_dropout_stays_off():
    seen = []

    def factory(module, lr):
        module[0].register_forward_hook(lambda layer, given, returned: seen.append((layer.training, given[0].shape)))
        return torch.optim.SGD(module.parameters(), lr=lr)

    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9), nn.BatchNorm1d(3))
    loss = NetworkLoss(module, *data(), batch_size=5, batchnorm="batch", dtype=torch.float64)
    run = simulate(loss, ls.Optimizer(factory, lr=0.1, of="module"), steps=3)
    assert seen == [(True, (5, 4))] * 3
    assert difference(run, simulate(loss, ls.SGD(0.1), steps=3)) < 1e-12


def test_tied_weights_are_one_parameter():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(4, 4, dtype=torch.float64)
            self.two = nn.Linear(4, 4, bias=False, dtype=torch.float64)
            self.two.weight = self.one.weight
            self.fixed = nn.Parameter(torch.ones(4, dtype=torch.float64), requires_grad=False)

        def forward(self, x):
            return self.two(torch.tanh(self.one(x))) * self.fixed

    torch.manual_seed(0)
    loss = NetworkLoss(Tied(), *data(), batch_size=5)
    shapes = []

    def factory(parameters, lr):
        shapes.append([tuple(parameter.shape) for parameter in parameters])
        return torch.optim.SGD(parameters, lr=lr)

    run = simulate(loss, ls.Optimizer(factory, lr=0.1))
    assert shapes[-1] == [(4, 4), (4,)]
    assert difference(run, simulate(loss, ls.SGD(0.1))) < 1e-12
    in_module = ls.Optimizer(lambda module, lr: torch.optim.SGD(module.parameters(), lr=lr), lr=0.1, of="module")
    assert difference(simulate(loss, in_module), run) < 1e-12


# -- bits -------------------------------------------------------------------------------------------------------------


RULES = {
    "SGD": lambda: ls.Optimizer("SGD", lr=0.1, momentum=0.9),
    "Adam": lambda: ls.Optimizer("Adam", lr=0.03, amsgrad=True),
    "RMSprop": lambda: ls.Optimizer("RMSprop", lr=0.01, centered=True),
    "NAdam": lambda: ls.Optimizer("NAdam", lr=0.01),
    "Adadelta": lambda: ls.Optimizer("Adadelta", lr=1.0),
    "LBFGS": lambda: ls.Optimizer("LBFGS", lr=0.1, max_iter=3, history_size=4),
    "Shampoo": lambda: library("Shampoo"),
    "SINGD": lambda: library("SINGD"),
    "K-FAC": lambda: library("K-FAC"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_kept_run_is_the_uninterrupted_one(name, tmp_path):
    rule, loss = RULES[name](), network(dtype=torch.float32)
    settings = {"chains": 2, "record": ls.Record(4)}
    whole = simulate(loss, rule, steps=20, **settings)
    part = simulate(loss, rule, steps=9, **settings)
    ls.save(part, tmp_path / "part.nc")
    joined = simulate(loss, rule, steps=11, start=ls.open(tmp_path / "part.nc").load(), state="keep", **settings)
    assert bits(joined) == bits(whole)
    states = part.last_optimizer_state
    exchanged = part.assign(last_optimizer_state=(states.dims, states.values[::-1].copy()))
    wrong = simulate(loss, rule, steps=11, start=exchanged, state="keep", **settings)
    assert bits(wrong)["last_position"] != bits(whole)["last_position"]


@pytest.mark.parametrize("name", RULES)
def test_chains_do_not_know_of_each_other(name):
    rule, loss = RULES[name](), network("relu")
    starts = loss.position() * torch.tensor([[1.0], [0.5], [1.5]])
    together = simulate(loss, rule, steps=8, start=starts, data_seed=[7, 8, 9])
    for chain in range(3):
        alone = simulate(loss, rule, steps=8, start=starts[chain], data_seed=7 + chain)
        assert alone.last_position.values[0].tobytes() == together.last_position.values[chain].tobytes()
        assert alone.energy.values[0, -1] == pytest.approx(together.energy.values[chain, -1], rel=1e-12)
    other = simulate(loss, rule, steps=8, start=starts[0], data_seed=10)
    assert np.abs(other.last_position.values[0] - together.last_position.values[0]).max() > 1e-6


def test_records_do_not_change_the_motion():
    runs = [simulate(network(), RULES["Adam"](), steps=12, record=record) for record in (ls.Record(1), ls.Record(12))]
    assert bits(runs[0]) == bits(runs[1])


def test_settings_of_a_kept_run_are_the_new_ones_and_counters_the_old():
    bowl = toys.Quadratic([1.0, 3.0])
    first = simulate(bowl, ls.Optimizer("SGD", lr=0.1, momentum=0.9), start=[1.0, 1.0], steps=5)
    kept = simulate(bowl, ls.Optimizer("SGD", lr=0.2, momentum=0.5), start=first, state="keep", steps=5)
    ours = simulate(bowl, ls.SGD(0.1, momentum=0.9), start=[1.0, 1.0], steps=5)
    ours = simulate(bowl, ls.SGD(0.2, momentum=0.5), start=ours, state="keep", steps=5)
    assert difference(kept, ours) < 1e-14

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            self.param_groups[0]["calls"] = self.param_groups[0].get("calls", 0) + 1
            return self.param_groups[0]["params"][0].data.fill_(float(self.param_groups[0]["calls"]))

    first = simulate(bowl, ls.Optimizer(Counting, lr=0.1), steps=5)
    kept = simulate(bowl, ls.Optimizer(Counting, lr=0.1), start=first, state="keep", steps=2)
    assert kept.last_position.values.ravel().tolist() == [7.0, 7.0]


class Noisy(torch.optim.SGD):
    """Gradient descent that draws from torch's global generator."""

    def step(self, closure=None):
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            parameter.data.add_(0.1 * torch.randn_like(parameter))


def test_random_optimizers_draw_from_seed_chain_and_step():
    loss, rule = network(), ls.Optimizer(Noisy, lr=0.1)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    whole = simulate(loss, rule, steps=9, chains=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    part = simulate(loss, rule, steps=4, chains=2)
    assert bits(simulate(loss, rule, steps=5, start=part, state="keep")) == bits(whole)
    assert difference(simulate(loss, rule, steps=9, chains=2, seed=4), whole) > 0.01
    flat = Expression("0*x", ["x"])
    noise = ls.simulate(flat, rule, chains=100, steps=25, seed=1).position.values[..., 0]
    increments = np.diff(noise, axis=1).ravel() / 0.1
    assert abs(increments.mean()) * np.sqrt(increments.size) < 4.5
    assert abs((increments**2).mean() - 1) * np.sqrt(increments.size / 2) < 4.5


def test_the_users_things_are_left_as_found():
    module = architectures.mlp([4, 6, 3], seed=1).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(5)
    state, dtype, grad = torch.random.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    loss = NetworkLoss(module, *data(), batch_size=5)
    hooked = ls.Optimizer(lambda m, lr: Noisy(m.parameters(), lr=lr), lr=0.1, of="module")
    for rule in (ls.Optimizer(Noisy, lr=0.1), hooked):
        simulate(loss, rule, steps=3)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training and all(p.requires_grad and p.grad is None for p in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype and torch.is_grad_enabled() == grad


# -- states as bytes --------------------------------------------------------------------------------------------------


class Matrix:
    """An object that holds a tensor, as a library's structured matrix does."""

    def __init__(self, values):
        self.values, self.names = values, ["values"]


def fresh(dtype=torch.float32):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3, dtype=dtype)), nn.Parameter(torch.zeros(()))], lr=0.1)
    optimizer.state[optimizer.param_groups[0]["params"][0]] = {"matrix": Matrix(torch.zeros(1))}
    return optimizer


def test_a_state_comes_back_to_the_bit():
    optimizer = fresh()
    first, second = optimizer.param_groups[0]["params"]
    tiny = torch.tensor([1 / 3, float("nan"), -0.0], dtype=torch.float64)  # more precise than the parameters
    optimizer.state[first] = {
        "matrix": Matrix(tiny * 2), "list": [tiny, None, (1, True, "a")], "inf": float("inf"), "third": 1 / 3,
        "mask": torch.tensor([True, False]), "count": torch.tensor(2**60 + 1), "empty": torch.zeros(0, 2),
        "table": {4: tiny},
    }  # fmt: skip
    optimizer.state[second] = {"exp": torch.arange(6.0).reshape(2, 3).T}
    settings = numbers_of(optimizer)
    optimizer.param_groups[0] |= {"step": 7, "lr": 0.3}
    row = state_bytes(optimizer, settings, CPU)
    again = fresh()
    restore(again, torch.cat([row, torch.zeros(9, dtype=torch.uint8)]))  # rows are padded to the longest
    first, second = again.param_groups[0]["params"]
    state = again.state[first]
    assert [type(one) for one in state["list"]] == [torch.Tensor, type(None), tuple]
    assert state["list"][2] == (1, True, "a") and state["inf"] == float("inf") and state["third"] == 1 / 3
    for found in (state["list"][0], state["table"][4], state["matrix"].values / 2):
        assert found.dtype == torch.float64 and found.numpy().tobytes() == tiny.numpy().tobytes()
    assert state["mask"].tolist() == [True, False] and int(state["count"]) == 2**60 + 1
    assert state["empty"].shape == (0, 2) and state["matrix"].names == ["values"]
    assert torch.equal(again.state[second]["exp"], torch.arange(6.0).reshape(2, 3).T)
    assert again.param_groups[0]["step"] == 7 and again.param_groups[0]["lr"] == 0.3
    assert again.param_groups[0]["momentum"] == 0


@pytest.mark.parametrize("value", [{1}, torch.zeros(2).to_sparse(), 1j, np.zeros(2), lambda: 0, torch.Generator()])
def test_what_is_not_plain_is_refused(value):
    optimizer = fresh()
    optimizer.state[optimizer.param_groups[0]["params"][0]] = {"thing": value}
    with pytest.raises(NotPlainError):
        state_bytes(optimizer, numbers_of(optimizer), CPU)


def test_damaged_bytes_are_refused():
    optimizer = fresh()
    row = state_bytes(optimizer, numbers_of(optimizer), CPU)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=0.1)
    flipped = row.clone()
    flipped[9] = 255
    for target, bad in ((other, row), (fresh(), row[:-1]), (fresh(), row[:5]), (fresh(), flipped), (fresh(), row[:0])):
        with pytest.raises(ConfigError, match="damaged"):
            restore(target, bad)


class Secretive(torch.optim.SGD):
    """Gradient descent whose state holds a set."""

    def step(self, closure=None):
        super().step(closure)
        self.state[self.param_groups[0]["params"][0]]["seen"] = {1}


def test_a_state_that_cannot_be_kept_is_refused_when_it_is_needed():
    bowl = toys.Quadratic([1.0, 3.0])
    rule = ls.Optimizer(Secretive, lr=0.1)
    run = simulate(bowl, rule, start=[1.0, 1.0])
    assert difference(run, simulate(bowl, ls.SGD(0.1), start=[1.0, 1.0])) < 1e-15
    with pytest.raises(ConfigError, match=r"Secretive is not made of tensors and numbers.*step 17.*fresh"):
        simulate(bowl, rule, start=run, state="keep")
    simulate(bowl, rule, start=run)
    with pytest.raises(ConfigError, match="has no 'optimizer_state'"):
        simulate(bowl, rule, start=simulate(bowl, ls.SGD(0.1), start=[1.0, 1.0]), state="keep")


# -- divergence and walls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [400, 2000])
def test_divergence_is_found_at_its_step(steps):
    bowl = toys.Quadratic([1.0])
    settings = {"start": [[1.0], [1.0]], "steps": steps, "record": ls.Record(50, ["energy"])}
    found = []
    for rule in (ls.Optimizer("SGD", lr=[0.5, 9.0], momentum=0.3), ls.SGD([0.5, 9.0], momentum=0.3)):
        with pytest.raises(NonFiniteError) as caught:
            ls.simulate(bowl, rule, backend="batched", **settings)
        found.append((caught.value.step, caught.value.chain, caught.value.dataset.sizes["draw"]))
    assert found[0] == found[1] and found[0][1] == 1
    assert found[0][0] > 100


def test_a_factorisation_that_fails_is_a_divergence_of_its_chain():
    rule = library("Shampoo", lr=[0.1, 1e200])
    loss = network()
    with pytest.raises(NonFiniteError) as caught:
        simulate(loss, rule, steps=40)
    assert caught.value.chain == 1
    run = simulate(loss, rule, steps=40, on_nonfinite="drop")
    alone = simulate(loss, library("Shampoo"), steps=40)
    assert run.last_position.values[0].tobytes() == alone.last_position.values[0].tobytes()
    assert np.isnan(run.last_position.values[1]).all()


def test_walls_hold():
    box = Expression("-x", ["x"], bounds={"x": (0.0, 1.0)})
    run = ls.simulate(box, ls.Optimizer("SGD", lr=0.3), start=[0.5], steps=20)
    assert ((run.position >= 0) & (run.position <= 1)).all()
    expected = ls.simulate(box, ls.SGD(0.3), start=[0.5], steps=20)
    assert difference(run, expected) < 1e-14


# -- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ls.Optimizer(3, lr=0.1), "expected a class such as"),
        (lambda: ls.Optimizer(nn.Linear, lr=0.1), "expected a class such as"),
        (lambda: ls.Optimizer("Sgd", lr=0.1), "'Sgd'"),
        (lambda: ls.Optimizer("lr_scheduler", lr=0.1), "lr_scheduler"),
        (lambda: ls.Optimizer(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), lr=0.1), "give its class"),
        (lambda: ls.Optimizer("SGD", lr=-0.1), "lr must be finite and positive"),
        (lambda: ls.Optimizer("SGD", lr="fast"), "lr must be a number"),
        (lambda: ls.Optimizer("SGD", lr=0.1, of="model"), "of = 'model' is unknown"),
    ],
)
def test_wrong_arguments_are_refused_at_once(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("potential", "rule", "message"),
    [
        (network(), lambda: ls.Optimizer("SGD", lr=0.1, momentu=0.9), "SGD does not take these settings.*'momentu'"),
        (network(), lambda: ls.Optimizer("SGD", lr=0.1, momentum=-1.0), "SGD refuses its settings.*momentum"),
        (network(), lambda: ls.Optimizer(lambda p, lr: p, lr=0.1), "gave a list; expected a torch.optim.Optimizer"),
        (network(weight_decay=0.1), lambda: ls.Optimizer("AdamW", lr=0.1), "0.1 in the loss and 0.01 in AdamW"),
        (toys.DoubleWell(), lambda: ls.Optimizer("SGD", lr=0.1, of="module"), "DoubleWell has none"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run(potential, rule, message):
    with pytest.raises(ConfigError, match=message):
        ls.simulate(potential, rule(), steps=1)


def test_settings_of_a_run_that_make_no_sense():
    with pytest.raises(ConfigError, match="does not have the integrator Optimizer"):
        simulate(network(), ls.Optimizer("SGD", lr=0.1), backend="compiled")
    with pytest.raises(ConfigError, match="temperature must be 0"):
        simulate(network(), ls.Optimizer("SGD", lr=0.1), temperature=0.1)
    with pytest.raises(TypeError, match="lr"):
        ls.Optimizer("SGD")


def test_specifications():
    rule = ls.Optimizer(torch.optim.Adam, lr=0.1, betas=(0.8, 0.9), eps=np.float32(0.5))
    settings = {"betas": [0.8, 0.9], "eps": 0.5}
    assert rule.spec() == {"kind": "Optimizer", "factory": "Adam", "lr": 0.1, "settings": settings}
    run = ls.simulate(toys.DoubleWell(), rule, steps=3, start=[0.4])
    spec = json.loads(run.attrs["spec"])["integrator"]
    assert spec.pop("kind") == "Optimizer"
    again = ls.simulate(toys.DoubleWell(), ls.Optimizer(**spec), steps=3, start=[0.4])
    assert again.last_position.values.tobytes() == run.last_position.values.tobytes()
    own = ls.Optimizer(Noisy, lr=[0.1], of="module", weight_decay=torch.tensor(0.5), odd=torch.float32).spec()
    assert own["factory"] == python_object(Noisy) and own["factory"]["name"] == f"{__name__}:Noisy"
    assert own["settings"] == {"weight_decay": 0.5, "odd": "torch.float32"} and own["of"] == "module"
    with pytest.raises(ConfigError, match="expected a class"):
        ls.Optimizer(own["factory"], lr=0.1)


# -- preconditioners --------------------------------------------------------------------------------------------------


def regression():
    torch.manual_seed(3)
    inputs, targets = torch.randn(40, 3, dtype=torch.float64), torch.randn(40, 2, dtype=torch.float64)
    return NetworkLoss(nn.Linear(3, 2, dtype=torch.float64), inputs, targets, loss="mse")


def test_a_natural_gradient_solves_a_regression_at_once():
    loss = regression()
    start = loss.position() + torch.tensor([[0.0], [1.0]])
    exact = loss.position() - torch.linalg.solve(loss.hessian(loss.position()), loss.gradient(loss.position()))
    run = ls.simulate(loss, ls.Preconditioned(ls.SGD(lr=1.0), "natural_gradient"), start=start, steps=1)
    assert np.abs(run.last_position.values - exact.numpy()).max() < 1e-12
    half = ls.simulate(loss, ls.Preconditioned(ls.SGD(lr=0.5), "natural_gradient"), start=start, steps=1)
    middle = (start + exact) / 2
    assert np.abs(half.last_position.values - middle.numpy()).max() < 1e-12
    damped = ls.simulate(loss, ls.Preconditioned(ls.SGD(lr=1.0), "natural_gradient", damping=0.5), start=start, steps=1)
    shifted = loss.hessian(start) + 0.5 * torch.eye(loss.dim, dtype=torch.float64)
    expected = start - torch.linalg.solve(shifted, loss.gradient(start))
    assert np.abs(damped.last_position.values - expected.numpy()).max() < 1e-12
    assert np.abs(damped.last_position.values - exact.numpy()).max() > 0.01
    diagonal = ls.simulate(loss, ls.Preconditioned(ls.SGD(lr=1.0), "diagonal"), start=start, steps=1)
    expected = start - loss.gradient(start) / loss.hessian(start).diagonal(dim1=-2, dim2=-1).abs()
    assert np.abs(diagonal.last_position.values - expected.numpy()).max() < 1e-12


def dense_fisher(loss, position):
    """From the scores of every class, weighted by the model's probabilities."""

    def log_probabilities(vector):
        outputs = loss.forward(loss.layout.unflatten(vector), loss.inputs, {})
        return outputs.log_softmax(1)

    scores = torch.func.jacrev(log_probabilities)(position)
    return torch.einsum("nc,nci,ncj->ij", log_probabilities(position).exp(), scores, scores) / loss.samples


def test_a_natural_gradient_uses_the_labels_of_the_model():
    loss = network()
    start = loss.position()
    rule = ls.Preconditioned(ls.SGD(lr=0.1), "natural_gradient", damping=0.01)
    run = simulate(loss, rule, steps=1)
    gradient = loss.step_gradient(start[None], step=0, keys=loss.batch_keys(1, 3))[0]
    damped = dense_fisher(loss, start) + 0.01 * torch.eye(loss.dim, dtype=torch.float64)
    expected = start - 0.1 * torch.linalg.solve(damped, gradient)
    assert np.abs(run.last_position.values[0] - expected.numpy()).max() < 1e-10
    empirical = loss.sample_gradients(start)
    wrong = empirical.T @ empirical / loss.samples + 0.01 * torch.eye(loss.dim, dtype=torch.float64)
    other = start - 0.1 * torch.linalg.solve(wrong, gradient)
    assert np.abs(run.last_position.values[0] - other.numpy()).max() > 0.01


def test_preconditioners_that_do_not_fit():
    natural = ls.Preconditioned(ls.SGD(lr=0.1), "natural_gradient")
    with pytest.raises(ConfigError, match="Quadratic has none"):
        ls.simulate(toys.Quadratic([1.0]), natural, steps=1)
    with pytest.raises(ConfigError, match="larger damping"):
        simulate(network(), natural)  # the logits of a softmax may be shifted together
    custom = NetworkLoss(nn.Linear(4, 3), *data(), loss=lambda outputs, targets: outputs.square().mean(1))
    with pytest.raises(ConfigError, match="got a callable"):
        simulate(custom, natural)


def test_a_diagonal_turns_a_quadratic_into_a_round_one():
    bowl = toys.Quadratic([0.5, 2.0, 9.0])
    run = ls.simulate(bowl, ls.Preconditioned(ls.SGD(lr=0.25), "diagonal", damping=1.0), start=[1.0, 2.0, 3.0], steps=2)
    k = np.array([0.5, 2.0, 9.0])
    assert run.last_position.values[0] == pytest.approx([1, 2, 3] * (1 - 0.25 * k / (k + 1)) ** 2, rel=1e-14)
    assert run.last_position.values[0] != pytest.approx([1, 2, 3] * (1 - 0.25 * k / (k + 2)) ** 2, rel=0.01)
