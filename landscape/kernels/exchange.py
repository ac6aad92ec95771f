"""Chains at neighbouring temperatures that exchange their configurations between the steps of a compiled loop."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from numba import uint64

from landscape import random
from landscape.integrators.compiled_rule import Stage
from landscape.kernels import formula, metropolis
from landscape.kernels.compilation import exact, exact_inline, exact_inner
from landscape.kernels.formula import run_block
from landscape.kernels.metropolis import run_metropolis
from landscape.kernels.philox import fill_words, uniform
from landscape.kernels.tape import execute, exponential
from landscape.kernels.update import with_stage

__all__ = ["loop_of", "run_exchanging"]

_SWAP = random.SWAP


@exact_inner
def _energies(n, dim, registers, code, library, scratch):  # type: ignore[no-untyped-def]
    """Run the tape of the energy at the present positions."""
    for d in range(dim):
        for i in range(n):
            scratch[d, i] = registers[d, i]
    execute(n, code, library, scratch)


@exact_inner
def _slopes(n, code, library, registers):  # type: ignore[no-untyped-def]
    execute(n, code, library, registers)


@exact_inline
def _pair(start, stride, k):  # type: ignore[no-untyped-def]
    """Chains of a pair, as unsigned numbers: others are tested for being counted from the end."""
    return uint64(start + stride * k), uint64(start + stride * k + 1)


@exact_inner
def _choose(m, start, stride, odd, energy, scratch, gaps, words, chance, taken):  # type: ignore[no-untyped-def]
    """Whether each chain of those from `start` is to exchange with the next: u < exp(gap (V - V of the next))."""
    for k in range(m):
        i, j = _pair(start, stride, k)
        chance[k] = gaps[odd, i] * (scratch[energy, i] - scratch[energy, j])
    for k in range(m):
        taken[k] = uniform(words, k) < exponential(chance[k])


@exact_inline
def _trade(m, start, stride, taken, rows, d):  # type: ignore[no-untyped-def]
    """Exchange elements of a row with the next where it is `taken`; without branches, which would be mispredicted."""
    for k in range(m):
        i, j = _pair(start, stride, k)
        here, there = rows[d, i], rows[d, j]
        rows[d, i], rows[d, j] = (there, here) if taken[k] else (here, there)


@exact_inner
def _trade_momenta(m, start, stride, taken, dim, registers, outputs, momenta):  # type: ignore[no-untyped-def]
    """The same for what the rule remembers, as of the time of the position and scaled to the other's chain."""
    first, ahead, scale = momenta
    for d in range(dim):
        slope = outputs[d]
        for k in range(m):
            if taken[k]:
                i, j = _pair(start, stride, k)
                here, there = registers[slope, i], registers[slope, j]
                mine, other = first[d, i] - ahead[i] * here, first[d, j] - ahead[j] * there
                first[d, i] = other * (scale[i] / scale[j]) + ahead[i] * there
                first[d, j] = mine * (scale[j] / scale[i]) + ahead[j] * here


@exact_inner
def _swap(n, dim, program, registers, seed, chain, step, number, ladder, tape, momenta, winding, counts):  # type: ignore[no-untyped-def]
    """Try to exchange every second pair of neighbours, the even ones at even `number`s: see `run_exchanging`."""
    (rungs, gaps), (code, library, outputs, scratch, words, chance, taken) = ladder, tape
    walker, made, last_end, half_trips = counts
    odd = number % 2
    # in ladders of an even length the first of each pair are every second chain of all
    start, stride = (0, 1) if rungs % 2 else (odd, 2)
    m = (n - start) // stride if stride == 2 else n - 1
    _energies(n, dim, registers, code, library, scratch)
    fill_words(words, seed, _SWAP, chain + start, step, 0, stride, 0, 0)
    _choose(m, start, stride, odd, outputs[0], scratch, gaps, words, chance, taken)
    if momenta is not None:
        _slopes(n, program[0], program[1], registers)
        _trade_momenta(m, start, stride, taken, dim, registers, program[2], momenta)
    for d in range(dim):
        _trade(m, start, stride, taken, registers, d)
    if winding is not None:
        for d in range(dim):
            _trade(m, start, stride, taken, winding, d)
    _trade(m, start, stride, taken, walker, 0)
    for k in range(m):
        made[_pair(start, stride, k)[0]] += taken[k]
    _count_trips(n, rungs, number, chain, walker, last_end, half_trips)


