"""The registry of modules that people bring, each with its loss in plain torch, sample by sample.

A case makes its module from a seed, always the same. `Reference` evaluates a module of its own by loops over single
samples and by central differences of their gradients; nothing in this file knows the package.
"""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.potentials import user_modules as user
from tests.potentials.user_modules import CLASSES

SAMPLES = 6
STEP = 1e-5  # of central differences: rounding and the third derivative weigh about the same in float64


# -- data -------------------------------------------------------------------------------------------------------------


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(high, *shape, seed=1):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def rows(batch, index):
    """Samples of a tensor, or of tensors in a tuple, list or dict."""
    if isinstance(batch, dict):
        return {name: rows(value, index) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(rows(value, index) for value in batch)
    return batch[index]


def count(batch):
    """Number of samples."""
    while not isinstance(batch, torch.Tensor):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)


def double(batch):
    """Real numbers in double precision, all else as it is."""
    if isinstance(batch, dict):
        return {name: double(value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(double(value) for value in batch)
    return batch.double() if batch.is_floating_point() else batch


# -- losses in plain torch: (outputs, targets) to one number per sample -----------------------------------------------


def logits_of(outputs):
    if isinstance(outputs, torch.Tensor):
        return outputs
    return outputs["logits"] if isinstance(outputs, dict) and "logits" in outputs else outputs.logits


def averaged(values):
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def cross_entropy(outputs, targets):
    return functional.cross_entropy(logits_of(outputs), targets, reduction="none")


def token_cross_entropy(outputs, targets):
    """Classes along the last axis, a label for every token."""
    return averaged(functional.cross_entropy(logits_of(outputs).movedim(-1, 1), targets, reduction="none"))


def squared(outputs, targets):
    return averaged((logits_of(outputs) - targets).square())


def binary(outputs, targets):
    return averaged(functional.binary_cross_entropy_with_logits(logits_of(outputs), targets, reduction="none"))


def likelihood(outputs, targets):
    return functional.nll_loss(logits_of(outputs), targets, reduction="none")


def huber(outputs, targets):
    return averaged(functional.huber_loss(logits_of(outputs), targets, reduction="none"))


def of_a_tuple(outputs, targets):
    """A loss of one's own that takes a structure apart."""
    logits, hidden = outputs
    return functional.cross_entropy(logits, targets, reduction="none") + 0.1 * hidden.square().sum(1)


def of_a_dict(outputs, targets):
    return of_a_tuple((outputs["logits"], outputs["hidden"]), targets)


def quartic(outputs, targets):
    """A loss of one's own of a tensor."""
    return (outputs - targets).pow(4).mean(1)


PLAIN = {
    "cross_entropy": cross_entropy,
    "mse": squared,
    "binary_cross_entropy": binary,
    "nll": likelihood,
    "huber": huber,
}
MODELS = {
    "cross_entropy": "softmax",
    "nll": "softmax",
    "mse": "gaussian",
    "binary_cross_entropy": "bernoulli",
    "huber": "huber",
}


# -- cases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A module and its data.

    `loss` is what the network is given, `truth` the same in plain torch. `model` names the distribution whose Fisher
    matrix is defined, None where there is none. `refused` are the quantities that have to be refused. Tag "interacts":
    a sample's output depends on the others, so there are no quantities of single samples.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Any = field(default_factory=lambda: draws(SAMPLES, 4))
    targets: Any = field(default_factory=lambda: integers(CLASSES, SAMPLES))
    loss: Any = "cross_entropy"
    truth: Callable | None = None
    model: str | None = "by loss"
    options: dict = field(default_factory=dict)
    call: Callable | None = None
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    training: tuple = ()  # layers whose mode matters and is that of training
    needs: str | None = None  # a library without which the case is skipped
    tags: frozenset = frozenset()
    refused: frozenset = frozenset()

    def __str__(self) -> str:
        return self.name

    def build(self):
        """The module without a wrapper, in double precision, at weights and statistics that are nowhere special."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            module = self.make().double()
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in module.parameters():
                real = torch.view_as_real(parameter) if parameter.is_complex() else parameter
                real.add_(0.3 * torch.randn(real.shape, generator=generator, dtype=torch.float64))
            for name, buffer in module.named_buffers():
                if "running_mean" in name:
                    buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
                elif "running_var" in name:
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
        return module

    @property
    def distribution(self):
        if self.model != "by loss":
            return self.model
        return None if "interacts" in self.tags else MODELS.get(self.loss if isinstance(self.loss, str) else "")

    @property
    def interacts(self):
        return "interacts" in self.tags


class Reference:
    """A case in plain torch: parameters are written, single samples looped over, gradients differenced."""

    def __init__(self, case: Case) -> None:
        self.case, self.module = case, case.build().eval()
        for layer in self.module.modules():
            if isinstance(layer, case.training):
                layer.train()
        self.inputs, self.targets = double(case.inputs), double(case.targets)
        self.truth = case.truth or PLAIN[case.loss]
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.position = flat(self.parameters)
        self.dim, self.samples = len(self.position), count(case.inputs)

    def write(self, vector):
        at = 0
        with torch.no_grad():
            for parameter in self.parameters:
                real = torch.view_as_real(parameter) if parameter.is_complex() else parameter
                real.copy_(vector[at : at + real.numel()].view(real.shape))
                at += real.numel()

    def outputs(self, index=slice(None)):
        batch = rows(self.inputs, index)
        if self.case.call is not None:
            return self.case.call(self.module, batch)
        if isinstance(batch, dict):
            return self.module(**batch)
        return self.module(*batch) if isinstance(batch, tuple | list) else self.module(batch)

    def losses(self, index=slice(None)):
        return self.truth(self.outputs(index), self.targets[index])

    def slope(self, value, retain=False):
        """Gradient of a number, flat."""
        found = torch.autograd.grad(value, self.parameters, retain_graph=retain, allow_unused=True)
        pairs = zip(found, self.parameters, strict=True)
        return flat([torch.zeros_like(parameter) if slope is None else slope for slope, parameter in pairs])

    def singles(self):
        """What is looped over: every sample alone, or all at once where they are coupled."""
        return [slice(None)] if self.case.interacts else [slice(i, i + 1) for i in range(self.samples)]

    def energy(self, vector):
        self.write(vector)
        return float(torch.cat([self.losses(one).detach() for one in self.singles()]).mean())

    def gradient(self, vector):
        self.write(vector)
        return self.slope(self.losses().mean())

    @cached_property
    def sample_gradients(self):
        self.write(self.position)
        return torch.stack([self.slope(self.losses(slice(i, i + 1)).sum()) for i in range(self.samples)])

    def product(self, vector):
        """H v from two gradients."""
        ends = [self.gradient(self.position + sign * STEP * vector) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * STEP)

    @cached_property
    def hessian(self):
        columns = torch.stack([self.product(unit) for unit in torch.eye(self.dim, dtype=torch.float64)])
        return (columns + columns.T) / 2

    @cached_property
    def model_fisher_trace(self):
        """(1/n) sum_i <|gradient of sample i's loss|^2>, with targets drawn from what the model says of sample i."""
        self.write(self.position)
        return sum(self._expected_square(slice(i, i + 1)) for i in range(self.samples)) / self.samples

    def _expected_square(self, one):
        outputs = logits_of(self.outputs(one))[0]
        if self.case.distribution == "gaussian":  # (1/K) |f - y|^2, y of variance K/2: (2/K) |df|^2
            slopes = [self.slope(entry, retain=True).square().sum() for entry in outputs.flatten()]
            return 2 * float(sum(slopes)) / len(slopes)
        if self.case.distribution == "bernoulli":  # (p - y) df, of variance p (1 - p)
            chance = float(torch.sigmoid(outputs.detach()))
            return chance * (1 - chance) * float(self.slope(outputs.sum()).square().sum())
        if self.case.distribution == "huber":  # h'(r) df / K with density exp(-h(r) / K) of every residual r
            slopes = [self.slope(entry, retain=True).square().sum() for entry in outputs.flatten()]
            residual = torch.linspace(-80.0, 80.0, 400_001, dtype=torch.float64)
            density = functional.huber_loss(residual, 0 * residual, reduction="none").div(-len(slopes)).exp()
            square = float((residual.clamp(-1, 1).square() * density).sum() / density.sum())
            return float(sum(slopes)) * square / len(slopes) ** 2
        logs = outputs.log_softmax(-1)
        slopes = [self.slope(entry, retain=True).square().sum() for entry in logs]
        return float(sum(chance * slope for chance, slope in zip(logs.detach().exp(), slopes, strict=True)))


def flat(tensors):
    """One vector of real numbers; a complex entry is its real and then its imaginary part."""
    parts = [torch.view_as_real(part.resolve_conj()) if part.is_complex() else part for part in map(_detached, tensors)]
    return torch.cat([part.reshape(-1) for part in parts])


def _detached(tensor):
    return (tensor.to_dense() if tensor.is_sparse else tensor).detach().clone()


# -- what must not change ---------------------------------------------------------------------------------------------


def fingerprint(module):
    """All of a module that a caller can see, and the state of the generators of random numbers."""
    layers = dict(module.named_modules())
    state = {
        "tensors": {name: _bytes(value) for name, value in [*module.named_parameters(), *module.named_buffers()]},
        "same objects": {name: id(value) for name, value in [*module.named_parameters(), *module.named_buffers()]},
        "modes": {name: layer.training for name, layer in layers.items()},
        "gradients": {name: None if p.grad is None else _bytes(p.grad) for name, p in module.named_parameters()},
        "trainable": {name: p.requires_grad for name, p in module.named_parameters()},
        "attributes": {name: sorted(vars(layer)) for name, layer in layers.items()},
        "hooks": {name: _hooks(layer) for name, layer in layers.items()},
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),  # noqa: NPY002  # the global one is what must not move
        "python": random.getstate(),
    }
    return copy.copy(state)


def _bytes(tensor):
    tensor = tensor.detach()
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.contiguous().numpy().tobytes()


def _hooks(layer):
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return {name: [id(hook) for hook in getattr(layer, name).values()] for name in names}


# -- modules of other libraries ---------------------------------------------------------------------------------------


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_head=2, n_embd=8, n_inner=8, vocab_size=11, n_positions=6, use_cache=False)
    )


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4, vocab_size=11,
            max_position_embeddings=6, num_labels=CLASSES,
        )
    )  # fmt: skip


