"""Networks: published sizes, seeded weights with the stated laws, derivatives, behaviour under vmap."""

import copy
import math
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.nn import functional

from landscape.errors import ConfigError, ShapeError
from landscape.potentials import architectures
from landscape.potentials.architectures.building import initialise_relu, normalisation
from landscape.potentials.architectures.residual import BasicBlock, PadShortcut, ResidualNetwork
from landscape.potentials.architectures.transformer import Encoder, PlainLayerNorm
from landscape.potentials.architectures.wide import WideBlock

SMALL = {
    "mlp": ({"sizes": [4, 6, 3]}, (4,)),
    "mlp-tanh": ({"kind": "mlp", "sizes": [4, 6, 3], "activation": "tanh", "init": "orthogonal"}, (4,)),
    "resnet_cifar": ({"depth": 8, "width": 2, "classes": 3, "channels": 1}, (1, 8, 8)),
    "resnet-group": ({"kind": "resnet_cifar", "depth": 8, "width": 4, "classes": 3, "norm": "group"}, (3, 8, 8)),
    "resnet-none": (
        {"kind": "resnet_cifar", "depth": 8, "width": 2, "classes": 3, "norm": "none", "shortcut": "projection"},
        (3, 8, 8),
    ),
    "wide_resnet": ({"depth": 10, "widen": 1, "classes": 3}, (3, 8, 8)),
    "wide-none": ({"kind": "wide_resnet", "depth": 10, "widen": 1, "classes": 3, "norm": "none"}, (3, 8, 8)),
    "vgg": ({"depth": 7, "width": 4, "classes": 3}, (3, 8, 8)),
    "vgg-none": ({"kind": "vgg", "depth": 7, "width": 4, "classes": 3, "norm": "none"}, (3, 8, 8)),
    "vit": ({"depth": 2, "width": 8, "heads": 2, "size": 8, "classes": 3}, (3, 8, 8)),
}


def small(case, **changes):
    arguments, shape = SMALL[case]
    network = architectures.from_spec({"kind": case, **arguments, **changes})
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(3))
    return network, images


def count(network):
    return sum(p.numel() for p in network.parameters())


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.73")])
def test_resnets_have_the_published_number_of_weights(depth, millions):
    assert f"{count(architectures.resnet_cifar(depth)) / 1e6:.2f}" == millions


@pytest.mark.parametrize(
    ("depth", "widen", "millions"), [(16, 4, "2.7"), (40, 1, "0.6"), (40, 2, "2.2"), (40, 4, "8.9")]
)
def test_wide_resnets_have_the_published_number_of_weights(depth, widen, millions):
    assert f"{count(architectures.wide_resnet(depth, widen)) / 1e6:.1f}" == millions


@pytest.mark.parametrize(("depth", "millions"), [(11, "9.2"), (16, "14.7")])
def test_vgg_has_the_published_number_of_weights(depth, millions):
    assert f"{count(architectures.vgg(depth)) / 1e6:.1f}" == millions


@pytest.mark.parametrize(("sizes", "bias"), [((10, 20, 20, 10, 3), True), ((10, 20, 20, 10, 3), False), ((7, 2), True)])
def test_mlp_has_the_number_of_weights_of_its_formula(sizes, bias):
    expected = sum(a * b for a, b in pairwise(sizes)) + bias * sum(sizes[1:])
    assert count(architectures.mlp(sizes, bias=bias)) == expected
    if sizes[0] == 10 and bias:
        assert expected == 883


@pytest.mark.parametrize("change", [{}, {"width": 8}, {"classes": 7}, {"channels": 1}, {"depth": 14}, {"norm": "none"}])
def test_resnet_has_the_number_of_weights_of_its_formula(change):
    given = {"depth": 8, "width": 4, "classes": 10, "channels": 3, "norm": "batch"} | change
    n, w = (given["depth"] - 2) // 6, given["width"]
    per_channel = 1 if given["norm"] == "none" else 2  # a bias, or a scale and a shift
    pairs = [(given["channels"], w)]
    for stage in range(3):
        for block in range(n):
            inputs = w * 2 ** max(stage - 1, 0) if block == 0 else w * 2**stage
            pairs += [(inputs, w * 2**stage), (w * 2**stage, w * 2**stage)]
    expected = sum(9 * a * b + per_channel * b for a, b in pairs) + 4 * w * given["classes"] + given["classes"]
    assert count(architectures.resnet_cifar(**given)) == expected


