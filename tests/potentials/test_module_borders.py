"""Where the data, the module or the loss are not what a textbook has: each with its right value from plain torch.

Data loaders, complex weights, statistics of the batch, low precision, forward passes that are no functions of the
weights, snapshots, wrappers, hooks and named losses.
"""

import random
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torch.utils.data.sampler import BatchSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

import landscape as ls
from landscape.errors import ConfigError, LandscapeError
from landscape.potentials import NetworkLoss, load_weights, losses
from landscape.probes import confinement, curvature, free_energy
from tests.potentials.module_cases import draws, fingerprint, flat, integers
from tests.potentials.user_modules import Fourier, quiet

N, CLASSES = 12, 3
X, Y = draws(N, 4), integers(CLASSES, N)


def seeded(make, seed=3):
    """A module in double precision, its own random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def plain(outputs=CLASSES):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))


def slope(module, value):
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(value(module), parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return flat([torch.zeros_like(parameter) if one is None else one for one, parameter in pairs])


def product(module, value, vector, step=1e-5):
    """H v by central differences of the plain gradient; the module's weights are put back, bit by bit."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    saved = [parameter.detach().clone() for parameter in parameters]

    def ahead(size):
        at = 0
        with torch.no_grad():
            for parameter, former in zip(parameters, saved, strict=True):
                real, start = _real(parameter), _real(former)
                real.copy_(start + size * vector[at : at + real.numel()].view(real.shape))
                at += real.numel()
        return slope(module, value)

    found = (ahead(step) - ahead(-step)) / (2 * step)
    ahead(0.0)
    return found


def _real(tensor):
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def holds(potential, module, value):
    """Energy, gradient and a Hessian product are those of `value(module)`, a number in plain torch."""
    position = potential.position()
    assert float(potential.energy(position)) == pytest.approx(float(value(module).detach()), rel=1e-9)
    torch.testing.assert_close(potential.gradient(position), slope(module, value), rtol=1e-8, atol=1e-10)
    vector = draws(potential.dim, seed=7)
    expected = product(module, value, vector)
    torch.testing.assert_close(potential.hvp(position, vector), expected, rtol=2e-6, atol=2e-7)


def entropy(inputs=X, targets=Y):
    return lambda module: functional.cross_entropy(module(inputs), targets)


def test_a_wrong_value_would_be_found():
    module = seeded(plain)
    potential = NetworkLoss(module, X, Y)
    holds(potential, module, entropy())
    with pytest.raises(AssertionError):
        holds(potential, module, entropy(X[: N - 1], Y[: N - 1]))


# -- 5. data loaders --------------------------------------------------------------------------------------------------

DATA = TensorDataset(X, Y)


class Words(Dataset):
    """Samples by name, as transformers' data sets have them."""

    def __init__(self, name):
        self.name = name

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"left": X[index], "right": X[index, :2], self.name: Y[index]}


class Stream(IterableDataset):
    """Samples in a row, without a length."""

    def __iter__(self):
        return iter(zip(X[:7], Y[:7], strict=True))


