"""Whatever mode of torch the user is in, numbers are the same, or a run is refused; the mode is left as found."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression, Function, NetworkLoss

MODES = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "all": lambda: contextlib.ExitStack(),
}


@contextlib.contextmanager
def mode(name):
    with contextlib.ExitStack() as stack:
        for one in ("inference", "no_grad", "autocast") if name == "all" else (name,):
            stack.enter_context(MODES[one]())
        before = state()
        yield
        assert state() == before


def state():
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")


def network():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))
    return NetworkLoss(module, torch.randn(20, 4), torch.randint(3, (20,)))


LANDSCAPES = {
    "formula": lambda: Expression("x**4 + x*y + y**2", ["x", "y"]),
    "function": lambda: Function(lambda x: (x @ x.new_ones(2, 2)).square().sum(-1) + x.prod(-1), 2),
    "network": network,
}


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("kind", LANDSCAPES)
def test_numbers_do_not_depend_on_modes(kind, name):
    landscape = LANDSCAPES[kind]()
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(landscape.dim, generator=generator).to(landscape.dtype)
    start = start.float() if kind == "network" else start
    vector = torch.ones_like(start)

    def numbers(at):
        return landscape.energy(at), landscape.gradient(at), landscape.hvp(at, vector)

    outside = numbers(start)
    assert all(float(torch.linalg.vector_norm(one)) > 0.01 for one in outside)
    with mode(name):
        inside, own = numbers(start), numbers(start.clone())  # that is made in the mode
        arrays = landscape.gradient(start.numpy())
    for one, other, third in zip(outside, inside, own, strict=True):
        assert torch.equal(one.detach(), other.detach()) and torch.equal(one.detach(), third.detach())
        assert one.dtype == other.dtype
    assert np.array_equal(arrays, outside[1].numpy())


def test_what_the_modes_would_do():
    """The control: torch itself has no derivative in the one, and other digits in the other."""
    with torch.inference_mode():
        assert not torch.ones(2, requires_grad=True).exp().requires_grad
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(((a @ a).float() - a.double() @ a.double()).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["inference", "autocast", "all"])
def test_runs_are_refused_within_modes(name):
    loss, bowl = network(), Expression("x**2/2", ["x"])
    calls = [
        lambda: ls.simulate(bowl, ls.EulerMaruyama(0.1), temperature=1.0, steps=2),
        lambda: ls.minimize(loss, loss.position(), steps=2),
        lambda: ls.train(loss, ls.SGD(lr=0.1), epochs=1),
    ]
    for call in calls:
        with mode(name), pytest.raises(ConfigError, match="outside of that block"):
            call()


def test_runs_go_on_without_gradients():
    """no_grad is no obstacle: a run takes the derivatives that it needs, to the same bits."""
    bowl = Function(lambda x: x.square().sum(-1) / 2, 2)
    settings = {"temperature": 1.0, "steps": 5, "start": [1.0, 2.0], "seed": 1}
    outside = ls.simulate(bowl, ls.EulerMaruyama(0.1), **settings)
    with torch.no_grad():
        inside = ls.simulate(bowl, ls.EulerMaruyama(0.1), **settings)
    assert np.array_equal(outside.last_position, inside.last_position)


# -- what a user's function may not do --------------------------------------------------------------------------------


def turns_off(x):
    torch.set_grad_enabled(False)
    return x.square().sum(-1)


def within_no_grad(x):
    with torch.no_grad():
        return x.square().sum(-1)


def writes(x):
    energy = x.square().sum(-1)
    with torch.no_grad():
        x += 1.0
    return energy


@pytest.mark.parametrize("energy", [turns_off, within_no_grad])
def test_energies_that_turn_gradients_off(energy):
    """Refused, and gradients are as they were; the energy itself is right, and so is the right function."""
    bowl = Function(energy, 2)
    assert float(bowl.energy(np.array([1.0, 2.0]))) == 5.0 and torch.is_grad_enabled()
    for call in (bowl.gradient, bowl.hessian, lambda x: ls.simulate(bowl, ls.EulerMaruyama(0.1), steps=2, start=x)):
        with pytest.raises(ConfigError, match="cannot differentiate"):
            call(np.array([1.0, 2.0]))
        assert torch.is_grad_enabled()
    right = Function(lambda x: x.square().sum(-1), 2)
    assert right.gradient(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]


def test_functions_that_write_into_their_argument():
    position = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for bowl in (Function(writes, 2), Function(lambda x: x.square().sum(-1), 2, gradient=lambda x: x.mul_(2.0))):
        with pytest.raises(ConfigError, match=r"writes into its argument.*clone"):
            (bowl.energy if bowl.own_gradient is None else bowl.gradient)(position)
        with pytest.raises(ConfigError, match="writes into its argument"):
            ls.simulate(bowl, ls.EulerMaruyama(0.1), temperature=1.0, steps=3, start=[1.0, 2.0])
    copies = Function(lambda x: x.clone().mul_(2.0).square().sum(-1), 2)
    assert float(copies.energy([1.0, 2.0])) == 20.0


def hides(x):
    return x.detach()[..., 0] ** 2 + x[..., 1] ** 2


def hides_data(x):
    return x.data.square().sum(-1) + 0.0 * x.sum(-1)


def hides_in_inference_mode(x):
    with torch.inference_mode():
        part = x[..., 0].square()
    return part.clone() + x[..., 1].square()


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.square()

    @staticmethod
    def backward(ctx, slope):
        return slope  # that of x


@pytest.mark.parametrize("energy", [hides, hides_data, hides_in_inference_mode, lambda x: Straight.apply(x).sum(-1)])
@pytest.mark.parametrize("batched", [True, False])
def test_energies_of_which_torch_sees_a_part(energy, batched):
    """The forces would be those of another landscape; with a gradient of one's own nothing is asked."""
    if energy is hides_in_inference_mode or (not batched and energy is not hides):
        batched = True  # torch.vmap has errors of its own for these
    with pytest.raises(ConfigError, match=r"does not see all.*gradient="):
        Function(energy, 2, batched=batched)
    own = Function(energy, 2, gradient=lambda x: 2.0 * x)
    assert own.gradient([1.0, 2.0]).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "energy",
    [
        lambda x: x.float().square().sum(-1).double(), lambda x: x.abs().sum(-1), lambda x: (50 * x).sin().sum(-1),
        lambda x: x.round().square().sum(-1), lambda x: torch.relu(x - 0.35).sum(-1), lambda x: 1e8 + x.sum(-1),
        lambda x: x.square().sum(-1) + 0.1 * torch.rand(x.shape[:-1]), lambda x: torch.log(x - 0.31).sum(-1),
        lambda x: 0.0 * x.sum(-1), lambda x: x.square().sum(-1).bfloat16().double(),
    ],
)  # fmt: skip
def test_functions_with_kinks_noise_or_few_digits_are_taken(energy):
    Function(energy, 2)


