"""Curves between two minima whose control points are trained on their mean energy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.engine.progress import progress_bar
from landscape.paths.evaluation import energies_at
from landscape.paths.history import History
from landscape.paths.path import Path
from landscape.paths.relaxation import KEPT, check_finite, finished_path
from landscape.paths.search import CurveSettings, Search, begin_search, with_settings
from landscape.paths.straight import path_given
from landscape.potentials.base import Potential
from landscape.storage.interruption import keeping

__all__ = ["bezier", "polychain"]

Basis = Callable[[Tensor], Tensor]  # t (B,) -> weights of the control points (B, bends + 2)


@guarded
@with_settings(CurveSettings)
def bezier(
    potential: Potential,
    start: Any,
    end: Any = None,
    *,
    bends: int = 1,
    pivots: int = 17,
    steps: int,
    lr: float,
    points: int = 1,
    **settings: Unpack[CurveSettings],
) -> Path:
    """A Bezier curve between two minima with the lowest mean energy [1]_.

    c(t) = sum_j B_j(t) c_j,  B_j(t) = binom(n, j) t^j (1 - t)^(n - j),  n = bends + 1

    The inner control points follow the gradient of the mean of V(c(t)) over t in [0, 1], at one t ~ U[0, 1] for each
    minibatch: c_j <- c_j - lr B_j(t) grad V(c(t)). Weight decay of the loss acts on the weights c(t). The rate is `lr`
    in the first half of the steps and falls linearly to 0 in the second.

    Parameters
    ----------
    potential : Potential
    start, end : tensor or array ``(dim,)``, or a minimum or run of one chain as a Dataset
        Two minima, which stay; or a Path for both, of which only the ends count.
    bends : int
        Inner control points; they begin on the straight line.
    pivots : int
        Pivots of the result, three or more, at even t.
    steps : int
    lr : float
    points : int
        Values of t in each step; all see the step's minibatch.
    momentum : float
        Heavy ball.
    seed : int
        Of t and of the minibatches.
    pivots_at_once : int, optional
        Points evaluated as one batch.
    end_tolerance : float
        A gradient at an end longer than this is warned of.
    constraint : Reflect, Periodic, or a sequence of them
        Boundaries and periods, as for `string`. The curve within boundaries is c(t) with each coordinate cut off at
        them.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.

    Returns
    -------
    Path
        With `energies`, `buffers` and `history`; its pivots lie on the curve, and `.spline` follows it. An interruption
        comes with the curve that was reached as its attribute `dataset`.

    Raises
    ------
    ConfigError, ShapeError, NonFiniteError

    Notes
    -----
    Costs `points` gradients a step. The mean over t is not the mean over arc length, and a low mean may hide a barrier.

    References
    ----------
    .. [1] Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), Loss Surfaces, Mode Connectivity, and Fast Ensembling
       of DNNs.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2 + 4*(y - 1 + x**2)**2", ["x", "y"])
    >>> path = bezier(well, [-1.0, 0.0], [1.0, 0.0], steps=500, lr=0.1, points=4)
    >>> round(float(path.highest(well)[1]), 1)  # the parabola of the valley's floor is a Bezier curve
    1.0
    """
    whole_number("bends", bends)
    whole_number("pivots", pivots, least=3)
    search = _begin(potential, start, end, steps, lr, settings)
    t = torch.linspace(0, 1, pivots, dtype=torch.float64)[1:-1]

    def along(control: Tensor) -> Tensor:
        inner = search.domain.inside(_bernstein(bends + 1)(t.to(control.device)).to(control.dtype) @ control)
        return torch.cat([control[:1], inner, control[-1:]])

    return _train(search, _bernstein(bends + 1), bends, points, "bezier", along)


@guarded
@with_settings(CurveSettings)
def polychain(
    potential: Potential,
    start: Any,
    end: Any = None,
    *,
    bends: int = 1,
    steps: int,
    lr: float,
    points: int = 1,
    **settings: Unpack[CurveSettings],
) -> Path:
    """A chain of straight segments between two minima with the lowest mean energy.

    As `bezier`, with hat functions instead of Bernstein polynomials: c(t) runs through all control points, at even t,
    and they are the pivots of the result.

    Returns
    -------
    Path

    Raises
    ------
    ConfigError, ShapeError, NonFiniteError

    References
    ----------
    Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), Loss Surfaces, Mode Connectivity, and Fast Ensembling of
    DNNs.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2 + 4*(y - 1 + x**2)**2", ["x", "y"])
    >>> path = polychain(well, [-1.0, 0.0], [1.0, 0.0], bends=3, steps=500, lr=0.1, points=4)
    >>> len(path), bool(path.highest(well)[1] < 1.5)  # 5 on the straight line
    (5, True)
    """
    whole_number("bends", bends)
    search = _begin(potential, start, end, steps, lr, settings)
    return _train(search, _hats(bends + 1), bends, points, "polychain", lambda control: control)


def _begin(potential: Potential, start: Any, end: Any, steps: int, lr: float, settings: CurveSettings) -> Search:
    pivots = 2 if path_given(start) is None else None
    return begin_search(potential, start, end, pivots, steps, lr, settings, CurveSettings)


def _train(
    search: Search, basis: Basis, bends: int, points: int, method: str, along: Callable[[Tensor], Tensor]
) -> Path:
    """The curve whose control points have the lowest mean energy; `along` gives the pivots of the result."""
    whole_number("points", points)
    potential, domain, descent, ends = search.potential, search.domain, search.descent, search.pivots
    steps = descent.steps
    t = torch.linspace(0, 1, bends + 2, dtype=ends.dtype, device=ends.device)[:, None]
    control = torch.lerp(ends[0].expand(bends + 2, -1), ends[-1].expand(bends + 2, -1), t)
    slopes = descent.slopes(potential)
    generator = torch.Generator("cpu").manual_seed(descent.seed % 2**63)
    times = torch.rand(steps, points, generator=generator, dtype=torch.float64).to(ends.device)
    velocity, history = torch.zeros_like(control[1:-1]), History()
    settings, step = descent.spec() | {"bends": bends, "points": points} | domain.spec(), 0

    def reached(done: int) -> Path:
        pivots = along(control)
        highest = float(energies_at(potential, pivots, descent.pivots_at_once).max())
        history.end_cycle(descent.lr, done, len(pivots), highest)
        return finished_path(potential, pivots, history, method, settings, descent.pivots_at_once)

    with (
        keeping(lambda: reached(step).to_dataset(), lambda: f"interrupted at step {step} of {steps} of the curve"),
        progress_bar(steps, method, show=search.progress) as report,
    ):
        for step in range(steps):
            weights = basis(times[step]).to(control.dtype)
            curve = weights @ control
            energies, gradients = slopes(domain.inside(curve), step)
            gradients = domain.inward(curve, gradients)
            if step % max(1, steps // KEPT) == 0:
                check_finite(energies, step)
                history.note(step, energies)
                report(step)
            velocity = descent.momentum * velocity + weights[:, 1:-1].T @ gradients / points
            rate = descent.lr * min(1.0, 2.0 * (1.0 - step / steps))
            moved = control[1:-1] - rate * velocity
            # a chain is its control points; a Bezier curve that stays within boundaries may need some beyond them
            control = torch.cat([control[:1], domain.inside(moved) if method == "polychain" else moved, control[-1:]])
    return reached(steps)


def _bernstein(degree: int) -> Basis:
    def weights(t: Tensor) -> Tensor:
        terms = [math.comb(degree, j) * t**j * (1 - t) ** (degree - j) for j in range(degree + 1)]
        return torch.stack(terms, dim=1)

    return weights


def _hats(segments: int) -> Basis:
    def weights(t: Tensor) -> Tensor:
        nodes = torch.arange(segments + 1, dtype=t.dtype, device=t.device)
        return (1 - (t[:, None] * segments - nodes).abs()).clamp(min=0.0)

    return weights
