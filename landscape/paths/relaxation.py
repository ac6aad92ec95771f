"""What string, elastic band and automated band share: the loop over steps, its record, and the finished path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.boundaries.domain import Domain
from landscape.common.provenance import global_attributes
from landscape.engine.progress import progress_bar
from landscape.errors import NonFiniteError
from landscape.paths.evaluation import Slopes, buffers_at, energies_at
from landscape.paths.history import History
from landscape.paths.path import Path
from landscape.paths.search import Descent, Search
from landscape.paths.straight import check_movable
from landscape.paths.tangents import perpendicular
from landscape.potentials.base import Potential
from landscape.storage.interruption import keeping

__all__ = ["KEPT", "Motion", "check_finite", "finished_path", "one_cycle", "relax"]

KEPT = 200  # iterations of each cycle that are recorded, at most
# (pivots, energies, gradients, progress from 0 to 1) -> minus what the inner pivots step along
Rule = Callable[[Tensor, Tensor, Tensor, float], Tensor]
TangentRule = Callable[[Tensor, Tensor], Tensor]  # (pivots, energies) -> unit tangents at the inner pivots
Spacing = Callable[[Tensor], Tensor]


@dataclass
class Motion:
    """Where a cycle stands.

    Attributes
    ----------
    pivots : tensor, shape ``(P, N)``
    velocity : tensor, shape ``(P - 2, N)``
        Of the inner pivots.
    done : int
        Steps made.
    """

    pivots: Tensor
    velocity: Tensor
    done: int = 0

    @classmethod
    def at_rest(cls, pivots: Tensor) -> Motion:
        """The beginning of a cycle."""
        return cls(pivots, torch.zeros_like(pivots[1:-1]))


def relax(
    slopes: Slopes,
    domain: Domain,
    motion: Motion,
    rule: Rule,
    tangents_of: TangentRule,
    spacing: Spacing,
    descent: Descent,
    *,
    first_step: int,
    history: History,
    report: Callable[[int], None],
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Step the inner pivots along `rule` within the domain, then re-space them; the ends stay.

    `motion` moves on from where it stands, and ends with fewer steps than asked for where all perpendicular gradients
    fell to the tolerance.
    """
    every = max(1, descent.steps // KEPT)
    for done in range(motion.done, descent.steps):
        step, pivots = first_step + done, motion.pivots
        energies, gradients = slopes(pivots, step)
        gradients = domain.inward(pivots, gradients)
        if done % every == 0 or descent.tolerance:
            across = perpendicular(gradients[1:-1], tangents_of(pivots, energies)).norm(dim=-1)
            if done % every == 0:
                check_finite(energies, step)
                history.note(step, energies, across)
                report(step)
            if descent.tolerance and bool((across <= descent.tolerance).all()):
                return
        velocity = descent.momentum * motion.velocity + rule(pivots, energies, gradients, done / descent.steps)
        moved = domain.inside(pivots[1:-1] - float(descent.lr) * velocity)
        motion.pivots = domain.inside(spacing(torch.cat([pivots[:1], moved, pivots[-1:]])))
        motion.velocity, motion.done = velocity, done + 1
        after_step()
    check_finite(motion.pivots, first_step + descent.steps)


def one_cycle(
    search: Search, rule: Rule, tangents_of: TangentRule, spacing: Spacing, *, method: str, **own: Any
) -> Path:
    """The path that `relax` makes of a search at one rate; `own` are the method's settings, for the record.

    An interruption comes with the path that was reached as its attribute `dataset`.
    """
    potential, domain, descent, pivots = search.potential, search.domain, search.descent, search.pivots
    history, motion = History(), Motion.at_rest(domain.inside(spacing(check_movable(pivots))))
    settings = {"pivots": len(pivots)} | descent.spec() | own | domain.spec()

    def reached() -> Path:
        highest = float(energies_at(potential, motion.pivots, descent.pivots_at_once).max())
        history.end_cycle(descent.lr, motion.done, len(pivots), highest)
        return finished_path(potential, motion.pivots, history, method, settings, descent.pivots_at_once)

    with (
        keeping(
            lambda: reached().to_dataset(), lambda: f"interrupted at step {motion.done} of {descent.steps} of the band"
        ),
        progress_bar(descent.steps, method, show=search.progress) as report,
    ):
        relax(
            descent.slopes(potential), domain, motion, rule, tangents_of, spacing, descent, first_step=0,
            history=history, report=report,
        )  # fmt: skip
    return reached()


def finished_path(
    potential: Potential,
    pivots: Tensor,
    history: History,
    method: str,
    settings: dict[str, Any],
    pivots_at_once: int | None,
) -> Path:
    """The path with what is stored beside it: energies on all data, buffers, history and specification."""
    spec = {"task": "connect", "potential": potential.spec(), "method": method, "settings": settings}
    attributes = global_attributes(f"path by {method} on {type(potential).__name__}", spec)
    policy = getattr(potential, "batchnorm", None)
    if policy is not None:
        attributes["batchnorm"] = policy
    return Path(
        pivots,
        energies=energies_at(potential, pivots, pivots_at_once),
        buffers=buffers_at(potential, pivots),
        names=potential.coordinates,
        history=history.dataset(),
        attributes=attributes,
    )


def check_finite(values: Tensor, step: int) -> None:
    """Refuse energies ``(P,)`` or pivots ``(P, N)`` that are no longer finite.

    Raises
    ------
    NonFiniteError
    """
    good = torch.isfinite(values).reshape(len(values), -1).all(-1)
    if not bool(good.all()):
        raise NonFiniteError(
            f"pivot {int(torch.nonzero(~good)[0])} is no longer finite at step {step}: lower lr, which is stable below "
            "2/(largest curvature)",
            step=step,
        )
