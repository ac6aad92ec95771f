"""Walls and periods: where coordinates, or the weights of a network, may go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape import random
from landscape.arguments import guarded_class
from landscape.codec import Described, plain
from landscape.errors import ConfigError
from landscape.potentials.base import Potential, check_pair
from landscape.potentials.scalar_field import Coordinate, scalar_field

__all__ = ["Absorb", "Constraint", "Level", "Periodic", "Reflect", "Walls", "resolve_walls", "seam_rises"]

OPEN, REFLECT, PERIODIC = range(3)
TURNS, NEWTON = 8, 12  # points on a level where its curvature is looked at, and the steps onto it
FEW = 32  # coordinates, which are folded one by one
SEAM_SHARE = 1e-3  # of T, by which the energy may differ between the ends of a period: the law is off by as much


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


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A function of position whose levels absorb, an open side infinite, and what an exit by it is called."""

    field: Potential
    below: float
    above: float
    name: str

    @property
    def ends(self) -> list[tuple[int, float]]:
        """(0, below) and (1, above), those that there are."""
        return [(k, c) for k, c in enumerate((self.below, self.above)) if np.isfinite(c)]

    def width(self, position: Tensor) -> float:
        """Least distance between two levels as it is at some positions, infinite where there is one."""
        slope = self.field.gradient(position).norm(dim=-1)
        return float(((self.above - self.below) / slope[slope > 0]).min()) if bool((slope > 0).any()) else np.inf

    def turn(self, position: Tensor, way: float) -> float:
        """By how much the normal turns over a way along the level near some positions, at most; s/R of a circle.

        In d dimensions it is the root mean square of d - 1 ways: s sqrt(d - 1)/R of a sphere.
        """
        shifts = random.normals(0, torch.arange(2 * TURNS), 0, position.shape[1], precision="float64").to(position)
        most = 0.0
        for _, c in self.ends:
            point = position[torch.arange(TURNS) % len(position)] + way * shifts[:TURNS]
            for _ in range(NEWTON):
                q, slope = self.field.energy(point), self.field.gradient(point)
                point = point + ((c - q) / slope.square().sum(dim=-1).clamp_min(1e-30))[:, None] * slope
            q, slope = self.field.energy(point), self.field.gradient(point)
            steep = slope.norm(dim=-1, keepdim=True)
            normal = slope / steep.clamp_min(1e-30)
            tangent = shifts[TURNS:] - (shifts[TURNS:] * normal).sum(-1, keepdim=True) * normal
            tangent = tangent * (way / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-30))
            change = self.field.gradient(point + tangent) - self.field.gradient(point - tangent)
            turns = (change * tangent).sum(-1).abs() / (2.0 * way * steep[:, 0].clamp_min(1e-30))
            there = (q - c).abs() < 1e-3 * (1.0 + abs(c))
            if bool(there.any()) and position.shape[1] > 1:
                most = max(most, float(turns[there].median()) * (position.shape[1] - 1) ** 0.5)
        return most


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """Walls of every coordinate as arrays ``(dim,)``: what folds it back, and where chains leave.

    Attributes
    ----------
    kinds, lows, highs : arrays
        OPEN, REFLECT or PERIODIC, and its two sides; an open side is infinite.
    exit_lows, exit_highs : arrays
        Absorbing boundaries, infinite where there are none.
    levels : tuple of Level
        Functions of which levels absorb.
    """

    kinds: NDArray[np.int64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    exit_lows: NDArray[np.float64]
    exit_highs: NDArray[np.float64]
    levels: tuple[Level, ...] = ()

    @property
    def any(self) -> bool:
        """Whether any coordinate has boundaries."""
        return self.folds or self.absorbs

    @property
    def folds(self) -> bool:
        """Whether any coordinate is mirrored or periodic."""
        return bool(self.kinds.any())

    @property
    def mirrors(self) -> bool:
        """Whether there are reflecting boundaries."""
        return bool((self.kinds == REFLECT).any())

    @property
    def absorbs(self) -> bool:
        """Whether chains may leave."""
        return bool(self.levels or np.isfinite(self.exit_lows).any() or np.isfinite(self.exit_highs).any())

    @property
    def winds(self) -> bool:
        """Whether any coordinate is periodic."""
        return bool((self.kinds == PERIODIC).any())

    @property
    def periods(self) -> NDArray[np.float64]:
        """Length of the period of each coordinate, 0 of those that have none."""
        periodic = self.kinds == PERIODIC
        return np.subtract(self.highs, self.lows, out=np.zeros(len(self.kinds)), where=periodic)

    @property
    def exits(self) -> NDArray[np.float64]:
        """Where chains leave, ``(3, 2, dim)``, on the low and the high side of each coordinate.

        The boundary on the unfolded path (infinite where there is none), where a chain then stays, and the side of the
        absorbing boundary. A mirror opposite to an absorbing boundary shows its image, by which paths leave that have
        been to the mirror.
        """
        absorbing = np.stack([self.exit_lows, self.exit_highs])
        walls, stays = absorbing.copy(), absorbing.copy()
        sides = np.repeat([[-1.0], [1.0]], len(self.kinds), axis=1)
        for side, mirror in enumerate((self.lows, self.highs)):
            opposite = absorbing[1 - side]
            shown = (self.kinds == REFLECT) & np.isfinite(mirror) & np.isfinite(opposite)
            walls[side, shown] = 2.0 * mirror[shown] - opposite[shown]
            stays[side, shown], sides[side, shown] = opposite[shown], -sides[side, shown]
        return np.stack([walls, stays, sides])

    def exit_name(self, number: int, potential: Potential) -> str:
        """What an exit by the boundary of a number is called: coordinates from 1, then levels; nothing at 0."""
        dim = len(self.kinds)
        if number > dim:
            return self.levels[number - dim - 1].name
        return potential.coordinate_name(number - 1) if number else ""

    def exit_number(self, name: str, potential: Potential) -> int:
        """The number of a boundary by its name."""
        names = [level.name for level in self.levels]
        if name in names:
            return len(self.kinds) + 1 + names.index(name)
        return potential.coordinate_index(name) + 1 if name else 0

    @property
    def exit_widths(self) -> NDArray[np.float64]:
        """Distance between the two boundaries (or their images) at which chains leave, infinite where there is one."""
        low, high = self.exits[0]
        return np.asarray(high - low)

    @property
    def free(self) -> NDArray[np.int64]:
        """Numbers of the coordinates without any boundary."""
        exits = np.isfinite(self.exit_lows) | np.isfinite(self.exit_highs)
        return np.flatnonzero((self.kinds == OPEN) & ~exits)

    def apply(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Positions folded back, and where a coordinate was mirrored an odd number of times; both ``(..., dim)``."""
        if len(self.kinds) > FEW:
            return self._apply_to_many(position)
        columns = list(position.unbind(-1))
        mirrored = [torch.zeros_like(column, dtype=torch.bool) for column in columns]
        for d in np.flatnonzero(self.kinds):
            low, high = float(self.lows[d]), float(self.highs[d])
            if self.kinds[d] == REFLECT:
                columns[d], mirrored[d] = _reflect(columns[d], low, high)
            elif self.kinds[d] == PERIODIC:
                columns[d] = _wrap(columns[d], low, high)
        return torch.stack(columns, dim=-1), torch.stack(mirrored, dim=-1)

    def _apply_to_many(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """`apply` for all coordinates of a kind at once."""
        position, mirrored = position.clone(), torch.zeros_like(position, dtype=torch.bool)
        for kind in (REFLECT, PERIODIC):
            (chosen,) = np.nonzero(self.kinds == kind)
            for open_sides in np.unique(self._open_sides[chosen]):
                some = torch.as_tensor(chosen[self._open_sides[chosen] == open_sides], device=position.device)
                low, high = (torch.as_tensor(side).to(position)[some] for side in (self.lows, self.highs))
                x = position[..., some]
                if kind == REFLECT:
                    position[..., some], mirrored[..., some] = _reflect(x, low, high)
                else:
                    position[..., some] = _wrap(x, low, high)
        return position, mirrored

    @property
    def _open_sides(self) -> NDArray[np.int64]:
        """For each coordinate 1 where its low side is open, plus 2 where its high side is."""
        return np.asarray(np.isinf(self.lows) + 2 * np.isinf(self.highs), dtype=np.int64)

    def turns(self, position: Tensor) -> Tensor:
        """Periods by which `apply` moves the coordinates ``(..., dim)``, whole numbers in float64."""
        counts = torch.zeros_like(position, dtype=torch.float64)
        for d in np.flatnonzero(self.kinds == PERIODIC):
            low, high = float(self.lows[d]), float(self.highs[d])
            x = position[..., d]
            counts[..., d] = torch.where((x >= low) & (x < high), 0.0, ((x - low) / (high - low)).floor()).double()
        return counts

    def outside(self, position: NDArray[Any]) -> NDArray[np.bool_]:
        """Where coordinates lie beyond a reflecting or absorbing boundary, same shape."""
        beyond: NDArray[np.bool_] = (self.kinds == REFLECT) & ((position < self.lows) | (position > self.highs))
        return beyond | (position < self.exit_lows) | (position > self.exit_highs)

    def escaped(self, position: Tensor) -> tuple[int, str] | None:
        """The first of positions ``(chains, dim)`` that is not between the levels, and why."""
        for level in self.levels:
            q = level.field.energy(position)
            low, high = (c - 1e-6 * (1.0 + abs(c)) * side for side, c in ((1, level.below), (-1, level.above)))
            gone = torch.nonzero(~((q >= low) & (q <= high)))  # who has left before rests on the level, to rounding
            if len(gone):
                chain = int(gone[0])
                return chain, f"{level.name} = {float(q[chain]):g}, beyond ({level.below:g}, {level.above:g})"
        return None

    def beyond(self, position: Tensor) -> Tensor:
        """Which positions ``(..., dim)`` lie beyond a reflecting boundary, ``(...)``."""
        beyond = torch.zeros_like(position[..., 0], dtype=torch.bool)
        for d in np.flatnonzero(self.kinds == REFLECT):
            beyond |= (position[..., d] < float(self.lows[d])) | (position[..., d] > float(self.highs[d]))
        return beyond


def _open(side: float | Tensor) -> bool:
    """Whether there is no boundary on a side, which is open for all coordinates or for none."""
    return bool(torch.isinf(side).any()) if isinstance(side, Tensor) else bool(np.isinf(side))


def _reflect(x: Tensor, low: float | Tensor, high: float | Tensor) -> tuple[Tensor, Tensor]:
    if _open(low):
        return torch.where(x > high, high - (x - high), x), x > high
    if _open(high):
        return torch.where(x < low, low + (low - x), x), x < low
    width = high - low
    y = (x - low) / (2.0 * width)
    y = (y - y.floor()) * (2.0 * width)
    outside, odd = (x < low) | (x > high), y > width
    return torch.where(outside, low + torch.where(odd, 2.0 * width - y, y), x), outside & odd


def _wrap(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    y = (x - low) / (high - low)
    return torch.where((x >= low) & (x < high), x, low + (y - y.floor()) * (high - low))


def seam_rises(potential: Potential, walls: Walls, position: Tensor) -> dict[int, Tensor]:
    """V at the low end of each period less V at its high end, by coordinate, for the others as in ``(n, dim)``."""
    rises = {}
    for d in np.flatnonzero(walls.kinds == PERIODIC):
        ends = []
        for end in (walls.lows[d], walls.highs[d]):
            at = position.clone()
            at[:, d] = float(end)
            with torch.no_grad():
                ends.append(potential.energy(at))
        rises[int(d)] = ends[0] - ends[1]
    return rises


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
