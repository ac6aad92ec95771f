"""Units read from the operations of a module: permuted networks are the same function, others are refused."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from landscape.errors import ConfigError
from landscape.paths import align, permute, unit_axes, unit_rules
from landscape.paths.symmetries import symmetries_of
from landscape.potentials import NetworkLoss, architectures


class Skip(nn.Sequential):
    """Adds what goes in where the shapes agree."""

    def forward(self, x):
        for part in self:
            out = part(x)
            x = x + out if out.shape == x.shape else out
        return x


class Recurrent(nn.Module):
    """One layer used three times."""

    def __init__(self):
        super().__init__()
        self.into, self.again, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = torch.tanh(self.into(x))
        for _ in range(3):
            hidden = torch.tanh(self.again(hidden))
        return self.out(hidden)


class Tied(nn.Module):
    """The weights of the way in are those of the way out."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias, self.head = (
            nn.Parameter(torch.randn(9, 6)),
            nn.Parameter(torch.randn(9)),
            nn.Linear(6, 3),
        )

    def forward(self, x):
        return self.head(torch.tanh(x @ self.weight.T + self.bias) @ self.weight)


class Scaled(nn.Linear):
    """A scale per unit."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.scale = nn.Parameter(1 + 0.3 * torch.randn(sizes[1]))

    def forward(self, x):
        return super().forward(x) * self.scale


class Joined(nn.Module):
    """Two branches side by side, gated halves, and a slice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.gate, self.out = nn.Linear(6, 5), nn.Linear(6, 4), nn.Linear(9, 8), nn.Linear(6, 3)

    def forward(self, x):
        both = torch.cat([torch.relu(self.a(x)), torch.tanh(self.b(x))], -1)
        gated = nn.functional.glu(self.gate(both), -1)  # 4
        return self.out(torch.cat([gated, both[:, :2]], -1))


class Attending(nn.Module):
    """Attention of torch among five tokens."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.encoder(self.embed(x)).mean(1))


class InPlace(nn.Module):
    """Works on slices of a tensor of zeros."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 4), nn.Linear(6, 5), nn.Linear(9, 3)

    def forward(self, x):
        hidden = torch.zeros(len(x), 9, dtype=x.dtype)
        hidden[:, :4] = self.a(x)
        hidden[:, 4:].add_(self.b(x))
        hidden.relu_()
        return self.out(hidden)