def huggingface_vit():
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4, image_size=4, patch_size=2,
            num_channels=1, num_labels=CLASSES,
        )
    )  # fmt: skip


def torchvision_vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=4, patch_size=2, num_layers=1, num_heads=2, hidden_dim=4, mlp_dim=4, num_classes=CLASSES
    )


def mobilenet():
    """MobileNetV3 of one inverted residual with squeeze and excitation, eight channels wide."""
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    block = InvertedResidualConfig(8, 3, 8, 8, True, "HS", 1, 1, 1.0)
    return MobileNetV3([block], last_channel=8, num_classes=CLASSES)


def padding(length=4):
    """True where a token is padding; the first never is."""
    lengths = 1 + integers(length, SAMPLES, seed=8)
    return torch.arange(length) >= lengths[:, None]


def kept(length=4):
    """1 where a token counts, as `attention_mask` has it."""
    return (~padding(length)).long()


IMAGES = draws(SAMPLES, 1, 4, 4)
TOKENS = draws(SAMPLES, 4, 2)
WORDS = integers(7, SAMPLES, 4, seed=5)
FIELD = {"loss": "mse"}
FROZEN = {"batchnorm": "frozen"}
HF = {"needs": "transformers"}


def case(name, make, inputs=None, targets=None, **settings):
    """A case, with the default samples and labels where none are given."""
    for key in ("tags", "refused"):
        settings[key] = frozenset(settings.get(key, ()))
    given = {"inputs": inputs, "targets": targets}
    return Case(name, make, **{key: value for key, value in given.items() if value is not None}, **settings)