# -- seeds and global state -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMALL)
def test_weights_are_a_function_of_the_seed_alone(case):
    first, _ = small(case, seed=1)
    torch.randn(7)
    again, _ = small(case, seed=1)
    other, _ = small(case, seed=2)
    pairs = [*zip(first.state_dict().values(), again.state_dict().values(), strict=True)]
    assert pairs and all(a.equal(b) for a, b in pairs)
    assert not all(a.equal(b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("case", SMALL)
def test_global_random_state_is_left_alone(case):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    small(case)
    assert torch.get_rng_state().equal(before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


def test_global_default_dtype_and_device_have_no_influence():
    plain, _ = small("resnet_cifar")
    torch.set_default_dtype(torch.float64)
    try:
        other, _ = small("resnet_cifar")
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        placed, _ = architectures.resnet_cifar(depth=8, width=2, classes=3, channels=1), None
    for a, b, c in zip(plain.parameters(), other.parameters(), placed.parameters(), strict=True):
        assert b.dtype == torch.float32 and c.device.type == "cpu"
        assert a.equal(b) and a.equal(c)


@pytest.mark.parametrize("case", SMALL)
def test_a_network_can_be_made_again_from_its_plain_description(case):
    network, images = small(case, seed=5)
    again = architectures.from_spec(network.architecture)
    assert again.architecture == network.architecture == copy.deepcopy(network).architecture
    assert again(images).equal(network(images))


# -- the law of the initial weights -----------------------------------------------------------------------------------


def deviation_z(weights, std):
    """z-score of the mean square of independent normal numbers, var(x^2) = 2 std^4."""
    values = torch.cat([w.detach().double().flatten() for w in weights])
    return float(((values**2).sum() / std**2 - len(values)) / math.sqrt(2 * len(values)))


@pytest.mark.parametrize(("inputs", "outputs"), [(200, 200), (100, 400), (400, 100)])
@pytest.mark.parametrize("init", ["xavier_normal", "kaiming_normal"])
def test_mlp_weights_have_the_stated_variance(init, inputs, outputs):
    (layer,) = architectures.mlp((inputs, outputs), init=init)
    std = math.sqrt(2 / (inputs + outputs)) if init == "xavier_normal" else math.sqrt(2 / inputs)
    assert abs(deviation_z([layer.weight], std)) < 4.5
    assert abs(deviation_z([layer.weight], 1.05 * std)) > 8  # control
    assert layer.bias.count_nonzero() == 0


@pytest.mark.parametrize("init", ["xavier_uniform", "kaiming_uniform"])
def test_uniform_weights_have_the_variance_of_the_normal_ones(init):
    (layer,) = architectures.mlp((200, 300), init=init)
    std = math.sqrt(2 / 500) if init == "xavier_uniform" else math.sqrt(2 / 200)
    assert layer.weight.abs().max() <= math.sqrt(3) * std
    assert abs(float(layer.weight.detach().double().pow(2).mean()) / std**2 - 1) * math.sqrt(60_000 / 0.8) < 4.5


def test_orthogonal_weights_are_orthogonal():
    (layer,) = architectures.mlp((6, 6), init="orthogonal")
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(6))


@pytest.mark.parametrize("make", [lambda: architectures.resnet_cifar(20), lambda: architectures.wide_resnet(10, 2)])
def test_convolutions_have_he_variance_and_classifiers_that_of_a_linear_layer(make):
    network = make()
    wide = [part.weight for part in network.modules() if isinstance(part, nn.Conv2d)]
    scaled = [weight * math.sqrt(weight[0].numel()) for weight in wide]
    assert abs(deviation_z(scaled, math.sqrt(2))) < 4.5
    assert abs(deviation_z(scaled, 1.05 * math.sqrt(2))) > 8  # control
    fan_in = network.classifier.in_features
    assert abs(deviation_z([network.classifier.weight], 1 / math.sqrt(fan_in))) < 4.5
    assert network.classifier.bias.count_nonzero() == 0


# -- without normalisation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 56])
def test_branches_start_at_zero_without_normalisation(depth):
    network = architectures.resnet_cifar(depth, width=4, norm="none")
    blocks = [part for part in network.modules() if isinstance(part, BasicBlock)]
    inputs = torch.randn(2, 4, 6, 6).abs()
    assert blocks[0](inputs).equal(inputs)
    first = [b.conv1.weight * math.sqrt(b.conv1.weight[0].numel()) * math.sqrt(len(blocks)) for b in blocks]
    assert abs(deviation_z(first, math.sqrt(2))) < 4.5


def test_signals_keep_their_size_at_depth_110_without_normalisation():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = architectures.resnet_cifar(110, width=4, norm="none")
    assert 0.05 < network(images).std().item() < 5
    control = ResidualNetwork(18, width=4, classes=10, channels=3, norm="none", shortcut="pad")
    initialise_relu(control, torch.Generator().manual_seed(0))
    assert control(images).std().item() > 1e4


@pytest.mark.parametrize(
    "make",
    [
        lambda: architectures.resnet_cifar(20, width=4, norm="none"),
        lambda: architectures.wide_resnet(10, 1, norm="none"),
        lambda: architectures.vgg(7, width=8, norm="none"),
        lambda: architectures.vit(2, width=16, heads=2, size=8),
        lambda: architectures.resnet_cifar(8, width=4, norm="group"),
        lambda: architectures.resnet_cifar(8, width=4),
    ],
)
def test_networks_learn(make):
    network = make()
    images = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 10
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    first = functional.cross_entropy(network(images), labels).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


# -- what the networks compute ----------------------------------------------------------------------------------------


def test_mlp_is_layers_and_activations_in_turn():
    network = architectures.mlp((4, 6, 5, 3), activation="tanh")
    assert [type(part) for part in network] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert type(network) is nn.Sequential
    inputs = torch.randn(2, 4)
    hidden = torch.tanh(inputs @ network[0].weight.T + network[0].bias)
    hidden = torch.tanh(hidden @ network[2].weight.T + network[2].bias)
    torch.testing.assert_close(network(inputs), hidden @ network[4].weight.T + network[4].bias)


@pytest.mark.parametrize(("stride", "extra"), [(1, 0), (1, 2), (2, 3)])
def test_pad_shortcut_against_a_loop(stride, extra):
    inputs = torch.randn(2, 3, 5, 4)
    result = PadShortcut(stride, extra)(inputs)
    assert result.shape == (2, 3 + extra, -(-5 // stride), -(-4 // stride))
    assert result[:, 3:].count_nonzero() == 0
    for i in range(result.shape[2]):
        for j in range(result.shape[3]):
            assert result[:, :3, i, j].equal(inputs[:, :, stride * i, stride * j])


def test_blocks_against_their_equations():
    inputs = torch.randn(2, 2, 6, 6)
    block = BasicBlock(2, 4, stride=2, norm="batch", shortcut="projection").eval()
    hidden = torch.relu(block.norm1(functional.conv2d(inputs, block.conv1.weight, stride=2, padding=1)))
    branch = block.norm2(functional.conv2d(hidden, block.conv2.weight, padding=1))
    project, norm = block.shortcut
    short = norm(functional.conv2d(inputs, project.weight, stride=2))
    torch.testing.assert_close(block(inputs), torch.relu(short + branch))

    wide = WideBlock(2, 4, stride=2, norm="batch").eval()
    active = torch.relu(wide.norm1(inputs))
    hidden = torch.relu(wide.norm2(functional.conv2d(active, wide.conv1.weight, stride=2, padding=1)))
    expected = functional.conv2d(active, wide.projection.weight, stride=2) + wide.conv2(hidden)
    torch.testing.assert_close(wide(inputs), expected)
    same = WideBlock(2, 2, stride=1, norm="none")
    same.conv2.weight.data.zero_()
    same.conv2.bias.data.zero_()
    assert same(inputs).equal(inputs)


def test_encoder_agrees_with_the_one_of_torch():
    reference = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).train()
    ours = Encoder(8, 2, 3)
    table = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attention.project_in": "self_attn.in_proj_",
        "attention.project_out": "self_attn.out_proj",
        "expand": "linear1",
        "contract": "linear2",
    }
    weights = reference.state_dict()
    for name, theirs in table.items():
        for kind in ("weight", "bias"):
            key = f"{theirs}{kind}" if theirs.endswith("_") else f"{theirs}.{kind}"
            value = weights[key] + 0.1 * torch.randn(weights[key].shape)
            weights[key] = value
            ours.get_submodule(name).get_parameter(kind).data.copy_(value)
    reference.load_state_dict(weights)
    tokens = torch.randn(3, 5, 8)
    torch.testing.assert_close(ours(tokens), reference(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "patch", "size"), [(1, 4, 8), (3, 2, 8), (2, 4, 12)])
def test_patches_of_the_transformer_against_a_loop(channels, patch, size):
    network = architectures.vit(1, width=6, heads=1, patch=patch, size=size, channels=channels)
    image = torch.randn(1, channels, size, size)
    rows = []
    for i in range(0, size, patch):
        for j in range(0, size, patch):
            rows.append(network.embed(image[0, :, i : i + patch, j : j + patch].flatten()))
    hidden = network.encoders(torch.stack(rows) + network.place)
    torch.testing.assert_close(network(image)[0], network.classifier(network.norm(hidden).mean(0)))


def test_layer_norm_agrees_with_the_one_of_torch():
    inputs = torch.randn(4, 7) * 3 + 1
    ours, theirs = PlainLayerNorm(7), nn.LayerNorm(7)
    for norm in (ours, theirs):
        norm.weight.data.copy_(torch.linspace(0.5, 2, 7))
        norm.bias.data.copy_(torch.linspace(-1, 1, 7))
    torch.testing.assert_close(ours(inputs), theirs(inputs))


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (17, 1), (24, 4), (64, 8)])
def test_group_norm_has_groups_of_two_channels_or_more(channels, groups):
    assert normalisation("group", channels).num_groups == groups


