"""Umbrella sampling: windows held by springs, run as one batch, combined by MBAR."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import ConfigError, OverlapError
from landscape.potentials.base import Potential
from landscape.potentials.checks import needs_energy, whole_number
from landscape.probes._series import FloatArray
from landscape.probes.free_energy.averages import (
    FEWEST_TIMES,
    check_temperature,
    chosen_values,
    clusters,
    curve,
    resolution,
)
from landscape.probes.free_energy.sampling import observed, place, record_of, tuned
from landscape.restraints import Restrain, scalar_field

__all__ = ["umbrella"]

LEAST_OVERLAP = 0.03  # of neighbours in the overlap matrix: below it MBAR's errors are not to be trusted [2]


def umbrella(
    potential: Potential, coordinate: Any, at: Any, temperature: float, *, stiffness: Any = None,
    width: float | None = None, chains: int = 32, steps: int = 8000, every: int = 20, dt: float = 0.1,
    start: Any = None, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    r"""Free energy along q(x) from runs held near each value by a spring k (q - c)^2 / 2, combined by MBAR.

    Sample n has the weight w_n in the law without springs, with N_j samples in window j,

    .. math:: \frac{1}{w_n} \propto \sum_j N_j e^{f_j - k_j (q_n - c_j)^2 / 2T}, \qquad
        e^{-f_i} = \sum_n w_n e^{-k_i (q_n - c_i)^2 / 2T} ,

    and F(z) = -T ln sum_n w_n K(q_n - z) with the kernel K(u) = 3/8 (3 - 5 u^2/h^2) for \|u\| < h =
    `width`/2, whose bias is of the fourth order in h. At a wall it is the parabola on the part of the kernel inside
    that has the integral 1 and no first and second moment: its bias is of the third order.

    Parameters
    ----------
    potential : Potential
    coordinate : name, number, formula, vector or callable
        q(x), as for `landscape.Restrain`.
    at : array
        Centers of the windows, ascending, where F is given.
    temperature : float
    stiffness : float, or one for each window, optional
        k; by default T / (largest spacing)^2, with which neighbours overlap where F is no steeper than that.
    width : float, optional
        Of the kernel that F is read with; the smallest spacing.
    chains : int
        For each window; 8 at least.
    steps, every : int
        Steps recorded, after a quarter as many for equilibration, and between samples.
    dt : float
        First guess of the step size.
    start : array ``(dim,)`` or ``(at, dim)``, optional
        Where q is moved from; the potential's default.
    seed : int

    Returns
    -------
    xarray.Dataset
        On the values: ``free_energy`` from the first on, with standard errors; ``overlap``, of each window with the
        next (NaN for the last); ``overlap_matrix (window, neighbor)``; ``resolved``, ``correlation_times``,
        ``chains_agree``, ``acceptance``.

    Raises
    ------
    OverlapError
        If neighbours overlap by less than 0.03; the message says which, and what to do.
    ConfigError
        Without the package pymbar, or if settings make no sense.

    Notes
    -----
    Steps are those of MALA, so the step size leaves no error. MBAR's equations are solved by pymbar; standard errors
    are those of the same equations, with chains (not samples) as what is independent, so that correlations within
    chains are included; NaN below 50 correlation times in any window. Walls are those of the potential for a
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
    mbar_class = _mbar()
    t, at = check_temperature(temperature), chosen_values("at", at)
    whole_number("chains", chains, least=8)
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
    q, limits = scalar_field(potential, coordinate), _walls(potential, coordinate)
    if limits is not None and not bool(((at >= limits[0]) & (at <= limits[1])).all()):
        raise ConfigError(f"a value of the coordinate lies beyond the walls ({limits[0]:g}, {limits[1]:g})")
    origin = potential.default_start() if start is None else torch.as_tensor(start)
    points = place(q, origin.to(torch.float64), at).repeat_interleave(chains, dim=0).numpy()
    spring = Restrain(coordinate, np.repeat(at, chains), np.repeat(k, chains))
    rule = tuned(potential, t, points, groups=len(at), dt=dt, seed=seed, constraint=spring)
    run = observed(potential, rule, t, steps=steps, every=every, observables=record_of(q), seed=seed, constraint=spring)
    values = run.q.to_numpy()
    length = resolution(values, np.repeat(np.arange(len(at)), chains))
    found = _Windows(values.reshape(len(at), -1), at, k / t, chains, limits or (values.min(), values.max()))
    found.solve(mbar_class)
    found.check()
    free_energy, error = found.profile(width)
    if (length.times < FEWEST_TIMES).any():
        error = np.full_like(error, np.nan)
    name = coordinate if isinstance(coordinate, str) and coordinate.isidentifier() else "q"
    dataset = curve(
        at,
        name,
        {
            "free_energy": (t * free_energy, "energy"),
            "free_energy_stderr": (t * error, "energy"),
            "overlap": np.append(np.diag(found.overlap, 1), np.nan),
            "acceptance": run.acceptance.to_numpy().reshape(len(at), chains).mean(axis=1),
            "resolved": length.resolved,
            "correlation_times": length.times,
            "chains_agree": length.agree,
        },
        {"temperature": t, "method": "umbrella sampling, MBAR", "stiffness": float(k[0]) if (k == k[0]).all() else k,
         "width": width, "zero": "first value",
         "seed": seed},
    )  # fmt: skip
    about = {"long_name": "overlap of the windows' laws", "units": "1"}
    return dataset.assign(overlap_matrix=(("window", "neighbor"), found.overlap, about))


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