def stack(activation, outputs=CLASSES):
    return lambda: nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, outputs))


CASES = [
    case("mlp relu", stack(nn.ReLU)),
    case("mlp tanh", stack(nn.Tanh, 2), None, draws(SAMPLES, 2, seed=2), loss="mse"),
    case("mlp gelu", stack(nn.GELU)),
    case("dropout", lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, CLASSES))),
    case("prelu", stack(nn.PReLU)),
    # convolutions and norms
    case("convnet", user.convnet, IMAGES),
    case("resnet block, frozen norm", user.ResidualBlock, IMAGES, options=FROZEN),
    case(
        "resnet block, norm of the batch", user.ResidualBlock, IMAGES, options={"batchnorm": "batch"},
        training=(nn.BatchNorm2d,), tags=["interacts"],
    ),
    case(
        "resnet block, norm without statistics", lambda: user.ResidualBlock(track_running_stats=False), IMAGES,
        tags=["interacts"], options={"batchnorm": "batch"},
    ),
    case("u-net", user.UNet, IMAGES, draws(SAMPLES, 1, 4, 4, seed=2), loss="mse"),
    case("squeeze and excitation", user.SqueezeExcite, IMAGES),
    case("standardized convolution", user.standardized, IMAGES),
    case("layer norm", lambda: user.normed(nn.LayerNorm(5))),
    case("rms norm", lambda: user.normed(nn.RMSNorm(5))),
    case("group norm", lambda: user.normed(nn.GroupNorm(2, 4), image=True), IMAGES),
    case("instance norm", lambda: user.normed(nn.InstanceNorm2d(4, affine=True), image=True), IMAGES),
    case("torchvision mobilenet", mobilenet, draws(2, 3, 8, 8), integers(CLASSES, 2), options=FROZEN,
         needs="torchvision"),
    # attention
    case("torchvision vit", torchvision_vit, draws(4, 3, 4, 4), integers(CLASSES, 4), needs="torchvision"),
    case("masked encoder", user.MaskedEncoder, (integers(7, SAMPLES, 5), ~padding(5))),
    case("stock attention", lambda: user.StockAttention(), draws(SAMPLES, 3, 4)),
    case("stock attention, padded", lambda: user.StockAttention(), (draws(SAMPLES, 4, 4), padding())),
    case("stock encoder", lambda: user.StockEncoder(), draws(SAMPLES, 3, 4)),
    case("stock encoder, padded", lambda: user.StockEncoder(norm_first=True), (draws(SAMPLES, 4, 4), padding())),
    case("position ids", user.PositionIds, WORDS, integers(CLASSES, SAMPLES, 4), truth=token_cross_entropy,
         model=None),
    case("gpt-2", gpt2, {"input_ids": integers(11, SAMPLES, 5)}, integers(11, SAMPLES, 5, seed=2),
         truth=token_cross_entropy, model=None, **HF),
    case("bert", bert, {"input_ids": 1 + integers(10, SAMPLES, 4), "attention_mask": kept()}, **HF),
    case("huggingface vit", huggingface_vit, {"pixel_values": IMAGES}, **HF),
    # recurrent
    case("gru", lambda: user.Recurrent(nn.GRU), TOKENS),
    case("lstm", lambda: user.Recurrent(nn.LSTM), TOKENS),
    case("rnn of two layers", lambda: user.Recurrent(nn.RNN, num_layers=2, nonlinearity="relu"), TOKENS),
    case("neural ode", user.Unrolled),
    # calls that are not on the samples
    case("experts, hard routing", user.Experts),
    case("experts, soft routing", user.SoftExperts),
    case("hypernetwork", user.Hypernetwork),
    case("deeponet", lambda: user.DeepONet(5), draws(SAMPLES, 3), draws(SAMPLES, 5, seed=2), **FIELD),
    case("deeponet, a grid of as many rows as samples", lambda: user.DeepONet(SAMPLES), draws(SAMPLES, 3),
         draws(SAMPLES, SAMPLES, seed=2), **FIELD),
    case("x[None]", user.Unsqueezed),
    case("tokens as rows", user.Flattened, TOKENS),
    case("mirror images as rows", user.Mirrored),
    case("samples along the second axis", user.TokensFirst, TOKENS),
    case("mixer", user.Mixer, TOKENS),
    # weights used twice or outside a layer
    case("tied autoencoder", user.TiedAutoencoder, None, draws(SAMPLES, 4), **FIELD),
    case("tied words", user.TiedWords, integers(5, SAMPLES), integers(5, SAMPLES, seed=2)),
    case("penalty inside", user.Penalty, None, draws(SAMPLES, 2, seed=2), **FIELD),
    case("second use on some samples", user.LateSecondUse),
    case("logit scale", user.LogitScale),
    case("rezero", user.ReZero),
    case("empty parameter", user.EmptyParameter),
    # weights that are functions of weights
    case("weight norm", user.weight_norm),
    case("weight norm, old form", user.old_weight_norm),
    case("spectral norm", user.spectral_norm),
    case("spectral norm, old form", user.old_spectral_norm),
    case("pruned", user.pruned),
    case("low-rank adapters", user.adapters),
    # complex weights, derivatives, graphs, sets
    case("fourier, complex weights", lambda: user.Fourier(as_reals=False)),
    case("fourier, pairs of reals", lambda: user.Fourier(as_reals=True)),
    case("pinn by torch.func", lambda: user.Derivative(transforms=True), draws(SAMPLES, 1), draws(SAMPLES, 1, seed=2),
         **FIELD),
    case("pinn by autograd", lambda: user.Derivative(transforms=False), draws(SAMPLES, 1), draws(SAMPLES, 1, seed=2),
         **FIELD),
    case("graph convolution", user.GraphConvolution, draws(SAMPLES, user.NODES, 2)),
    case("deep sets", user.Set, TOKENS),
    case("equivariant", user.Equivariant, TOKENS, draws(SAMPLES, 4, seed=2), **FIELD),
    # words
    case("words", user.Words, WORDS),
    case("sparse words", lambda: user.Words(sparse=True), WORDS),
    case("embedding bag", lambda: user.Words(bag=True), WORDS),
    # shapes of inputs and outputs
    case("outputs (n,)", lambda: user.Flat(4), None, draws(SAMPLES, seed=2), **FIELD),
    case("inputs (n,)", lambda: user.Flat(1), draws(SAMPLES), draws(SAMPLES, seed=2), **FIELD),
    case("outputs in a dict", lambda: user.Structured("dict")),
    case("outputs in a dataclass", lambda: user.Structured("dataclass")),
    case("outputs in a dict, a loss of one's own", lambda: user.Structured("dict"), loss=of_a_dict, truth=of_a_dict),
    case("outputs in a tuple, a loss of one's own", lambda: user.Structured("tuple"), loss=of_a_tuple,
         truth=of_a_tuple),
    case("inputs in a dict", user.Named, {"left": draws(SAMPLES, 4), "right": draws(SAMPLES, 2, seed=2)}),
    case("two inputs", user.Pair, (draws(SAMPLES, 3), draws(SAMPLES, 2, seed=2))),
    case("a call of one's own", stack(nn.Tanh, 2), {"a": draws(SAMPLES, 4), "b": draws(SAMPLES, 4, seed=2)},
         draws(SAMPLES, 2, seed=3), call=lambda module, batch: module(batch["a"]) - module(batch["b"]), **FIELD),
    # wrappers
    case("compiled", stack(nn.ReLU), wrap=lambda module: torch.compile(module, backend="eager")),
    case("data parallel", stack(nn.ReLU), wrap=lambda module: user.quiet(nn.DataParallel, module)),
    # losses
    case("binary cross-entropy", lambda: user.Flat(4), None, integers(2, SAMPLES).double(),
         loss="binary_cross_entropy"),
    case("binary cross-entropy of many", stack(nn.Tanh, 2), None, integers(2, SAMPLES, 2).double(),
         loss="binary_cross_entropy", model=None),
    case("log-softmax at the end", lambda: nn.Sequential(*stack(nn.ReLU)(), nn.LogSoftmax(1)), loss="nll"),
    case("huber", stack(nn.Tanh, 2), None, 2 * draws(SAMPLES, 2, seed=2), loss="huber"),
    case("a loss of one's own", stack(nn.ReLU, 2), None, draws(SAMPLES, 2, seed=2), loss=quartic, truth=quartic),
    # samples that see one another
    case("centred by hand", user.Centred, tags=["interacts"]),
]  # fmt: skip
BY_NAME = {one.name: one for one in CASES}
