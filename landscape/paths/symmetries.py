"""Which axes of which parameters can be permuted together without changing the function of a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from landscape.errors import ConfigError
from landscape.potentials.architectures.plain import PlainNetwork
from landscape.potentials.architectures.residual import BasicBlock, PadShortcut, ResidualNetwork
from landscape.potentials.architectures.wide import WideBlock, WideNetwork

__all__ = ["Symmetries", "symmetries_of"]

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Identity)
Axis = tuple[str, ...]  # groups of units whose concatenation is the axis


@dataclass
class Symmetries:
    """Groups of interchangeable units and where they are met.

    Attributes
    ----------
    sizes : dict of str to int
        Units of each group.
    axes : dict of str to dict of int to tuple of str
        For a parameter or buffer: which groups, one after another, make up its axis 0 or 1. Axes that are not named
        are fixed.
    blocks : dict of str to list of int
        Sizes of blocks, rising, that a permutation of the group has to keep together: those of group normalisations.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    axes: dict[str, dict[int, Axis]] = field(default_factory=dict)
    blocks: dict[str, list[int]] = field(default_factory=dict)

    def group(self, name: str, size: int) -> Axis:
        """A new group, as an axis of its own."""
        self.sizes[name] = size
        return (name,)

    def layer(self, name: str, module: nn.Module, inputs: Axis, outputs: Axis) -> None:
        """A linear layer or convolution: weights (out, in, ...), biases (out,)."""
        self.axes[f"{name}.weight"] = {axis: groups for axis, groups in ((0, outputs), (1, inputs)) if groups}
        if getattr(module, "bias", None) is not None and outputs:
            self.axes[f"{name}.bias"] = {0: outputs}

    def norm(self, name: str, module: nn.Module, units: Axis) -> None:
        """A normalisation: everything that it has one of per channel (nothing, where there is none)."""
        for part in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, part, None) is not None:
                self.axes[f"{name}.{part}"] = {0: units}
        if isinstance(module, nn.GroupNorm):
            together = module.num_channels // module.num_groups
            for group in units:
                if together < self.sizes[group] and together > 1:
                    self.blocks[group] = sorted({*self.blocks.get(group, []), together})


def symmetries_of(module: nn.Module) -> Symmetries:
    """Permutation symmetries of the architectures whose units are known.

    Raises
    ------
    ConfigError
        For another module.
    """
    if isinstance(module, ResidualNetwork):
        return _residual(module)
    if isinstance(module, WideNetwork):
        return _wide(module)
    if isinstance(module, PlainNetwork):
        found = Symmetries()
        last = _chain(found, "features.", module.features.named_children(), last=False)
        found.layer("classifier", module.classifier, last, ())
        return found
    if isinstance(module, nn.Sequential) and all(
        isinstance(part, (nn.Linear, nn.Flatten, *ELEMENTWISE)) for part in module
    ):
        found = Symmetries()
        _chain(found, "", module.named_children(), last=True)
        return found
    raise ConfigError(
        f"the interchangeable units of {type(module).__name__} are not known: align takes networks of mlp, vgg, "
        "resnet_cifar and wide_resnet, and Sequentials of linear layers and elementwise activations"
    )


def _chain(found: Symmetries, prefix: str, layers: Iterable[tuple[str, nn.Module]], *, last: bool) -> Axis:
    """Layers one after another, each with hidden units of its own (but for the last's outputs, if it is the `last`)."""
    named = [(prefix + name, layer) for name, layer in layers]
    weighty = [name for name, layer in named if isinstance(layer, nn.Linear | nn.Conv2d)]
    axis: Axis = ()
    for name, layer in named:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            outputs = () if last and name == weighty[-1] else found.group(name, len(layer.weight))
            found.layer(name, layer, axis, outputs)
            axis = outputs
        else:
            found.norm(name, layer, axis)
    return axis


def _residual(module: ResidualNetwork) -> Symmetries:
    found = Symmetries()
    stream = found.group("stream", module.conv.out_channels)
    found.layer("conv", module.conv, (), stream)
    found.norm("norm", module.norm, stream)
    for name, block in _blocks(module.blocks, BasicBlock):
        hidden = found.group(name, block.conv1.out_channels)
        found.layer(f"{name}.conv1", block.conv1, stream, hidden)
        found.norm(f"{name}.norm1", block.norm1, hidden)
        if isinstance(block.shortcut, PadShortcut):
            # the old channels go on in their places and new ones join them
            stream = (*stream, *found.group(f"{name}.stream", block.shortcut.extra)) if block.shortcut.extra else stream
        elif isinstance(block.shortcut, nn.Sequential):
            before, stream = stream, found.group(f"{name}.stream", block.conv2.out_channels)
            found.layer(f"{name}.shortcut.0", block.shortcut[0], before, stream)
            found.norm(f"{name}.shortcut.1", block.shortcut[1], stream)
        found.layer(f"{name}.conv2", block.conv2, hidden, stream)
        found.norm(f"{name}.norm2", block.norm2, stream)
    found.layer("classifier", module.classifier, stream, ())
    return found


def _wide(module: WideNetwork) -> Symmetries:
    found = Symmetries()
    stream = found.group("stream", module.conv.out_channels)
    found.layer("conv", module.conv, (), stream)
    for name, block in _blocks(module.blocks, WideBlock):
        found.norm(f"{name}.norm1", block.norm1, stream)
        hidden = found.group(name, block.conv1.out_channels)
        found.layer(f"{name}.conv1", block.conv1, stream, hidden)
        found.norm(f"{name}.norm2", block.norm2, hidden)
        if block.changes_shape:
            before, stream = stream, found.group(f"{name}.stream", block.conv2.out_channels)
            found.layer(f"{name}.projection", block.projection, before, stream)
        found.layer(f"{name}.conv2", block.conv2, hidden, stream)
    found.norm("norm", module.norm, stream)
    found.layer("classifier", module.classifier, stream, ())
    return found


def _blocks(parts: nn.Sequential, kind: type[Any]) -> Iterable[tuple[str, Any]]:
    return ((f"blocks.{name}", part) for name, part in parts.named_children() if isinstance(part, kind))