class TwoSides(nn.Module):
    """A tuple or a dict of inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, CLASSES), nn.Linear(2, CLASSES)

    def forward(self, left, right):
        return torch.tanh(self.first(left)) * self.second(right)


def chosen(index):
    return lambda module: functional.cross_entropy(module(X[index]), Y[index])


def halved(batch):
    return torch.stack([x for x, _ in batch]) / 2 - 1, torch.stack([y for _, y in batch])


def generator():
    return torch.Generator().manual_seed(5)


CHANCES = torch.arange(1.0, N + 1)
LOADERS = {
    "subset": (lambda: DataLoader(DATA, 4, sampler=SubsetRandomSampler(range(7))), chosen(slice(0, 7)), 7),
    "subset of a data set": (lambda: DataLoader(Subset(DATA, [3, 1, 8]), 2), chosen([3, 1, 8]), 3),
    "shuffled": (lambda: DataLoader(DATA, 5, shuffle=True), chosen(slice(None)), N),
    "drop_last": (lambda: DataLoader(DATA, 5, drop_last=True), chosen(slice(0, 10)), 10),
    "batch_sampler": (
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(SequentialSampler(range(11)), 3, drop_last=True)),
        chosen(slice(0, 9)), 9,
    ),
    "batches by hand": (
        lambda: DataLoader(DATA, batch_sampler=[[0, 1], [5], [5, 2, 9]]), chosen([0, 1, 5, 5, 2, 9]), 6,
    ),
    "with replacement": (
        lambda: DataLoader(DATA, 4, sampler=WeightedRandomSampler(CHANCES, 20, True, generator())),
        chosen(list(WeightedRandomSampler(CHANCES, 20, True, generator()))), 20,
    ),
    "collate_fn": (
        lambda: DataLoader(DATA, 5, collate_fn=halved),
        lambda module: functional.cross_entropy(module(X / 2 - 1), Y), N,
    ),
    "no batches": (lambda: DataLoader(DATA, batch_size=None), chosen(slice(None)), N),
    "stream": (Stream, chosen(slice(0, 7)), 7),
    "loader of a stream": (lambda: DataLoader(Stream(), 3), chosen(slice(0, 7)), 7),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADERS)
def test_the_samples_of_one_pass_are_the_data(name):
    make, value, samples = LOADERS[name]
    module = seeded(plain)
    states = torch.get_rng_state(), random.getstate()
    potential = NetworkLoss(module, make())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert potential.samples == samples
    holds(potential, module, value)


def sides(module):
    return functional.cross_entropy(module(X, X[:, :2]), Y)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: (Words("labels"), None), id="data set of dicts"),
        pytest.param(lambda: (DataLoader(Words("targets"), 5), None), id="loader of dicts"),
        pytest.param(lambda: (TensorDataset(X, X[:, :2], Y), None), id="data set of triples"),
        pytest.param(lambda: (DataLoader(TensorDataset(X, X[:, :2], Y), 5), None), id="loader of triples"),
        pytest.param(lambda: (DataLoader([((x, x[:2]), y) for x, y in DATA], 5), None), id="loader of pairs"),
        pytest.param(lambda: ((X, X[:, :2]), Y), id="tuple"),
        pytest.param(lambda: ([X, X[:, :2]], Y), id="list"),
        pytest.param(lambda: ({"left": X, "right": X[:, :2]}, Y), id="dict"),
        pytest.param(lambda: ((X.numpy(), X[:, :2].numpy()), Y.numpy()), id="arrays"),
    ],
)
def test_inputs_of_several_tensors(data):
    module = seeded(TwoSides)
    inputs, targets = data()
    potential = NetworkLoss(module, inputs, targets)
    assert potential.samples == N
    holds(potential, module, sides)


def test_inputs_that_do_not_fit_together():
    module = seeded(TwoSides)
    with pytest.raises(LandscapeError, match=r"12.*11|11.*12"):
        NetworkLoss(module, (X, X[:11, :2]), Y)
    with pytest.raises(LandscapeError):
        NetworkLoss(module, {"left": X, "wrong": X[:, :2]}, Y)
    with pytest.raises(LandscapeError):
        NetworkLoss(module, (), Y)
    with pytest.raises(LandscapeError):
        NetworkLoss(module, DataLoader(Words("answers"), 5))


def test_an_empty_pass_is_refused():
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), DataLoader(DATA, 50, drop_last=True))


# -- 6. complex weights -----------------------------------------------------------------------------------------------


class Phase(nn.Module):
    """A complex parameter of shape () and one of shape (4,), beside real ones."""

    def __init__(self, dtype=torch.complex128):
        super().__init__()
        self.turn = nn.Parameter(torch.tensor(0.7 - 0.4j, dtype=dtype))
        self.rows = nn.Parameter(torch.tensor([0.5 + 1j, -0.3, 2j, 1.0 - 0.1j], dtype=dtype))
        self.read = nn.Linear(4, CLASSES)

    def forward(self, inputs):
        return self.read((inputs * self.rows * self.turn).abs())


def test_complex_weights_are_pairs_of_reals():
    module = seeded(Phase)
    before = fingerprint(module)
    potential = NetworkLoss(module, X, Y)
    position = potential.position()
    assert potential.dim == 2 + 8 + 15
    assert position[:6].tolist() == pytest.approx([0.7, -0.4, 0.5, 1.0, -0.3, 0.0])
    assert not position.is_complex()
    holds(potential, module, entropy())
    for call in (lambda: potential.load(position), lambda: potential.hessian(position)):
        call()
        assert fingerprint(module) == before
    shifted = position + draws(25, seed=4)
    potential.load(shifted)
    assert complex(module.turn.detach()) == pytest.approx(complex(*shifted[:2].tolist()))
    assert float(entropy()(module).detach()) == pytest.approx(float(potential.energy(shifted)), rel=1e-10)


def test_complex_weights_of_single_precision():
    """The energy in double precision is that of the same weights, imaginary parts and all; theirs stay single."""
    with torch.random.fork_rng(devices=[]):
        module = Phase(torch.complex64)
    potential = NetworkLoss(module, X, Y, dtype=torch.float64)
    exact = seeded(Phase)
    with torch.no_grad():
        for own, other in zip(exact.parameters(), module.parameters(), strict=True):
            own.copy_(other)
    assert float(potential.energy(potential.position())) == pytest.approx(float(entropy()(exact).detach()), rel=1e-9)
    before = fingerprint(module)["tensors"]
    potential.load(potential.position())
    assert fingerprint(module)["tensors"] == before
    single = NetworkLoss(module, X.float(), Y)
    assert single.position().dtype == torch.float32
    assert float(single.energy(single.position())) == pytest.approx(float(entropy()(exact).detach()), rel=1e-5)


def test_complex_buffers_keep_their_imaginary_parts():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Linear(4, CLASSES)
            self.register_buffer("turn", torch.tensor([1j, 1.0, -1j, 0.5 + 0.5j]))

        def forward(self, inputs):
            return self.read((inputs * self.turn.to(torch.complex128)).imag + inputs)

    module = seeded(Shifted)
    holds(NetworkLoss(module, X, Y, dtype=torch.float64), module, entropy())


# -- 7. statistics of the batch without a buffer ----------------------------------------------------------------------


def without_statistics():
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Tanh(), nn.Linear(5, CLASSES)
    )


@pytest.mark.parametrize("chunk_size", [None, 5, 7])
def test_batch_statistics_do_not_depend_on_chunks(chunk_size):
    module = seeded(without_statistics)
    potential = NetworkLoss(module, X, Y, batchnorm="batch", chunk_size=chunk_size)
    assert potential.batchnorm == "batch"
    holds(potential, module.eval(), entropy())
    position = potential.position()
    with pytest.raises(ConfigError, match="chunk"):
        curvature.largest_eigenvalue(potential, position, chunk_size=5)
    largest = float(curvature.largest_eigenvalue(potential, position).largest)
    assert largest == pytest.approx(float(torch.linalg.eigvalsh(potential.hessian(position)).max()), rel=2e-3)
    with pytest.raises(ConfigError):
        potential.sample_gradients(position)
    with pytest.raises(ConfigError):
        curvature.fisher_trace(potential, position, labels="empirical")


@pytest.mark.parametrize("policy", [None, "frozen", "reestimate"])
def test_a_layer_without_statistics_has_none_to_freeze(policy):
    """Asked for what a layer cannot do, the network refuses; or its energy is that of the whole batch all the same."""
    module = seeded(without_statistics)
    try:
        potential = NetworkLoss(module, X, Y, batchnorm=policy, chunk_size=5)
    except ConfigError as error:
        assert "BatchNorm" in str(error) or "batch" in str(error)  # noqa: PT017  # refused or right
        return
    holds(potential, module.eval(), entropy())
    with pytest.raises(ConfigError):
        potential.sample_gradients(potential.position())


def test_instance_norms_do_not_look_at_the_batch():
    """They are made of the same code as BatchNorm without statistics, but every sample stands alone."""
    module = seeded(lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.InstanceNorm1d(2), nn.Flatten(), nn.Linear(6, 3)))
    potential = NetworkLoss(module, X[:, None], Y, chunk_size=5)
    holds(potential, module, entropy(X[:, None]))
    potential.sample_gradients(potential.position())


# -- 8. low precision, integers ---------------------------------------------------------------------------------------


class Vocabulary(nn.Module):
    """Many words: numbers above 256 are no bfloat16 numbers."""

    def __init__(self):
        super().__init__()
        self.words, self.read = nn.Embedding(700, 3), nn.Linear(3, CLASSES)

    def forward(self, words):
        return self.read(self.words(words).mean(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_token_ids_are_not_rounded(dtype):
    module = seeded(Vocabulary).to(dtype)
    words = 257 + 2 * integers(220, N, 4)
    exact = seeded(Vocabulary)
    exact.load_state_dict(module.double().state_dict())
    module.to(dtype)
    value = float(entropy(words)(exact).detach())
    potential = NetworkLoss(module, words, Y)
    assert float(potential.energy(potential.position())) == pytest.approx(value, rel=0.02)
    double = NetworkLoss(module, words, Y, dtype=torch.float64)
    assert float(double.energy(double.position())) == pytest.approx(value, rel=1e-9)
    wrong = float(entropy(words.to(dtype).long().clamp(max=699))(exact).detach())
    assert abs(wrong / value - 1) > (0.02 if dtype == torch.bfloat16 else -1)


def test_masks_and_images_of_bytes_stay_what_they_are():
    class Bytes(nn.Module):
        """Arithmetic that floats would do differently: integer division, bitwise not, an index."""

        def __init__(self):
            super().__init__()
            self.read = nn.Linear(4, CLASSES)

        def forward(self, image, mask):
            halved = (image // 2 * 2).to(self.read.weight.dtype) / 255
            return self.read(torch.where(~mask, halved, halved.new_zeros(())))

    image, mask = integers(256, N, 4).to(torch.uint8), integers(2, N, 4, seed=2).bool()
    module = seeded(Bytes)
    value = float(functional.cross_entropy(module(image, mask), Y).detach())
    potential = NetworkLoss(module, (image, mask), Y)
    assert float(potential.energy(potential.position())) == pytest.approx(value, rel=1e-10)
    single = NetworkLoss(module, {"image": image, "mask": mask}, Y, dtype=torch.float32)
    assert float(single.energy(single.position())) == pytest.approx(value, rel=1e-5)
    assert potential.sample_gradients(potential.position()).shape == (N, 15)


def test_bytes_that_a_module_does_not_take_are_made_numbers():
    image = integers(256, N, 4).to(torch.uint8)
    module = seeded(plain)
    potential = NetworkLoss(module, image, Y)
    holds(potential, module, entropy(image.double()))


def test_integer_inputs_of_a_module_that_decides_by_type():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.read = nn.Embedding(9, 4), nn.Linear(4, CLASSES)

        def forward(self, inputs):
            return self.read(inputs if inputs.is_floating_point() else self.words(inputs).mean(1))

    module = seeded(Either)
    words = integers(9, N, 4)
    holds(NetworkLoss(module, words, Y), module, entropy(words))
    holds(NetworkLoss(module, X, Y), module, entropy())


# -- 9. forward passes that are no functions of the weights -----------------------------------------------------------


class Strange(nn.Module):
    """A linear layer and something else."""

    def __init__(self, deed):
        super().__init__()
        self.read, self.deed, self.calls = nn.Linear(4, CLASSES), deed, 0
        self.register_buffer("drift", torch.zeros(4))

    def forward(self, inputs):
        return self.deed(self, inputs)


def counts(module, inputs):
    module.calls += 1
    return module.read(inputs) * (1 + 0.1 * module.calls)


def counts_many(module, inputs):
    """A counter that shows only after many calls could not be seen: it is a buffer that gives it away."""
    module.drift += 1.0
    return module.read(inputs + 0.01 * module.drift)


def drifts(module, inputs):
    module.drift.mul_(0.9).add_(inputs.detach().mean(0), alpha=0.1)
    return module.read(inputs - module.drift)


def drifts_late(module, inputs):
    """Only samples far out move the buffer: one in the last row."""
    far = inputs[inputs.abs().amax(1) > 5]
    if len(far):
        module.drift = module.drift + 0.1 * far.detach().mean(0)
    return module.read(inputs - module.drift)


STRANGE = {
    "dropout by function": (lambda module, inputs: module.read(functional.dropout(inputs)), "random|dropout"),
    "random numbers of torch": (
        lambda module, inputs: module.read(inputs + 0.1 * torch.randn_like(inputs)), "random",
    ),
    "random numbers of numpy": (
        lambda module, inputs: module.read(inputs) * (1 + 0.1 * np.random.rand()), "random|not a function|differ",  # noqa: NPY002
    ),
    "random numbers of Python": (
        lambda module, inputs: module.read(inputs) * (1 + 0.1 * random.random()), "random|not a function|differ",
    ),
    "a count": (counts, ""),
    "a drifting buffer": (drifts, "drift"),
    "a counting buffer": (counts_many, "drift"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("training", [True, False])
def test_a_forward_that_is_no_function_is_refused(name, training):
    deed, words = STRANGE[name]
    module = seeded(lambda: Strange(deed)).train(training)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with pytest.raises(ConfigError, match=f"(?i){words}"):
        NetworkLoss(module, X, Y)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert module.calls == 0
    assert float(module.drift.abs().max()) == 0.0


def test_a_buffer_that_drifts_in_some_samples_only():
    """The first samples do not show it."""
    module = seeded(lambda: Strange(drifts_late))
    far = X.clone()
    far[-1] *= 6 / far[-1].abs().max()
    with pytest.raises(ConfigError, match="drift"):
        NetworkLoss(module, far, Y)
    calm = X.clamp(-4, 4)
    holds(NetworkLoss(module, calm, Y), module, entropy(calm))


def test_random_numbers_that_only_training_draws_are_no_reason():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.quiet = nn.Linear(4, CLASSES), nn.Dropout(0.5)

        def forward(self, inputs):
            noise = 0.1 * torch.randn_like(inputs) if self.training else 0.0
            return self.read(self.quiet(functional.dropout(inputs, training=self.training)) + noise)

    module = seeded(Noisy).train()
    potential = NetworkLoss(module, X, Y)
    assert module.training
    holds(potential, seeded(Noisy).eval(), entropy())


def test_a_buffer_that_is_written_with_the_same_numbers_is_no_reason():
    """A cache is a function of the inputs."""

    def caches(module, inputs):
        module.drift = inputs.detach().mean(0) * 0 + 1.0
        return module.read(inputs * module.drift)

    module = seeded(lambda: Strange(caches))
    try:
        potential = NetworkLoss(module, X, Y)
    except ConfigError as error:
        assert "drift" in str(error)  # noqa: PT017  # refused by name, or right
        return
    holds(potential, seeded(lambda: Strange(lambda self, inputs: self.read(inputs))), entropy())


# -- 10. snapshots ----------------------------------------------------------------------------------------------------


def train(module, steps=20):
    """A few steps by the user."""
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        entropy()(module).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def with_statistics():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES))


def test_a_network_is_a_snapshot_until_it_is_refreshed():
    module = seeded(with_statistics)
    potential = NetworkLoss(module, X, Y, batchnorm="frozen")
    start, before = potential.position(), float(entropy()(seeded(with_statistics).eval()).detach())
    train(module)
    with pytest.warns(UserWarning, match="refresh"):
        position = potential.position()
    torch.testing.assert_close(position, start, rtol=0, atol=0)
    assert float(potential.energy(position)) == pytest.approx(before, rel=1e-10)

    potential.refresh()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained = potential.position()
    after = float(entropy()(module.eval()).detach())
    assert abs(after - before) > 0.1
    assert float(potential.energy(trained)) == pytest.approx(after, rel=1e-10)
    holds(potential, module, entropy())
    fresh = NetworkLoss(module, X, Y, batchnorm="frozen")
    torch.testing.assert_close(fresh.hvp(trained, start), potential.hvp(trained, start))


def test_buffers_alone_are_refreshed_too():
    module = seeded(with_statistics)
    potential = NetworkLoss(module, X, Y, batchnorm="frozen")
    position = potential.position()
    before = float(potential.energy(position))
    module.train()
    module(5 + X)
    module.eval()
    assert float(potential.energy(position)) == before
    potential.refresh()
    after = float(entropy()(module).detach())
    assert abs(after - before) > 1e-3
    assert float(potential.energy(position)) == pytest.approx(after, rel=1e-10)


def test_frozen_weights_are_part_of_the_snapshot():
    module = seeded(plain)
    module[0].requires_grad_(False)
    potential = NetworkLoss(module, X, Y)
    position = potential.position()
    before = float(potential.energy(position))
    with torch.no_grad():
        module[0].weight.mul_(2)
    assert float(potential.energy(position)) == before
    potential.refresh()
    holds(potential, module, entropy())


def test_loading_is_no_change_of_which_to_warn():
    module = seeded(plain)
    potential = NetworkLoss(module, X, Y)
    moved = potential.position() + 0.1
    potential.load(moved)
    potential.refresh()
    torch.testing.assert_close(potential.position(), moved)


# -- 11. weights made of weights --------------------------------------------------------------------------------------


def masked():
    module = plain()
    nn.utils.prune.custom_from_mask(module[0], "weight", integers(2, 5, 4, seed=6))
    return module


OLD = {
    "weight norm": lambda module: quiet(nn.utils.weight_norm, module[0]),
    "weight norm of a column": lambda module: quiet(nn.utils.weight_norm, module[0], dim=1),
    "spectral norm": lambda module: quiet(nn.utils.spectral_norm, module[0]),
    "pruned": lambda module: nn.utils.prune.l1_unstructured(module[0], "weight", 0.5),
    "pruned twice": lambda module: [
        nn.utils.prune.l1_unstructured(module[0], "weight", 0.3),
        nn.utils.prune.random_unstructured(module[0], "weight", 0.3),
    ],
    "all at once": lambda module: [
        quiet(nn.utils.weight_norm, module[0]), nn.utils.prune.l1_unstructured(module[2], "weight", 0.5),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("evaluated", [False, True], ids=["new", "after a forward pass"])
def test_old_forms_of_weights_made_of_weights(name, evaluated):
    def make():
        module = plain().double()
        OLD[name](module)
        return module

    module, other = seeded(make), seeded(make)
    if evaluated:
        module.eval()(X)
    before = fingerprint(module)
    potential = NetworkLoss(module, X, Y, dtype=torch.float64)
    holds(potential, other.eval(), entropy())
    assert fingerprint(module) == before
    moved = potential.position() + 0.1 * draws(potential.dim)
    expected = float(potential.energy(moved))
    copied = potential.module_at(moved).eval()
    assert float(entropy()(copied).detach()) == pytest.approx(expected, rel=1e-10)
    potential.load(moved)
    assert float(entropy()(module.eval()).detach()) == pytest.approx(expected, rel=1e-10)


def test_parametrizations_of_several_kinds_at_once():
    def make():
        module = nn.Sequential(nn.Linear(4, 4), *plain())
        nn.utils.parametrizations.orthogonal(module[0], orthogonal_map="matrix_exp")
        nn.utils.parametrizations.weight_norm(module[1], dim=None)
        nn.utils.parametrizations.spectral_norm(module[3])
        return module

    module = seeded(make)
    potential = NetworkLoss(module, X, Y)
    holds(potential, module.eval(), entropy())
    position = potential.position()
    found = curvature.eigenvalues(potential, position)
    hessian = potential.hessian(position)
    assert float((hessian - hessian.T).abs().max()) < 1e-10
    assert bool(found.converged)


# -- 12. losses that are modules --------------------------------------------------------------------------------------

WEIGHTS = torch.tensor([1.0, 5.0, 0.2])


def weighted(module):
    """`reduction="none"`: the mean over samples, not over their weights."""
    return functional.cross_entropy(module(X), Y, WEIGHTS.double(), reduction="none").mean()


def test_a_loss_with_tensors_follows_the_type():
    module = seeded(plain).float()
    criterion = nn.CrossEntropyLoss(weight=WEIGHTS.clone(), reduction="none")
    exact = seeded(plain)
    exact.load_state_dict(module.double().state_dict())
    module.float()
    single = NetworkLoss(module, X.float(), Y, loss=criterion)
    expected = float(weighted(exact).detach())
    assert float(single.energy(single.position())) == pytest.approx(expected, rel=1e-5)
    double = NetworkLoss(module, X, Y, loss=criterion, dtype=torch.float64)
    holds(double, exact, weighted)
    assert criterion.weight.dtype == torch.float32
    position = single.position()
    spectrum = curvature.eigenvalues(single, position).eigenvalue.values
    units = torch.eye(double.dim, dtype=torch.float64)
    hessian = torch.stack([product(exact, weighted, unit) for unit in units])
    truth = torch.linalg.eigvalsh((hessian + hessian.T) / 2).numpy()
    np.testing.assert_allclose(spectrum, truth, atol=1e-6 * np.abs(truth).max())
    free = free_energy.harmonic(single, position, 0.1)
    assert np.isfinite(float(free.free_energy))
    path = ls.paths.straight_line(position, position + 0.1, 3)
    along = confinement.along_path(single, path, quantities=("energy", "trace"))
    assert float(along.energy[0]) == pytest.approx(expected, rel=1e-5)
    assert criterion.weight.dtype == torch.float32


def test_a_loss_of_modules_and_buffers_of_ones_own():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.CrossEntropyLoss(weight=WEIGHTS.clone(), reduction="none")
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, outputs, targets):
            return self.scale * self.inner(outputs, targets)

    module, criterion = seeded(plain), Mixed()
    holds(NetworkLoss(module, X, Y, loss=criterion), module, lambda one: 2 * weighted(one))
    assert criterion.scale.dtype == criterion.inner.weight.dtype == torch.float32


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_that_is_one_number_is_refused(reduction):
    with pytest.raises(LandscapeError, match=r"none|sample"):
        NetworkLoss(seeded(plain), X, Y, loss=nn.CrossEntropyLoss(reduction=reduction))


# -- 15. wrappers -----------------------------------------------------------------------------------------------------

WRAPPERS = {
    "compiled": lambda module: torch.compile(module, backend="aot_eager"),
    "data parallel": lambda module: quiet(nn.DataParallel, module),
    "both": lambda module: quiet(nn.DataParallel, torch.compile(module, backend="eager")),
    "a part compiled": lambda module: nn.Sequential(torch.compile(module[0], backend="eager"), *module[1:]),
    "a part data parallel": lambda module: nn.Sequential(quiet(nn.DataParallel, module[0]), *module[1:]),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_taken_off(name):
    module = WRAPPERS[name](seeded(plain))
    before = fingerprint(module)
    potential = NetworkLoss(module, X, Y)
    holds(potential, seeded(plain), entropy())
    names = " ".join(slot.name for slot in potential.layout)
    assert "_orig_mod" not in names.removeprefix("0.") or name.startswith("a part")
    position = potential.position()
    expected = float(potential.sample_gradients(position).square().sum(1).mean())
    trace = curvature.fisher_trace(potential, position, labels="empirical").fisher_trace
    assert float(trace) == pytest.approx(expected, rel=1e-9)
    assert fingerprint(module) == before
    potential.load(position + 0.1)
    assert float(flat(module.parameters())[0]) == pytest.approx(float(position[0]) + 0.1)


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_scripted_modules_are_refused(kind):
    module = seeded(plain)
    make = (lambda: torch.jit.script(module)) if kind == "script" else (lambda: torch.jit.trace(module, X))
    with pytest.raises(ConfigError, match=r"(?i)script|original"):
        NetworkLoss(quiet(make), X, Y)
    inside = nn.Sequential(quiet(make), nn.Linear(CLASSES, CLASSES).double())
    with pytest.raises(ConfigError, match=r"(?i)script|original"):
        NetworkLoss(inside, X, Y)


# -- 16. odd layers and shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"sparse": True}, {"sparse": True, "padding_idx": 2}, {"max_norm": 1.0}], ids=str)
def test_embeddings_with_settings(settings):
    """Sparse gradients are dense, a row of padding has none; rows that forward renormalizes are refused or right."""

    def make():
        return nn.Sequential(nn.Embedding(6, 4, **settings), nn.Flatten(), nn.Linear(12, CLASSES))

    words = integers(6, N, 3)
    module, other = seeded(make), seeded(make)
    before = fingerprint(module)
    if "max_norm" in settings:
        with pytest.raises(ConfigError, match=r"max_norm|weight|renorm"):
            NetworkLoss(module, words, Y)
        assert fingerprint(module) == before
        return
    potential = NetworkLoss(module, words, Y)

    def gradient(one):
        return torch.cat([found.to_dense().reshape(-1) for found in
                          torch.autograd.grad(entropy(words)(one), list(one.parameters()))])  # fmt: skip

    position = potential.position()
    torch.testing.assert_close(potential.gradient(position), gradient(other), rtol=1e-9, atol=1e-12)
    singles = potential.sample_gradients(position)
    torch.testing.assert_close(singles.mean(0), gradient(other), rtol=1e-9, atol=1e-12)
    traced = curvature.fisher_trace(potential, position, labels="empirical").fisher_trace
    assert float(traced) == pytest.approx(float(singles.square().sum(1).mean()), rel=1e-9)
    hessian = potential.hessian(position)
    assert float((hessian - hessian.T).abs().max()) < 1e-12
    assert module[0].sparse == settings.get("sparse", False)
    assert fingerprint(module) == before


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_bags_of_words(mode):
    module = seeded(lambda: nn.Sequential(nn.EmbeddingBag(6, 4, mode=mode), nn.Tanh(), nn.Linear(4, CLASSES)))
    words = integers(6, N, 3)
    potential = NetworkLoss(module, words, Y)
    holds(potential, module, entropy(words))
    three = potential.energy(potential.position().repeat(3, 1))
    np.testing.assert_allclose(three.numpy(), float(entropy(words)(module).detach()), rtol=1e-10)


def test_complex_views_at_odd_places_of_many_chains():
    module = seeded(lambda: Fourier(as_reals=True))
    potential = NetworkLoss(module, X, Y)
    at = potential.position() + 0.1 * draws(3, potential.dim)
    torch.testing.assert_close(potential.energy(at), torch.stack([potential.energy(one) for one in at]))
    torch.testing.assert_close(potential.gradient(at), torch.stack([potential.gradient(one) for one in at]))
    torch.testing.assert_close(potential.hvp(at, at[0]), torch.stack([potential.hvp(one, at[0]) for one in at]))


class Column(nn.Module):
    """One number per sample, with or without its axis."""

    def __init__(self, squeeze):
        super().__init__()
        self.read, self.squeeze = nn.Linear(4, 1), squeeze

    def forward(self, inputs):
        out = torch.tanh(self.read(inputs))
        return out[:, 0] if self.squeeze else out


@pytest.mark.parametrize("column", [True, False], ids=["targets (n, 1)", "targets (n,)"])
@pytest.mark.parametrize("squeeze", [True, False], ids=["outputs (n,)", "outputs (n, 1)"])
def test_a_column_is_never_spread_over_a_table(squeeze, column):
    module, values = seeded(lambda: Column(squeeze)), draws(N, seed=2)
    targets = values[:, None] if column else values
    potential = NetworkLoss(module, X, targets, loss="mse")
    holds(potential, module, lambda one: (one(X).reshape(-1) - values).square().mean())


@pytest.mark.parametrize("samples", [1, 2])
def test_very_few_samples(samples):
    module = seeded(lambda: nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, CLASSES)))
    inputs, targets = draws(samples), integers(CLASSES, samples)
    holds(NetworkLoss(module, inputs, targets), module, entropy(inputs, targets))


def test_a_module_of_empty_parameters_only_is_refused():
    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.nothing = nn.Parameter(torch.empty(0, 3))

        def forward(self, inputs):
            return inputs[:, :CLASSES] + self.nothing.sum()

    with pytest.raises(ConfigError):
        NetworkLoss(seeded(Empty), X, Y)


@pytest.mark.parametrize("key", ["net", "model_state"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_nested_in_a_checkpoint(key, prefix, tmp_path):
    trained, path = seeded(plain, 8), tmp_path / "last.pt"
    table = OrderedDict((prefix + name, value) for name, value in trained.state_dict().items())
    torch.save({"epoch": 3, key: table, "optimizer": {"state": {}, "param_groups": []}}, path)
    loaded = load_weights(seeded(plain), path)
    assert fingerprint(loaded)["tensors"] == fingerprint(trained)["tensors"]


# -- 17. hooks --------------------------------------------------------------------------------------------------------


def test_forward_hooks_are_part_of_the_function():
    def make():
        module = plain()
        module[0].register_forward_hook(lambda layer, arguments, output: 2 * output)
        module.register_forward_pre_hook(lambda layer, arguments: (arguments[0] + 1,))
        return module

    module = seeded(make)
    before = fingerprint(module)
    potential = NetworkLoss(module, X, Y)
    without = seeded(plain)
    holds(potential, module, entropy())
    holds(potential, without, lambda one: functional.cross_entropy(one[2](torch.tanh(2 * one[0](X + 1))), Y))
    position = potential.position()
    singles = potential.sample_gradients(position)
    trace = curvature.fisher_trace(potential, position, labels="empirical").fisher_trace
    assert float(trace) == pytest.approx(float(singles.square().sum(1).mean()), rel=1e-9)
    torch.testing.assert_close(singles.mean(0), slope(module, entropy()), rtol=1e-9, atol=1e-12)
    assert fingerprint(module) == before


def test_backward_hooks_are_not_called():
    """They change gradients, and no energy has such gradients."""
    module, called = seeded(plain), []

    def doubled(layer, before, after):
        called.append(layer)
        return tuple(None if one is None else 2 * one for one in before)

    module[0].register_full_backward_hook(doubled)
    module[2].register_full_backward_pre_hook(lambda layer, after: called.append(layer))
    hook = module[0].weight.register_hook(lambda gradient: called.append("weight") or 3 * gradient)
    before = fingerprint(module)
    potential = NetworkLoss(module, X, Y)
    holds(potential, seeded(plain), entropy())
    potential.sample_gradients(potential.position())
    curvature.trace(potential, potential.position(), probes=6, method="hutchinson")
    assert called == []
    assert fingerprint(module) == before
    hook.remove()


def test_hooks_that_only_look_do_no_harm():
    module, seen = seeded(plain), []
    module[0].register_forward_hook(lambda layer, arguments, output: seen.append(output.shape))
    potential = NetworkLoss(module, X, Y)
    holds(potential, seeded(plain), entropy())
    seen.clear()
    module(X)
    assert seen == [(N, 5)]


# -- named losses -----------------------------------------------------------------------------------------------------

PROBABLE = torch.sigmoid(draws(N, 2, seed=3))
HARD = integers(2, N, 2, seed=4).double()
CE = functional.cross_entropy
HOLES = torch.where(torch.arange(N) % 4 == 1, -100, Y)
FIELD = draws(N, 2, seed=2) * 2


def kept_mean(values, keep):
    return (values * keep).sum() / keep.sum()


NAMED = {
    "weight": (losses.CrossEntropy(weight=WEIGHTS.tolist()), Y, weighted),
    "smoothing": (
        losses.CrossEntropy(label_smoothing=0.2), Y, lambda module: CE(module(X), Y, label_smoothing=0.2),
    ),
    "smoothing and weight": (
        losses.CrossEntropy(weight=WEIGHTS.tolist(), label_smoothing=0.2), Y,
        lambda module: CE(module(X), Y, WEIGHTS.double(), label_smoothing=0.2, reduction="none").mean(),
    ),
    "binary": (
        losses.BinaryCrossEntropy(), HARD,
        lambda module: functional.binary_cross_entropy_with_logits(module(X), HARD),
    ),
    "binary, probabilities": (
        "binary_cross_entropy", PROBABLE,
        lambda module: functional.binary_cross_entropy_with_logits(module(X), PROBABLE),
    ),
    "pos_weight": (
        losses.BinaryCrossEntropy(pos_weight=[3.0, 0.5]), HARD,
        lambda module: functional.binary_cross_entropy_with_logits(
            module(X), HARD, pos_weight=torch.tensor([3.0, 0.5]).double()
        ),
    ),
    "likelihood": (
        losses.NegativeLogLikelihood(weight=WEIGHTS.tolist()), Y,
        lambda module: functional.nll_loss(module(X).log_softmax(1), Y, WEIGHTS.double(), reduction="none").mean(),
    ),
    "huber": (
        losses.Huber(delta=0.7), FIELD, lambda module: functional.huber_loss(module(X), FIELD, delta=0.7),
    ),
    "squared": (losses.SquaredError(), FIELD, lambda module: functional.mse_loss(module(X), FIELD)),
    "of torch, smoothing": (
        nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none"), Y,
        lambda module: CE(module(X), Y, label_smoothing=0.2),
    ),
    "of torch, poisson": (
        lambda outputs, targets: functional.poisson_nll_loss(outputs, targets, reduction="none").mean(1), HARD,
        lambda module: functional.poisson_nll_loss(module(X), HARD),
    ),
}  # fmt: skip


def network_of(name):
    loss, targets, value = NAMED[name]
    module = seeded(lambda: plain(targets.shape[1] if targets.ndim == 2 else CLASSES))
    given = nn.Sequential(*module, nn.LogSoftmax(1)) if name == "likelihood" else module
    return NetworkLoss(given, X, targets, loss=loss), module, value


@pytest.mark.parametrize("name", NAMED)
def test_named_losses(name):
    potential, module, value = network_of(name)
    holds(potential, module, value)
    position = potential.position()
    torch.testing.assert_close(potential.sample_gradients(position).mean(0), slope(module, value))
    units = torch.eye(potential.dim, dtype=torch.float64)
    hessian = torch.stack([product(module, value, unit) for unit in units])
    truth = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    found = curvature.eigenvalues(potential, position)
    np.testing.assert_allclose(found.eigenvalue.values, truth.numpy(), atol=2e-6)
    try:
        exact = curvature.trace(potential, position, method="exact")
    except ConfigError:
        return
    assert float(exact.trace) == pytest.approx(float(truth.sum()), rel=1e-5)


@pytest.mark.parametrize("name", NAMED)
def test_models_of_named_losses(name):
    """Defined for the squared error and Huber's; refused where the loss is not minus the logarithm of a probability."""
    potential, _, _ = network_of(name)
    position = potential.position()
    if name not in ("squared", "huber"):
        with pytest.raises(ConfigError):
            curvature.fisher_trace(potential, position, labels="model")
        return
    exact = float(curvature.fisher_trace(potential, position, labels="model").fisher_trace)
    drawn = curvature.fisher_trace(potential, position, labels="sampled", draws=200)
    assert abs(float(drawn.fisher_trace) - exact) < 5 * float(drawn.fisher_trace_stderr)
    assert float(drawn.fisher_trace_stderr) < 0.1 * exact


