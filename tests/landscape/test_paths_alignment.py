"""Permutations of hidden units: every architecture keeps its function, and a shuffled copy is found again."""

import itertools

import numpy as np
import pytest
import torch

from landscape.errors import ConfigError, ShapeError
from landscape.paths import align, permute, straight_line
from landscape.paths.assignment import best_assignment
from landscape.paths.symmetries import symmetries_of
from landscape.potentials import NetworkLoss, architectures

NETWORKS = {
    "mlp": lambda seed: architectures.mlp([8, 12, 9, 10], seed=seed),
    "mlp tanh without bias": lambda seed: architectures.mlp([8, 12, 10], activation="tanh", bias=False, seed=seed),
    "resnet batch": lambda seed: architectures.resnet_cifar(8, width=4, seed=seed),
    "resnet group": lambda seed: architectures.resnet_cifar(8, width=16, norm="group", seed=seed),
    "resnet none": lambda seed: architectures.resnet_cifar(8, width=4, norm="none", seed=seed),
    "resnet projection": lambda seed: architectures.resnet_cifar(8, width=4, shortcut="projection", seed=seed),
    "wide batch": lambda seed: architectures.wide_resnet(10, 1, seed=seed),
    "wide group": lambda seed: architectures.wide_resnet(10, 2, norm="group", seed=seed),
    "wide none": lambda seed: architectures.wide_resnet(16, 1, norm="none", seed=seed),
    "vgg": lambda seed: architectures.vgg(7, width=4, seed=seed),
    "vgg group": lambda seed: architectures.vgg(7, width=16, norm="group", seed=seed),
}


def images(shape=(3, 8, 8)):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(6, *shape, generator=generator), torch.randint(0, 10, (6,), generator=generator)


def loss_of(name, seed=0):
    module = NETWORKS[name](seed)
    x, y = images((8,) if name.startswith("mlp") else (3, 8, 8))
    normalised = any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    return NetworkLoss(module, x, y, batchnorm="reestimate" if normalised else None, dtype=torch.float64)


def jittered(loss, seed=1):
    """Weights in which every norm's scale and bias is different from unit to unit."""
    here = loss.position()
    return here + 0.05 * torch.randn(here.shape, generator=torch.Generator().manual_seed(seed), dtype=here.dtype)


