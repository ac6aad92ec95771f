"""The loss of a network as a landscape: values and derivatives of many architectures, and a module left untouched."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

import landscape as ls
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials import NetworkLoss, architectures, datasets

SAMPLES = 9
RTOL = 1e-7


def draws(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(samples, classes=3, seed=1):
    return torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))


def seeded(module, seed=2):
    """The module in float64 with weights N(0, 0.5^2) and plausible running statistics."""
    module = module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return module


class Tied(nn.Module):
    """A decoder that is the transpose of the encoder, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(4, 3)
        self.twice = nn.Linear(3, 3)
        self.again = self.twice
        self.decode = nn.Linear(3, 4, bias=False)
        self.decode.weight = nn.Parameter(torch.zeros(4, 3))
        self.mirror = nn.Linear(3, 4, bias=False)
        self.mirror.weight = self.decode.weight
        self.last = nn.Linear(4, 3)

    def forward(self, inputs):
        hidden = torch.tanh(self.again(torch.tanh(self.twice(torch.tanh(self.encode(inputs))))))
        return self.last(torch.tanh(self.decode(hidden) + self.mirror(hidden**2)))


def mlp(activation):
    return lambda: architectures.mlp([4, 5, 3, 3], activation=activation)


def convnet(activation, *norm):
    return lambda: nn.Sequential(nn.Conv2d(1, 4, 3), *norm, activation(), nn.Flatten(), nn.Linear(16, 3))


# Name -> module, shape of a sample, settings.
MODELS = {
    "linear": (lambda: architectures.mlp([4, 3]), (4,), {}),
    "mlp relu": (mlp("relu"), (4,), {}),
    "mlp tanh": (mlp("tanh"), (4,), {}),
    "mlp gelu": (mlp("gelu"), (4,), {}),
    "mlp without biases": (lambda: architectures.mlp([4, 5, 3], activation="tanh", bias=False), (4,), {}),
    "convnet relu": (convnet(nn.ReLU), (1, 4, 4), {}),
    "convnet tanh": (convnet(nn.Tanh), (1, 4, 4), {}),
    "convnet gelu": (convnet(nn.GELU), (1, 4, 4), {}),
    "batch norm frozen": (convnet(nn.Tanh, nn.BatchNorm2d(4)), (1, 4, 4), {"batchnorm": "frozen"}),
    "batch norm batch": (convnet(nn.Tanh, nn.BatchNorm2d(4)), (1, 4, 4), {"batchnorm": "batch"}),
    "group norm": (convnet(nn.Tanh, nn.GroupNorm(2, 4)), (1, 4, 4), {}),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)), (4,), {}),
    "tied": (Tied, (4,), {}),
    "vit": (
        lambda: architectures.vit(1, width=4, heads=2, patch=2, size=4, classes=3, channels=1, ratio=1),
        (1, 4, 4),
        {},
    ),
    "attention": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 3, batch_first=True), nn.Flatten(), nn.Linear(8, 3)),
        (2, 4),
        {},
    ),
}


def pseudo_huber(outputs, targets):
    return (torch.sqrt(1 + (outputs - targets) ** 2) - 1).sum(-1)


LOSSES = {
    "cross_entropy": ("cross_entropy", lambda: labels(SAMPLES), functional.cross_entropy),
    "mse": ("mse", lambda: draws(SAMPLES, 3, seed=5), functional.mse_loss),
    "callable": (pseudo_huber, lambda: draws(SAMPLES, 3, seed=5), lambda o, t: pseudo_huber(o, t).mean()),
}


ATTENTION = pytest.param("attention")
OTHERS = [model for model in MODELS if model != "attention"]
CASES = [(model, "cross_entropy") for model in OTHERS]
CASES += [(model, loss) for model in ("mlp relu", "mlp tanh", "convnet gelu", "vit") for loss in ("mse", "callable")]
FALLBACK = pytest.mark.filterwarnings(
    "ignore:There is a performance drop:UserWarning"
)  # of torch.vmap, in nn.Transformer


def landscape(model, loss="cross_entropy", **settings):
    make, shape, needed = MODELS[model]
    name, targets, _ = LOSSES[loss]
    return NetworkLoss(seeded(make()), draws(SAMPLES, *shape, seed=3), targets(), loss=name, **needed, **settings)


def around(potential, count=3, seed=7, scale=0.2):
    return potential.position() + draws(count, potential.dim, seed=seed, scale=scale)


def relative(actual, expected):
    return float((actual - expected).abs().max() / expected.abs().max())


# -- values -----------------------------------------------------------------------------------------------------------


@FALLBACK
@pytest.mark.parametrize(("model", "loss"), [*CASES, ("attention", "mse")])
def test_energy_is_the_mean_loss_of_the_module(model, loss):
    potential = landscape(model, loss)
    _, targets, reference = LOSSES[loss]
    points = around(potential)
    energies = potential.energy(points)
    assert energies.shape == (3,)
    for position, energy in zip(points, energies, strict=True):
        module = potential.module_at(position).eval()
        if potential.batchnorm == "batch":
            module.train()
        expected = reference(module(draws(SAMPLES, *MODELS[model][1], seed=3)), targets())
        assert float(energy) == pytest.approx(float(expected.detach()), rel=1e-12)


