"""Modules as people bring them: small, and each with one habit that a curvature tool may trip over."""

import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

CLASSES = 3
NODES = 4


def quiet(call, *arguments, **settings):
    """What a call returns, without the warning that the old form of a thing is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments, **settings)


# -- convolutions, norms ----------------------------------------------------------------------------------------------


def convnet():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, CLASSES))


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm and a skip."""

    def __init__(self, **norm):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(2, **norm) for _ in range(2))
        self.read = nn.Linear(2, CLASSES)

    def forward(self, inputs):
        hidden = torch.relu(self.norms[0](self.first(inputs)))
        hidden = torch.relu(hidden + self.norms[1](self.second(hidden)))
        return self.read(hidden.mean((2, 3)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, and the skip beside it: an image for an image."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 2, 2, stride=2)
        self.up = nn.ConvTranspose2d(2, 1, 2, stride=2)
        self.out = nn.Conv2d(2, 1, 1)

    def forward(self, image):
        return self.out(torch.cat([image, self.up(functional.elu(self.down(image)))], 1))


def normed(norm, *, image=False):
    if image:
        return nn.Sequential(
            nn.Conv2d(1, 4, 2), norm, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
        )
    return nn.Sequential(nn.Linear(4, 5), norm, nn.Tanh(), nn.Linear(5, CLASSES))


# -- attention --------------------------------------------------------------------------------------------------------


class MaskedEncoder(nn.Module):
    """A transformer by hand: tokens and a padding mask, mean over what is not padding."""

    def __init__(self, vocabulary=7, width=4, length=5):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Parameter(torch.randn(1, length, width))
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.norm, self.read = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, tokens, mask):
        hidden = self.tokens(tokens) + self.places
        scores = self.query(hidden) @ self.key(hidden).transpose(1, 2) / hidden.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, :].bool(), float("-inf")).softmax(-1)
        hidden = self.norm(hidden + weights @ self.value(hidden))
        kept = mask[..., None].to(hidden.dtype)
        return self.read((hidden * kept).sum(1) / kept.sum(1))


class StockAttention(nn.Module):
    """`nn.MultiheadAttention` of the samples with themselves."""

    def __init__(self):
        super().__init__()
        self.attention, self.read = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, inputs, padding=None):
        return self.read(self.attention(inputs, inputs, inputs, key_padding_mask=padding, need_weights=False)[0][:, 0])


class StockEncoder(nn.Module):
    """`nn.TransformerEncoderLayer`, with or without a padding mask."""

    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 3, dropout=0.1, activation="gelu", batch_first=True, **settings)
        self.read = nn.Linear(4, CLASSES)

    def forward(self, inputs, padding=None):
        return self.read(self.layer(inputs, src_key_padding_mask=padding)[:, 0])


class PositionIds(nn.Module):
    """Positions as a buffer of shape (1, length), embedded once for all samples; a label for every token."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places, self.read = nn.Embedding(7, 4), nn.Embedding(4, 4), nn.Linear(4, CLASSES)
        self.register_buffer("ids", torch.arange(4)[None])

    def forward(self, tokens):
        return self.read(torch.tanh(self.tokens(tokens) + self.places(self.ids)))


# -- recurrent --------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """The last state of a GRU, LSTM or RNN, read by a linear layer."""

    def __init__(self, layer, **settings):
        super().__init__()
        self.layer, self.read = layer(2, 3, batch_first=True, **settings), nn.Linear(3, CLASSES)

    def forward(self, inputs):
        return self.read(self.layer(inputs)[0][:, -1])


class Unrolled(nn.Module):
    """Euler steps of dx/dt = tanh(W x + b): one layer used four times."""

    def __init__(self):
        super().__init__()
        self.rate, self.read = nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs):
        for _ in range(4):
            inputs = inputs + 0.25 * torch.tanh(self.rate(inputs))
        return self.read(inputs)


# -- layers that are not evaluated on the samples ---------------------------------------------------------------------


class Experts(nn.Module):
    """Hard routing: every expert sees its samples only, results are assigned in place."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 2), nn.ModuleList(nn.Linear(4, CLASSES) for _ in range(2))

    def forward(self, inputs):
        chosen, out = self.gate(inputs).argmax(1), inputs.new_zeros(len(inputs), CLASSES)
        for number, expert in enumerate(self.experts):
            out[chosen == number] = expert(inputs[chosen == number])
        return out