def shuffle(groups, seed=0):
    """A random order of every group that keeps its blocks together."""
    return groups.shuffled(seed)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_network_is_the_same_function(name):
    loss = loss_of(name)
    groups = symmetries_of(loss)
    assert set(groups.sizes) == set(shuffle(groups))
    here = jittered(loss)
    there = permute(loss, here, shuffle(groups))
    assert float((there - here).norm()) > 0.5 * float(here.norm())
    original, moved = loss.module_at(here).eval(), loss.module_at(there).eval()
    x = images((8,) if name.startswith("mlp") else (3, 8, 8))[0].double()
    original, moved = original.double(), moved.double()
    np.testing.assert_allclose(moved(x).detach(), original(x).detach(), atol=1e-5)
    np.testing.assert_allclose(loss.energy(there), loss.energy(here), rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_group_matters(name):
    """Control: one axis left behind, and it is another function."""
    loss = loss_of(name)
    here = jittered(loss)
    groups = symmetries_of(loss)
    orders = shuffle(groups)
    parts = loss.layout.unflatten(here)
    for parameter in groups.axes:
        if parameter not in parts or torch.equal(
            groups.reordered(parameter, parts[parameter], orders), parts[parameter]
        ):
            continue
        mixed = [value if key == parameter else groups.reordered(key, value, orders) for key, value in parts.items()]
        wrong = torch.cat([value.reshape(-1) for value in mixed])
        assert abs(float(loss.energy(wrong) - loss.energy(here))) > 1e-7, parameter


@pytest.mark.parametrize("name", ["resnet batch", "resnet projection", "wide batch", "vgg"])
def test_buffers_move_with_the_units(name):
    loss = loss_of(name)
    groups = symmetries_of(loss)
    orders = shuffle(groups)
    here = jittered(loss)
    before, after = loss.buffers_at(here), loss.buffers_at(permute(loss, here, orders))
    moved = [key for key in before if key in groups.axes]
    assert {key.rpartition(".")[2] for key in moved} == {"running_mean", "running_var"}
    assert len(moved) == len([key for key in before if not key.endswith("num_batches_tracked")])
    for key in moved:
        np.testing.assert_allclose(after[key], groups.reordered(key, before[key], orders), atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_shuffled_copy_is_found_again(name):
    loss = loss_of(name)
    here = jittered(loss)
    there = permute(loss, here, shuffle(symmetries_of(loss)))
    found = align(loss, here, there)
    np.testing.assert_array_equal(found, here)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_aligned_stranger_is_the_same_function_and_closer(name):
    loss = loss_of(name)
    here, stranger = jittered(loss), jittered(loss_of(name, seed=1), seed=2)
    aligned = align(loss, here, stranger)
    np.testing.assert_allclose(loss.energy(aligned), loss.energy(stranger), rtol=1e-5)
    assert float((aligned - here).norm()) < float((stranger - here).norm()) * (1 - 1e-3)
    assert float(aligned.sort().values.sub(stranger.sort().values).abs().max()) == 0  # the same numbers


def test_arrays_come_back_as_arrays():
    loss = loss_of("mlp")
    here = loss.position()
    assert isinstance(align(loss, here.numpy(), here.numpy()), np.ndarray)
    assert isinstance(align(loss, here, here), torch.Tensor)


def test_a_line_between_permuted_ends_has_the_same_energies_and_spectrum():
    loss = loss_of("mlp")
    ends = [jittered(loss, 1), jittered(loss_of("mlp", 1), 2)]
    orders = shuffle(symmetries_of(loss))
    lines = [straight_line(*pair, 5) for pair in (ends, [permute(loss, end, orders) for end in ends])]
    np.testing.assert_allclose(*(loss.energy(line.pivots) for line in lines), rtol=1e-5)
    assert lines[0].length == pytest.approx(lines[1].length, rel=1e-5)
    spectra = [np.linalg.eigvalsh(loss.hessian(line.pivots[2])) for line in lines]
    np.testing.assert_allclose(*spectra, atol=1e-5 * abs(spectra[0]).max())
    one = straight_line(permute(loss, ends[0], orders), ends[1], 5)  # control: one end alone
    assert abs(float(loss.energy(one.pivots[2])) / float(loss.energy(lines[0].pivots[2])) - 1) > 1e-3


# -- assignments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "blocks"), [(5, []), (6, [2]), (6, [3]), (8, [2, 4]), (8, [4])])
def test_assignments_against_all_orders(size, blocks):
    rng = np.random.default_rng(size)
    gain = rng.normal(size=(size, size))
    allowed = []
    for order in itertools.permutations(range(size)):
        array = np.array(order)
        if all((array.reshape(-1, b) // b == array.reshape(-1, b)[:, :1] // b).all() for b in blocks):
            allowed.append(gain[np.arange(size), array].sum())
    found = best_assignment(gain, blocks)
    assert sorted(found) == list(range(size))
    assert gain[np.arange(size), found].sum() == pytest.approx(max(allowed), abs=1e-12)
    free = best_assignment(gain)
    assert not blocks or gain[np.arange(size), free].sum() > max(allowed)  # control: blocks cost something


def test_nested_groups_of_a_padded_stream():
    blocks = symmetries_of(loss_of("resnet group")).blocks
    assert blocks["stream"] == [2, 4, 8]
    assert blocks["blocks.1.stream"] == [4, 8]


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_aligned():
    x, y = images()
    frozen = NetworkLoss(architectures.resnet_cifar(8, width=2), x, y, batchnorm="frozen")
    with pytest.raises(ConfigError, match="frozen"):
        align(frozen, frozen.position(), frozen.position())
    loss = loss_of("mlp")
    with pytest.raises(ShapeError, match="reference"):
        align(loss, loss.position()[:-1], loss.position())
    with pytest.raises(ConfigError, match="NetworkLoss"):
        align(3, loss.position(), loss.position())
    with pytest.raises(ConfigError, match="each of 0 to 11 once"):
        permute(loss, loss.position(), {"0": [0] * 12})
    with pytest.raises(ConfigError, match="no group"):
        permute(loss, loss.position(), {"1": [0]})
    grouped = loss_of("resnet group")
    with pytest.raises(ConfigError, match="tears apart"):
        permute(grouped, grouped.position(), {"blocks.0": [1, 2, 0, *range(3, 16)]})
    half = architectures.mlp([8, 12, 10])
    half[0].bias.requires_grad_(False)
    loss = NetworkLoss(half, torch.zeros(2, 8), torch.zeros(2).long())
    with pytest.raises(ConfigError, match="does not require a gradient"):
        align(loss, loss.position(), loss.position())
