"""Rates over a dividing surface: how often it is crossed, times how many of those who cross stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from landscape import random
from landscape.boundaries.restraints import scalar_field
from landscape.checks import finite_number, whole_number
from landscape.dynamics.simulate import simulate
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.integrators.masses import rows
from landscape.potentials.base import Potential
from landscape.potentials.expression.quadrature import graded_edges
from landscape.potentials.network.modes import plain_modes
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.free_energy.forces import SurfaceWalk
from landscape.probes.free_energy.sampling import onto, origin_of, place
from landscape.probes.rates.shots import check_rule
from landscape.probes.registry import probe, result_of
from landscape.recording.record import Record
from landscape.statistics import standard_error

__all__ = ["reactive_flux"]

OFFSET = 0.2  # of the width of the barrier sqrt(T/|F''|), by which overdamped shots start beside the surface
STEADY = 0.05  # by which the two halves of a plateau may differ
FINE = 4001
ROUNDS = 8  # of the rate of decay, which is that of the rate itself

FloatArray = NDArray[np.float64]


@probe("rates.reactive_flux", result_of("free_energy.profile"))
@plain_modes()
def reactive_flux(
    potential: Potential, profile: xr.Dataset | None, integrator: Integrator, *, coordinate: Any, at: float,
    temperature: float, shots: int = 4000, steps: int = 1000, every: int | None = None, offset: float | None = None,
    settling: int = 400, start: Any = None, constraint: Any = None, seed: int = 0, backend: Any = "auto",
) -> xr.Dataset:  # fmt: skip
    r"""Rate from q(x) < z to q(x) > z by shooting from the dividing surface q = z.

    With F the free energy along q and p = exp(-F(z)/T) / \int_{q<z} exp(-F/T) dq, for inertial dynamics of mass M

    .. math:: k(t) = p \, \langle \dot q \, \theta(q(t) - z) \rangle_{q = z} = k_{TST} \, \kappa(t), \qquad
        k_{TST} = p \sqrt{T / 2 \pi} \, \langle |M^{-1/2} \nabla q| \rangle_{q = z} ,

    momenta from the Maxwell distribution. The transmission coefficient kappa falls from 1 to a plateau, which decays as
    slowly as exp(-lambda t), lambda = k/p_B with p_B the weight of q > z: the rate is its value at t = 0. Overdamped
    paths cross a surface without end, and the same correlation is

    .. math:: k(t) = p \, T \, \Big\langle |\nabla q|^2 \frac{\partial}{\partial q} P(q(t) > z) \Big\rangle_{q = z} ,

    from shots to both sides of the surface that ride the same noise.

    Parameters
    ----------
    profile : xarray.Dataset, optional
        ``free_energy`` along q with its error, from the far side of the well q < z to beyond z, best to the far side
        of the other well: of `free_energy.profile`, `umbrella` or `mean_force`. In one dimension with q the coordinate
        itself None takes the exact integral.
    integrator : Integrator
        The dynamics: with a momentum, such as `BAOAB`, or overdamped.
    coordinate : name, number, formula, vector or callable
        q, as for `landscape.Restrain`.
    at : float
        z.
    temperature : float
    shots : int
        Positions on the surface; two paths start from each.
    steps : int
        Of each path.
    every : int, optional
        Steps between the times at which paths are looked at; a fiftieth of all unless given.
    offset : float, optional
        Of overdamped shots from the surface, in q; a fifth of the barrier's width sqrt(T/|F''(z)|) unless given.
    settling : int
        Steps of the walk on the surface that draws the positions.
    start : array ``(dim,)``, optional
        Where the walk on the surface is moved from; the potential's default.
    constraint, seed, backend
        As for `landscape.simulate`.

    Returns
    -------
    xarray.Dataset
        ``rate``, the mean of k(t) exp(lambda t) over the second half of `time`, and its error, which includes that of
        the profile; ``plateau``: its third and fourth quarter agree within 3 errors and 5 %; ``rate_at (time)`` = k(t);
        of inertial dynamics ``transition_state_rate``, ``transmission`` and ``transmission_at (time)``; with errors.

    Raises
    ------
    ConfigError, ShapeError
    ConvergenceError
        If no position with q = z is found.

    Notes
    -----
    Positions are drawn by the Metropolis walk of `mean_force` from one start: a surface that falls into parts apart
    needs shots from each. Errors come from the scatter between shots, which are independent. A profile that does not
    reach the far side of q > z leaves lambda unknown: k(t) then counts as it is, and its decay by 2 k t is put into the
    error. The finite offset lowers an overdamped rate by less
    than offset^2 |F''|/(6 T), 0.7 % by default, which is put into the error. Costs 2 gradients per step and shot.

    References
    ----------
    Chandler, "Statistical mechanics of isomerization dynamics in liquids and the transition state approximation", J.
    Chem. Phys. 68, 2959 (1978).

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.DoubleWell()
    >>> found = reactive_flux(well, None, ls.BAOAB(dt=0.05, friction=2.0), coordinate="x", at=0.0, temperature=0.2,
    ...                       shots=1000, steps=200)
    >>> round(float(found.transition_state_rate), 5)  # sqrt(T/2 pi) exp(-1/T) / half the partition function
    0.00288
    >>> bool(found.plateau)
    True
    """
    t = finite_number("temperature", temperature, above=0)
    whole_number("shots", shots, least=8)
    whole_number("steps", steps, least=8)
    _check_dynamics(integrator)
    every = max(1, steps // 50) if every is None else whole_number("every", every)
    if steps // every < 8:
        raise ConfigError(f"every = {every} leaves {steps // every} times to look at paths: give 8 or more")
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < np.inf:
        raise ConfigError(f"at must be a finite number, got {at!r}")
    field = scalar_field(potential, coordinate)
    density, density_error, bend, beyond = _density(potential, field, profile, coordinate, float(at), t)
    points = _on_surface(potential, field, float(at), t, shots, settling, start, random.check_seed(seed))
    gradient = field.gradient(points)
    masses = torch.as_tensor(rows(integrator.mass, potential.dim)).to(points)
    run: dict[str, Any] = {
        "steps": steps, "temperature": t, "constraint": constraint, "seed": (seed + 1) % 2**64, "backend": backend,
        "progress": False, "record": Record(every, {"q": lambda _, position: field.energy(position)}),
    }  # fmt: skip
    inertial = "momentum" in integrator.memory_names
    bias = 0.0
    if inertial:
        kicks = (t * masses).sqrt() * random.normals(
            seed, torch.arange(shots), 0, potential.dim, precision="float64", stream=random.INITIAL
        ).to(points)
        weight = 0.5 * (gradient * kicks / masses).sum(dim=-1)
        runs = [simulate(potential, integrator, start=points, momentum=sign * kicks, **run) for sign in (1.0, -1.0)]
    else:
        width = np.sqrt(t / abs(bend)) if np.isfinite(bend) and bend else np.nan
        reach = OFFSET * width if offset is None else offset
        if isinstance(reach, bool) or not isinstance(reach, int | float | np.number) or not 0 < reach < np.inf:
            raise ConfigError(
                f"offset must be a positive number, and the profile curved if it is left out, got {offset!r}"
            )
        bias = (reach / width) ** 2 / 6.0 if np.isfinite(width) else 0.0
        weight = t * (gradient**2).sum(dim=-1) / (2.0 * reach)
        sides = [onto(field, points, torch.full((shots,), float(at) + sign * reach).to(points))[0] for sign in (1, -1)]
        runs = [simulate(potential, integrator, start=side, **run) for side in sides]
    ahead, behind = ((one.q.to_numpy() > at).astype(float) for one in runs)
    each = density * weight.numpy()[:, None] * (ahead - behind)
    relative = float(np.hypot(density_error, bias))
    return _dataset(
        each, runs[0].time.to_numpy(), gradient / masses.sqrt(), t, density, relative, beyond, inertial=inertial
    )


def _check_dynamics(integrator: Any) -> None:
    check_rule(integrator)
    in_time = integrator.thermal and integrator.samples_boltzmann and hasattr(integrator, "dt")  # not learning rates
    if integrator.metropolis or not in_time:
        raise ConfigError(
            f"{type(integrator).__name__} is no thermal motion in time: rates are those of BAOAB, EulerMaruyama, Heun "
            "or LeimkuhlerMatthews"
        )
    if integrator.mobility is not None or hasattr(integrator, "preconditioner"):
        raise ConfigError("overdamped rates over a surface are those of mobility 1: use core_sets or escape_rate")


def _on_surface(
    potential: Potential, field: Potential, at: float, temperature: float, count: int, settling: int, start: Any,
    seed: int,
) -> Tensor:  # fmt: skip
    """Positions ``(count, dim)`` from exp(-V/T) delta(q - z)."""
    origin = origin_of(potential, start)
    (point,) = place(field, origin.to(torch.float64), np.array([at]))
    walk = SurfaceWalk(potential, field, torch.full((count,), at, dtype=torch.float64), temperature, count, seed)
    walk.settle(
        point.expand(count, -1).clone(), 0.01, settling if potential.dim > 1 else 1
    )  # one point in one dimension
    return walk.position


def _density(
    potential: Potential, field: Potential, profile: Any, coordinate: Any, at: float, temperature: float
) -> tuple[float, float, float, float]:
    """Density at the surface over the weight before it, its relative error, F'' there, and the weight beyond, p_B."""
    if profile is None:
        if potential.dim != 1 or coordinate not in (0, *(potential.coordinates or ())):
            raise ConfigError("give the profile of the free energy along q: it is known only for one coordinate itself")
        return _exact_density(potential, at, temperature)
    if not isinstance(profile, xr.Dataset) or "free_energy" not in profile or profile.free_energy.ndim != 1:
        raise ConfigError("the profile must hold `free_energy` along one coordinate, as those of probes.free_energy do")
    (dim,) = profile.free_energy.dims
    order = np.argsort(profile[dim].to_numpy())
    q = profile[dim].to_numpy().astype(float)[order]
    f = profile.free_energy.to_numpy().astype(float)[order]
    error = profile.free_energy_stderr.to_numpy()[order] if "free_energy_stderr" in profile else np.full(len(q), np.nan)
    known = np.isfinite(f)
    q, f, error = q[known], f[known], error[known]
    if len(q) < 5 or not q[0] < at <= q[-1]:
        raise ConfigError(f"the profile must reach from the far side of the well to the surface at {at:g}, in 5 points")
    spline = CubicSpline(q, f)
    fine = np.linspace(q[0], at, FINE)
    weight = np.exp(-(spline(fine) - f.min()) / temperature)
    total = float(np.trapezoid(weight, fine))
    top = float(np.exp(-(spline(at) - f.min()) / temperature))
    if weight[0] > 0.05 * weight.max():
        raise ConfigError("the profile ends inside the well: let it begin where exp(-F/T) is small")
    after = np.linspace(at, q[-1], FINE)
    other = np.exp(-(spline(after) - f.min()) / temperature)
    whole = float(np.trapezoid(other, after))
    beyond = whole / (whole + total) if other[-1] <= 0.05 * other.max() and other.max() > other[0] else np.nan
    inside = q <= at
    share = np.exp(-(f[inside] - f.min()) / temperature)
    at_well = float((share * error[inside]).sum() / share.sum())
    relative = float(np.hypot(np.interp(at, q, error), at_well)) / temperature
    return top / total, relative, float(spline(at, 2)), beyond


def _exact_density(potential: Potential, at: float, temperature: float) -> tuple[float, float, float, float]:
    """By quadrature, in one dimension."""

    def energy(x: FloatArray) -> FloatArray:
        points = torch.from_numpy(np.ascontiguousarray(x.ravel()))[:, None]
        return np.asarray(potential.energy(points).numpy().reshape(x.shape))

    low, high = potential.bounds.get((potential.coordinates or ("",))[0], (None, None))
    ends = (-np.inf if low is None else float(low), np.inf if high is None else float(high))
    nodes, weights = np.polynomial.legendre.leggauss(16)
    here = torch.tensor([at], dtype=torch.float64)
    level = float(potential.energy(here))
    totals = []
    for bottom, top in ((ends[0], at), (at, ends[1])):
        edges = graded_edges(bottom, top, [float(potential.default_start()[0]), at])
        half = 0.5 * np.diff(edges)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            v = energy(edges[:-1, None] + half[:, None] * (nodes + 1.0))
            totals.append(float(half @ (np.nan_to_num(np.exp((level - v) / temperature), posinf=np.inf) @ weights)))
    before, beyond = totals
    return 1.0 / before, 0.0, float(potential.hessian(here)[0, 0]), beyond / (before + beyond)


def _dataset(
    each: FloatArray, time: FloatArray, gradient: Tensor, temperature: float, density: float, relative: float,
    beyond: float, *, inertial: bool,
) -> xr.Dataset:  # fmt: skip
    """k(t) from what each shot adds, ``(shot, time)``."""
    times = each.shape[1]

    def averaged(values: FloatArray) -> tuple[Any, Any]:
        return values.mean(axis=0), standard_error(values)

    rate_at, noise_at = averaged(each)
    late = slice(times // 2, times)
    rate, grown = float(rate_at[late].mean()), np.ones_like(time)
    for _ in range(ROUNDS if np.isfinite(beyond) else 0):
        grown = np.exp(np.clip(rate / beyond * time, 0.0, 1.0))
        rate = float((rate_at * grown)[late].mean())
    rate, noise = averaged((each * grown)[:, late].mean(axis=1))
    middle = 3 * times // 4
    change, change_error = averaged(
        (each * grown)[:, middle:].mean(axis=1) - (each * grown)[:, late.start : middle].mean(axis=1)
    )
    decay = 0.0 if np.isfinite(beyond) else 2.0 * abs(rate) * float(time[late].mean())
    profile_error = np.hypot(relative, decay)
    variables: dict[str, Any] = {
        "rate": rate,
        "rate_stderr": np.hypot(noise, rate * profile_error),
        "rate_at": ("time", rate_at),
        "rate_at_stderr": ("time", np.hypot(noise_at, np.abs(rate_at) * profile_error)),
        "plateau": bool(abs(change) <= 3.0 * change_error + STEADY * abs(rate)),
    }
    if inertial:
        crossing, spread = averaged(gradient.norm(dim=-1).numpy())
        ideal = density * np.sqrt(temperature / (2.0 * np.pi)) * crossing
        ideal_error = ideal * np.hypot(relative, spread / crossing)
        variables |= {
            "transition_state_rate": ideal,
            "transition_state_rate_stderr": ideal_error,
            "transmission": rate / ideal,
            "transmission_stderr": np.hypot(noise, rate * spread / crossing) / ideal,
            "transmission_at": ("time", rate_at / ideal),
            "transmission_at_stderr": ("time", noise_at / ideal),
        }
    dataset = xr.Dataset(variables, {"time": time})
    dataset.attrs = {"title": "Reactive flux", "temperature": temperature, "conventions": "from q < z to q > z"}
    return annotate(dataset, time_units="time", names=GLOSSARY["reactive_flux"])
