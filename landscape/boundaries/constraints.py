"""Walls and periods: where coordinates, or the weights of a network, may go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from landscape.boundaries.walls import PERIODIC, REFLECT, Level, Walls
from landscape.common.arguments import guarded_class
from landscape.common.codec import Described, plain
from landscape.errors import ConfigError
from landscape.potentials.base import Potential, check_pair
from landscape.potentials.expression.scalar_field import Coordinate, scalar_field

__all__ = ["Absorb", "Constraint", "Periodic", "Reflect", "listed", "resolve_walls"]


@guarded_class
@dataclass(frozen=True, slots=True)
class Reflect(Described):
    """Reflecting boundaries: a coordinate that steps over one is mirrored back.

    Parameters
    ----------
    walls : mapping of coordinate name to (low, high)
        None leaves a side open. Of a network the names are those of parameters, each for all its entries, or patterns
        of them: ``{"0.weight": (-1, 1), "*.bias": (None, 2)}``; so for `Periodic` and `Absorb`.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> box = ls.Reflect({"x": (0.0, 1.0)})
    >>> run = ls.simulate(flat, ls.Diffusion(dt=1.0), temperature=1.0, start=[0.5], steps=100, constraint=box)
    >>> bool((run.position >= 0).all() and (run.position <= 1).all())
    True
    """

    walls: Mapping[str, tuple[float | None, float | None]]


@guarded_class
@dataclass(frozen=True, slots=True)
class Periodic(Described):
    """Periodic coordinates, kept in [low, high).

    A run keeps how often each chain went round, ``last_winding (chain, coordinate)``: the observable ``"unwrapped"`` is
    the position without the wrapping, and the distance from the start, `Moments` and `Autocorrelation` are of that.
    An energy that differs across the seam acts as a force (a tilted washboard); `MALA`, `HMC` and `replica_exchange`,
    which compare energies, refuse it.

    Parameters
    ----------
    periods : mapping of coordinate name to (low, high)

    Examples
    --------
    >>> import landscape as ls
    >>> pendulum = ls.potentials.Expression("1 - cos(phi)", ["phi"])
    >>> circle = ls.Periodic({"phi": (-3.141592653589793, 3.141592653589793)})
    >>> run = ls.simulate(pendulum, ls.EulerMaruyama(dt=0.1), temperature=10.0, steps=100, constraint=circle)
    >>> bool((abs(run.position) <= 3.1416).all())
    True

    A tilted washboard runs downhill, far beyond one period:

    >>> tilted = ls.potentials.Expression("cos(phi) - 2*phi", ["phi"])
    >>> run = ls.simulate(tilted, ls.EulerMaruyama(dt=0.1), temperature=0.1, steps=200, constraint=circle,
    ...                   record=ls.Record(200, ["position", "unwrapped"]))
    >>> bool(run.unwrapped[0, -1, 0] > 20), bool(abs(run.position[0, -1, 0]) <= 3.1416)
    (True, True)
    """

    periods: Mapping[str, tuple[float, float]]


@guarded_class
@dataclass(frozen=True, slots=True)
class Absorb(Described):
    """Walls at which a chain leaves for good: it stays where it crossed, and the run says when.

    Crossings between two steps count too: where both ends are inside, at distances d1 and d2 from the boundary, a
    Brownian path has crossed it with probability exp(-d1 d2/(T dt)), and the chain leaves with that probability.
    Without the test, a boundary would be found late, as if it stood 0.5826 sqrt(2 T dt) further out. There is no such
    test where the path is not Brownian: for `BAOAB`, `HMC`, optimisers and colored noise, nor for `LeimkuhlerMatthews`,
    whose positions lag the Brownian path by half a step.

    A coordinate may reflect on one side and absorb on the other, and keeps the mirror of the potential's bounds on a
    side that is None here. A path by way of the mirror counts too: unfolded, it leaves by the mirror image of the
    absorbing boundary. Of several boundaries in one step it is the one that the path meets first, at a time drawn from
    the law of the Brownian path between the two ends of the step: with density proportional to t^(-3/2) (1 - t)^(-1/2)
    exp[-d1^2/(4 T dt t) - d2^2/(4 T dt (1 - t))] in the share t of the step. Between two boundaries of one coordinate
    (or a boundary and its image, at twice the distance of the mirror) a step s = sqrt(2 T dt) longer than a sixth of
    their distance L is divided first. Free diffusion out of a box therefore leaves by the right boundary at the right
    time whatever the step; with a force the error is that of the step. Coordinates without boundaries are where the
    path is at that time; those with boundaries are held between them. Boundaries of coordinates whose noise is
    correlated (`CovarianceNoise`) are met as if it were not.

    Where there is no test the path is taken as straight, and the mean exit time is late: measured for free diffusion
    from the middle by 2.3 s/L (3.7 s/L for `LeimkuhlerMatthews`). The run warns where that is more than 2 %, at s >
    0.007 L (`BAOAB`: sqrt(T) dt > 0.02 L), and so does a certificate.

    **Boundaries that are no boxes** are levels of a function q of position: chains leave where q > `above`, or q
    < `below`. The same test is made along the normal n = grad q/|grad q|, with the distances

        d = |c - q| / |grad q|

    of both ends of the step from the level c, and the variance s^2 = 2 T dt of the noise along n. Within reach of a
    level d is solved for along n, q(x + d n) = c, so that a curved boundary is met as a flat one: free diffusion out of
    a disk, a ball in three dimensions and an annulus has mean times and shares within 0.3 % at s = R/5 and s = 0.3 R (R
    the radius of curvature; the first order of d would be off by s^2/R^2), 2 % at s = 0.45 R in the plane, 6 % in
    space. With a force the error is that of the step. The run warns where the normal turns by more than a third over a
    step (s sqrt(d - 1) > R/3 of a sphere), and where two levels are closer than 6 s: lower dt. A region beyond a level
    that is thinner than a step may be stepped over. The gradient of q must not vanish on the level. A chain that left
    is put on the level. On the batched backend; costs two values and gradients of q a step, and eight more values of
    chains that are near.

    The run gains ``exit_time (chain)``, NaN for chains that stayed, ``exit_side (chain)`` (-1 low or below, 1 high or
    above, 0 stayed) and ``exit_coordinate (chain)``, the coordinate or q as it was given.

    Parameters
    ----------
    walls : mapping of coordinate name to (low, high); or name, formula, vector, callable or Potential
        None leaves a side open. Anything but a mapping is q(x), as for `Restrain`; a callable takes ``(..., dim)`` to
        ``(...)`` and can be differentiated by torch. A Potential makes levels of its energy.
    above, below : float, optional
        Levels of q.

    Raises
    ------
    ConfigError
        If q is given without a level, levels with a mapping, or `below` is not less than `above`.

    References
    ----------
    Michael, Schucany, Haas, "Generating random variates using transformations with multiple roots", The American
    Statistician 30, 88 (1976).
    Gobet, "Weak approximation of killed diffusion using Euler schemes", Stoch. Proc. Appl. 87, 167 (2000).
    Broadie, Glasserman, Kou, "A continuity correction for discrete barrier options", Math. Finance 7, 325 (1997) (the
    constant 0.5826).

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> ends = ls.Absorb({"x": (-1.0, 1.0)})
    >>> run = ls.simulate(flat, ls.Diffusion(dt=0.01), temperature=1.0, chains=2000, steps=1000, constraint=ends,
    ...                   record=ls.Record(1000))
    >>> abs(float(run.exit_time.mean()) - 0.5) < 0.05  # L^2/(2 T)
    True

    Out of a disk:

    >>> plane = ls.potentials.Expression("0*x", ["x", "y"])
    >>> run = ls.simulate(plane, ls.Diffusion(dt=0.01), temperature=1.0, chains=2000, steps=300,
    ...                   constraint=ls.Absorb("x**2 + y**2", above=1.0), record=ls.Record(300))
    >>> abs(float(run.exit_time.mean()) - 0.25) < 0.02  # R^2/(2 d T)
    True
    """

    walls: Mapping[str, tuple[float | None, float | None]] | Coordinate
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        """Refuse levels of nothing, and functions without a level."""
        given = [one for one in (self.above, self.below) if one is not None]
        if isinstance(self.walls, Mapping):
            if given:
                raise ConfigError("above and below are levels of a function: give its formula or a callable as walls")
            return
        if not given:
            raise ConfigError("Absorb of a function needs a level: give above, below or both")
        if any(isinstance(one, bool) or not isinstance(one, Real) or not math.isfinite(one) for one in given):
            raise ConfigError(f"above and below must be finite numbers, got {self.above!r} and {self.below!r}")
        if len(given) == 2 and not self.below < self.above:  # type: ignore[operator]
            raise ConfigError(f"below = {self.below} must be less than above = {self.above}: chains live between them")


Constraint: TypeAlias = Reflect | Periodic | Absorb


def listed(given: Any) -> list[Any]:
    """The constraints of a run, of which there may be one, several or none."""
    return [] if given is None else list(given) if isinstance(given, Sequence) else [given]


def resolve_walls(potential: Potential, constraint: Constraint | Sequence[Constraint] | None) -> Walls:
    """Walls of a run: those named by constraints, and the potential's bounds for every other coordinate.

    Absorbing boundaries replace the bounds on their own side only; ``Reflect({name: (None, None)})`` opens both.

    Raises
    ------
    ConfigError
        For unknown coordinates, a coordinate named twice, or a constraint of another kind.
    """
    constraints = [constraint] if isinstance(constraint, Constraint) else list(() if constraint is None else constraint)
    dim = potential.dim
    kinds = np.zeros(dim, np.int64)
    lows, highs, exit_lows, exit_highs = (np.full(dim, sign * np.inf) for sign in (-1, 1, -1, 1))
    named: set[int] = set()
    levels: list[Level] = []
    for one in constraints:
        if not isinstance(one, Constraint):
            raise ConfigError(f"a constraint must be Reflect, Periodic or Absorb, got {type(one).__name__}")
        if isinstance(one, Absorb) and not isinstance(one.walls, Mapping):
            levels.append(_level(potential, one))
            continue
        for d, low, high in _sides_of(one, potential):
            name = potential.coordinate_name(d)
            sides = [(lows, exit_lows, low), (highs, exit_highs, high)]
            taken = any(np.isfinite([fold[d], leave[d]]).any() and np.isfinite(side) for fold, leave, side in sides)
            if taken or kinds[d] == PERIODIC or (isinstance(one, Periodic) and d in named):
                raise ConfigError(f"coordinate {name!r} has two constraints on the same side: give it one")
            if isinstance(one, Periodic) and not np.isfinite([low, high]).all():
                raise ConfigError(f"the period of {name!r} must be finite, got ({low}, {high})")
            if isinstance(one, Absorb):
                exit_lows[d], exit_highs[d] = max(exit_lows[d], low), min(exit_highs[d], high)
                continue
            named.add(d)
            if np.isfinite([low, high]).any():
                kinds[d] = PERIODIC if isinstance(one, Periodic) else REFLECT
                lows[d], highs[d] = max(lows[d], low), min(highs[d], high)
    for name, (low, high) in potential.bounds.items():
        d = potential.coordinate_index(name)
        low = -np.inf if np.isfinite(exit_lows[d]) else low
        high = np.inf if np.isfinite(exit_highs[d]) else high
        if d not in named and np.isfinite([low, high]).any():
            kinds[d], lows[d], highs[d] = REFLECT, low, high
    return Walls(kinds, lows, highs, exit_lows, exit_highs, tuple(levels))


def _sides_of(one: Constraint, potential: Potential) -> Iterator[tuple[int, float, float]]:
    """Number and both sides of every coordinate that a constraint names.

    Raises
    ------
    ConfigError
    """
    pairs: Any = one.periods if isinstance(one, Periodic) else one.walls
    if not isinstance(pairs, Mapping):
        raise ConfigError(f"{type(one).__name__} must map names to pairs (low, high), got {pairs!r}")
    for name, pair in pairs.items():
        low, high = check_pair(name, pair)
        for d in potential.coordinate_indices(name):
            yield d, low, high


def _level(potential: Potential, one: Absorb) -> Level:
    given: Any = one.walls
    if isinstance(given, int | np.integer):
        name = potential.coordinate_name(potential.coordinate_index(int(given)))
    else:
        told = plain(given)
        name = str(told["name"].rpartition(":")[2] if isinstance(told, dict) and "name" in told else told)
    below, above = (-np.inf if one.below is None else one.below), (np.inf if one.above is None else one.above)
    return Level(scalar_field(potential, given), float(below), float(above), name)