# -- what a user's module, loss or optimiser may not do ---------------------------------------------------------------


class Hidden(nn.Module):
    """A network whose first layer is run in some way."""

    def __init__(self, within):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.within = nn.Linear(4, 5), nn.Linear(5, 3), within

    def forward(self, x):
        with self.within():
            hidden = self.first(x)
        return self.last(torch.tanh(hidden.clone()))


DATA = torch.randn(20, 4, generator=torch.Generator().manual_seed(3)), torch.arange(20) % 3


@pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode])
def test_modules_that_hide_weights_from_the_gradient(within):
    """Refused: those weights would be at rest, although the loss varies with them. Frozen ones are constants."""
    with pytest.raises(ConfigError, match=r"'first\.weight'.*no derivative.*requires_grad_"):
        NetworkLoss(Hidden(within), *DATA)
    module = Hidden(torch.no_grad)
    module.first.requires_grad_(False)
    assert NetworkLoss(module, *DATA).dim == 18
    open_loss = NetworkLoss(Hidden(contextlib.nullcontext), *DATA)
    assert float(open_loss.gradient(open_loss.position())[:20].norm()) > 0.01


class Careless(nn.Linear):
    def forward(self, x):
        found = super().forward(x)
        torch.set_grad_enabled(False)
        torch.set_autocast_enabled("cpu", True)
        torch.set_default_dtype(torch.float64)
        return found


class CarelessOptimizer(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)


def test_modes_that_user_code_leaves_behind_are_put_back():
    torch.manual_seed(0)
    careful = nn.Linear(4, 3)
    careless = Careless(4, 3)
    careless.load_state_dict(careful.state_dict())
    losses = [NetworkLoss(module, *DATA) for module in (careful, careless)]
    settings = {"steps": 3, "start": losses[0].position(), "data_seed": 0}
    rules = [ls.SGD(lr=0.1), ls.Optimizer(CarelessOptimizer, lr=0.1)]
    before = *state(), torch.get_default_dtype()
    ends = [ls.simulate(loss, rule, backend="batched", **settings).last_position for loss in losses for rule in rules]
    assert (*state(), torch.get_default_dtype()) == before
    assert all(np.allclose(end, ends[0], atol=1e-6) for end in ends)
    assert not np.allclose(ends[0], losses[0].position(), atol=1e-3)


@pytest.mark.parametrize("name", ["inference", "autocast"])
def test_probes_do_not_depend_on_modes(name):
    """Curvature by whatever route, which goes past the public methods of a potential."""
    loss = network()
    start = loss.position()
    keys = loss.batch_keys(1, 0)
    probes = {
        "largest": lambda at: ls.probes.curvature.largest_eigenvalue(loss, at).largest,
        "eigenvalues": lambda at: ls.probes.curvature.eigenvalues(loss, at).eigenvalue,
        "trace": lambda at: ls.probes.curvature.trace(loss, at).trace,
        "scores": lambda at: ls.probes.curvature.score_singular_values(loss, at).singular_value,
        "diagonal": lambda at: next(iter(ls.probes.curvature.diagonal(loss, at).data_vars.values())),
        "step": lambda at: loss.step_gradient(at[None], step=0, keys=keys),
    }
    for what, probe in probes.items():
        outside = np.asarray(probe(start))
        with mode(name):
            inside, own = np.asarray(probe(start)), np.asarray(probe(start.clone()))
        assert np.abs(outside).max() > 0.01, what
        assert np.array_equal(outside, inside) and np.array_equal(outside, own), what


