"""The automated nudged elastic band: few pivots, more where the path needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final, Unpack

import torch
from torch import Tensor

from landscape.boundaries.domain import Domain
from landscape.checks import finite_number, whole_number
from landscape.common.arguments import guarded
from landscape.common.notices import warn
from landscape.engine.progress import progress_bar
from landscape.errors import ConfigError
from landscape.paths.band_checkpoint import BandState
from landscape.paths.convergence import why_not_converged
from landscape.paths.curve import chord_knots, respace
from landscape.paths.evaluation import energies_at
from landscape.paths.history import History
from landscape.paths.path import Path
from landscape.paths.relaxation import Motion, Spacing, finished_path, relax
from landscape.paths.search import Descent, SharedSettings, begin_search, with_settings
from landscape.paths.straight import path_given
from landscape.paths.tangents import improved_tangents, perpendicular
from landscape.potentials.base import Potential
from landscape.storage.files import path_of
from landscape.storage.interruption import Cadence, Interruption, told

__all__ = ["CYCLES", "auto_neb", "cycles_of", "rate_and_steps"]

Cycles = Sequence[tuple[float, int | str]]
# Di Carlo, Goddard, Schwab (2026), appendix: learning rate and length of each cycle.
CYCLES: Final = ((0.1, "10 epochs"), (0.05, "5 epochs"), (0.01, "5 epochs"), (0.001, "5 epochs"))
# An epoch of all data at once is one step: their rates, and the thousand steps of a cycle of Draxler et al. (2018).
FULL_BATCH_CYCLES: Final = ((0.1, 1000), (0.05, 500), (0.01, 500), (0.001, 500))
FIRST_PIVOTS: Final = 3  # between the ends, in the first cycle
BETWEEN: Final = 9  # points of the dense evaluation in each segment


@guarded
@with_settings(SharedSettings)
def auto_neb(
    potential: Potential,
    start: Any,
    end: Any = None,
    *,
    cycles: Cycles | None = None,
    insert: int = 2,
    threshold: float = 0.1,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    **settings: Unpack[SharedSettings],
) -> Path:
    """A low path between two minima by AutoNEB [1]_: a band with infinitely stiff springs that grows where it must.

    Each cycle: (1) insert pivots: three evenly spaced ones in the first cycle, later one in each of at most `insert`
    segments, at the worst of nine inner points, if its score

        [V(point) - linear interpolation of V between the segment's ends] / (range of V over the pivots)

    exceeds `threshold`; the segment's share of the path length splits in the ratio of the insertion. (2) A new
    optimiser. (3) In each step the pivots move along the polyline to their shares of its length, and then down the
    gradient without its component along the improved tangent. (4) Evaluate the polyline on all data. The cycle whose
    highest evaluated point is lowest is returned.

    Parameters
    ----------
    potential : Potential
    start, end : tensor or array ``(dim,)``, or a minimum or run of one chain as a Dataset
        Two minima, which stay. A Path as `start` stands for both; with more than two pivots it is where the band
        begins, as after a first cycle.
    cycles : sequence of (lr, length)
        Length in steps, or as ``"5 epochs"`` (of one step where the potential has no minibatches). By default those of
        Di Carlo, Goddard, Schwab (2026), for networks: 10, 5, 5 and 5 epochs at rates 0.1, 0.05, 0.01 and 0.001;
        without minibatches 1000, 500, 500 and 500 steps.
    insert : int
        Segments that get a pivot in one cycle, at most.
    threshold : float
        On the score.
    momentum, tolerance, seed, own_batches, pivots_at_once, end_tolerance, constraint, progress
        As for `string`; `tolerance` ends a cycle.
    checkpoint : path ending in ``.nc``, optional
        Written after every cycle and inside them. Where it is there already, of a search with the same settings and
        ends, that goes on to the same bits as if it had not been interrupted.
    checkpoint_every : int, optional
        Steps from one writing to the next; by default a minute, or longer where that would take more than a twentieth
        of the time.

    Returns
    -------
    Path
        A polyline with `energies` on all data, `buffers` and `history` (with the highest energy after each cycle, and
        whether the path has `converged`).

    Raises
    ------
    ConfigError, ShapeError, NonFiniteError
    CheckpointError
        If `checkpoint` holds another search.

    Warns
    -----
    UserWarning
        If the path has not come to rest: its last cycle lowered the highest energy by more than a twentieth of the
        scale of energies, or a pivot could still fall across the path by more than a fiftieth of it (a five-hundredth,
        where the path is more than ten times as high as its ends): |g|^2/(2 k), with k the curvature along the
        perpendicular gradient g. The scale is the barrier on the straight line, at least the path's own and at most
        ten times it. What falls slowly along a narrow valley is not seen.

    Notes
    -----
    Costs one gradient per pivot and step, 10 energies on all data per segment and cycle, and two gradients on all data
    per pivot in the end.

    References
    ----------
    .. [1] Draxler, Veschgini, Salmhofer, Hamprecht (2018), Essentially No Barriers in Neural Network Energy Landscape.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2 + 4*(y - 1 + x**2)**2", ["x", "y"])  # saddle at (0, 1), V = 1
    >>> path = auto_neb(well, [-1.0, 0.0], [1.0, 0.0], cycles=[(0.02, 200)] * 4)
    >>> round(path.highest(well)[1], 3), ls.paths.straight_line([-1.0, 0.0], [1.0, 0.0]).highest(well)[1]
    (1.0, 5.0)
    """
    rates = [rate_and_steps(potential, one) for one in cycles_of(potential, cycles)]
    if not rates:
        raise ConfigError("auto_neb needs at least one cycle (lr, steps)")
    whole_number("insert", insert, least=0)
    finite_number("threshold", threshold, least=0.0)
    if checkpoint_every is not None:
        whole_number("checkpoint_every", checkpoint_every)
    pivots = 2 if path_given(start) is None else None
    search = begin_search(potential, start, end, pivots, rates[0][1], rates[0][0], settings)
    domain, ends, pivots_at_once = search.domain, search.pivots, search.descent.pivots_at_once
    schedule = [replace(search.descent, lr=lr, steps=steps) for lr, steps in rates]
    recorded = {"insert": insert, "threshold": threshold} | search.descent.spec()
    del recorded["lr"], recorded["steps"]
    recorded |= {"cycles": [[one.lr, one.steps] for one in schedule]} | domain.spec()
    checkpoint = None if checkpoint is None else path_of(checkpoint)
    if checkpoint is not None and checkpoint.exists():
        band = BandState.load(checkpoint, recorded, ends)
    else:
        knots = chord_knots(ends)
        band = BandState(Motion.at_rest(ends), False, knots.diff() / knots[-1], ends, History())
    total, interruption = sum(one.steps for one in schedule), Interruption(at_once=checkpoint is None)
    cadence = Cadence(
        lambda: None if checkpoint is None else band.save(checkpoint, recorded), checkpoint_every, interruption
    )

    def way_on(_: str) -> str:
        made = band.history.steps + (band.motion.done if band.moving else 0)
        kept = "nothing is kept without `checkpoint`" if checkpoint is None else "the same call goes on"
        return f"interrupted at step {made} of {total} of the band; {kept}"

    with (
        told(way_on),
        progress_bar(total, "automated band", show=search.progress) as report,
        nullcontext() if checkpoint is None else interruption,
    ):
        for descent in schedule[band.history.cycles :]:
            _cycle(
                potential, domain, band, descent, insert=insert, threshold=threshold, report=report, after_step=cadence
            )
            cadence.now()
    why = why_not_converged(potential, domain, band.best, band.history, pivots_at_once)
    band.history.converged = why is None
    if why is not None:
        warn(
            f"auto_neb has not converged: {why}. Give more or longer cycles, such as cycles=[(lr, 2000)] * 4, or raise "
            "lr in the first ones"
        )
    return finished_path(potential, band.best, band.history, "auto_neb", recorded, pivots_at_once)


def _cycle(
    potential: Potential,
    domain: Domain,
    band: BandState,
    descent: Descent,
    *,
    insert: int,
    threshold: float,
    report: Callable[[int], None],
    after_step: Callable[[], None],
) -> None:
    """Insert pivots, relax them, evaluate the path, keep it if it is the best."""
    if not band.moving:
        band.shares = _grown(potential, band, descent, insert=insert, threshold=threshold)
        band.motion = Motion.at_rest(_at_shares(band.shares)(band.motion.pivots))
        band.moving = True
    relax(
        descent.slopes(potential), domain, band.motion, _across, improved_tangents, _at_shares(band.shares), descent,
        first_step=band.history.steps, history=band.history, report=report, after_step=after_step,
    )  # fmt: skip
    pivots = band.motion.pivots
    band.dense = _dense(potential, pivots, descent.pivots_at_once)
    highest = float(band.dense.max())
    if highest <= band.history.lowest:
        band.best = pivots
    band.history.end_cycle(descent.lr, band.motion.done, len(pivots), highest)
    band.moving = False


def _grown(potential: Potential, band: BandState, descent: Descent, *, insert: int, threshold: float) -> Tensor:
    """Shares of the path length of the cycle that begins."""
    if len(band.motion.pivots) == 2:
        return torch.full((FIRST_PIVOTS + 1,), 1 / (FIRST_PIVOTS + 1)).to(band.shares)
    dense = _dense(potential, band.motion.pivots, descent.pivots_at_once) if band.dense is None else band.dense
    return split_shares(band.shares, dense, insert=insert, threshold=threshold)


def split_shares(shares: Tensor, dense: Tensor, *, insert: int, threshold: float) -> Tensor:
    """Shares of the path length after the insertion of pivots.

    Parameters
    ----------
    shares : tensor, shape ``(segments,)``
        Adding up to 1.
    dense : tensor, shape ``(segments, points + 2)``
        Energies at evenly spaced points of each segment, its ends first and last.

    Returns
    -------
    tensor, shape ``(segments + insertions,)``

    Examples
    --------
    >>> bumpy = torch.tensor([[0.0, 0.0, 1.0], [1.0, 9.0, 3.0]])  # one point inside each segment
    >>> split_shares(torch.tensor([0.5, 0.5]), bumpy, insert=1, threshold=0.1).tolist()
    [0.5, 0.25, 0.25]
    """
    pivots = torch.cat([dense[:, 0], dense[-1:, -1]])
    spread = pivots.max() - pivots.min()
    t = torch.linspace(0, 1, dense.shape[1], dtype=dense.dtype, device=dense.device)
    chords = torch.lerp(dense[:, :1].expand_as(dense), dense[:, -1:].expand_as(dense), t)
    score, worst = ((dense - chords)[:, 1:-1] / spread).nan_to_num(0.0).max(dim=1)
    chosen = {int(i) for i in score.topk(min(insert, len(score))).indices if float(score[i]) > threshold}
    parts: list[Tensor] = []
    for i, share in enumerate(shares):
        cut = share * t[worst[i] + 1].to(share.dtype)
        parts += [cut, share - cut] if i in chosen else [share]
    return torch.stack(parts)


def _at_shares(shares: Tensor) -> Spacing:
    fractions = torch.cat([shares.new_zeros(1), shares.cumsum(0)])
    return lambda pivots: respace(pivots, fractions, spline=False)


def _across(pivots: Tensor, energies: Tensor, gradients: Tensor, progress: float) -> Tensor:
    return perpendicular(gradients[1:-1], improved_tangents(pivots, energies))


def _dense(potential: Potential, pivots: Tensor, pivots_at_once: int | None) -> Tensor:
    """Energies on all data of each segment's ends and inner points, ``(segments, BETWEEN + 2)``."""
    t = torch.arange(BETWEEN + 1, dtype=pivots.dtype, device=pivots.device) / (BETWEEN + 1)
    points = (pivots[:-1, None] + t[:, None] * pivots.diff(dim=0)[:, None]).flatten(0, 1)
    energy = energies_at(potential, torch.cat([points, pivots[-1:]]), pivots_at_once)
    return torch.cat([energy[:-1].view(-1, BETWEEN + 1), energy[BETWEEN + 1 :: BETWEEN + 1, None]], dim=1)


def cycles_of(potential: Potential, cycles: Cycles | None) -> Cycles:
    """The cycles that are given, or the default ones: epochs where the potential has minibatches, steps where not."""
    if cycles is not None:
        return cycles
    return FULL_BATCH_CYCLES if potential.sampler is None else CYCLES


def rate_and_steps(potential: Potential, cycle: tuple[float, int | str]) -> tuple[float, int]:
    """The rate of a cycle and its length in steps.

    Raises
    ------
    ConfigError
    """
    try:
        lr, length = cycle
    except (TypeError, ValueError):
        raise ConfigError(f'a cycle is (lr, steps) or (lr, "5 epochs"), got {cycle!r}') from None
    if not isinstance(length, str):
        return lr, length
    count, _, unit = length.partition(" ")
    if unit not in ("epoch", "epochs") or not count.isdigit():
        raise ConfigError(f'the length of a cycle is a number of steps or "5 epochs", got {length!r}')
    sampler = potential.sampler
    return lr, int(count) * (1 if sampler is None else sampler.steps_per_epoch)