class SoftExperts(Experts):
    """A mixture weighted by the gate."""

    def forward(self, inputs):
        weights = self.gate(inputs).softmax(1)
        return torch.stack([expert(inputs) for expert in self.experts], 1).mul(weights[..., None]).sum(1)


class Hypernetwork(nn.Module):
    """A layer evaluated on a constant makes the weights of another."""

    def __init__(self):
        super().__init__()
        self.register_buffer("code", torch.linspace(-1.0, 1.0, 2))
        self.make = nn.Linear(2, 4 * CLASSES)

    def forward(self, inputs):
        return torch.tanh(inputs @ self.make(self.code).view(4, CLASSES))


class DeepONet(nn.Module):
    """A branch sees the samples, a trunk sees a constant grid; the field is their product."""

    def __init__(self, points):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        self.trunk = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 3))
        self.register_buffer("grid", torch.linspace(0.0, 1.0, points)[:, None])

    def forward(self, inputs):
        return self.branch(inputs) @ self.trunk(self.grid).T


class Unsqueezed(nn.Module):
    """A layer sees the whole batch as one sample: ``x[None]``."""

    def __init__(self):
        super().__init__()
        self.first, self.read = nn.Linear(4, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs):
        return self.read(torch.relu(self.first(inputs[None]))[0])


class Flattened(nn.Module):
    """Every token is a row: as many rows as samples times tokens."""

    def __init__(self):
        super().__init__()
        self.first, self.read = nn.Linear(2, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs):
        rows = torch.relu(self.first(inputs.reshape(-1, 2)))
        return self.read(rows.view(len(inputs), -1, 4).mean(1))


class Mirrored(nn.Module):
    """Every sample twice, itself and its mirror image, stacked along the first axis and averaged."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, CLASSES))

    def forward(self, inputs):
        return self.net(torch.cat([inputs, inputs.flip(1)])).unflatten(0, (2, len(inputs))).mean(0)


class TokensFirst(nn.Module):
    """Samples along the second axis, as in layers without ``batch_first``."""

    def __init__(self):
        super().__init__()
        self.mix, self.read = nn.Linear(2, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs):
        return self.read(torch.relu(self.mix(inputs.transpose(0, 1)))).mean(0)


class Mixer(nn.Module):
    """A layer across tokens, then one across features."""

    def __init__(self):
        super().__init__()
        self.tokens, self.features, self.read = nn.Linear(4, 4), nn.Linear(2, 2), nn.Linear(2, CLASSES)

    def forward(self, inputs):
        mixed = inputs + functional.gelu(self.tokens(inputs.transpose(1, 2))).transpose(1, 2)
        return self.read((mixed + functional.gelu(self.features(mixed))).mean(1))


# -- weights used twice or outside a layer ----------------------------------------------------------------------------


class TiedAutoencoder(nn.Module):
    """The decoder is the transpose of the encoder."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(4, 3)

    def forward(self, inputs):
        return functional.linear(torch.relu(self.encode(inputs)), self.encode.weight.t())


class TiedWords(nn.Module):
    """Words are read by the table that embeds them."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.decode = nn.Linear(4, 5, bias=False)
        self.decode.weight = self.embed.weight

    def forward(self, words):
        return self.decode(torch.tanh(self.mix(self.embed(words))))


class Penalty(nn.Module):
    """A function of the weights alone is added to what the samples give."""

    def __init__(self):
        super().__init__()
        self.first, self.read = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs):
        return self.read(torch.relu(self.first(inputs))) + 0.3 * self.first.weight.square().sum()


class LateSecondUse(nn.Module):
    """The first layer's weight is used again on samples with a negative sum only."""

    def __init__(self):
        super().__init__()
        self.first, self.read = nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs):
        again = functional.linear(torch.relu(-inputs.sum(1, keepdim=True)) * inputs, self.first.weight)
        return self.read(torch.relu(self.first(inputs)) + again)