@FALLBACK
@pytest.mark.parametrize(("model", "loss"), [*CASES, pytest.param("attention", "mse")])
def test_gradient_and_curvature_against_finite_differences(model, loss):
    """Along random directions, central differences of fourth order; the step is short because of the kinks of ReLU."""
    potential, step = landscape(model, loss), 2e-5
    start = around(potential, 1)[0]
    directions = functional.normalize(draws(6, potential.dim, seed=9), dim=-1)
    nodes = start + step * torch.tensor([-2.0, -1.0, 1.0, 2.0]).view(4, 1, 1) * directions
    weights = torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / (12 * step)
    slopes = torch.einsum("s,sd->d", weights, potential.energy(nodes))
    gradient = potential.gradient(start)
    torch.testing.assert_close(directions @ gradient, slopes, rtol=RTOL, atol=RTOL * float(gradient.norm()))
    products = torch.einsum("s,sdi->di", weights, potential.gradient(nodes))
    by_hvp = potential.hvp(start, directions)
    assert relative(by_hvp, products) < RTOL
    hessian = potential.hessian(start)
    assert relative(directions @ hessian, products) < RTOL
    assert float((hessian - hessian.T).abs().max()) < 1e-12 * float(hessian.abs().max())


def test_curvature_of_attention_at_one_position():
    """nn.TransformerEncoderLayer, as torch has it: one position and one direction at a time."""
    potential, step = landscape("attention"), 2e-5
    start = around(potential, 1)[0]
    hessian = potential.hessian(start)
    assert float((hessian - hessian.T).abs().max()) < 1e-12 * float(hessian.abs().max())
    for direction in functional.normalize(draws(3, potential.dim, seed=9), dim=-1):
        near = potential.gradient(start + step * direction) - potential.gradient(start - step * direction)
        far = potential.gradient(start + 2 * step * direction) - potential.gradient(start - 2 * step * direction)
        products = (8 * near - far) / (12 * step)
        assert relative(potential.hvp(start, direction), products) < RTOL
        assert relative(direction @ hessian, products) < RTOL


@FALLBACK
@pytest.mark.parametrize("model", [*OTHERS, ATTENTION])
def test_many_positions_at_once_are_the_positions_one_by_one(model):
    potential = landscape(model)
    points = around(potential, 4).reshape(2, 2, -1)
    vector = draws(potential.dim, seed=11)
    for call in (
        potential.energy,
        potential.gradient,
        potential.sample_energies,
        potential.accuracy,
        lambda x: potential.hvp(x, vector),
    ):
        together = call(points)
        for i in range(2):
            for j in range(2):
                torch.testing.assert_close(call(points[i, j]), together[i, j], rtol=1e-10, atol=1e-12)


