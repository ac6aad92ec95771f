"""Tangents of a band of images, and the forces across and along it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from landscape.paths.curve import Curve

__all__ = ["improved_tangents", "perpendicular", "spline_tangents"]


def improved_tangents(pivots: Tensor, energies: Tensor) -> Tensor:
    """Unit tangents at the inner pivots by the rule of Henkelman and Jonsson [1]_.

    With d+ = p_{i+1} - p_i and d- = p_i - p_{i-1}: d+ where the energy rises along the path, d- where it falls, and at
    an extremum d+ D+ + d- D-, where D+ is the larger of |V_{i+1} - V_i| and |V_{i-1} - V_i| if V_{i+1} > V_{i-1} and
    the smaller if not, and D- is the other.

    Parameters
    ----------
    pivots : tensor, shape ``(P, N)``
    energies : tensor, shape ``(P,)``

    Returns
    -------
    tensor, shape ``(P - 2, N)``

    References
    ----------
    .. [1] Henkelman, Jonsson (2000), J. Chem. Phys. 113, 9978, eqs. 8 to 11.

    Examples
    --------
    >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> improved_tangents(corner, torch.tensor([0.0, 1.0, 2.0])).tolist()  # uphill: towards the next
    [[0.0, 1.0]]
    """
    steps = pivots.diff(dim=0)
    before, here, after = energies[:-2], energies[1:-1], energies[2:]
    ahead, behind = (after - here).abs(), (before - here).abs()
    larger, smaller = torch.maximum(ahead, behind), torch.minimum(ahead, behind)
    forward = torch.where(after > before, larger, smaller)
    backward = torch.where(after > before, smaller, larger)
    rising, falling = (after > here) & (here > before), (after < here) & (here < before)
    flat = (ahead == 0) & (behind == 0)
    one, none = torch.ones_like(forward), torch.zeros_like(forward)
    forward = torch.where(rising | flat, one, torch.where(falling, none, forward)).to(pivots.dtype)
    backward = torch.where(falling | flat, one, torch.where(rising, none, backward)).to(pivots.dtype)
    # scaled by the larger weight, so that energies of any size neither overflow nor vanish
    scale = torch.maximum(forward, backward)
    tangents = (forward / scale)[:, None] * steps[1:] + (backward / scale)[:, None] * steps[:-1]
    return functional.normalize(tangents, dim=-1)


def spline_tangents(pivots: Tensor, energies: Tensor) -> Tensor:
    """Unit tangents of the spline at the inner pivots, ``(P - 2, N)``; the energies do not enter.

    Examples
    --------
    >>> bend = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> bool(torch.isclose(spline_tangents(bend, torch.zeros(3)), torch.tensor(0.5).sqrt()).all())
    True
    """
    curve = Curve(pivots, spline=True)
    tangents = curve.weights(curve.knots[1:-1], 1).to(pivots.dtype) @ pivots
    return functional.normalize(tangents, dim=-1)


def perpendicular(gradients: Tensor, tangents: Tensor) -> Tensor:
    """Gradients ``(P, N)`` without their component along the unit tangents."""
    return gradients - (gradients * tangents).sum(-1, keepdim=True) * tangents
