"""Effective potential along a coordinate from curvature alone: no sampling."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.boundaries.restraints import scalar_field
from landscape.checks import finite_number, one_of
from landscape.errors import ConvergenceError
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.potentials.network.modes import plain_modes
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.averages import chosen_values, curve
from landscape.probes.free_energy.laplace import CUTOFF, log_determinant
from landscape.probes.free_energy.sampling import onto, origin_of, place
from landscape.probes.registry import LANDSCAPE, probe

__all__ = ["effective_potential"]

RELAXATIONS = 200


@probe("free_energy.effective_potential", LANDSCAPE)
@plain_modes()
def effective_potential(
    potential: Potential, coordinate: Any, at: Any, temperature: float, *,
    noise: Literal["thermal", "hessian"] = "thermal", cutoff: float | None = None, start: Any = None,
) -> xr.Dataset:  # fmt: skip
    r"""Effective potential along q(x) from energy and curvature at the lowest point of each surface q = z.

    With isotropic noise ("thermal"), Laplace's form of -T ln P(z), where H is the Hessian along the surface (with the
    bend of the surface in it) and the sum is over its eigenvalues above the cutoff,

    .. math:: F(z) = V + \frac{T}{2} \sum_k \ln \lambda_k + T \ln |\nabla q| ;

    with noise of covariance 2 T H ("hessian"), like that of minibatches,

    .. math:: F(z) = V + \frac{T}{2} \sum_k \lambda_k .

    Di Carlo et al. print both without the factor 1/2.

    Parameters
    ----------
    at : array
        Values z, ascending.
    temperature : float
    noise : {"thermal", "hessian"}
    cutoff : float, optional
        Curvature below which a direction is flat and left out; 1e-6 of the largest by default.
    start : array ``(dim,)`` or ``(at, dim)``, optional
        Where q is moved from and V lowered; the potential's default.

    Returns
    -------
    xarray.Dataset
        On the values: ``free_energy`` from the first on, ``energetic`` and ``entropic``, its parts, with errors, which
        are those of rounding; ``stiff``, the number of directions counted; ``position (..., coordinate)``.

    Raises
    ------
    ConfigError, ShapeError
    ConvergenceError
        If a value is not reached, or V has no lowest point there.

    Notes
    -----
    Where across the surface V is not quadratic, or stiff directions vary in number, this is the limit of low
    temperature only: compare with `mean_force`. Costs a Hessian per value and step of the relaxation, few of which are
    needed; meant for hundreds of coordinates. Along a network's path use `confinement.along_path` and `barriers`.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    eqs. 2 and 3.

    Examples
    --------
    >>> from landscape import potentials
    >>> valley = potentials.Valley("1 + y**2")
    >>> found = effective_potential(valley, "y", [0.0, 1.0, 2.0], 0.1)
    >>> found.free_energy.values.round(9)  # (T/2) ln g
    array([0.        , 0.03465736, 0.0804719 ])
    >>> effective_potential(valley, "y", [0.0, 1.0, 2.0], 0.1, noise="hessian").free_energy.values.round(9)  # (T/2) g
    array([0.  , 0.05, 0.2 ])
    """
    t, at = finite_number("temperature", temperature, above=0), chosen_values("at", at, least=1)
    one_of("noise", noise, ("thermal", "hessian"))
    needs_energy("effective_potential", potential)
    q = scalar_field(potential, coordinate)
    origin = origin_of(potential, start)
    rows, points = [], []
    for point in place(q, origin.to(torch.float64), at):
        lowest = _relaxed(potential, q, point)
        curvature = _curvatures(potential, q, lowest)[0].cpu().numpy()
        limit = CUTOFF * float(np.abs(curvature).max(initial=0.0)) if cutoff is None else float(cutoff)
        stiff = curvature[curvature > limit]
        logs, rounding = log_determinant(stiff, curvature)
        stretch = float(torch.log(q.gradient(lowest).norm()))
        entropic = 0.5 * t * logs + t * stretch if noise == "thermal" else 0.5 * t * float(stiff.sum())
        rows.append((float(potential.energy(lowest)), entropic, 0.5 * t * rounding, len(stiff)))
        points.append(lowest.cpu().numpy())
    energetic, entropic_part, error, count = (np.array(column) for column in zip(*rows, strict=True))
    total = energetic + entropic_part
    error = error + 4.0 * np.finfo(float).eps * (np.abs(energetic) + np.abs(entropic_part) + t)
    name = coordinate if isinstance(coordinate, str) and coordinate.isidentifier() else "q"
    columns: dict[str, Any] = {
        "free_energy": (total - total[0], "energy"),
        "free_energy_stderr": (error + error[0], "energy"),
    }
    parts: dict[str, FloatArray] = {"energetic": energetic, "entropic": entropic_part}
    for key, part in parts.items():
        columns |= {key: (part, "energy"), f"{key}_stderr": (error, "energy")}
    dataset = curve(
        at, name, columns | {"stiff": count},
        {"temperature": t, "method": "curvature", "noise": noise, "zero": "first value", "errors": "rounding"},
    )  # fmt: skip
    about = {"long_name": "lowest position", "units": "length"}
    return dataset.assign(position=((name, "coordinate"), np.array(points), about))


def _curvatures(potential: Potential, field: Potential, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues and vectors of the Hessian along the surface, and the slope of V along it."""
    normal, slope = field.gradient(point), potential.gradient(point)
    square = normal @ normal
    multiplier = (slope @ normal) / square
    bent = potential.hessian(point) - multiplier * field.hessian(point)
    basis = torch.linalg.svd(normal[None], full_matrices=True).Vh[1:]
    values, vectors = torch.linalg.eigh(basis @ bent @ basis.T)
    return values, basis.T @ vectors, slope - multiplier * normal


def _relaxed(potential: Potential, field: Potential, point: Tensor) -> Tensor:
    """The lowest point of the surface of q through `point`, by Newton steps downhill.

    Raises
    ------
    ConvergenceError
    """
    target, energy = field.energy(point)[None], potential.energy(point)
    for _ in range(RELAXATIONS):
        values, vectors, slope = _curvatures(potential, field, point)
        scale = values.abs().amax() if len(values) else torch.ones(())
        along = vectors.T @ slope
        if bool((along.abs() <= 1e-11 * (1.0 + scale)).all()):
            return point
        step = vectors @ (along / values.abs().clamp_min(1e-3 * float(scale) + 1e-12))
        for halving in range(40):
            moved, reached = onto(field, (point - 0.5**halving * step)[None], target)
            lower = potential.energy(moved[0])
            if bool(reached[0]) and bool(lower <= energy + 1e-14 * abs(energy)):
                break
        else:
            break
        point, energy = moved[0], lower
    if float((vectors.T @ slope).abs().amax()) <= 1e-7 * (1.0 + float(scale)):
        return point
    raise ConvergenceError(
        f"no lowest point found on the surface through {point.tolist()}: give another start", estimate=point
    )