class LastOf(nn.Module):
    """What a recurrent layer returns in the end."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.layer(x)[0][:, -1])


def convolutions():
    depthwise = nn.Conv2d(6, 12, 3, groups=6, padding=1)
    grouped = nn.Conv2d(12, 8, 3, groups=2, padding=1)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), depthwise, nn.PReLU(12), nn.MaxPool2d(2), grouped,
        nn.GroupNorm(4, 8),
        nn.ConvTranspose2d(8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(5 * 9, 7), nn.BatchNorm1d(7),
        nn.LayerNorm(7), nn.Softmax(-1), nn.Linear(7, 3),
    )  # fmt: skip


def hidden(first):
    return nn.Sequential(first, nn.Tanh(), nn.Linear(8, 3))


# module, shape of an input, groups that are found
KNOWN = {
    "skips": (lambda: Skip(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)), (6,), {"0": 8}),
    "reused": (Recurrent, (6,), {"into": 8}),
    "tied": (Tied, (6,), {"weight": 9}),
    "weight norm": (lambda: hidden(parametrizations.weight_norm(nn.Linear(6, 8))), (6,), {"0": 8}),
    "scale per unit": (lambda: hidden(Scaled(6, 8)), (6,), {"0": 8}),
    "flatten": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)), (5, 3), {"0": 4}),
    "joined": (Joined, (6,), {"a": 2, "a:2": 3, "b": 4, "gate": 4}),
    "attention": (
        Attending, (5, 3), {"embed": 8, "encoder.self_attn": 2, "encoder.self_attn:2": 4, "encoder.linear1": 16},
    ),
    "vision transformer": (
        lambda: architectures.vit(1, width=8, heads=2, size=8, channels=1, classes=3), (1, 8, 8),
        {
            "embed": 8, "encoders.0.attention.project_in": 2, "encoders.0.attention.project_in:2": 4,
            "encoders.0.expand": 16,
        },
    ),
    "in place": (InPlace, (6,), {"a": 4, "b": 5}),
    "recurrent": (lambda: LastOf(nn.LSTM(3, 4, batch_first=True)), (5, 3), {"layer": 4}),
    "gated recurrent": (lambda: LastOf(nn.GRU(3, 4, batch_first=True)), (5, 3), {"layer": 4}),
    "convolutions": (convolutions, (2, 7, 7), {"0": 2, "0:2": 3, "3": 2, "6": 2, "6:2": 2, "8": 5, "12": 7}),
}  # fmt: skip


def loss_of(make, shape, batchnorm="reestimate"):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = make().double()
        x, y = torch.randn(12, *shape, dtype=torch.float64), torch.randint(3, (12,))
    normalised = any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in module.modules())
    return NetworkLoss(module, x, y, batchnorm=batchnorm if normalised else None)


def elsewhere(loss, seed=1):
    here = loss.position()
    return here + 0.2 * torch.randn(here.shape, generator=torch.Generator().manual_seed(seed), dtype=here.dtype)


@pytest.mark.parametrize("name", KNOWN)
def test_a_permuted_module_is_the_same_function_and_is_found_again(name):
    make, shape, groups = KNOWN[name]
    loss = loss_of(make, shape)
    found = symmetries_of(loss)
    assert found.sizes == groups
    here = elsewhere(loss)
    there = permute(loss, here, found.shuffled(0))
    assert float((there - here).norm()) > 0.1 * float(here.norm())
    np.testing.assert_allclose(loss.energy(there), loss.energy(here), rtol=1e-10)
    np.testing.assert_array_equal(there.sort().values, here.sort().values)
    stranger = elsewhere(loss, 2)
    closer = align(loss, here, stranger)
    np.testing.assert_allclose(loss.energy(closer), loss.energy(stranger), rtol=1e-10)
    assert float((closer - here).norm()) <= float((stranger - here).norm())
    np.testing.assert_array_equal(align(loss, here, there), here)


@pytest.mark.parametrize("name", ["skips", "attention", "joined"])
def test_every_axis_of_a_group_matters(name):
    """Control: units of one parameter left behind make another function."""
    loss = loss_of(*KNOWN[name][:2])
    found, here = symmetries_of(loss), elsewhere(loss)
    orders, parts = found.shuffled(0), loss.layout.unflatten(here)
    for left in found.axes:
        moved = {key: value if key == left else found.reordered(key, value, orders) for key, value in parts.items()}
        energy = float(loss.energy(torch.cat([value.reshape(-1) for value in moved.values()])))
        invisible = left.endswith("in_proj_bias")  # biases of keys leave softmax as it is; those of values do not
        assert abs(energy - float(loss.energy(here))) > (1e-12 if invisible else 1e-8), left


def test_what_was_read_wrongly_is_refused_by_trying(monkeypatch):
    """Control: with a rule that forgets a demand the permutation changes the outputs, which the trial finds."""
    monkeypatch.setitem(unit_rules.RULES, "add", lambda given, shapes, why: [given["self"]])
    with pytest.raises(ConfigError, match=r"permuting the units '0' of Skip changes its outputs"):
        symmetries_of(loss_of(*KNOWN["skips"][:2]))


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: hidden(parametrizations.orthogonal(nn.Linear(8, 8))), "tril|householder"),
        (lambda: hidden(parametrizations.spectral_norm(nn.Linear(8, 8))), "buffer '0.parametrizations.weight.0._u'"),
        (lambda: nn.Sequential(nn.Linear(8, 8), Ramp(), nn.Linear(8, 3)), "a constant of the module|arange"),
        (lambda: nn.Linear(8, 3), "the outputs"),
    ],
)
def test_modules_whose_units_cannot_be_permuted_say_why(make, cause):
    loss = loss_of(make, (8,))
    with pytest.raises(ConfigError, match=cause):
        align(loss, loss.position(), loss.position())


class Ramp(nn.Module):
    """Multiplies unit i by i."""

    def forward(self, x):
        return x * torch.arange(x.shape[-1])


def test_groups_that_can_be_permuted_are_where_others_cannot():
    loss = loss_of(lambda: nn.Sequential(nn.Linear(4, 8), Ramp(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)), (4,))
    assert symmetries_of(loss).sizes == {"2": 5}


def test_a_recurrent_layer_is_brought_closer_although_its_weights_meet_themselves():
    """The gains hold for one occurrence: the sum itself decides, so that no sweep makes it smaller."""
    loss = loss_of(Recurrent, (6,))
    here, stranger = elsewhere(loss, 1), elsewhere(loss, 2)
    mixed = permute(loss, stranger, {"into": [3, 1, 0, 2, 5, 4, 7, 6]})
    distances = [float((align(loss, here, one) - here).norm()) for one in (stranger, mixed)]
    assert max(distances) <= min(float((one - here).norm()) for one in (stranger, mixed))


# -- axes --------------------------------------------------------------------------------------------------------------


def test_products_and_joined_axes_are_taken_apart_where_they_meet():
    whole, outer, inner = (unit_axes.units(size) for size in (12, 3, 4))
    unit_axes.same(whole, unit_axes.product((outer, inner)), "")
    orders = {id(outer): np.array([2, 0, 1]), id(inner): np.array([1, 0, 3, 2])}
    assert unit_axes.order_of(whole, orders).tolist() == [9, 8, 11, 10, 1, 0, 3, 2, 5, 4, 7, 6]
    six, two = unit_axes.units(6), unit_axes.units(2)
    unit_axes.same(whole, unit_axes.product((six, two)), "")  # 3 * (2 * 2) = (3 * 2) * 2
    assert [at.shape for _, at in unit_axes.occurrences(whole)] == [(3, 4), (2, 6), (2, 6)]
    left, right, other = (unit_axes.units(size) for size in (3, 5, 8))
    unit_axes.same(other, unit_axes.join((left, right)), "")
    unit_axes.same(other, unit_axes.join((unit_axes.units(4), unit_axes.units(4))), "")
    assert [at[:, 0].tolist() for _, at in unit_axes.occurrences(other)] == [[0, 1, 2], [4, 5, 6, 7]]  # one is alone


def test_what_cannot_move_alike_stays():
    product, joined = unit_axes.product((unit_axes.units(3), unit_axes.units(4))), unit_axes.units(12)
    unit_axes.same(joined, unit_axes.join((unit_axes.units(5), unit_axes.units(7))), "")
    unit_axes.same(product, joined, "two shapes")
    assert not list(unit_axes.occurrences(product))
    assert not list(unit_axes.occurrences(joined))


def test_the_middle_between_aligned_networks_with_skips_is_like_its_ends():
    loss = loss_of(*KNOWN["skips"][:2])
    here = elsewhere(loss, 1)
    other = permute(loss, here, {"0": [3, 1, 0, 2, 5, 4, 7, 6]}) + 0.1 * elsewhere(loss, 2)
    middles = [0.5 * (here + end) for end in (other, align(loss, here, other))]
    flat, matched = (float(loss.energy(middle)) for middle in middles)
    assert abs(matched - float(loss.energy(here))) < 0.3 * abs(flat - float(loss.energy(here)))
