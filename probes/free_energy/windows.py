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
from landscape.potentials.checks import whole_number
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
    potential: Potential, coordinate: Any, at: Any, temperature: float, *, stiffness: float | None = None,
    width: float | None = None, chains: int = 32, steps: int = 8000, every: int = 20, dt: float = 0.1,
    start: Any = None, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    r"""Free energy along q(x) from runs held near each value by a spring k (q - c)^2 / 2, combined by MBAR.

    Sample n has the weight w_n in the law without springs, with N_j samples in window j,

    .. math:: \frac{1}{w_n} \propto \sum_j N_j e^{f_j - k (q_n - c_j)^2 / 2T}, \qquad
        e^{-f_i} = \sum_n w_n e^{-k (q_n - c_i)^2 / 2T} ,

    and F(z) = -T ln sum_n w_n K(q_n - z) with the kernel K(u) = 3/8 (3 - 5 u^2/h^2) for \|u\| < h =
    `width`/2, whose bias is of the fourth order in h.

    Parameters
    ----------
    potential : Potential
    coordinate : name, number, formula, vector or callable
        q(x), as for `landscape.Restrain`.
    at : array
        Centers of the windows, ascending, where F is given.
    temperature : float
    stiffness : float, optional
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
        ``acceptance``.

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
    chains are included; NaN below 50 correlation times in any window. Costs one gradient per step and chain.

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
    mbar_class = _mbar()
    t, at = check_temperature(temperature), chosen_values("at", at)
    whole_number("chains", chains, least=8)
    spacing = np.diff(at)
    k = t / float(spacing.max()) ** 2 if stiffness is None else float(stiffness)
    width = float(spacing.min()) if width is None else float(width)
    if not (k > 0 and 0 < width <= 2.0 * spacing.min()):
        raise ConfigError(
            f"stiffness and width must be positive, width at most twice the spacing; got {k:g} and {width:g}"
        )
    q = scalar_field(potential, coordinate)
    origin = potential.default_start() if start is None else torch.as_tensor(start)
    points = place(q, origin.to(torch.float64), at).repeat_interleave(chains, dim=0).numpy()
    spring = Restrain(coordinate, np.repeat(at, chains), k)
    rule = tuned(potential, t, points, groups=len(at), dt=dt, seed=seed, constraint=spring)
    run = observed(potential, rule, t, steps=steps, every=every, observables=record_of(q), seed=seed, constraint=spring)
    values = run.q.to_numpy()
    resolved, times = resolution(values, np.repeat(np.arange(len(at)), chains))
    found = _Windows(values.reshape(len(at), -1), at, k / t, chains)
    found.solve(mbar_class)
    found.check()
    free_energy, error = found.profile(width)
    if (times < FEWEST_TIMES).any():
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
            "resolved": resolved,
            "correlation_times": times,
        },
        {"temperature": t, "method": "umbrella sampling, MBAR", "stiffness": k, "width": width, "zero": "first value",
         "seed": seed},
    )  # fmt: skip
    about = {"long_name": "overlap of the windows' laws", "units": "1"}
    return dataset.assign(overlap_matrix=(("window", "neighbor"), found.overlap, about))


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
    """Samples ``(window, sample)`` of q, chain after chain, and what MBAR makes of them."""

    samples: FloatArray
    centers: FloatArray
    beta_k: float
    chains: int

    def solve(self, mbar_class: Any) -> None:
        """Free energies f of the windows, weights of the samples and probabilities of samples to be each window's."""
        windows, count = self.samples.shape
        pooled = self.samples.ravel()
        energy = 0.5 * self.beta_k * (pooled - self.centers[:, None]) ** 2
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
        held = np.where(np.abs(apart) < 1.0, 3.0 - 5.0 * apart**2, 0.0) * weight
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
