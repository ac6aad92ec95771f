"""Networks of fewer than a thousand weights, with their curvature from dense automatic differentiation."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from landscape.potentials import NetworkLoss, architectures

SAMPLES = 11


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Tied(nn.Module):
    """A decoder that is the transpose of the encoder, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(4, 3)
        self.twice = nn.Linear(3, 3)
        self.read = nn.Linear(4, 3)

    def forward(self, inputs):
        hidden = self.twice(torch.relu(self.twice(torch.relu(self.encode(inputs)))))
        return self.read(torch.relu(functional.linear(hidden, self.encode.weight.T)))


class Block(nn.Module):
    """A transformer block of the stock layers: attention, LayerNorm, GELU."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True)
        self.read = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.read(self.block(self.embed(inputs)).mean(1))


def convnet(activation, *norm):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), *norm, activation(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), activation(),
        nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A module, the shape of its samples, and settings of its loss."""

    make: object
    shape: tuple = (4,)
    settings: dict = field(default_factory=dict)

    def loss(self, *, dtype=torch.float64, samples=SAMPLES, seed=2, **settings):
        """The landscape at weights N(0, 0.5^2), with running statistics that are not trivial."""
        module = self.make().double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            for name, buffer in module.named_buffers():
                if buffer.is_floating_point():
                    noise = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
                    buffer.copy_(0.5 + noise if "var" in name else 0.3 * noise)
        settings = {**self.settings, **settings}
        if settings.get("loss") == "mse":
            targets = draws(samples, 3, seed=5)
        else:
            targets = torch.randint(3, (samples,), generator=torch.Generator().manual_seed(1))
        return NetworkLoss(module, draws(samples, *self.shape), targets, dtype=dtype, **settings)


NETWORKS = {
    "mlp relu": Network(lambda: architectures.mlp([4, 6, 5, 3])),
    "mlp relu mse": Network(lambda: architectures.mlp([4, 6, 5, 3]), settings={"loss": "mse"}),
    "mlp tanh": Network(lambda: architectures.mlp([4, 6, 5, 3], activation="tanh")),
    "mlp tanh mse": Network(lambda: architectures.mlp([4, 6, 5, 3], activation="tanh"), settings={"loss": "mse"}),
    "mlp gelu": Network(lambda: architectures.mlp([4, 6, 5, 3], activation="gelu")),
    "linear": Network(lambda: architectures.mlp([4, 3])),
    "convnet": Network(lambda: convnet(nn.ReLU), (1, 6, 6)),
    "convnet tanh": Network(lambda: convnet(nn.Tanh), (1, 6, 6)),
    "convnet batch norm": Network(
        lambda: convnet(nn.ReLU, nn.BatchNorm2d(4)), (1, 6, 6), settings={"batchnorm": "frozen"}
    ),
    "convnet group norm": Network(lambda: convnet(nn.ReLU, nn.GroupNorm(2, 4)), (1, 6, 6)),
    "convnet batch norm mse": Network(
        lambda: convnet(nn.ReLU, nn.BatchNorm2d(4)), (1, 6, 6), settings={"batchnorm": "frozen", "loss": "mse"}
    ),
    "layer norm": Network(lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))),
    "residual": Network(
        lambda: architectures.resnet_cifar(8, width=1, classes=3), (3, 8, 8), settings={"batchnorm": "frozen"}
    ),
    "tied": Network(Tied),
    "transformer": Network(Block, (5, 3)),
}
# Piecewise linear in every single weight, with a softmax or squared error on top.
EXACT = (
    "mlp relu", "mlp relu mse", "linear", "convnet", "convnet batch norm", "convnet batch norm mse", "residual",
)  # fmt: skip


def dense_gradient(loss, position):
    """Gradient by torch, in one piece."""
    leaf = position.detach().clone().requires_grad_(True)
    return torch.autograd.grad(mean_loss(loss, leaf), leaf, create_graph=True)[0], leaf


def mean_loss(loss, vector):
    outputs = loss._outputs(vector, loss.inputs, loss.statistics_at(vector))
    if loss.loss.name == "cross_entropy":
        value = functional.cross_entropy(outputs, loss.targets)
    else:
        value = functional.mse_loss(outputs, loss.targets)
    return value + 0.5 * loss.weight_decay * vector.square().sum()


def dense_hessian(loss, position):
    """Hessian by torch, row by row, reverse mode over reverse mode."""
    gradient, leaf = dense_gradient(loss, position)
    rows = [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in gradient]
    return torch.stack(rows)


def difference_hessian(loss, position, step=1e-5):
    """Columns of the Hessian by central differences of the gradient."""
    axes = step * torch.eye(loss.dim, dtype=position.dtype)
    columns = [(loss.gradient(position + e) - loss.gradient(position - e)) / (2 * step) for e in axes]
    return torch.stack(columns, dim=1)


def jacobian(loss, position):
    """d outputs / d weights ``(samples, outputs, dim)`` and the outputs."""
    leaf = position.detach().clone().requires_grad_(True)
    outputs = loss._outputs(leaf, loss.inputs, loss.statistics_at(position))
    rows = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in outputs.flatten()]
    return torch.stack(rows).reshape(*outputs.shape, -1), outputs.detach()


def dense_gauss_newton(loss, position):
    """mean_i J_i^T (d^2 loss / d outputs^2) J_i, without weight decay."""
    jac, outputs = jacobian(loss, position)
    if loss.loss.name == "cross_entropy":
        p = outputs.softmax(1)
        middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    else:
        middle = (2.0 / outputs.shape[1] * torch.eye(outputs.shape[1], dtype=outputs.dtype)).expand(
            len(outputs), -1, -1
        )
    return torch.einsum("nai,nab,nbj->ij", jac, middle, jac) / len(outputs)