class LogitScale(nn.Module):
    """A temperature of shape ()."""

    def __init__(self):
        super().__init__()
        self.net, self.scale = nn.Linear(4, CLASSES), nn.Parameter(torch.tensor(0.3))

    def forward(self, inputs):
        return torch.relu(self.net(inputs)) * self.scale.exp()


class ReZero(nn.Module):
    """Residual branches behind gates of shape ()."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.gates = nn.ParameterList(nn.Parameter(torch.tensor(0.0)) for _ in range(2))
        self.read = nn.Linear(4, CLASSES)

    def forward(self, inputs):
        for gate, branch in zip(self.gates, self.branches, strict=True):
            inputs = inputs + gate * torch.relu(branch(inputs))
        return self.read(inputs)


class EmptyParameter(nn.Module):
    """A parameter of no elements among others."""

    def __init__(self):
        super().__init__()
        self.first, self.nothing = nn.Linear(4, 4), nn.Parameter(torch.empty(0, 4))
        self.read = nn.Linear(4, CLASSES)

    def forward(self, inputs):
        return self.read(torch.relu(self.first(inputs))) + self.nothing.sum()


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that the sample makes."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.read = nn.Conv2d(1, 3, 2), nn.Conv2d(3, 3, 1), nn.Linear(3, CLASSES)

    def forward(self, inputs):
        hidden = torch.relu(self.conv(inputs))
        return self.read((hidden * torch.sigmoid(self.gate(hidden.mean((2, 3), keepdim=True)))).mean((2, 3)))


# -- weights that are functions of weights ----------------------------------------------------------------------------


def plain():
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def weight_norm():
    module = plain()
    parametrizations.weight_norm(module[0])
    return module


def old_weight_norm():
    module = plain()
    quiet(nn.utils.weight_norm, module[0])
    return module


def spectral_norm():
    module = plain()
    parametrizations.spectral_norm(module[0])
    return module


def old_spectral_norm():
    module = plain()
    quiet(nn.utils.spectral_norm, module[0])
    return module


def pruned():
    module = plain()
    prune.l1_unstructured(module[0], "weight", amount=0.4)
    prune.random_unstructured(module[2], "bias", amount=1)
    return module


class LowRank(nn.Module):
    """The frozen weight plus B A: adapters as a parametrization."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 4))

    def forward(self, weight):
        return weight.detach() + self.left @ self.right


def adapters():
    module = plain()
    parametrize.register_parametrization(module[0], "weight", LowRank())
    module[0].parametrizations.weight.original.requires_grad_(False)
    module[2].bias.requires_grad_(False)
    return module


class StandardizedConv(nn.Conv2d):
    """A convolution whose weight has mean 0 and variance 1 in every filter."""

    def forward(self, inputs):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return self._conv_forward(inputs, weight, self.bias)


def standardized():
    return nn.Sequential(StandardizedConv(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, CLASSES))


# -- spectra, derivatives, graphs, sets -------------------------------------------------------------------------------


class Fourier(nn.Module):
    """A Fourier layer: complex weights multiply the modes."""

    def __init__(self, *, as_reals):
        super().__init__()
        shape, self.as_reals = (1, 3), as_reals
        if as_reals:
            self.head = nn.Parameter(torch.randn(1))  # so that the pairs begin at an odd place
            self.modes = nn.Parameter(torch.randn(*shape, 2))
        else:
            self.modes = nn.Parameter(torch.randn(shape, dtype=torch.complex128))
        self.read = nn.Linear(4, CLASSES)

    def forward(self, inputs):
        modes = self.head * torch.view_as_complex(self.modes) if self.as_reals else self.modes
        return self.read(torch.tanh(torch.fft.irfft(torch.fft.rfft(inputs) * modes, n=4)))


