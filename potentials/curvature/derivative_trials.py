"""Whether what torch differentiates is the whole of a user's function: a trial against differences of its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.network.modes import plain_modes
from landscape.potentials.network.module_trials import undisturbed

__all__ = ["check_derivative"]

STEP: Final = 1e-3  # of the differences: long enough for functions that compute in float32
AGREE: Final = 1e-3  # of differences over one and two steps, else they say nothing: kinks, noise, rounding
WRONG: Final = 1e-2


def check_derivative(energy: Callable[[Tensor], Tensor], points: Tensor) -> None:
    """Refuse a function of which torch sees a part only, as behind `detach`, `.data`, `no_grad` or NumPy.

    At every point where central differences over h and h/2 agree to a thousandth the slope along one direction has to
    be that of the differences to a hundredth; a function is refused if it is so at none of two or more.

    Parameters
    ----------
    energy : callable
        ``(n, dim)`` to ``(n,)``. One that raises is left alone: its own error comes when it is used.
    points : float64 tensor ``(n, dim)``

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> points = torch.tensor([[0.3, 0.5], [0.7, 0.2]], dtype=torch.float64)
    >>> check_derivative(lambda x: x.square().sum(-1), points)
    >>> check_derivative(lambda x: x.detach()[..., 0] ** 2 + x[..., 1] ** 2, points)
    Traceback (most recent call last):
    ...
    landscape.errors.ConfigError: torch does not see all of the energy: along a line through [0.3, 0.5] it rises by \
1 a unit, by its derivative 0.475. What is behind detach, .data or torch.no_grad has no force: leave it out of that, \
or give Function(..., gradient=...)
    """
    direction = torch.cos(torch.arange(points.shape[1], dtype=points.dtype))
    direction = direction / direction.norm()
    try:
        with plain_modes(), undisturbed(), torch.enable_grad():
            at = points.clone().requires_grad_(True)
            values = energy(at)
            if values.shape != points.shape[:1] or not values.requires_grad:
                return
            (slope,) = torch.autograd.grad(values.sum(), at, allow_unused=True)
            far, near = (
                (energy(points + h * direction) - energy(points - h * direction)).detach().double() / (2.0 * h)
                for h in (STEP, STEP / 2)
            )
    except Exception:  # whatever a function raises
        return
    along = torch.zeros_like(near) if slope is None else (slope.double() @ direction)
    scale = torch.maximum(near.abs(), along.abs())
    telling = ((far - near).abs() <= AGREE * scale) & torch.isfinite(along) & (scale > 0)
    wrong = telling & ((near - along).abs() > WRONG * scale)
    if int(wrong.sum()) >= 2 and bool((wrong == telling).all()):
        first = int(wrong.nonzero()[0])
        place = [round(float(one), 4) for one in points[first, :4]]
        rise, seen = float(near[first]), float(along[first])
        raise ConfigError(
            f"torch does not see all of the energy: along a line through {place} it rises by {rise:.3g} a "
            f"unit, by its derivative {seen:.3g}. What is behind detach, .data or torch.no_grad has no "
            "force: leave it out of that, or give Function(..., gradient=...)"
        )