def test_labels_that_do_not_count():
    """Torch's mean is over what counts; so is ours, and each sample with labels weighs the same."""
    module = seeded(plain)
    potential = NetworkLoss(module, X, HOLES, loss=losses.CrossEntropy(ignore_index=-100))
    energies = potential.sample_energies(potential.position())
    keep = HOLES >= 0
    assert torch.isfinite(energies).all()
    assert not energies[~keep].abs().max() > 0
    expected = CE(module(X), HOLES, ignore_index=-100, reduction="none").detach()
    torch.testing.assert_close(energies, expected)
    total = float(potential.energy(potential.position()))
    assert total in (pytest.approx(float(expected.mean())), pytest.approx(float(expected[keep].mean())))
    gradients = potential.sample_gradients(potential.position())
    assert not gradients[~keep].abs().max() > 0
    assert potential.gradient(potential.position()).isfinite().all()


TAGGER = lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, CLASSES))  # noqa: E731
TOKENS, TAGS = draws(N, 4, 2), integers(CLASSES, N, 4)


def test_labels_of_tokens():
    module = seeded(TAGGER)
    per_token = lambda one, labels: CE(one(TOKENS).movedim(-1, 1), labels, reduction="none")  # noqa: E731
    holds(NetworkLoss(module, TOKENS, TAGS), module, lambda one: per_token(one, TAGS).mean())
    lengths = 1 + integers(4, N, seed=5)
    padded = torch.where(torch.arange(4) < lengths[:, None], TAGS, -100)
    keep = (padded >= 0).double()

    def value(one):
        return ((per_token(one, padded) * keep).sum(1) / keep.sum(1)).mean()

    potential = NetworkLoss(module, TOKENS, padded, loss=losses.CrossEntropy(ignore_index=-100))
    holds(potential, module, value)
    pooled = float(CE(module(TOKENS).movedim(-1, 1), padded).detach())
    assert abs(pooled - float(value(module).detach())) > 1e-3  # the mean over all tokens is another number
    position = potential.position()
    torch.testing.assert_close(potential.sample_gradients(position).mean(0), slope(module, value))
    with pytest.raises(ConfigError):
        curvature.fisher_trace(potential, position, labels="model")


