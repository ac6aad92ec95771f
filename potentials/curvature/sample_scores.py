"""Gradients of single samples: layer by layer from one forward pass, or sample by sample where that does not hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.curvature.sample_routes import ROUTES, Directions, SampleRoutes, Whole, first_route
from landscape.potentials.losses import NamedLoss
from landscape.potentials.network.layer_rules import Gradients
from landscape.potentials.network.layout import Slot

if TYPE_CHECKING:
    from landscape.potentials.network.potential import NetworkLoss

__all__ = ["SampleScores", "check_samples_apart", "loss_scores", "route_in_words"]

Part = tuple[Slot, int, Tensor]

CHUNK_BYTES: Final = 3 * 2**27  # what is held of a chunk


class SampleScores:
    """For every sample i and direction k, the gradient J_i^T u_ik in the weights; J_i = d outputs_i / d weights.

    There are three routes, each slower and with less to go wrong than the one before:

    "layer rules"
        Of linear, convolutional and normalising layers the gradient is made from what a layer was given and the slope
        of what it returned, so that all directions share one forward pass and nothing is computed twice.
    "vmap over samples"
        `torch.func` differentiates every sample by itself, many at once.
    "one sample at a time"
        By automatic differentiation, in a loop.

    A route is taken where it is right for a chunk of samples, and where it is not, the next one is taken from there on.
    The rules hold if the weights are used in such layers only, which the graph of every chunk says, and if the rows of
    every layer are the samples, which is tested on every chunk by one backward pass with random weights of the samples.
    What `torch.func` finds is compared with a random combination of the gradients of the whole chunk.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor, shape ``(dim,)``
    directions : callable, optional
        ``directions(outputs (b, ...), rows=...) -> u (K, b, ...)`` for the samples of the slice `rows`. Left out, the
        gradients are those of the samples' losses, of whatever form the module's outputs are, and K = 1.
    chunk_size : int, optional
        Samples at once; by default as many as 384 MiB of slopes and gradients allow.

    Attributes
    ----------
    taken : set of str
        The routes taken so far.

    Raises
    ------
    ConfigError
        Where the samples interact: by batch statistics, or if a sample's outputs are others when it is alone.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(2, 1, bias=False), x, x[:, :1], loss="mse")  # J_i = x_i
    >>> scores = SampleScores(loss, torch.zeros(2), lambda outputs, rows: torch.ones_like(outputs)[None])
    >>> [gradient.tolist() for _, parts in scores.chunks() for slot, direction, gradient in parts]
    [[[1.0, 2.0], [0.0, 3.0]]]
    >>> scores.taken
    {'layer rules'}
    """

    def __init__(
        self,
        loss: NetworkLoss,
        position: Tensor,
        directions: Directions | None = None,
        *,
        chunk_size: int | None = None,
    ) -> None:
        check_samples_apart(loss)
        loss.shards.check_same("positions", position)
        self.loss = loss
        self.taken: set[str] = set()
        self._directions = directions or _ones
        self._routes = SampleRoutes(
            loss,
            loss.layout.unflatten(position.detach()),
            loss.statistics_at(position),
            of_losses=directions is None,
        )
        self._key = (SampleScores, directions is None)
        if self._key in loss.measured:
            self._route, shape, self._once, self._each = loss.measured[self._key]
        else:
            self._route, shape, self._once, self._each, finite = first_route(self._routes)
            if finite:  # else there is little to be learnt for other positions
                loss.measured[self._key] = self._route, shape, self._once, self._each
        count = min(2, len(loss.inputs))
        self._kinds = len(self._directions(position.new_zeros(count, *shape), rows=slice(0, count)))
        self._most = chunk_size

    @property
    def chunk_size(self) -> int:
        """Samples at once on the route that is being taken."""
        own = max(1, len(self.loss.inputs))
        each = self._each if self._route == 0 else self._each + 2 * self.loss.dim
        fitting = max(1, CHUNK_BYTES // (self.loss.dtype.itemsize * max(1, self._once + self._kinds * each)))
        most = min(self._most or min(self.loss.chunk_size or fitting, fitting), own)
        return math.ceil(own / math.ceil(own / most))  # of equal sizes

    def chunks(
        self, slots: Sequence[Slot] | None = None, samples: int | None = None
    ) -> Iterator[tuple[slice, Iterator[Part]]]:
        """Chunk by chunk of this rank's first `samples`: their place, and (parameter, k, gradient ``(b, size)``)."""
        wanted = tuple(self.loss.layout) if slots is None else tuple(slots)
        for rows, found in self._chunks(wanted, len(self.loss.inputs) if samples is None else samples):
            yield (
                rows,
                (
                    (slot, k, gradient * scale.unsqueeze(1))
                    for slot, gradients, scales in found
                    for k, (gradient, scale) in enumerate(zip(gradients.values().unbind(1), scales, strict=True))
                ),
            )

    def squared_norms(self) -> Iterator[tuple[slice, Iterator[tuple[Slot, Tensor]]]]:
        """Chunk by chunk: the samples' place, and (parameter, squared norms of its gradients ``(K, b)``, float64)."""
        for rows, found in self._chunks(tuple(self.loss.layout), len(self.loss.inputs)):
            yield (
                rows,
                (
                    (slot, gradients.squared_norms().T.double() * scales.double().square())
                    for slot, gradients, scales in found
                ),
            )

    def summed_squares(self) -> Iterator[tuple[slice, Iterator[tuple[Slot, Tensor]]]]:
        """Chunk by chunk: the samples' place, and (parameter, squared entries ``(size,)`` summed over all k, float64).

        Of linear layers no gradient is formed: the square of an outer product is that of the squares.
        """
        for rows, found in self._chunks(tuple(self.loss.layout), len(self.loss.inputs)):
            yield rows, ((slot, _summed(gradients, scales)) for slot, gradients, scales in found)

    def _chunks(self, wanted: Sequence[Slot], samples: int) -> Iterator[tuple[slice, Iterator[Whole]]]:
        """Of every chunk (parameter, gradients, what to multiply them by ``(K, b)``)."""
        start = 0
        while start < samples:
            rows = slice(start, min(start + self.chunk_size, samples))
            if not self._kinds:  # as of a softmax over a single class
                yield rows, self._none(rows, wanted)
                start = rows.stop
                continue
            found = self._routes.chunk(self._route, rows, wanted, self._directions)
            if found is None:
                self._route += 1
                if self._key in self.loss.measured:
                    self.loss.measured[self._key] = (self._route, *self.loss.measured[self._key][1:])
                continue
            self.taken.add(ROUTES[self._route])
            yield rows, found
            start = rows.stop

    def _none(self, rows: slice, wanted: Sequence[Slot]) -> Iterator[Whole]:
        """Gradients along no direction."""
        nothing = torch.zeros(0, rows.stop - rows.start, dtype=self.loss.dtype, device=self.loss.device)
        return ((slot, Gradients(nothing.T.unsqueeze(2).expand(-1, -1, slot.size)), nothing) for slot in wanted)