class Derivative(nn.Module):
    """du/dx of a network u(x), by `torch.func` or by `torch.autograd`: the residual of an equation."""

    def __init__(self, *, transforms):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))
        self.transforms = transforms

    def forward(self, points):
        if self.transforms:
            return torch.func.vmap(torch.func.grad(lambda point: self.net(point[None])[0, 0]))(points)
        with torch.enable_grad():
            points = points.detach().requires_grad_(True)
            return torch.autograd.grad(self.net(points).sum(), points, create_graph=True)[0]


class GraphConvolution(nn.Module):
    """Features of nodes, mixed by a normalised adjacency matrix that is a buffer."""

    def __init__(self):
        super().__init__()
        ring = torch.eye(NODES) + torch.eye(NODES).roll(1, 0) + torch.eye(NODES).roll(-1, 0)
        self.register_buffer("adjacency", ring / 3)
        self.first, self.read = nn.Linear(2, 4), nn.Linear(4, CLASSES)

    def forward(self, features):
        hidden = torch.relu(self.first(self.adjacency @ features))
        return self.read(self.adjacency @ hidden).mean(1)


class Set(nn.Module):
    """A function of a set: the sum of what every element gives."""

    def __init__(self):
        super().__init__()
        self.element = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4))
        self.read = nn.Linear(4, CLASSES)

    def forward(self, elements):
        return self.read(self.element(elements).sum(1))


class Equivariant(nn.Module):
    """Each element and the mean of the others: an output per element, permuted with the elements."""

    def __init__(self):
        super().__init__()
        self.own, self.mean = nn.Linear(2, 4), nn.Linear(2, 4, bias=False)
        self.read = nn.Linear(4, 1)

    def forward(self, elements):
        hidden = self.own(elements) + self.mean(elements.mean(1, keepdim=True))
        return self.read(torch.relu(hidden))[..., 0]


# -- words, shapes ----------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """Word vectors, averaged."""

    def __init__(self, *, bag=False, **settings):
        super().__init__()
        self.words = nn.EmbeddingBag(7, 3) if bag else nn.Embedding(7, 3, **settings)
        self.read, self.bag = nn.Linear(3, CLASSES), bag

    def forward(self, words):
        return self.read(torch.tanh(self.words(words) if self.bag else self.words(words).mean(1)))


class Flat(nn.Module):
    """One number in or out per sample, without an axis of length 1."""

    def __init__(self, inputs):
        super().__init__()
        self.first, self.read = nn.Linear(inputs, 5), nn.Linear(5, 1)

    def forward(self, inputs):
        inputs = inputs[:, None] if inputs.ndim == 1 else inputs
        return self.read(torch.tanh(self.first(inputs))).squeeze(-1)


@dataclass
class Answer:
    """What a model of today returns."""

    logits: torch.Tensor
    hidden: torch.Tensor


class Structured(nn.Module):
    """Outputs as a dict, a dataclass or a tuple."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.read, self.kind = nn.Linear(4, 4), nn.Linear(4, CLASSES), kind

    def forward(self, inputs):
        hidden = torch.tanh(self.first(inputs))
        logits = self.read(hidden)
        if self.kind == "tuple":
            return logits, hidden
        return {"logits": logits, "hidden": hidden} if self.kind == "dict" else Answer(logits, hidden)


class Named(nn.Module):
    """Inputs by name, one of them left out at times."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(2, 4)
        self.read = nn.Linear(4, CLASSES)

    def forward(self, *, left, right):
        return self.read(torch.tanh(self.left(left)) * torch.tanh(self.right(right)))


class Pair(nn.Module):
    """A bilinear form of two inputs."""

    def __init__(self):
        super().__init__()
        self.form = nn.Bilinear(3, 2, CLASSES)

    def forward(self, left, right):
        return torch.tanh(self.form(left, right))


class Centred(nn.Module):
    """The mean of the batch is taken off by hand: every sample changes all outputs, and no layer says so."""

    def __init__(self):
        super().__init__()
        self.first, self.read = nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return self.read(torch.tanh(hidden - hidden.mean(0)))