def test_labels_that_are_out_of_range_are_refused():
    """Without `ignore_index`, -100 is no label."""
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), X, HOLES)
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), X, torch.where(Y == 2, 3, Y), loss=losses.CrossEntropy(weight=[1.0, 2.0, 3.0]))
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), X, Y, loss=losses.CrossEntropy(weight=[1.0, 2.0]))


def test_the_class_axis_is_asked_for_where_shapes_do_not_tell():
    module = seeded(TAGGER)
    square, labels = draws(N, CLASSES, 2), integers(CLASSES, N, CLASSES)  # outputs (n, 3, 3)
    with pytest.raises(LandscapeError, match="class_axis"):
        NetworkLoss(module, square, labels)
    last = NetworkLoss(module, square, labels, loss=losses.CrossEntropy(class_axis=-1))
    holds(last, module, lambda one: CE(one(square).movedim(-1, 1), labels))
    second = NetworkLoss(module, square, labels, loss=losses.CrossEntropy(class_axis=1))
    holds(second, module, lambda one: CE(one(square), labels))
    difference = last.energy(last.position()) - second.energy(last.position())
    assert abs(float(difference)) > 1e-3


@pytest.mark.parametrize("axis", [True, False], ids=["(n, 1)", "(n,)"])
def test_the_fisher_matrix_of_a_coin(axis):
    module, coins = seeded(lambda: Column(not axis)), HARD[:, :1] if axis else HARD[:, 0]
    potential = NetworkLoss(module, X, coins, loss="binary_cross_entropy")
    expected = 0.0
    for x in X:
        chance = float(torch.sigmoid(module(x[None]).detach()))
        expected += chance * (1 - chance) * float(slope(module, lambda one, x=x: one(x[None]).sum()).square().sum())
    found = curvature.fisher_trace(potential, potential.position(), labels="model")
    assert float(found.fisher_trace) == pytest.approx(expected / N, rel=1e-9)