@FALLBACK
@pytest.mark.parametrize("model", [name for name in MODELS if name != "batch norm batch"])
def test_per_sample_energies_and_gradients_average_to_the_whole(model):
    potential = landscape(model, weight_decay=0.3)
    points = around(potential, 2)
    ridge = 0.15 * (points**2).sum(-1)
    torch.testing.assert_close(potential.sample_energies(points).mean(-1) + ridge, potential.energy(points))
    gradients = potential.sample_gradients(points)
    assert gradients.shape == (2, SAMPLES, potential.dim)
    torch.testing.assert_close(gradients.mean(-2) + 0.3 * points, potential.gradient(points))
    single = NetworkLoss(
        potential.module_at(potential.position()),
        draws(SAMPLES, *MODELS[model][1], seed=3)[4:5],
        labels(SAMPLES)[4:5],
        **MODELS[model][2],
    )
    torch.testing.assert_close(gradients[:, 4], single.gradient(points), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(potential.sample_energies(points)[:, 4], single.energy(points), rtol=1e-9, atol=1e-12)


def test_batch_statistics_have_no_per_sample_gradients():
    potential = landscape("batch norm batch")
    with pytest.raises(LandscapeError, match="batch"):
        potential.sample_gradients(potential.position())


def test_losses_far_below_rounding():
    """A network that has learnt its labels: energy 1e-11 and its gradient in float32 as in float64."""
    inputs, targets = draws(12, 4, seed=3), labels(12)
    module = architectures.mlp([4, 16, 3])
    found = ls.minimize(NetworkLoss(module, inputs, targets, dtype=torch.float64), method="lbfgs", tolerance=1e-9)
    double = NetworkLoss(module, inputs.float(), targets, dtype=torch.float64)
    single = NetworkLoss(module, inputs.float(), targets)
    position = torch.tensor(found.position.values).float()
    energy = float(double.energy(position.double()))
    assert 0 < energy < 1e-8
    assert float(single.energy(position)) == pytest.approx(energy, rel=2e-3)
    assert relative(single.gradient(position).double(), double.gradient(position.double())) < 2e-3
    usual = functional.cross_entropy(single.module_at(position)(inputs.float()), targets)
    assert abs(float(usual.detach()) / energy - 1) > 0.1  # control: the usual form has lost it


def test_accuracy_and_held_out_data():
    inputs, targets = draws(SAMPLES, 4, seed=3), labels(SAMPLES)
    others, answers = draws(20, 4, seed=13), labels(20, seed=14)
    potential = NetworkLoss(
        seeded(architectures.mlp([4, 6, 3])), inputs, targets, weight_decay=2.0, evaluation=(others, answers)
    )
    points = around(potential, 3)
    for position, accuracy, own, energy in zip(
        points,
        potential.accuracy(points),
        potential.accuracy(points, held_out=False),
        potential.evaluation_energy(points),
        strict=True,
    ):
        module = potential.module_at(position)
        expected = (module(others).argmax(-1) == answers).double().mean()
        assert float(accuracy) == pytest.approx(float(expected))
        assert float(own) == pytest.approx(float((module(inputs).argmax(-1) == targets).double().mean()))
        without_decay = functional.cross_entropy(module(others), answers).detach()
        assert float(energy) == pytest.approx(float(without_decay), rel=1e-12)
    assert potential.accuracy(points, held_out=True).tolist() == potential.accuracy(points).tolist()


def test_what_needs_held_out_data_or_labels_says_so():
    potential = landscape("mlp tanh")
    with pytest.raises(ConfigError, match="evaluation"):
        potential.evaluation_energy(potential.position())
    with pytest.raises(ConfigError, match="evaluation"):
        potential.accuracy(potential.position(), held_out=True)
    with pytest.raises(ConfigError, match="labels"):
        landscape("mlp tanh", "mse").accuracy(potential.position())


@pytest.mark.parametrize("decay", [0.1, 2.0])
def test_weight_decay_adds_half_w_theta_squared(decay):
    plain, decayed = landscape("mlp gelu"), landscape("mlp gelu", weight_decay=decay)
    points, vector = around(plain), draws(plain.dim, seed=15)
    torch.testing.assert_close(decayed.energy(points) - plain.energy(points), decay / 2 * (points**2).sum(-1))
    torch.testing.assert_close(decayed.gradient(points) - plain.gradient(points), decay * points)
    torch.testing.assert_close(decayed.hvp(points, vector) - plain.hvp(points, vector), decay * vector.expand(3, -1))
    difference = decayed.hessian(points[0]) - plain.hessian(points[0])
    torch.testing.assert_close(difference, decay * torch.eye(plain.dim, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(decayed.sample_energies(points), plain.sample_energies(points))


@pytest.mark.parametrize("integrator", [ls.SGD(lr=0.1, weight_decay=0.1), ls.AdamW(lr=0.1)], ids=["SGD", "AdamW"])
def test_weight_decay_twice_is_refused(integrator):
    with pytest.raises(ConfigError, match="decay"):
        ls.simulate(landscape("mlp tanh", weight_decay=0.1), integrator, steps=1)
    ls.simulate(landscape("mlp tanh"), integrator, steps=1)
    ls.simulate(landscape("mlp tanh", weight_decay=0.1), ls.SGD(lr=0.1), steps=1)


@pytest.mark.parametrize("chunk_size", [1, 4, 7, 100])
@pytest.mark.parametrize("model", ["mlp relu", "convnet tanh", "batch norm frozen", "vit"])
def test_the_chunk_size_changes_nothing(model, chunk_size):
    whole, chunked = landscape(model), landscape(model, chunk_size=chunk_size)
    points, vector = around(whole, 2), draws(whole.dim, seed=15)
    for name in ("energy", "gradient", "sample_energies", "sample_gradients", "accuracy"):
        expected, actual = getattr(whole, name)(points), getattr(chunked, name)(points)
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chunked.hvp(points, vector), whole.hvp(points, vector), rtol=1e-10, atol=1e-12)


def test_attention_runs_without_warnings():
    potential = landscape("attention")
    potential.energy(around(potential))


# -- the vector of weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_layout_is_the_modules_parameters_in_order(model):
    potential = landscape(model)
    module = seeded(MODELS[model][0]())
    names = [name for name, _ in module.named_parameters()]
    assert [slot.name for slot in potential.layout] == names
    flat = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    assert torch.equal(potential.position(), flat)
    assert potential.dim == len(flat) == potential.layout.dim
    assert torch.equal(potential.default_start(), flat)
    for slot, parameter in zip(potential.layout, module.parameters(), strict=True):
        assert slot.shape == tuple(parameter.shape)
        assert torch.equal(flat[slot.offset : slot.offset + slot.size].view(slot.shape), parameter)
    assert potential.coordinates is None


def test_tied_weights_are_one_coordinate():
    potential = landscape("tied")
    assert potential.dim == (4 * 3 + 3) + (3 * 3 + 3) + 3 * 4 + (4 * 3 + 3)
    position = around(potential, 1)[0]
    moved = potential.module_at(position)
    assert moved.mirror.weight is moved.decode.weight
    assert moved.again is moved.twice
    assert torch.equal(torch.cat([p.detach().flatten() for p in moved.parameters()]), position)


def test_frozen_parameters_stay():
    module = seeded(architectures.mlp([4, 5, 3], activation="tanh"))
    module[0].bias.requires_grad_(False)
    module[2].weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    potential = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES))
    assert [slot.name for slot in potential.layout] == ["0.weight", "2.bias"]
    assert potential.dim == 4 * 5 + 3
    position = around(potential, 1)[0]
    moved = potential.module_at(position)
    assert torch.equal(moved[0].bias, before["0.bias"])
    assert torch.equal(moved[2].weight, before["2.weight"])
    assert not moved[0].bias.requires_grad
    expected = functional.cross_entropy(moved(draws(SAMPLES, 4)), labels(SAMPLES)).detach()
    assert float(potential.energy(position)) == pytest.approx(float(expected), rel=1e-12)
    run = ls.simulate(potential, ls.EulerMaruyama(dt=0.1), temperature=0.1, steps=5)
    assert run.last_position.shape == (1, 23)
    potential.load(run.last_position[0].values)
    assert torch.equal(module[0].bias, before["0.bias"])
    assert not torch.equal(module[0].weight, before["0.weight"])


def test_load_writes_and_module_at_copies():
    module = seeded(architectures.mlp([4, 5, 3])).train()
    potential = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES))
    own, other = potential.position(), around(potential, 1)[0]
    moved = potential.module_at(other)
    assert moved is not module
    assert moved.training
    assert torch.equal(potential.position(), own)
    with torch.no_grad():
        moved[0].weight.zero_()
    assert torch.equal(potential.position(), own)
    identities = [id(parameter) for parameter in module.parameters()]
    potential.load(other.numpy())
    assert [id(parameter) for parameter in module.parameters()] == identities
    assert torch.equal(torch.cat([p.detach().flatten() for p in module.parameters()]), other)
    assert torch.equal(potential.position(), other)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    outputs = module.eval()(draws(SAMPLES, 4))
    assert float(potential.energy(other)) == pytest.approx(
        float(functional.cross_entropy(outputs, labels(SAMPLES)).detach())
    )