def _summed(gradients: Gradients, scales: Tensor) -> Tensor:
    weights = scales.T.double().square()
    largest = weights.max() if weights.numel() else weights.new_zeros(())
    if largest == 0:
        return weights.new_zeros(gradients.values().shape[2])
    # relative to the largest, so that nothing that counts is below the range of single precision
    return gradients.summed_squares((weights / largest).to(scales.dtype)).double() * largest


def loss_scores(
    loss: NetworkLoss, position: Tensor, targets: Tensor | None = None, *, chunk_size: int | None = None
) -> SampleScores:
    """Gradients of the samples' losses, for one or several sets of targets.

    A loss of known form is differentiated through the slopes in the outputs, which remain accurate where they are next
    to nothing, as at a minimum; one of the user's own as a whole.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor, shape ``(dim,)``
    targets : tensor, shape ``(K, samples, ...)``, optional
        In place of the data's own, for a loss of known form.
    chunk_size : int, optional
        Samples at once.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, 2 * x, loss="mse")  # (w - 2)^2 x^2
    >>> [gradient.tolist() for _, parts in loss_scores(loss, torch.ones(1)).chunks() for _, _, gradient in parts]
    [[[-2.0], [-18.0]]]
    """
    if not isinstance(loss.loss, NamedLoss):
        if targets is not None:
            raise ConfigError("other targets than the data's own need a loss of known form, got a callable")
        return SampleScores(loss, position, chunk_size=chunk_size)
    sets = loss.targets[None] if targets is None else targets

    def directions(outputs: Tensor, rows: slice) -> Tensor:
        """d loss / d outputs of every sample for every set of targets, ``(K, b, ...)``."""
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_(True)
            losses = [loss.losses_of(leaf, loss.inputs[rows], own) for own in sets[:, rows]]
        return torch.stack([torch.autograd.grad(own.sum(), leaf, retain_graph=True)[0] for own in losses])

    return SampleScores(loss, position, directions, chunk_size=chunk_size)


def route_in_words(loss: NetworkLoss, taken: Collection[str]) -> str | None:
    """Routes that were taken on any rank, fastest first: every rank has to ask. None if there is none.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1), torch.ones(2, 1), torch.ones(2, 1), loss="mse")
    >>> route_in_words(loss, {"vmap over samples", "layer rules"})
    'layer rules and vmap over samples'
    """
    anywhere = loss.shards.sum(torch.tensor([float(route in taken) for route in ROUTES], device=loss.device))
    return " and ".join(route for route, count in zip(ROUTES, anywhere.tolist(), strict=True) if count) or None


def _ones(outputs: Tensor, rows: slice) -> Tensor:
    return torch.ones_like(outputs)[None]


def check_samples_apart(loss: NetworkLoss) -> None:
    """Refuse a network whose samples interact.

    Raises
    ------
    ConfigError
    """
    if loss.samples_interact:
        how = 'with batchnorm="batch" the samples interact' if loss.batchnorm == "batch" else "the samples interact"
        advice = ': make the loss with batchnorm="frozen" or "reestimate"' if loss.batchnorm == "batch" else ""
        raise ConfigError(f"{how}, so none has a gradient of its own{advice}")