def test_likelihood_of_a_softmax_is_cross_entropy():
    module = seeded(plain)
    other = NetworkLoss(nn.Sequential(*module, nn.LogSoftmax(1)), X, Y, loss="nll")
    potential = NetworkLoss(module, X, Y)
    position = potential.position()
    for labels in ("model", "empirical"):
        traces = [curvature.fisher_trace(one, position, labels=labels).fisher_trace for one in (potential, other)]
        assert float(traces[0]) == pytest.approx(float(traces[1]), rel=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.CrossEntropy(label_smoothing=1.5),
        lambda: losses.CrossEntropy(weight=[1.0, float("nan"), 1.0]),
        lambda: losses.BinaryCrossEntropy(pos_weight=-1.0),
        lambda: losses.Huber(delta=0.0),
        lambda: losses.NegativeLogLikelihood(weight=[-1.0, 1.0, 1.0]),
    ],
)
def test_settings_that_make_no_sense(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("binary_cross_entropy", HARD + 0.5),
        ("binary_cross_entropy", -HARD),
        ("huber", FIELD[:, :1].repeat(1, 3)),
        ("nll", FIELD),
        ("binary_cross_entropy", Y),
    ],
)
def test_targets_that_do_not_fit_the_loss(loss, targets):
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(lambda: plain(2)), X, targets, loss=loss)


