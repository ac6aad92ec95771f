"""`ProjectOntoPath`: free steps of an integrator, and after every few of them the chain is put back on a path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import psutil
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.boundaries.constraints import listed
from landscape.boundaries.walls import PERIODIC
from landscape.checks import one_of, true_or_false, whole_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import Described
from landscape.common.schedules import Schedule
from landscape.engine.base import Engine, Plan, State
from landscape.errors import ConfigError, ShapeError
from landscape.paths.path import Path
from landscape.recording.series import Series

__all__ = ["ProjectOntoPath", "Projector", "separate"]

MOST_IN_SPEC = 4096  # numbers of a path that a specification holds
ROW_BYTES = 36  # of a recorded projection of one chain
MOMENTA = ("momentum", "first_moment")  # memory of an integrator that points along the coordinates


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class ProjectOntoPath(Described):
    """After every k steps of the integrator the position is replaced by a point of a path.

    With c(s) the path, t(s) its unit tangent, and x the position k steps after c(s):

    nearest: s' = argmin_s |x - c(s)|;   tangent: s' = s + (x - c(s)) . t(s).

    The start of a run is put on the nearest point of the path. What is recorded at the draws of the run is the free
    position; the projections have a dim of their own, see Notes.

    Parameters
    ----------
    path : Path, stored path, file name, or table with `pivots`
    every : int
        k, steps between projections. They are made at steps that are multiples of k, counted from the very first, so
        that a run in two parts is the whole run.
    nearest : {"global", "local"}
        Whether the whole path is searched, or only the segment of the last projection and its neighbours.
    spline : bool
        The natural cubic spline through the pivots; False: the polyline. The nearest point of a polyline sticks to its
        vertices: everything within the cone of normals of a kink is nearest to the kink.
    update : {"nearest", "tangent"}
        The rule above. The tangent rule sees only the displacement along the path, and cannot stick or jump.
    ends : {"clamp", "reflect"}
        What happens at the ends: the chain stays there, or (tangent rule only) s is mirrored.
    optimizer_state : {"keep", "reset", "project"}
        Of momenta and first moments at a projection: left as they are, set to zero, or reduced to their component
        along the path, m -> (m . t) t. Adam's second moments are scales and are always kept; so is the whole state of
        a torch optimizer, whose meaning is its own.
    record_every : int
        Every so many projections are recorded.

    Raises
    ------
    ConfigError, ShapeError

    Notes
    -----
    The run gains the dim ``projection``, whose first entry is the start: ``arc_length (chain, projection)`` after the
    projection, ``path_distance (chain, projection)`` before it (NaN of chains that left), ``segment (chain,
    projection)``, coordinates ``projection_step`` and ``projection_time``; and of each chain ``at_vertex`` and
    ``at_end``, the fractions of all projections that ended exactly on an inner pivot or on an end, ``jumps``, how often
    a projection ended beyond the neighbours of the segment where the one before had ended, and ``last_arc_length``.
    Costs O(P N) for P pivots in N dimensions and chain, at each projection.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    algorithm 1, which leaves open what `nearest`, `spline`, `update`, `ends` and `optimizer_state` choose.

    Examples
    --------
    >>> import landscape as ls
    >>> valley = ls.potentials.Valley("1 + y**2")
    >>> axis = ls.paths.straight_line([0.0, -3.0], [0.0, 3.0])
    >>> run = ls.simulate(valley, ls.EulerMaruyama(dt=0.01), temperature=0.1, start=[0.0, 2.0], chains=50, steps=300,
    ...                   constraint=ls.ProjectOntoPath(axis, every=15), record=ls.Record(300), seed=1)
    >>> run.arc_length.dims, run.sizes["projection"], round(float(run.arc_length[0, 0]), 9)
    (('chain', 'projection'), 21, 5.0)
    >>> float(abs(run.last_position[:, 0]).max())  # back on the axis
    0.0
    """

    path: Any
    every: int
    nearest: Literal["global", "local"] = field(default="global", kw_only=True)
    spline: bool = field(default=True, kw_only=True)
    update: Literal["nearest", "tangent"] = field(default="nearest", kw_only=True)
    ends: Literal["clamp", "reflect"] = field(default="clamp", kw_only=True)
    optimizer_state: Literal["keep", "reset", "project"] = field(default="keep", kw_only=True)
    record_every: int = field(default=1, kw_only=True)
    curve: Path = field(init=False, repr=False)

    def __post_init__(self) -> None:
        whole_number("every", self.every)
        whole_number("record_every", self.record_every)
        one_of("nearest", self.nearest, ("global", "local"))
        true_or_false("spline", self.spline)
        one_of("update", self.update, ("nearest", "tangent"))
        one_of("ends", self.ends, ("clamp", "reflect"))
        one_of("optimizer_state", self.optimizer_state, ("keep", "reset", "project"))
        if self.ends == "reflect" and self.update == "nearest":
            raise ConfigError(
                'ends="reflect" needs update="tangent": the nearest point of a path is never beyond its end'
            )
        path = _path_of(self.path)
        curved = self.spline and len(path) > 2  # the spline through two pivots is their straight line
        object.__setattr__(self, "curve", path.spline if curved else Path(path.pivots, names=path.names))

    def arguments(self) -> dict[str, Any]:
        """The settings; of the path its file, its pivots while they are few, or that there is one."""
        path: Any = {"kind": "given"}
        if isinstance(self.path, str | os.PathLike):
            path = os.fspath(self.path)
        elif self.curve.pivots.numel() <= MOST_IN_SPEC:
            path = {"pivots": self.curve.pivots}
        return Described.arguments(self) | {"path": path}


def separate(constraint: Any) -> tuple[list[Any], ProjectOntoPath | None]:
    """Constraints other than the projection, and the projection.

    Raises
    ------
    ConfigError
        If there are two projections.
    """
    given = listed(constraint)
    projections = [one for one in given if isinstance(one, ProjectOntoPath)]
    if len(projections) > 1:
        raise ConfigError("two projections in one run: a chain cannot be on two paths, give one ProjectOntoPath")
    others = [one for one in given if not isinstance(one, ProjectOntoPath)]
    return others, projections[0] if projections else None


class Projector:
    """The projections of one run, and what was seen at them."""

    def __init__(
        self, rule: ProjectOntoPath, plan: Plan, initial: State, kept: xr.Dataset | None, steps: int,
        part: int | None = None,
    ) -> None:  # fmt: skip
        _check(rule, plan)
        self.rule, self.plan, self.every = rule, plan, rule.every
        self.path = rule.curve.to(plan.device)
        self.first_step, self.first_time = initial.step, initial.time.copy()
        self.projections = 0
        chains = plan.chains
        self.at_vertex, self.at_end, self.jumps = (np.zeros(chains, np.int64) for _ in range(3))
        rows = (initial.step + steps) // self._cadence - initial.step // self._cadence + 1
        self.series = Series("projection", rows, part)
        free = psutil.virtual_memory().available
        if ROW_BYTES * chains * min(rows, self.series.part) > free // 2:
            raise ConfigError(
                f"{rows} projections of {chains} chains take more than half of the {free / 2**30:.3g} GiB of free "
                "memory: raise ProjectOntoPath(record_every=...)"
            )
        self.s, distance = self.path.project(initial.position)
        if kept is not None and "last_arc_length" in kept:
            self.s = torch.as_tensor(np.array(kept.last_arc_length.values)).to(self.s)
        else:
            initial.position.copy_(self.path.at(self.s))
        self._note(distance, initial)

    @property
    def _cadence(self) -> int:
        return self.every * self.rule.record_every

    def within(self, engine: Engine) -> None:
        """No engine has them in its loop."""

    def apply(self, engine: Engine) -> None:
        """Put every chain on the path."""
        state, former = engine.state, self.s
        free = torch.isfinite(state.position).all(dim=1)
        if "exit_wall" in state.memory:
            free &= state.memory["exit_wall"] == 0  # who has left stays where it left
        arc, distance = self._projected(torch.where(free[:, None], state.position, self.path.pivots[0]))
        self.s = torch.where(free, arc, former)
        anchor = self.path.at(self.s).to(state.position.dtype)
        state.position.copy_(torch.where(free[:, None], anchor, state.position))
        self._turn(state, free)
        self._count(former)
        if state.step % self._cadence == 0:
            self._note(torch.where(free, distance, torch.nan), state)

    def _projected(self, position: Tensor) -> tuple[Tensor, Tensor]:
        rule, path = self.rule, self.path
        if rule.update == "nearest":
            found: tuple[Tensor, Tensor] = path.project(position, near=self.s if rule.nearest == "local" else None)
            return found
        start = path.at(self.s).to(self.plan.dtype)  # rounded as the chain's own start was
        moved = (position - start).double()
        arc = self.s + (moved * path.tangent(self.s)).sum(-1)
        length = path.arc_length[-1]
        if rule.ends == "reflect":
            arc = length - (length - arc.abs() % (2 * length)).abs()
        arc = arc.clamp(min=0.0).minimum(length)
        return arc, (position - path.at(arc)).norm(dim=-1)

    def _turn(self, state: State, free: Tensor) -> None:
        """Momenta and moments, as the rule says."""
        if self.rule.optimizer_state == "keep":
            return
        for name, value in state.memory.items():
            if name in MOMENTA:
                along = torch.zeros_like(value)
                if self.rule.optimizer_state == "project":
                    tangent = self.path.tangent(self.s)
                    along = ((value.double() * tangent).sum(-1, keepdim=True) * tangent).to(value.dtype)
                value.copy_(torch.where(free[:, None], along, value))

    def _count(self, former: Tensor) -> None:
        self.projections += 1
        inner, ends = self.path.arc_length[1:-1], self.path.arc_length[[0, -1]]
        self.at_vertex += torch.isin(self.s, inner).cpu().numpy()
        self.at_end += torch.isin(self.s, ends).cpu().numpy()
        self.jumps += ((self._segment(self.s) - self._segment(former)).abs() > 1).cpu().numpy()

    def _segment(self, s: Tensor) -> Tensor:
        arcs = self.path.arc_length.contiguous()
        return (torch.searchsorted(arcs, s, right=True) - 1).clamp(0, len(arcs) - 2)

    def _note(self, distance: Tensor, state: State) -> None:
        row = {
            "arc_length": self.s.cpu().numpy(),
            "path_distance": distance.cpu().numpy(),
            "segment": self._segment(self.s).cpu().numpy().astype(np.int32),
            "projection_time": self._time(state),
            "projection_step": np.full(self.plan.chains, state.step),
        }
        for name, values in row.items():
            self.series.put(name, self.series.count, values[:, None])
        self.series.count += 1

    def observables(self) -> dict[str, NDArray[Any]]:
        """Nothing: draws are of the free position."""
        return {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is to remember."""
        counts = {name: getattr(self, name) for name in ("at_vertex", "at_end", "jumps")}
        start = {"first_step": np.array([self.first_step]), "first_time": self.first_time}
        return counts | start | {"projections": np.array([self.projections]), "s": self.s.cpu().numpy()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` returned."""
        for name, value in arrays.items():
            setattr(self, name, int(value[0]) if name in ("projections", "first_step") else value)
        self.s = torch.as_tensor(arrays["s"]).to(self.path.arc_length)

    def _time(self, state: State) -> NDArray[np.float64]:
        plan = self.plan
        if isinstance(plan.step_size, Schedule):
            return state.time
        advance = plan.integrator.time_per_step(plan.step_size)
        elapsed: NDArray[np.float64] = self.first_time + (state.step - self.first_step) * advance
        return elapsed

    def complete(self, run: xr.Dataset) -> xr.Dataset:
        """The run with its projections."""
        with np.errstate(invalid="ignore", divide="ignore"):
            on_vertex, on_end = (count / np.float64(self.projections) for count in (self.at_vertex, self.at_end))
        lost = run["dropped_step"].values >= 0 if "dropped_step" in run else np.zeros(len(on_end), bool)
        seen = self.series.held
        arc = np.where(np.isnan(seen["path_distance"]) & lost[:, None], np.nan, seen["arc_length"])
        both = ("chain", "projection")
        time = seen["projection_time"]
        equal = run["time"].dims[0] == "draw"
        about_time = {"long_name": "time of the projection", "units": "time"}
        return run.assign(
            arc_length=(both, arc, {"long_name": "arc length along the path", "units": "1"}),
            path_distance=(
                both, seen["path_distance"], {"long_name": "distance from the path before it", "units": "1"},
            ),
            segment=(both, seen["segment"], {"long_name": "segment of the path, from 0", "units": "1"}),
            at_vertex=_of_chain(on_vertex, "fraction of projections that ended exactly on an inner pivot"),
            at_end=_of_chain(on_end, "fraction of projections that ended exactly on an end of the path"),
            jumps=_of_chain(self.jumps, "projections that ended beyond the neighbours of the former segment"),
            last_arc_length=_of_chain(self.s.cpu().numpy(), "arc length after the last projection"),
        ).assign_coords(
            projection=(
                "projection", np.arange(self.series.first, self.series.count),
                {"long_name": "recorded projection", "units": "1"},
            ),
            projection_step=("projection", seen["projection_step"][0], {"long_name": "steps made", "units": "1"}),
            projection_time=("projection", time[0], about_time) if equal else (both, time, about_time),
        ).assign_attrs(path_length=self.path.length, project_every=self.every)  # fmt: skip


def _of_chain(values: NDArray[Any], text: str) -> tuple[str, NDArray[Any], dict[str, str]]:
    return "chain", values, {"long_name": text, "units": "1"}


def _path_of(given: Any) -> Path:
    if isinstance(given, Path):
        return given
    if isinstance(given, xr.Dataset):
        return Path.from_dataset(given)
    if isinstance(given, str | os.PathLike):
        return Path.load(given)
    if isinstance(given, Mapping):
        if "file" in given:
            return Path.load(given["file"])
        if "pivots" in given:
            return Path(given["pivots"])
        if given.get("kind") == "given":
            raise ConfigError("the path of this run was given from Python and is too large for its specification")
    raise ConfigError(f"path must be a Path, a stored path or the name of its file, got {type(given).__name__}")


def _check(rule: ProjectOntoPath, plan: Plan) -> None:
    curve, dim = rule.curve, rule.curve.pivots.shape[1]
    if dim != plan.potential.dim:
        raise ShapeError(
            f"the path has {dim} coordinates, the potential has {plan.potential.dim}: give a path on this landscape"
        )
    names = plan.potential.coordinates or ()
    if curve.names is not None and names and curve.names != names:
        raise ShapeError(
            f"the coordinates of the path are {curve.names}, those of the potential are {names}: give "
            "path.ordered(potential.coordinates)"
        )
    periodic = np.flatnonzero(plan.walls.kinds == PERIODIC)
    if len(periodic):
        name = plan.potential.coordinate_name(int(periodic[0]))
        raise ConfigError(f"coordinate {name!r} is periodic, where a nearest point is not defined: leave Periodic out")
    if plan.walls.any:
        arcs = np.interp(np.arange(0, len(curve) - 1, 0.1), np.arange(len(curve)), curve.arc_length.cpu().numpy())
        points = np.vstack([curve.at(arcs), curve.pivots.cpu().numpy()])
        over = np.maximum(plan.walls.lows - points, points - plan.walls.highs)
        beyond = np.argwhere(over > 1e-9 * curve.length)  # a path along a boundary may be rounded to its other side
        if len(beyond):
            point, d = (int(i) for i in beyond[0])
            raise ConfigError(
                f"the path goes to {plan.potential.coordinate_name(d)} = {points[point, d]:g}, beyond the wall "
                f"({plan.walls.lows[d]:g}, {plan.walls.highs[d]:g}): give a path inside, or one whose spline "
                "stays inside (spline=False)"
            )
    if plan.integrator.opaque_memory and rule.optimizer_state != "keep":
        raise ConfigError(
            f'optimizer_state="{rule.optimizer_state}" needs to know which numbers are a momentum, and a torch '
            'optimizer\'s are its own: use "keep"'
        )