def test_positions_handed_out_are_copies():
    potential = landscape("mlp tanh")
    position = potential.position()
    position.zero_()
    assert float(potential.position().abs().max()) > 0


@pytest.mark.parametrize("call", ["load", "module_at"])
@pytest.mark.parametrize("shape", [(5,), (2, 68), (), (0,)])
def test_one_whole_position_is_needed(call, shape):
    module = seeded(architectures.mlp([4, 6, 5, 3]))
    potential = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES))
    before = potential.position()
    with pytest.raises(ShapeError) as caught:
        getattr(potential, call)(torch.zeros(shape))
    assert str(potential.dim) in str(caught.value)
    assert str(shape) in str(caught.value)
    assert torch.equal(potential.position(), before)


# -- the user's module is left as it was found ------------------------------------------------------------------------


class Everything(nn.Module):
    """Dropout, batch normalisation, a buffer, a frozen weight, a hook and a counter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(6, 3)
        self.norm.num_batches_tracked = None
        self.register_buffer("scale", torch.full((6,), 1.5))
        self.last.bias.requires_grad_(False)
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        return self.last(self.dropout(torch.tanh(self.scale * self.norm(self.first(inputs)))))


def portrait(module):
    """Everything about a module that a call could change, and the global random states."""
    return {
        "state": {name: value.clone() for name, value in module.state_dict(keep_vars=False).items()},
        "modes": [child.training for child in module.modules()],
        "needs": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad for parameter in module.parameters()],
        "identity": [id(tensor) for tensor in (*module.parameters(), *module.buffers())],
        "hooks": [len(child._forward_hooks) + len(child._forward_pre_hooks) for child in module.modules()],
        "names": [sorted(vars(child)) for child in module.modules()],
        "calls": getattr(module, "calls", None),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.filterwarnings("ignore:dropout is off")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", ["batch", "frozen", "reestimate"])
def test_no_call_changes_the_users_module(policy, training):
    module = seeded(Everything()).train(training)
    module.first.eval()
    module.first.register_forward_hook(lambda module, inputs, output: None)
    before = portrait(module)
    potential = NetworkLoss(
        module,
        draws(12, 4),
        labels(12),
        batchnorm=policy,
        batch_size=5,
        chunk_size=7,
        evaluation=(draws(6, 4, seed=8), labels(6)),
    )
    position = potential.position()
    calls = {
        "energy": lambda: potential.energy(position),
        "gradient": lambda: potential.gradient(position),
        "hvp": lambda: potential.hvp(position, position),
        "hessian": lambda: potential.hessian(position),
        "sample_energies": lambda: potential.sample_energies(position),
        "sample_gradients": lambda: policy == "frozen" and potential.sample_gradients(position),
        "accuracy": lambda: potential.accuracy(position),
        "evaluation_energy": lambda: potential.evaluation_energy(position),
        "buffers_at": lambda: potential.buffers_at(position),
        "spec": potential.spec,
        "full_batch": lambda: potential.full_batch().energy(position),
        "module_at": lambda: potential.module_at(position)(draws(5, 4)),
        "simulate": lambda: ls.simulate(potential, ls.SGD(lr=0.1, momentum=0.5), steps=4, chains=2),
        "minimize": lambda: ls.minimize(potential, steps=4),
        "lbfgs": lambda: ls.minimize(potential, method="lbfgs", steps=4),
        "train": lambda: ls.train(potential, ls.AdamW(lr=0.1), epochs=2, siblings=2),
    }
    for name, call in calls.items():
        random_before = torch.get_rng_state()
        call()
        after = portrait(module)
        if name == "module_at":  # the user's own call of the copy draws dropout masks
            torch.set_rng_state(random_before)
            after = portrait(module)
        changed = [key for key in before if not same(before[key], after[key])]
        assert not changed, f"{name} changed {changed}"


def test_a_module_changed_later_does_not_move_the_landscape():
    module = seeded(architectures.mlp([4, 6, 3]))
    potential = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES))
    position = potential.position()
    energy = float(potential.energy(position))
    with torch.no_grad():
        module[0].weight.zero_()
    module.train()
    module[0].weight.requires_grad_(False)
    assert float(potential.energy(position)) == energy


def test_the_users_data_are_left_alone():
    inputs, targets = draws(SAMPLES, 4).numpy(), labels(SAMPLES).numpy()
    inputs.flags.writeable = targets.flags.writeable = False
    copies = inputs.copy(), targets.copy()
    potential = NetworkLoss(seeded(architectures.mlp([4, 6, 3])), inputs, targets, batch_size=4)
    ls.simulate(potential, ls.SGD(lr=0.1), steps=5)
    np.testing.assert_array_equal(inputs, copies[0])
    np.testing.assert_array_equal(targets, copies[1])


def test_dropout_is_off():
    module = seeded(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.ReLU(), nn.Linear(8, 3))).train()
    potential = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES))
    position = potential.position()
    assert float(potential.energy(position)) == float(potential.energy(position))
    expected = functional.cross_entropy(copy.deepcopy(module).eval()(draws(SAMPLES, 4)), labels(SAMPLES)).detach()
    assert float(potential.energy(position)) == pytest.approx(float(expected))
    for wrong in ("on", True, None):
        with pytest.raises(ConfigError, match="dropout"):
            NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES), dropout=wrong)


def test_dtypes():
    module = architectures.mlp([4, 6, 3])
    single = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES))
    double = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES), dtype=torch.float64)
    assert single.position().dtype == single.gradient(single.position()).dtype == torch.float32
    assert double.position().dtype == double.gradient(double.position()).dtype == torch.float64
    assert next(module.parameters()).dtype == torch.float32
    assert torch.equal(single.position().double(), double.position())
    assert float(single.energy(single.position())) == pytest.approx(float(double.energy(double.position())), rel=1e-5)
    position = double.position().numpy()
    assert isinstance(double.energy(position), np.ndarray)


# -- where data come from ---------------------------------------------------------------------------------------------


class Pairs(Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs.numpy(), targets.tolist()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


SOURCES = {
    "tensors": lambda x, y: (x, y),
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
    "int32 labels": lambda x, y: (x, y.int()),
    "TensorDataset": lambda x, y: (TensorDataset(x, y),),
    "Dataset": lambda x, y: (Pairs(x, y),),
    "Subset": lambda x, y: (torch.utils.data.Subset(TensorDataset(x, y), range(len(y))),),
    "DataLoader": lambda x, y: (DataLoader(TensorDataset(x, y), batch_size=4),),
    "DataLoader shuffled": lambda x, y: (DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True),),
    "Data": lambda x, y: (datasets.Data(x, y, classes=3, name="by hand", recipe={"kind": "by hand"}),),
}


@pytest.mark.parametrize("source", SOURCES)
def test_data_may_come_in_many_forms(source):
    inputs, targets, module = draws(SAMPLES, 4), labels(SAMPLES), seeded(architectures.mlp([4, 6, 3]))
    state = torch.get_rng_state()
    potential = NetworkLoss(module, *SOURCES[source](inputs, targets))
    assert torch.equal(torch.get_rng_state(), state)
    assert potential.samples == SAMPLES
    position = potential.position()
    expected = NetworkLoss(module, inputs, targets).energy(position)
    assert float(potential.energy(position)) == pytest.approx(float(expected), rel=1e-12)


def test_data_made_by_hand():
    data = datasets.Data(draws(SAMPLES, 4), labels(SAMPLES), classes=3, name="by hand")
    potential = NetworkLoss(seeded(architectures.mlp([4, 6, 3])), data)
    assert potential.samples == SAMPLES
    assert "sha256" in potential.spec()["data"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_labels_of_any_integer_type(dtype):
    potential = NetworkLoss(seeded(architectures.mlp([4, 6, 3])), draws(SAMPLES, 4), labels(SAMPLES).to(dtype))
    reference = NetworkLoss(seeded(architectures.mlp([4, 6, 3])), draws(SAMPLES, 4), labels(SAMPLES))
    assert float(potential.energy(potential.position())) == float(reference.energy(reference.position()))


def test_integer_inputs_of_an_embedding():
    tokens = torch.randint(5, (SAMPLES, 4), generator=torch.Generator().manual_seed(0))
    module = seeded(nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 3)))
    potential = NetworkLoss(module, tokens, labels(SAMPLES))
    expected = functional.cross_entropy(module(tokens), labels(SAMPLES)).detach()
    assert float(potential.energy(potential.position())) == pytest.approx(float(expected))


def test_data_with_held_out_samples_bring_them_along():
    data = datasets.digits(200)
    potential = NetworkLoss(architectures.mlp([64, 10]), data)
    assert potential.samples == 200
    module = potential.module_at(potential.position())
    expected = (module(data.evaluation_inputs).argmax(-1) == data.evaluation_targets).double().mean()
    assert float(potential.accuracy(potential.position())) == pytest.approx(float(expected), rel=1e-6)


X, Y = draws(6, 2).float(), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "words"),
    [
        (X, Y[:5], ShapeError, ["6", "5"]),
        (X, None, ConfigError, ["targets"]),
        (X[:0], Y[:0], ShapeError, ["empty"]),
        (X * math.nan, Y, ShapeError, ["finite"]),
        (X, Y.float(), ShapeError, ["float32", "integer"]),
        (X, functional.one_hot(Y).float(), ShapeError, ["float32", "integer"]),
        (X, Y + 1, ShapeError, ["3", "0 to 2"]),
        (X, Y - 1, ShapeError, ["-1"]),
        (draws(6, 5), Y, ShapeError, ["(6, 5)"]),
        (["a"] * 6, Y, ShapeError, ["numbers"]),
        (X[:, 0], Y, ShapeError, ["(6,)"]),
        pytest.param(X, functional.one_hot(Y), ShapeError, ["(3,)"]),
        pytest.param(X, Y[:, None], ShapeError, ["(1,)"]),
        pytest.param(X, Y.bool(), ShapeError, ["bool"]),
        pytest.param(X.to(torch.complex64), Y, ShapeError, ["complex"]),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, targets, error, words):
    with pytest.raises(error) as caught:
        NetworkLoss(architectures.mlp([2, 3]), inputs, targets)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_values_that_do_not_fit_the_outputs_are_refused():
    for wrong in (torch.zeros(6, 2), torch.zeros(6), torch.zeros(6, 3, 1)):
        with pytest.raises(ShapeError, match=r"\(3,\)"):
            NetworkLoss(architectures.mlp([2, 3]), X, wrong, loss="mse")
    NetworkLoss(architectures.mlp([2, 1]), X, torch.zeros(6), loss="mse")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("mlp", ["torch.nn.Module", "str"]),
        (nn.Linear, ["torch.nn.Module", "type"]),
        (nn.ReLU(), ["trainable"]),
        (architectures.mlp([2, 3]).requires_grad_(False), ["trainable", "requires_grad"]),
    ],
)
def test_only_modules_with_trainable_parameters(module, words):
    with pytest.raises(ConfigError) as caught:
        NetworkLoss(module, X, Y)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("batch_size", 0, ["batch_size", "0"]),
        ("batch_size", -1, ["batch_size", "-1"]),
        ("batch_size", 7, ["batch_size", "6", "7"]),
        ("batch_size", 2.0, ["batch_size", "2.0"]),
        ("batch_size", True, ["batch_size", "True"]),
        ("chunk_size", 0, ["chunk_size", "0"]),
        ("chunk_size", 2.5, ["chunk_size", "2.5"]),
        ("weight_decay", -0.1, ["weight_decay", "-0.1"]),
        ("weight_decay", math.nan, ["weight_decay", "nan"]),
        ("loss", "nlll", ["'nlll'", "cross_entropy", "mse"]),
        ("batchnorm", "train", ["batchnorm", "'train'", "frozen"]),
        ("dropout", "on", ["dropout", "'on'"]),
        ("evaluation", (X, Y[:2]), ["6", "2"]),
        pytest.param("weight_decay", math.inf, ["weight_decay", "inf"]),
        pytest.param("weight_decay", "much", ["weight_decay", "'much'"]),
        pytest.param("sampling", "bootstrap", ["sampling", "'bootstrap'", "epoch"]),
        pytest.param("augment", 3, ["augment", "3"]),
        pytest.param("dtype", int, ["dtype"]),
        pytest.param("dtype", torch.int64, ["dtype", "int64"]),
        pytest.param("dtype", torch.complex64, ["dtype", "complex64"]),
        pytest.param("dtype", "float32", ["dtype", "'float32'"]),
        pytest.param("device", "nowhere", ["device", "nowhere"]),
        pytest.param("evaluation", (X,), ["evaluation"]),
        pytest.param("evaluation", (draws(6, 7), Y), ["(6, 7)"]),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, value, words):
    with pytest.raises(LandscapeError) as caught:
        NetworkLoss(architectures.mlp([2, 3]), X, Y, **{setting: value})
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match="cuda"):
        NetworkLoss(architectures.mlp([2, 3]), X, Y, device="cuda")


@pytest.mark.parametrize("shape", [(8,), (3, 10), ()])
def test_positions_of_the_wrong_length(shape):
    potential = NetworkLoss(architectures.mlp([2, 3]), X, Y)
    for call in (potential.energy, potential.gradient, potential.sample_energies, potential.accuracy):
        with pytest.raises(ShapeError, match="9"):
            call(torch.zeros(shape))


# -- plain data -------------------------------------------------------------------------------------------------------


def test_plain_data_name_module_and_data_by_recipe():
    module, data = architectures.mlp([10, 6, 3], activation="tanh", seed=4), datasets.random_labels(50, seed=2)
    plain = NetworkLoss(module, data, batch_size=8, weight_decay=0.1).spec()
    assert plain["kind"] == "NetworkLoss"
    assert plain["module"]["kind"] == "mlp"
    assert plain["module"]["sizes"] == [10, 6, 3]
    assert plain["data"]["kind"] == "random_labels"
    assert plain["data"]["samples"] == 50
    assert plain["batch_size"] == 8
    assert plain["weight_decay"] == 0.1


def test_plain_data_tell_a_changed_module_from_its_recipe():
    """Weights that are no longer those of the seed must not be named by it."""
    module = architectures.mlp([10, 6, 3])
    untouched = NetworkLoss(module, datasets.random_labels(50)).spec()["module"]
    with torch.no_grad():
        module[0].weight.mul_(2.0)
    changed = NetworkLoss(module, datasets.random_labels(50)).spec()["module"]
    assert changed != untouched


@pytest.mark.parametrize("kind", ["BatchNorm counter", "parameter"])
def test_plain_data_of_modules_with_tensors_without_dimensions(kind):
    """Every BatchNorm layer counts its batches in such a tensor; without plain data nothing can be simulated."""
    module = convnet(nn.Tanh, nn.BatchNorm2d(4))() if kind == "BatchNorm counter" else nn.Sequential(nn.Linear(4, 3))
    if kind == "parameter":
        module.register_parameter("temperature", nn.Parameter(torch.tensor(1.0)))
    shape = (1, 4, 4) if kind == "BatchNorm counter" else (4,)
    policy = "frozen" if kind == "BatchNorm counter" else None
    potential = NetworkLoss(seeded(module), draws(SAMPLES, *shape), labels(SAMPLES), batchnorm=policy)
    assert potential.spec()["module"]["sha256"]
    ls.simulate(potential, ls.SGD(lr=0.1), steps=1)


def test_plain_data_carry_fingerprints_of_what_has_no_recipe():
    def fingerprint(**changes):
        module = seeded(Tied(), changes.get("seed", 2))
        return NetworkLoss(module, draws(SAMPLES, 4, seed=changes.get("data", 3)), labels(SAMPLES)).spec()

    assert fingerprint() == fingerprint()
    assert fingerprint(seed=5)["module"]["sha256"] != fingerprint()["module"]["sha256"]
    assert fingerprint(data=5)["data"]["sha256"] != fingerprint()["data"]["sha256"]


# -- the compiled engine against the batched one ----------------------------------------------------------------------


def plain(sizes, activation, loss, samples, batch_size, dtype=torch.float64):
    module = architectures.mlp(sizes, activation=activation, seed=1)
    inputs = draws(samples, sizes[0])
    targets = labels(samples, sizes[-1]) if loss == "cross_entropy" else draws(samples, sizes[-1], seed=4)
    return NetworkLoss(module, inputs, targets, loss=loss, batch_size=batch_size, dtype=dtype)


INTEGRATORS = {
    "EulerMaruyama": (ls.EulerMaruyama(dt=[0.02, 0.05, 0.1]), [1e-3, 1e-2, 0.0]),
    "EulerMaruyama float64": (ls.EulerMaruyama(dt=0.05, noise=ls.ThermalNoise("float64", refinement=2)), 0.01),
    "LeimkuhlerMatthews": (ls.LeimkuhlerMatthews(dt=0.05, noise=ls.ThermalNoise("float64")), [1e-3, 1e-2, 0.0]),
    "Diffusion": (ls.Diffusion(dt=0.05), 0.01),
    "SGD": (ls.SGD(lr=[0.05, 0.1, 0.2]), 0.0),
    "momentum": (ls.SGD(lr=0.05, momentum=0.8, weight_decay=0.1), 0.0),
    "Nesterov": (ls.SGD(lr=0.05, momentum=0.8, nesterov=True), 0.0),
    "Adam": (ls.Adam(lr=[0.003, 0.01, 0.02], betas=(0.8, 0.95), eps=1e-4), 0.0),
    "AdamW": (ls.AdamW(lr=0.01, weight_decay=0.2, eps=1e-4), 0.0),
}


def both(potential, integrator, temperature, steps=50, chains=3, **settings):
    return [
        ls.simulate(
            potential,
            integrator,
            steps=steps,
            chains=chains,
            temperature=temperature,
            seed=3,
            backend=backend,
            record=ls.Record(every=10, observables=["position", "energy"]),
            **settings,
        )
        for backend in ("compiled", "batched")
    ]


@pytest.mark.parametrize("batch_size", [None, 7], ids=["full", "minibatch"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_trajectories_agree(integrator, activation, loss, batch_size):
    """23 samples in batches of 7: the last of an epoch holds 2; no width is a multiple of 4."""
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        potential = plain([5, 7, 6, 3], activation, loss, 23, batch_size, dtype)
        compiled, batched = both(potential, *INTEGRATORS[integrator])
        assert compiled.position.dtype == batched.position.dtype
        np.testing.assert_allclose(compiled.position, batched.position, rtol=0, atol=tolerance)
        np.testing.assert_allclose(compiled.last_position, batched.last_position, rtol=0, atol=tolerance)
        np.testing.assert_allclose(compiled.energy, batched.energy, rtol=0, atol=tolerance)
        for run in (compiled, batched):
            at = torch.tensor(run.position.values)
            expected = potential.energy(at).numpy()
            np.testing.assert_allclose(run.energy, expected, rtol=1e-12 if dtype == torch.float64 else 1e-5)
    moved = np.abs(compiled.position.values - potential.position().numpy()).max()
    assert moved > 1e-2  # control: 50 steps went somewhere


def test_trajectories_agree_with_float32_noise_in_the_leimkuhler_matthews_scheme():
    potential = plain([5, 7, 6, 3], "tanh", "mse", 23, None)
    compiled, batched = both(potential, ls.LeimkuhlerMatthews(dt=0.05), 1e-2)
    np.testing.assert_allclose(compiled.position, batched.position, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("sizes", "loss", "samples", "batch_size"),
    [
        ([5, 3], "cross_entropy", 11, None),
        ([5, 3], "mse", 11, 4),
        ([3, 5, 1], "mse", 17, 5),
        ([1, 1], "mse", 1, None),
        ([2, 3, 2], "cross_entropy", 1, None),
        ([2, 3, 2], "cross_entropy", 1, 1),
        ([4, 8, 4], "cross_entropy", 16, 16),
        ([1, 17, 33, 2], "cross_entropy", 19, 1),
        ([10, 20, 20, 10, 3], "cross_entropy", 300, 37),
        ([3, 1, 1, 2], "mse", 5, 2),
    ],
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_shapes_at_the_edges_agree(sizes, loss, samples, batch_size, activation):
    potential = plain(sizes, activation, loss, samples, batch_size)
    compiled, batched = both(potential, ls.EulerMaruyama(dt=0.05), 1e-3)
    np.testing.assert_allclose(compiled.position, batched.position, rtol=0, atol=1e-9)
    np.testing.assert_allclose(compiled.energy, batched.energy, rtol=0, atol=1e-9)


def test_one_step_is_the_gradient():
    """Displacement/lr of one step of SGD is -grad V on either backend, to 1e-12."""
    for activation in ("relu", "tanh"):
        potential = plain([5, 7, 3], activation, "cross_entropy", 23, None)
        points = around(potential, 4, scale=0.5)
        expected = potential.gradient(points).numpy()
        for backend in ("compiled", "batched"):
            run = ls.simulate(potential, ls.SGD(lr=0.5), start=points.numpy(), steps=1, backend=backend)
            gradient = (points.numpy() - run.last_position.values) / 0.5
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)


def test_weight_decay_in_both_engines():
    module = architectures.mlp([5, 7, 3], seed=1)
    potential = NetworkLoss(module, draws(23, 5), labels(23), weight_decay=0.7, batch_size=7, dtype=torch.float64)
    compiled, batched = both(potential, ls.SGD(lr=0.1), 0.0)
    np.testing.assert_allclose(compiled.position, batched.position, rtol=0, atol=1e-9)
    at = torch.tensor(compiled.position.values)
    np.testing.assert_allclose(compiled.energy, potential.energy(at).numpy(), rtol=1e-12)


def test_tiny_losses_in_both_engines():
    """At a minimum of 1e-9 in float32 the recorded energies of both engines are those of float64."""
    module = architectures.mlp([4, 16, 3])
    potential = NetworkLoss(module, draws(12, 4, seed=3), labels(12), dtype=torch.float64)
    found = ls.minimize(potential, method="lbfgs", tolerance=1e-9)
    single = NetworkLoss(module, draws(12, 4, seed=3).float(), labels(12))
    exact = NetworkLoss(module, draws(12, 4, seed=3).float(), labels(12), dtype=torch.float64)
    position = found.position.values.astype(np.float32)
    expected = float(exact.energy(position.astype(np.float64)))
    assert 0 < expected < 1e-8
    for run in both(single, ls.SGD(lr=1e-3), 0.0, steps=10, chains=1, start=position):
        assert float(run.energy[0, 0]) == pytest.approx(expected, rel=5e-3)


def test_other_networks_run_batched_and_say_why_not_compiled():
    for model in ("mlp gelu", "convnet relu", "tied", "mlp without biases"):
        potential = landscape(model)
        assert ls.simulate(potential, ls.SGD(lr=0.01), steps=1).attrs["backend"] == "batched"
        with pytest.raises(ConfigError, match="compiled"):
            ls.simulate(potential, ls.SGD(lr=0.01), steps=1, backend="compiled")
    assert ls.simulate(landscape("mlp relu"), ls.SGD(lr=0.01), steps=1).attrs["backend"] == "compiled"


class Doubled(nn.Sequential):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


class Tripled(nn.Linear):
    def forward(self, inputs):
        return 3 * super().forward(inputs)


class Renamed(nn.Sequential):
    """The same network under another name."""


def layers(kind=nn.Sequential, first=nn.Linear):
    return kind(first(4, 5), nn.Tanh(), nn.Linear(5, 3))


def hooked():
    module = layers()
    module[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


def patched():
    module = layers()
    module[1].forward = torch.sin
    return module


def half_frozen():
    module = layers()
    module[0].bias.requires_grad_(False)
    return module


def shared():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 3))


def nested():
    return nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Linear(5, 3))


LOOKALIKES = {
    "plain": (layers, "compiled"),
    "nested, flattened": (nested, "compiled"),
    "subclass that changes nothing": (lambda: layers(Renamed), "compiled"),
    "own forward": (lambda: layers(Doubled), "batched"),
    "own forward of a layer": (lambda: layers(first=Tripled), "batched"),
    "patched forward of a layer": (patched, "batched"),
    "hook": (hooked, "batched"),
    "half frozen": (half_frozen, "batched"),
    "shared layer": (shared, "batched"),
    "two activations": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)),
        "batched",
    ),
    "activation twice": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Tanh(), nn.Linear(5, 3)), "batched"),
    "activation at the end": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh()), "batched"),
    "activation first": (lambda: nn.Sequential(nn.Tanh(), nn.Linear(4, 3)), "batched"),
    "no activation": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), "batched"),
    "no bias": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False)), "batched"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name) if name in ("own forward", "patched forward of a layer") else name for name in LOOKALIKES],
)
def test_only_plain_networks_are_taken_for_plain_networks(name):
    """Energy, gradient and steps are the module's own, whatever it looks like."""
    make, backend = LOOKALIKES[name]
    module, inputs, targets = seeded(make()), draws(SAMPLES, 4), labels(SAMPLES)
    potential = NetworkLoss(module, inputs, targets)
    position = potential.position()
    energy = functional.cross_entropy(module(inputs), targets)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(energy, parameters)])
    assert float(potential.energy(position)) == pytest.approx(float(energy.detach()), rel=1e-12)
    torch.testing.assert_close(potential.gradient(position), gradient, rtol=1e-10, atol=1e-12)
    run = ls.simulate(potential, ls.SGD(lr=0.5), steps=1)
    step = position.numpy() - run.last_position.values[0]
    np.testing.assert_allclose(step / 0.5, gradient.numpy(), rtol=1e-9, atol=1e-11)
    assert run.attrs["backend"] == backend


