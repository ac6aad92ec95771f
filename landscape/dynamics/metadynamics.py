"""`Metadynamics`: hills that fill the wells of a run's free energy, from which profiles are reweighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.boundaries.hills import Axis, Bias
from landscape.boundaries.restraints import Coordinate, scalar_field
from landscape.boundaries.walls import PERIODIC, REFLECT
from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import Described
from landscape.common.per_chain import per_chain
from landscape.common.positions import plain_array
from landscape.common.schedules import Schedule
from landscape.engine.base import Engine, Plan
from landscape.errors import ConfigError
from landscape.integrators.base import described
from landscape.potentials.base import Potential
from landscape.recording.series import Series

__all__ = ["Hills", "Metadynamics", "take_metadynamics"]

CELLS_PER_WIDTH = 6.0  # at which cubic convolution of a Gaussian is right to a thousandth of its height
MOST_NODES = 1 << 18


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Metadynamics(Described):
    r"""Well-tempered metadynamics: every so many steps a hill is put where the chain is, lower where there are many.

    .. math:: V_b(q, t) = \sum_{t' < t} h \, e^{-V_b(q(t'), t') / (\gamma - 1) T} \, e^{-(q - q(t'))^2 / 2 w^2}
        \quad \longrightarrow \quad -\frac{\gamma - 1}{\gamma} F(q) + \mathrm{const} .

    The dynamics follows V + V_b, recorded energies are V alone. `landscape.probes.free_energy.metadynamics` makes the
    free energy of such a run.

    Parameters
    ----------
    coordinate : name, number, formula, vector or callable, or a list of two of these
        q(x), as for `Restrain`.
    height : float, or one per chain
        h, in units of energy; T or less.
    width : float, or one for each q
        w, in units of q; half of the width of a well or less.
    every : int
        Steps between hills: as many as q takes to move by w.
    bias_factor : float
        gamma, more than 1: the barriers of F that are left are 1/gamma of what they were. Barrier over some T.
    range : (low, high), or one for each q, optional
        Where hills are kept; by default bounds or period of a coordinate. Beyond, V_b is what it is at the end, and no
        hills are added.
    walkers : int
        So many chains one after the other feel and build one bias. With 1 each chain has its own; independent groups
        are what errors are made from.
    stop : int, optional
        Step after which no hills are added: the samples from then on are those of a constant bias, which are reweighted
        without approximation.

    Raises
    ------
    ConfigError, ShapeError

    Notes
    -----
    The bias is kept on a grid, six nodes to a width, and interpolated by cubic convolution, whose gradient is taken as
    it stands: the cost of a step does not grow with the number of hills. Hills have images in a period, and in mirrors
    at the ends of the range. The run gains ``collective (chain, draw, ...)``, ``bias (chain, draw)``, ``bias_offset
    (chain, draw)``, the c(t) of Tiwary and Parrinello, and ``hills``, the final bias, from which ``state="keep"`` goes
    on. Batched backend.

    References
    ----------
    Barducci, Bussi, Parrinello, "Well-tempered metadynamics: a smoothly converging and tunable free-energy method",
    Phys. Rev. Lett. 100, 020603 (2008). Tiwary, Parrinello, "A time-independent free energy estimator for
    metadynamics", J. Phys. Chem. B 119, 736 (2015), eq. 12. Raiteri et al., "Efficient reconstruction of complex free
    energy landscapes by multiple walkers metadynamics", J. Phys. Chem. B 110, 3533 (2006). Keys, "Cubic convolution
    interpolation for digital image processing", IEEE Trans. Acoust. 29, 1153 (1981), eq. 15.

    Examples
    --------
    A barrier of 8 T is crossed within 3000 steps:

    >>> import landscape as ls
    >>> well = ls.potentials.DoubleWell(height=2.0)
    >>> hills = ls.Metadynamics("x", height=0.25, width=0.1, every=20, bias_factor=10.0, range=(-2.0, 2.0))
    >>> run = ls.simulate(well, ls.EulerMaruyama(dt=4e-3), temperature=0.25, chains=8, steps=3000, start=[-1.0],
    ...                   record=ls.Record(20), constraint=hills, seed=1)
    >>> bool((run.collective.max("draw") > 0.9).all()), run.bias.dims
    (True, ('chain', 'draw'))
    """

    coordinate: Any
    height: Any
    width: Any
    every: int
    bias_factor: float = 10.0
    range: Any = None
    walkers: int = 1
    stop: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("walkers", 1), ("stop", 0)):
            value = getattr(self, name)
            if value is None and name == "stop":
                continue
            whole_number(name, value, least=least)
        for name, above in (("height", 0.0), ("width", 0.0), ("bias_factor", 1.0)):
            try:
                values = np.asarray(getattr(self, name), dtype=float)
            except (TypeError, ValueError):
                values = np.array(np.nan)
            if not (np.isfinite(values) & (values > above)).all() or values.ndim > 1 or not values.size:
                raise ConfigError(f"Metadynamics({name}=...) must be more than {above:g}, got {getattr(self, name)!r}")
        if not 1 <= len(self.coordinates) <= 2:
            raise ConfigError(f"Metadynamics takes one collective coordinate or two, got {self.coordinate!r}")
        for q in self.coordinates:
            if not isinstance(q, str | int) and not callable(q) and not isinstance(q, Potential):
                plain_array(q, "a coordinate as a vector")
        if self.range is not None:
            plain_array(self.range, "the range of Metadynamics")

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The collective coordinates; a list of numbers is a vector, hence one."""
        given = self.coordinate
        if isinstance(given, str | int) or callable(given) or not isinstance(given, Sequence):
            return (given,)
        return (given,) if all(isinstance(one, int | float | np.number) for one in given) else tuple(given)