def _mbar() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _quiet():
                from pymbar import MBAR  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError('umbrella needs pymbar: pip install "landscape-langevin[free-energy]"') from error
    return MBAR


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pymbar's banners about modules that are not used here."""
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(eq=False)
class _Windows:
    """Samples ``(window, sample)`` of q, chain after chain, between two walls, and what MBAR makes of them."""

    samples: FloatArray
    centers: FloatArray
    beta_k: float | FloatArray
    chains: int
    walls: tuple[float, float] = (-np.inf, np.inf)

    def solve(self, mbar_class: Any) -> None:
        """Free energies f of the windows, weights of the samples and probabilities of samples to be each window's."""
        windows, count = self.samples.shape
        pooled = self.samples.ravel()
        energy = 0.5 * np.reshape(self.beta_k, (-1, 1)) * (pooled - self.centers[:, None]) ** 2
        sizes = np.full(windows, count)
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            solved = mbar_class(energy, sizes, solver_protocol="robust")
        self.f = np.asarray(solved.f_k, dtype=np.float64)
        logs = self.f[:, None] - energy + np.log(count)
        top = logs.max(axis=0)
        total = top + np.log(np.exp(logs - top).sum(axis=0))
        self.chance = np.exp(logs - total)  # (window, sample); columns sum to 1
        self.log_weight = -total
        self.overlap: NDArray[np.float64] = self.chance @ self.chance.T / count

    def check(self) -> None:
        """Refuse windows that do not see each other.

        Raises
        ------
        OverlapError
        """
        beside = np.diag(self.overlap, 1)
        gaps = np.flatnonzero(~(beside >= LEAST_OVERLAP))
        if len(gaps):
            listed = ", ".join(f"{self.centers[i]:g} and {self.centers[i + 1]:g} ({beside[i]:.2g})" for i in gaps)
            raise OverlapError(
                f"windows do not overlap between {listed}; at least {LEAST_OVERLAP} is needed: put windows in between, "
                "lower the stiffness, or take more steps"
            )

    def profile(self, width: float) -> tuple[FloatArray, FloatArray]:
        """F/T at the centers from the first on, and its error."""
        windows, count = self.samples.shape
        draws = count // self.chains
        pooled, weight = self.samples.ravel(), np.exp(self.log_weight - self.log_weight.max())
        apart = (pooled - self.centers[:, None]) / (0.5 * width)
        ends = [(wall - self.centers) / (0.5 * width) for wall in self.walls]
        parts = np.stack([np.maximum(ends[0], -1.0), np.minimum(ends[1], 1.0)])
        level, tilt, bend = np.array([_kernel(*part) for part in parts.T]).T[:, :, None]
        held = np.where(np.abs(apart) < 1.0, level + tilt * apart + bend * apart**2, 0.0) * weight
        mass = held.sum(axis=1)
        empty = self.centers[~(mass > 0)]
        if len(empty):
            raise OverlapError(
                f"too few samples within {0.5 * width:g} of {empty.tolist()}: take more steps, or a larger width"
            )
        held = held / mass[:, None]
        # f solves sum_n (own window - chance) = 0, of which one equation is that of the others.
        information = np.diag(self.chance.sum(axis=1)) - self.chance @ self.chance.T
        response = np.linalg.pinv(information, rcond=1e-12)
        own = np.repeat(np.eye(windows), count, axis=1)
        shift = response @ (own - self.chance)  # what each sample does to f
        direct = held - (held @ self.chance.T) @ shift  # and to ln of each mass
        of_chain = direct.reshape(windows, windows, self.chains, draws).sum(axis=-1)
        relative = of_chain - of_chain[:1]
        variance = sum(clusters(relative[:, j].T) ** 2 for j in range(windows))
        free_energy = np.log(mass[0]) - np.log(mass)
        return free_energy, np.sqrt(variance)


def _kernel(low: float, high: float) -> FloatArray:
    """Parabola c_0 + c_1 u + c_2 u^2 on low < u < high of integral 1, without first and second moment."""
    power = np.arange(3) + np.arange(3)[:, None] + 1.0
    moments = (high**power - low**power) / power
    return np.asarray(np.linalg.solve(moments, np.array([1.0, 0.0, 0.0])))
