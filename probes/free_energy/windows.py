"""Umbrella sampling: windows held by springs, run as one batch, combined by MBAR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from landscape.boundaries.restraints import Restrain, scalar_field
from landscape.checks import finite_number, whole_number
from landscape.errors import ConfigError, OverlapError
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.averages import (
    Resolution,
    chosen_values,
    curve,
)
from landscape.probes.free_energy.multistate import Block, Multistate, pymbar_solver
from landscape.probes.free_energy.sampling import observed, origin_of, place, record_of, tuned
from landscape.probes.free_energy.smoothing import Axis, check_period, nearest_image, smoothed
from landscape.probes.registry import LANDSCAPE, probe

__all__ = ["along_first", "umbrella"]

REMEDY = "put windows in between, lower the stiffness, or take more steps"


@probe("free_energy.umbrella", LANDSCAPE, pictures=("plot_umbrella", "plot_overlap"))
def umbrella(
    potential: Potential, coordinate: Any, at: Any, temperature: float, *, stiffness: Any = None,
    width: float | None = None, period: float | None = None, chains: int = 32, steps: int = 8000, every: int = 20,
    dt: float = 0.1, start: Any = None, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    r"""Free energy along q(x) from runs held near each value by a spring k (q - c)^2 / 2, combined by MBAR.

    Sample n has the weight w_n in the law without springs, with N_j samples in window j,

    .. math:: \frac{1}{w_n} \propto \sum_j N_j e^{f_j - k_j (q_n - c_j)^2 / 2T}, \qquad
        e^{-f_i} = \sum_n w_n e^{-k_i (q_n - c_i)^2 / 2T} ,

    and F(z) = -T ln sum_n w_n K(q_n - z) with the kernel K(u) = 3/8 (3 - 5 u^2/h^2) for \|u\| < h =
    `width`/2, whose bias is of the fourth order in h. At a boundary it is the parabola on the part of the kernel inside
    that has the integral 1 and no first and second moment: its bias is of the third order.

    Parameters
    ----------
    at : array
        Centers of the windows, ascending, where F is given.
    temperature : float
    stiffness : float, or one for each window, optional
        k; by default T / (largest spacing)^2, with which neighbours overlap where F is no steeper than that.
    width : float, optional
        Of the kernel that F is read with; the smallest spacing.
    period : float, optional
        Of q, if it is an angle or the like: q - c and q - z are the minimum image then, between -period/2 and
        period/2, such as 2 pi for ``"atan2(y, x)"``.
    chains : int
        For each window; 8 at least.
    steps, every : int
        Steps recorded, after a quarter as many for equilibration, and between samples.

    Returns
    -------
    xarray.Dataset
        On the values: ``free_energy`` from the first on, with standard errors; ``overlap``, of each window with the
        next (NaN for the last); ``overlap_matrix (window, neighbor)``; ``resolved``, ``correlation_times``,
        ``chains_agree``, ``acceptance``.

    Raises
    ------
    OverlapError
        If windows overlap by less than 0.03, not even by way of others; the message says which, and what to do.
    ConfigError
        Without the package pymbar, or if settings make no sense.

    Notes
    -----
    Steps are those of MALA, so the step size leaves no error. MBAR's equations are solved by pymbar; standard errors
    are those of the same equations, with chains (not samples) as what is independent, so that correlations within
    chains are included; NaN below 50 correlation times in any window. Boundaries are those of the potential for a
    coordinate, and where samples end for any other function of position. Costs one gradient per step and chain.

    References
    ----------
    .. [1] M. R. Shirts, J. D. Chodera, "Statistically optimal analysis of samples from multiple equilibrium states",
       J. Chem. Phys. 129, 124105 (2008).
    .. [2] P. V. Klimovich, M. R. Shirts, D. L. Mobley, "Guidelines for the analysis of free energy calculations",
       J. Comput. Aided Mol. Des. 29, 397 (2015).

    Examples
    --------
    >>> from landscape import potentials
    >>> spring = potentials.Quadratic([2.0])
    >>> found = umbrella(spring, "x", [0.0, 0.3, 0.6], 0.1, chains=16, steps=600)
    >>> z = ((found.free_energy - found.x**2) / found.free_energy_stderr)[1:]
    >>> bool((abs(z) < 4.5).all())
    True
    """
    needs_energy("umbrella", potential)
    solver = pymbar_solver()
    t, at = finite_number("temperature", temperature, above=0), chosen_values("at", at)
    whole_number("chains", chains, least=8)
    whole_number("every", every, most=whole_number("steps", steps))
    spacing = np.diff(at)
    k = _stiffnesses(t / float(spacing.max()) ** 2 if stiffness is None else stiffness, len(at))
    try:
        width = float(spacing.min() if width is None else width)
    except (TypeError, ValueError):
        raise ConfigError(f"width must be one number, got {width!r}") from None
    if not ((k > 0).all() and 0 < width <= 2.0 * spacing.min()):
        raise ConfigError(
            f"stiffness and width must be positive, width at most twice the spacing; got {stiffness!r} and {width:g}"
        )
    if isinstance(coordinate, list | tuple) and any(isinstance(part, str) for part in coordinate):
        raise ConfigError(
            f"umbrella holds one function of position, got {coordinate!r}: give a name, a formula such as "
            '"x + y", a vector of numbers or a callable'
        )
    turn = check_period(period)
    q, limits = scalar_field(potential, coordinate), None if turn else _walls(potential, coordinate)
    if limits is not None and not bool(((at >= limits[0]) & (at <= limits[1])).all()):
        raise ConfigError(f"a value of the coordinate lies beyond the walls ({limits[0]:g}, {limits[1]:g})")
    origin = origin_of(potential, start)
    points = place(q, origin.to(torch.float64), at, period=turn).repeat_interleave(chains, dim=0).cpu().numpy()
    spring = Restrain(coordinate, np.repeat(at, chains), np.repeat(k, chains), period=period)
    rule = tuned(potential, t, points, groups=len(at), dt=dt, seed=seed, constraint=spring)
    run = observed(potential, rule, t, steps=steps, every=every, observables=record_of(q), seed=seed, constraint=spring)
    values = run.q.to_numpy()
    block = Block(np.repeat(np.arange(len(at)), chains), np.arange(len(values)), values.shape[1])
    apart = nearest_image(values.ravel() - at[:, None], turn)
    found = Multistate(0.5 * (k / t)[:, None] * apart**2, [block], [f"{center:g}" for center in at], solver)
    found.check(found.pairs(), REMEDY)
    length = found.resolution([apart[found.own, np.arange(values.size)]])
    ends = (-np.inf, np.inf) if turn else limits or (float(values.min()), float(values.max()))
    free_energy, error = along_first(found, length, Axis("q", at, width, ends, turn), values.ravel())
    matrix = found.overlap
    name = coordinate if isinstance(coordinate, str) and coordinate.isidentifier() else "q"
    dataset = curve(
        at,
        name,
        {
            "free_energy": (t * free_energy, "energy"),
            "free_energy_stderr": (t * error, "energy"),
            "overlap": np.append(np.diag(matrix, 1), np.nan),
            "acceptance": run.acceptance.to_numpy().reshape(len(at), chains).mean(axis=1),
            "resolved": length.resolved & length.agree,
            "correlation_times": length.times,
            "chains_agree": length.agree,
        },
        {"temperature": t, "method": "umbrella sampling, MBAR", "stiffness": float(k[0]) if (k == k[0]).all() else k,
         "width": width, "zero": "first value", "seed": seed} | ({"period": turn} if turn else {}),
    )  # fmt: skip
    dataset = with_steps_needed(dataset, Length(steps), chains)
    about = {"long_name": "overlap of the windows' laws", "units": "1"}
    return dataset.assign(overlap_matrix=(("window", "neighbor"), matrix, about))


def along_first(pool: Multistate, length: Resolution, axis: Axis, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """F/T at the points from the first on in the law without springs, and its error.

    Raises
    ------
    OverlapError
        If no samples are near a point.
    """
    weights, _ = pool.at(0.0)
    read = smoothed(pool, weights, [axis], [values], pool.inefficiency(length.times))
    empty = axis.points[np.isnan(read.logs)]
    if len(empty):
        raise OverlapError(
            f"too few samples within {0.5 * axis.width:g} of {empty.tolist()}: take more steps, or a larger width"
        )
    return read.logs[0] - read.logs, pool.stderr(read.responses[0] - read.responses, length)


def _stiffnesses(given: Any, windows: int) -> FloatArray:
    """One stiffness for each window.

    Raises
    ------
    ConfigError
    """
    try:
        k = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        k = np.full((1, 1), np.nan)
    if k.ndim > 1 or (k.ndim == 1 and len(k) not in (1, windows)) or not np.isfinite(k).all():
        raise ConfigError(f"stiffness must be one number, or one for each of {windows} windows, got {given!r}")
    return np.broadcast_to(k, windows).astype(float)


def _walls(potential: Potential, coordinate: Any) -> tuple[float, float] | None:
    """Walls of a coordinate (infinite where there are none); None for other functions of position."""
    names = potential.coordinates or ()
    whole = isinstance(coordinate, int | np.integer) and not isinstance(coordinate, bool)
    if not whole and not (isinstance(coordinate, str) and coordinate in names):
        return None
    number = potential.coordinate_index(coordinate)
    for name, pair in potential.bounds.items():
        if potential.coordinate_index(name) == number:
            return float(pair[0]), float(pair[1])
    return -np.inf, np.inf
