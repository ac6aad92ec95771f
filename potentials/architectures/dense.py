"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Generator, Tensor, nn

from landscape.checks import one_of, true_or_false, whole_number
from landscape.errors import ConfigError
from landscape.potentials.architectures.building import architecture, build

__all__ = ["mlp"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
_INITIALISERS: dict[str, Callable[..., Tensor]] = {
    "xavier_normal": nn.init.xavier_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "orthogonal": nn.init.orthogonal_,
}


@architecture
def mlp(
    sizes: Sequence[int],
    *,
    activation: str = "relu",
    bias: bool = True,
    init: str = "xavier_normal",
    seed: int = 0,
) -> nn.Sequential:
    """A fully connected network, W_L s(W_(L-1) ... s(W_1 x + b_1) ...) + b_L, with no activation after the last layer.

    It has sum_l n_(l-1) n_l weights and sum_l n_l biases. Initial biases are 0, and weights are N(0, 2/(n_in + n_out))
    with ``init="xavier_normal"``, N(0, 2/n_in) with ``"kaiming_normal"``; the uniform ones have the same variances.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of units of each hidden layer, and of outputs.
    activation : str
        ``"relu"``, ``"tanh"``, ``"gelu"``, ``"silu"``, ``"softplus"`` or ``"identity"`` (a deep linear network).
    bias : bool
        Whether the layers have biases.
    init : str
        ``"xavier_normal"``, ``"xavier_uniform"``, ``"kaiming_normal"``, ``"kaiming_uniform"`` or ``"orthogonal"``.

    Returns
    -------
    torch.nn.Sequential
        Linear and activation layers in turn, float32, on the CPU.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise: their network is ``mlp((10, 20, 20, 10, 3))``.

    Examples
    --------
    >>> sum(p.numel() for p in mlp((10, 20, 20, 10, 3)).parameters())
    883
    """
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise ConfigError(f"sizes = {sizes!r} is not a sequence of two numbers or more: give (inputs, ..., outputs)")
    widths = [whole_number(f"sizes[{i}]", size) for i, size in enumerate(sizes)]
    one_of("activation", activation, _ACTIVATIONS)
    one_of("init", init, _INITIALISERS)
    true_or_false("bias", bias)

    def make() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=bias), _ACTIVATIONS[activation]()]
        return nn.Sequential(*layers[:-1])

    def initialise(module: nn.Module, generator: Generator) -> None:
        # the Kaiming rules of torch default to the gain of a leaky ReLU; sqrt(2) is that of a ReLU
        extra: dict[str, Any] = {"nonlinearity": "relu"} if init.startswith("kaiming") else {}
        for part in module.modules():
            if isinstance(part, nn.Linear):
                _INITIALISERS[init](part.weight, generator=generator, **extra)
                if bias:
                    nn.init.zeros_(part.bias)

    described = {"kind": "mlp", "sizes": widths, "activation": activation, "bias": bias, "init": init}
    return build(make, initialise, seed=seed, architecture=described)