@exact_inner
def _count_trips(n, rungs, number, chain, walker, last_end, half_trips):  # type: ignore[no-untyped-def]
    """Note who is at the ends of each ladder, if that may have changed."""
    for end in range(2):
        at = (rungs - 1) * end
        if number > 0 and (at - end) % 2 != number % 2:
            continue
        for bottom in range(0, n, rungs):
            one = walker[0, bottom + at] - chain
            half_trips[one] += last_end[one] == 1 - end
            last_end[one] = end


@partial(exact, _nrt=False)
def run_exchanging(  # type: ignore[no-untyped-def]
    flow, proposals, when, records, system, rounds, ladder, tape, momenta, winding, counts, draws
):
    """Advance a block of whole ladders by `steps`, with exchanges of neighbours in between.

    The steps are those of the loops that are there without: what a call of them leaves, the next goes on with.

    Parameters
    ----------
    flow : two tuples, or None
        Arguments of `formula.run_block` before `when` and after `records`.
    proposals : tuple, or None
        Those of `metropolis.run_metropolis` before `when`, if these are the steps.
    when, records
        As there.
    system : (dim, program, registers, seed)
        Some of these arguments.
    rounds : (every, number, last)
        Exchanges come after each `every` steps, counted from step 0; the number of those made; whether there is one
        after the last step.
    ladder : (rungs, gaps)
        Chains of a ladder; ``gaps (2, n)`` are 1/T of each chain less that of the next for the first of the even and of
        the odd pairs, NaN for other chains.
    tape : (instructions, library, outputs, registers, words, chance, taken)
        That of the energy with its registers ``(r, n)``; scratch ``(4, k)``, and ``(k,)`` twice, the last of integers,
        of `k` = n elements or half as many where `rungs` is even.
    momenta : (first, half_kick, scale) or None
        The rule's memory ``(dim, n)``; of each chain, by how many gradients it is ahead and what it is a multiple of.
    winding : array ``(dim, n)`` or None
        Periods that go along.
    counts : (walker, made, last_end, half_trips)
        Who each chain holds ``(1, n)``; exchanges with the next that were made ``(n,)``; of each walker, numbered from
        the first chain, the end seen last and the ways across ``(n,)``.
    draws : (every, walkers)
        Whenever so many steps were made, the walkers are kept in ``walkers (n, draws)``, before they are exchanged.
    """
    (chain, first_step, steps), (cadences, (origin, since), kept) = when, records
    (every, number, last), (often, walkers) = rounds, draws
    n, done, draw = walkers.shape[0], 0, 0
    while done < steps or last:
        piece = min(every - (first_step + done) % every, steps - done)
        if piece > 0:
            now, to_keep = (chain, first_step + done, piece), (cadences, (origin, since + done), kept)
            # what is None is not compiled, hence two arguments of which one is
            if flow is not None:
                run_block(*flow[0], now, to_keep, *flow[1])
            if proposals is not None:
                run_metropolis(*proposals, now, to_keep)
            for _ in range((since + done + piece) // often - (since + done) // often):
                for i in range(n):
                    walkers[i, draw] = counts[0][0, i]
                draw += 1
            done += piece
        if done == steps and not last:
            break
        _swap(n, *system, chain, first_step + done, number, ladder, tape, momenta, winding, counts)
        number += 1
        last = last and done < steps


@cache
def loop_of(stage: Stage, proposes: bool) -> Any:
    """`run_exchanging` for the rule of a stage."""
    if proposes:
        return with_stage(run_exchanging, stage, run_metropolis=metropolis.loop_of(stage))
    return with_stage(run_exchanging, stage, run_block=formula.loop_of(stage))