# -- operators, and losses that are made within a mode ----------------------------------------------------------------


def operators(loss, at):
    curvature = ls.probes.curvature
    return {
        "Hessian": curvature.HessianOperator(loss, at),
        "Gauss-Newton": curvature.GaussNewtonOperator(loss, at),
        "Fisher": curvature.FisherOperator(loss, at, labels="model"),
        "function": curvature.HessianOperator(LANDSCAPES["function"](), at[:2]),
    }


@pytest.mark.parametrize("name", ["inference", "no_grad", "autocast", "float64"])
def test_operators_do_not_depend_on_modes(name, monkeypatch):
    """By themselves, without a probe around them: made outside or inside, on vectors made outside or inside."""
    monkeypatch.setitem(MODES, "float64", float64)
    loss = network()
    start = loss.position()
    outside = {what: (op, op @ torch.ones(op.shape[0])) for what, op in operators(loss, start).items()}
    with mode(name):
        made = operators(loss, start.clone())
    for what, (operator, product) in outside.items():
        assert float(product.abs().max()) > 1e-3, what
        ones = torch.ones(len(product))
        with mode(name):
            own = torch.ones(len(product), dtype=torch.float32)
            columns = operator @ torch.eye(len(ones))
            found = {
                "product": operator @ ones, "own vector": operator @ own, "made inside": made[what] @ ones,
                "columns": columns.sum(1),
                "sum": (operator + 2 * operator).shifted(1.0) @ ones / 3 - ones / 3,
                "scipy": torch.as_tensor(operator.to_scipy() @ np.ones(len(ones))),
            }  # fmt: skip
        for how, one in found.items():
            assert torch.allclose(one.double(), product.double(), rtol=1e-5, atol=1e-5), (
                what,
                how,
            )


@contextlib.contextmanager
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def test_products_beside_the_package_do_depend_on_modes():
    """The control: the same product by torch's own derivatives has other digits within autocast."""
    loss = network()
    module, (x, y), v = loss.module, (loss.inputs, loss.targets), torch.ones(loss.dim)

    def product():
        weights = list(module.parameters())
        slopes = torch.autograd.grad(nn.functional.cross_entropy(module(x), y), weights, create_graph=True)
        at = torch.cat([one.reshape(-1) for one in slopes]) @ v
        return torch.cat([one.reshape(-1) for one in torch.autograd.grad(at, weights)])

    outside = product()
    with MODES["autocast"]():
        inside = product()
    assert float((inside - outside).abs().max() / outside.abs().max()) > 5e-4


@pytest.mark.parametrize("name", ["inference", "no_grad", "autocast"])
@pytest.mark.parametrize("inside", ["nothing", "module", "data"])
def test_losses_may_be_made_within_modes(name, inside):
    """Weights and data made in inference mode are copied; `load` writes to the user's module all the same."""
    truth = network()
    gradient, start = truth.gradient(truth.position()), truth.position()
    with mode(name):
        copied = inside == "module"
        module = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)) if copied else truth.module
        module.load_state_dict(truth.module.state_dict())
        data = [one.clone() if inside == "data" else one for one in (truth.inputs, truth.targets)]
        loss = NetworkLoss(module, *data, dtype=torch.float32)
        assert torch.equal(loss.position(), start)
    assert torch.allclose(loss.gradient(loss.position()), gradient, atol=1e-7) and float(gradient.norm()) > 0.01
    run = ls.simulate(loss, ls.SGD(lr=0.1), steps=2)
    assert np.allclose(run.last_position, ls.simulate(truth, ls.SGD(lr=0.1), steps=2).last_position, atol=1e-6)
    loss.load(start + 1.0)
    assert torch.equal(loss.position(), start + 1.0)
    assert torch.equal(torch.cat([one.detach().reshape(-1) for one in module.parameters()]), start + 1.0)


def strict(x):
    torch.use_deterministic_algorithms(True)
    return x.square().sum(-1)


def test_deterministic_algorithms_are_left_as_found():
    bowl = Function(strict, 2)
    for wanted in (False, True):
        torch.use_deterministic_algorithms(wanted)
        try:
            assert bowl.gradient([1.0, 2.0]).tolist() == [2.0, 4.0]
            ls.simulate(bowl, ls.EulerMaruyama(0.1), temperature=1.0, steps=2, start=[1.0, 2.0])
            assert torch.are_deterministic_algorithms_enabled() == wanted
        finally:
            torch.use_deterministic_algorithms(False)
    strict(torch.ones(2))  # the control: by itself it changes the flag
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