# -- calls and outputs ------------------------------------------------------------------------------------------------


def test_a_call_of_ones_own_sees_the_batch_as_it_was_given():
    module, seen = seeded(TwoSides), []

    def call(one, batch):
        seen.append(sorted(batch))
        return one(batch["left"], batch["left"][:, :2] + batch["shift"])

    inputs = {"left": X, "shift": draws(N, 2, seed=5)}
    potential = NetworkLoss(module, inputs, Y, call=call, batch_size=4)
    holds(potential, module, lambda one: CE(one(X, X[:, :2] + inputs["shift"]), Y))
    assert set(map(tuple, seen)) == {("left", "shift")}
    ls.simulate(potential, ls.EulerMaruyama(dt=1e-3), temperature=1e-4, steps=2, chains=2, seed=0)


def test_calls_that_are_no_calls_are_refused():
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), X, Y, call="forward")
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), X, Y, call=lambda module: module)
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), X, Y, call=lambda module, batch: module(batch).mean(0))


def test_structures_have_no_directions_but_all_else():
    """A loss of one's own of a dict: per-sample quantities and products, no Gauss-Newton matrix and no model."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(4)

        def forward(self, inputs):
            return {"mean": self.body(inputs)[:, :2], "spread": self.body(inputs)[:, 2:]}

    def own(outputs, targets):
        return ((outputs["mean"] - targets).square() * (-outputs["spread"]).exp() + outputs["spread"]).mean(1)

    module = seeded(Encoder)
    potential = NetworkLoss(module, X, FIELD, loss=own)
    holds(potential, module, lambda one: own(one(X), FIELD).mean())
    position = potential.position()
    potential.sample_gradients(position)
    curvature.spectral_density(potential, position, probes=2, steps=3)
    with pytest.raises(ConfigError):
        curvature.fisher_trace(potential, position, labels="model")
    with pytest.raises(ConfigError):
        curvature.score_singular_values(potential, position)


def test_targets_may_be_missing_only_where_the_data_have_them():
    with pytest.raises(LandscapeError, match="targets"):
        NetworkLoss(seeded(plain), X)
    with pytest.raises(LandscapeError):
        NetworkLoss(seeded(plain), DataLoader(TensorDataset(X), 4))