def take_metadynamics(constraints: Sequence[Any]) -> tuple[Metadynamics | None, list[Any]]:
    """The metadynamics among constraints, and the others.

    Raises
    ------
    ConfigError
        If there are two.
    """
    found = [one for one in constraints if isinstance(one, Metadynamics)]
    if len(found) > 1:
        raise ConfigError("a run has one Metadynamics, of one collective coordinate or two")
    return (found[0] if found else None), [one for one in constraints if not isinstance(one, Metadynamics)]


class Hills:
    """The hills of a run: its bias, and what is added to it every so many steps."""

    series: Series | None = None

    def __init__(self, given: Metadynamics, plan: Plan, start: xr.Dataset | None) -> None:
        self.given, self.every = given, given.every
        _check(given, plan)
        width = np.broadcast_to(np.asarray(given.width, dtype=float), len(given.coordinates))
        ranges = _ranges(given)
        axes = [_axis(q, pair, float(w), plan) for q, pair, w in zip(given.coordinates, ranges, width, strict=True)]
        if np.prod([axis.cells for axis in axes]) > MOST_NODES:
            raise ConfigError(f"the grid of the hills has {[axis.cells for axis in axes]} cells: give wider hills")
        group = torch.arange(plan.chains, device=plan.device) // given.walkers
        self.bias = Bias([scalar_field(plan.potential, q) for q in given.coordinates], axes, group)
        if start is not None:
            self._go_on(start)
        self.width = [float(w) for w in width]
        self.temperature = torch.as_tensor(np.array(plan.temperature), device=plan.device)
        self.height = torch.as_tensor(per_chain("height", given.height, plan.chains), device=plan.device)

    def within(self, engine: Engine) -> None:
        """No engine has them in its loop."""

    def apply(self, engine: Engine) -> None:
        """Add a hill at every chain."""
        if self.given.stop is None or engine.state.step <= self.given.stop:
            with torch.no_grad():
                tempering = (self.given.bias_factor - 1.0) * self.temperature
                self.bias.add(self.height, self.width, tempering, engine.state.position)

    def observed(self) -> dict[str, Callable[[Potential, Tensor], Tensor]]:
        """What is recorded of the bias: collective coordinates, V_b there, and c(t)."""
        of_groups = self.temperature[:: self.given.walkers]
        return {
            "collective": lambda _, x: torch.stack(self.bias.values(x), dim=1),
            "bias": lambda _, x: self.bias.at(self.bias.values(x))[0],
            "bias_offset": lambda _, x: self.bias.offset(of_groups, self.given.bias_factor),
        }

    def observables(self) -> dict[str, NDArray[Any]]:
        """Nothing between hills."""
        return {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The bias."""
        return {"table": self.bias.table.cpu().numpy()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` returned."""
        self.bias.table.copy_(torch.as_tensor(np.array(arrays["table"])))

    def complete(self, run: xr.Dataset) -> xr.Dataset:
        """The run with its bias, at nodes that reach beyond the ends of the range."""
        dims = ["collective_node", "second_collective_node"][: len(self.bias.axes)]
        about = {
            "long_name": "bias after the last step", "units": "energy", "bias_factor": float(self.given.bias_factor),
            "walkers": self.given.walkers, "stop": -1 if self.given.stop is None else self.given.stop,
            "low": [axis.low for axis in self.bias.axes], "high": [axis.high for axis in self.bias.axes],
            "periodic": [int(axis.periodic) for axis in self.bias.axes],
            "names": [q if isinstance(q, str) else f"q{i}" for i, q in enumerate(self.given.coordinates)],
        }  # fmt: skip
        run = run.assign(hills=(("bias_group", *dims), self.bias.table.cpu().numpy().copy(), about))
        for dim, axis in zip(dims, self.bias.axes, strict=True):
            run = run.assign_coords({dim: (dim, axis.nodes, {"long_name": "collective coordinate", "units": "1"})})
        for name, text, units in (
            ("bias", "bias at the collective coordinates", "energy"), ("collective", "collective coordinates", "1"),
            ("bias_offset", "c(t), the free energy that the bias adds", "energy"),
        ):  # fmt: skip
            if name in run:
                run[name].attrs.update(long_name=text, units=units)
        for variable in run.data_vars.values():
            variable.attrs["biased"] = "by hills"
        return run

    def _go_on(self, start: xr.Dataset) -> None:
        if "hills" not in start:
            raise ConfigError('state="keep": the run given as start has no hills; use state="fresh"')
        if start.hills.shape != tuple(self.bias.table.shape):
            raise ConfigError(
                f"the kept hills are {start.hills.shape}, expected {tuple(self.bias.table.shape)}: give the same "
                "coordinates, widths, range and walkers"
            )
        self.load({"table": start.hills.values})


def _check(given: Metadynamics, plan: Plan) -> None:
    """Refuse what has no free energy, or not one that stands still.

    Raises
    ------
    ConfigError
    """
    if not plan.integrator.obeys_boltzmann:
        raise ConfigError(
            f"Metadynamics needs dynamics that samples exp(-V/T), which {described(plan.integrator)} does not"
        )
    if isinstance(plan.temperature, Schedule) or plan.driven or not np.asarray(plan.temperature).all():
        raise ConfigError("Metadynamics needs a landscape and a positive temperature that do not change in time")
    if plan.walls.absorbs:
        raise ConfigError("Metadynamics has no absorbing walls: what leaves has no free energy")
    if plan.chains % given.walkers:
        raise ConfigError(f"{plan.chains} chains do not divide into groups of {given.walkers} walkers")
    by_group = np.asarray(plan.temperature).reshape(-1, given.walkers)
    if (by_group != by_group[:, :1]).any():
        raise ConfigError("walkers of one bias must have one temperature")


def _ranges(given: Metadynamics) -> list[tuple[float, float] | None]:
    count = len(given.coordinates)
    if given.range is None:
        return [None] * count
    try:
        table = np.asarray(given.range, dtype=float).reshape(-1, 2)
    except (TypeError, ValueError):
        table = np.empty((0, 2))
    if len(table) != count or not np.isfinite(table).all() or not (table[:, 0] < table[:, 1]).all():
        raise ConfigError(f"Metadynamics(range=...) must be (low, high) for each coordinate, got {given.range!r}")
    return [(float(low), float(high)) for low, high in table]


def _axis(q: Any, given: tuple[float, float] | None, width: float, plan: Plan) -> Axis:
    """The grid of a coordinate, which knows its period and where mirrors stand."""
    walls, names = plan.walls, list(plan.potential.coordinates or ())
    named = isinstance(q, str) and q in names
    d = names.index(q) if named else (plan.potential.coordinate_index(q) if isinstance(q, int) else None)
    low, high = (-np.inf, np.inf) if d is None else (float(walls.lows[d]), float(walls.highs[d]))
    kind = 0 if d is None else int(walls.kinds[d])
    if kind == PERIODIC and given not in (None, (low, high)):
        raise ConfigError(f"the range of the periodic coordinate {q!r} is its period ({low:g}, {high:g}): leave it out")
    if given is None:
        if not np.isfinite([low, high]).all():
            raise ConfigError(f"Metadynamics needs a range of {q!r}, which has no bounds: range=(low, high)")
        given = (low, high)
    cells = int(np.ceil((given[1] - given[0]) / width * CELLS_PER_WIDTH))
    if cells < 8:
        raise ConfigError(
            f"the range of {q!r} is {given[1] - given[0]:g}, hills of width {width:g} are as wide: lower it"
        )
    mirrors = (kind == REFLECT and given[0] == low, kind == REFLECT and given[1] == high)
    return Axis(*given, cells, kind == PERIODIC, mirrors)