def test_outputs_with_further_dimensions():
    """One label per pixel: the loss of a sample is the mean over its pixels, accuracy a fraction of all of them."""
    module = seeded(nn.Conv2d(1, 3, 3, padding=1))
    inputs = draws(5, 1, 4, 4)
    targets = torch.randint(3, (5, 4, 4), generator=torch.Generator().manual_seed(1))
    potential = NetworkLoss(module, inputs, targets)
    position = potential.position()
    expected = functional.cross_entropy(module(inputs), targets).detach()
    assert float(potential.energy(position)) == pytest.approx(float(expected), rel=1e-12)
    by_value = NetworkLoss(module, inputs, draws(5, 3, 4, 4, seed=2), loss="mse")
    expected = functional.mse_loss(module(inputs), draws(5, 3, 4, 4, seed=2)).detach()
    assert float(by_value.energy(position)) == pytest.approx(float(expected), rel=1e-12)


def test_accuracy_of_outputs_with_further_dimensions():
    module = seeded(nn.Conv2d(1, 3, 3, padding=1))
    inputs = draws(5, 1, 4, 4)
    targets = torch.randint(3, (5, 4, 4), generator=torch.Generator().manual_seed(1))
    potential = NetworkLoss(module, inputs, targets)
    expected = (module(inputs).argmax(1) == targets).double().mean()
    assert float(potential.accuracy(potential.position())) == pytest.approx(float(expected))


def test_an_activation_that_stands_in_several_places_is_in_all_of_them():
    relu = nn.ReLU()
    module = seeded(nn.Sequential(nn.Linear(4, 5), relu, nn.Linear(5, 6), relu, nn.Linear(6, 3)))
    potential = NetworkLoss(module, draws(SAMPLES, 4), labels(SAMPLES), dtype=torch.float64)
    assert potential.plain_mlp is not None
    assert potential.plain_mlp.sizes == (4, 5, 6, 3)