# -- under vmap, and derivatives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMALL)
def test_vmap_over_weights_equals_a_loop(case):
    networks = [small(case, seed=seed)[0].eval() for seed in range(3)]
    images = small(case)[1]
    parameters, buffers = stack_module_state(networks)
    together = vmap(lambda p, b: functional_call(networks[0], (p, b), (images,)))(parameters, buffers)
    torch.testing.assert_close(together, torch.stack([n(images) for n in networks]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", SMALL)
def test_inputs_are_not_changed(case):
    network, images = small(case)
    kept = images.clone()
    network(images.requires_grad_(True)).sum().backward()
    assert images.detach().equal(kept)
    assert all(not getattr(part, "inplace", False) for part in network.modules())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own, on first use of jvp
@pytest.mark.parametrize("case", ["mlp-tanh", "vit"])
def test_second_derivatives_are_right_in_both_modes(case):
    network, images = small(case)
    network, images = network.double(), images.double()
    labels = torch.arange(5) % 3
    # all weights away from their special initial values, where a wrong term could be 0
    start = {
        name: value.detach() + 0.3 * torch.randn(value.shape, dtype=torch.float64)
        for name, value in network.named_parameters()
    }

    def loss(parameters):
        return functional.cross_entropy(functional_call(network, parameters, (images,)), labels)

    vector = {name: torch.randn_like(value) for name, value in start.items()}
    _, forward = jvp(grad(loss), (start,), (vector,))
    reverse = grad(lambda p: sum((g * vector[name]).sum() for name, g in grad(loss)(p).items()))(start)
    h = 1e-5
    ahead = grad(loss)({name: value + h * vector[name] for name, value in start.items()})
    behind = grad(loss)({name: value - h * vector[name] for name, value in start.items()})
    for name in start:
        numeric = (ahead[name] - behind[name]) / (2 * h)
        torch.testing.assert_close(forward[name], numeric, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(reverse[name], numeric, rtol=1e-5, atol=1e-7)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: architectures.mlp((3,)), r"sizes = \(3,\)"),
        (lambda: architectures.mlp(5), "sizes = 5"),
        (lambda: architectures.mlp((3, 0, 1)), r"sizes\[1\] = 0"),
        (lambda: architectures.mlp((3, 2.0)), r"sizes\[1\] = 2.0"),
        (lambda: architectures.mlp((3, 2), activation="step"), "activation = 'step'"),
        (lambda: architectures.mlp((3, 2), init="zero"), "init = 'zero'"),
        (lambda: architectures.mlp((3, 2), bias=1), "bias = 1"),
        (lambda: architectures.mlp((3, 2), seed=-1), "seed = -1"),
        (lambda: architectures.mlp((3, 2), seed=2**64), "seed = 18446744073709551616"),
        (lambda: architectures.resnet_cifar(21), "6n [+] 2"),
        (lambda: architectures.resnet_cifar(2), "depth = 2"),
        (lambda: architectures.resnet_cifar(True), "depth = True"),
        (lambda: architectures.resnet_cifar(20, norm=None), "norm = None"),
        (lambda: architectures.resnet_cifar(20, width=0), "width = 0"),
        (lambda: architectures.resnet_cifar(20, shortcut="B"), "shortcut = 'B'"),
        (lambda: architectures.wide_resnet(20), "6n [+] 4"),
        (lambda: architectures.wide_resnet(16, 0), "widen = 0"),
        (lambda: architectures.vgg(12), "depth = 12"),
        (lambda: architectures.vgg(classes="ten"), "classes = 'ten'"),
        (lambda: architectures.vit(width=10), "multiple of heads"),
        (lambda: architectures.vit(size=30), "multiple of patch"),
        (lambda: architectures.vit(0), "depth = 0"),
        (lambda: architectures.from_spec({"sizes": [1, 2]}), "kind = None"),
        (lambda: architectures.from_spec({"kind": "os.system"}), "kind = 'os.system'"),
        (lambda: architectures.from_spec({"kind": "mlp", "sizes": [1, 2], "size": 3}), "no option 'size'"),
        (lambda: architectures.from_spec({"kind": "mlp"}), "needs 'sizes'"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_images_of_a_wrong_size_are_refused():
    with pytest.raises(ShapeError, match="at least 8 x 8"):
        architectures.vgg(7, width=2)(torch.zeros(1, 3, 8, 7))
    with pytest.raises(ShapeError, match="made for"):
        architectures.vit(1, width=8, size=8)(torch.zeros(1, 3, 8, 12))
