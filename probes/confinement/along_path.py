"""Energy, curvature and other quantities along a path, and on the straight lines between networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import an_instance, finite_number, whole_number
from landscape.common.positions import ordered
from landscape.errors import ConfigError, ShapeError
from landscape.paths.evaluation import energies_at
from landscape.paths.path import Path
from landscape.potentials import Potential
from landscape.potentials.base import has_samples
from landscape.potentials.network.modes import plain_modes
from landscape.probes import curvature
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import PATH, POSITIONS, probe
from landscape.random import check_seed

__all__ = ["along_path", "linear_connectivity"]

# quantity: variables of a probe of curvature, and what they are called here
_PROBED: Mapping[str, tuple[str, dict[str, str]]] = {
    "largest_eigenvalue": (
        "largest_eigenvalue", {"largest": "largest_eigenvalue", "largest_residual": "largest_eigenvalue_residual"},
    ),
    "smallest_eigenvalue": (
        "extreme_eigenvalues", {"smallest": "smallest_eigenvalue", "smallest_residual": "smallest_eigenvalue_residual"},
    ),
    "trace": ("trace", {"trace": "trace", "trace_stderr": "trace_stderr"}),
    "fisher_trace": ("fisher_trace", {"fisher_trace": "fisher_trace", "fisher_trace_stderr": "fisher_trace_stderr"}),
    "eigenvalues": ("eigenvalues", {"eigenvalue": "eigenvalue"}),
    "score_singular_values": ("score_singular_values", {"singular_value": "singular_value"}),
}  # fmt: skip
_SIMPLE = ("energy", "gradient_norm", "norm", "accuracy", "evaluation_energy")
_ACROSS = ("log_determinant",)
_SEEDED = ("largest_eigenvalue", "extreme_eigenvalues", "trace", "fisher_trace")


@probe("confinement.along_path", PATH)
@plain_modes()
def along_path(
    potential: Potential,
    path: Any,
    quantities: Sequence[str] = ("energy", "largest_eigenvalue", "trace"),
    *,
    between: int = 0,
    epsilon: float = 0.0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Quantities at the pivots of a path and between them.

    Parameters
    ----------
    path : Path, or stored path
    quantities : sequence of str
        "energy", "gradient_norm", "norm"; "largest_eigenvalue", "smallest_eigenvalue", "trace", "eigenvalues" of the
        Hessian; "log_determinant", of the Hessian across the path; of networks also "accuracy", "evaluation_energy",
        "fisher_trace" (needs ``settings={"fisher_trace": {"labels": ...}}``), "score_singular_values".
    between : int
        Points in every segment, even in arc length, on the path's own curve.
    epsilon : float
        In log det (max(H_perp, 0) + epsilon), a unit of curvature. Flat directions need one: k projected steps of size
        eta feel only curvatures above about 1/(2 k eta).
    settings : mapping of quantity to arguments, optional
        Of the probes of `curvature`, such as ``{"trace": {"method": "exact"}}``.
    seed : int
        Seed of the random probe vectors, which are the same at every point.

    Returns
    -------
    xarray.Dataset
        The quantities on `pivot` (fractions between pivots) with `arc_length`, errors where there are some;
        `tangent_curvature` = t . H t beside the trace. Batch-normalisation statistics as the potential's policy says.

    Notes
    -----
    Cost: that of the probes, at every point; the dense Hessian for "log_determinant" and "eigenvalues".

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    Fig. 2.

    Examples
    --------
    >>> import landscape as ls
    >>> valley = ls.potentials.Valley("1 + y**2")
    >>> axis = ls.paths.straight_line([0.0, -2.0], [0.0, -1.0], 2)
    >>> found = along_path(valley, axis, ["log_determinant", "trace"], settings={"trace": {"method": "exact"}})
    >>> found.trace.values, found.log_determinant.values.round(6)  # g, ln g
    (array([5., 2.]), array([1.609438, 0.693147]))
    """
    an_instance("potential", potential, Potential)
    curve = path if isinstance(path, Path) else Path.from_dataset(path)
    whole_number("between", between, least=0)
    if curve.pivots.shape[1] != potential.dim:
        raise ShapeError(f"the path has {curve.pivots.shape[1]} coordinates, the potential has {potential.dim}")
    curve = curve.ordered(potential.coordinates)
    count = len(curve)
    fraction = np.arange((count - 1) * (between + 1) + 1) / (between + 1)
    s = np.interp(fraction, np.arange(count), curve.arc_length.cpu().numpy())
    points, tangents = curve.at(torch.from_numpy(s)), curve.tangent(torch.from_numpy(s))
    measure = _Measure(potential, quantities, epsilon=epsilon, settings=settings, seed=seed)
    found = measure(points[None], tangents).squeeze("pair")
    found = found.assign_coords(pivot=fraction, arc_length=("pivot", s))
    found["is_pivot"] = ("pivot", fraction == np.rint(fraction), {"long_name": "whether it is a pivot", "units": "1"})
    found.attrs.update(title="Along a path", path_length=curve.length, interpolation=curve.interpolation)
    return annotate(found, names=GLOSSARY["along_path"])


@probe("confinement.linear_connectivity", POSITIONS)
@plain_modes()
def linear_connectivity(
    potential: Potential,
    positions: Any,
    quantities: Sequence[str] = ("energy", "largest_eigenvalue"),
    *,
    points: int = 11,
    pairs: Sequence[tuple[int, int]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Quantities on the straight lines between all pairs of positions, (1 - a) x_i + a x_j.

    Parameters
    ----------
    positions : run, array ``(chain, coordinate)``, or sequence of positions or minima
        Such as the children of ``train(..., siblings=m, split_epoch=k)``, where the run's last positions are taken.
    quantities, settings, seed
        As for `along_path`.
    points : int
        On each line, its ends among them.
    pairs : sequence of (int, int), optional
        All by default.

    Returns
    -------
    xarray.Dataset
        The quantities on (pair, pivot), with `fraction` = a (pivot), `distance`, `first` and `second` (pair). Siblings
        that have not parted make lines of length 0.

    Raises
    ------
    ConfigError, ShapeError
        Also for networks of different architectures.

    References
    ----------
    Frankle, Dziugaite, Roy, Carbin (2020), Linear mode connectivity and the lottery ticket hypothesis.
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    Figs. 5 and 6.

    Examples
    --------
    >>> from landscape.potentials import DoubleWell
    >>> found = linear_connectivity(DoubleWell(), [[-1.0], [1.0]], points=3)
    >>> found.energy.values, found.largest_eigenvalue.values.round(6)  # (x^2 - 1)^2
    (array([[0., 1., 0.]]), array([[ 8., -4.,  8.]]))
    """
    an_instance("potential", potential, Potential)
    whole_number("points", points, least=2)
    ends = _siblings(positions, potential)
    chosen = list(combinations(range(len(ends)), 2)) if pairs is None else [(int(i), int(j)) for i, j in pairs]
    if not chosen:
        raise ShapeError(f"got {len(ends)} positions: a line needs two")
    for i, j in chosen:
        if not (0 <= i < len(ends) and 0 <= j < len(ends)):
            raise ConfigError(f"there is no pair ({i}, {j}) of {len(ends)} positions")
    first, second = ([pair[side] for pair in chosen] for side in (0, 1))
    a = torch.linspace(0, 1, points, dtype=torch.float64)
    lines = torch.lerp(ends[first][:, None], ends[second][:, None], a[:, None])
    measure = _Measure(potential, quantities, epsilon=0.0, settings=settings, seed=seed)
    found = measure(lines, None).assign_coords(
        fraction=("pivot", a.numpy()),
        first=("pair", first),
        second=("pair", second),
        distance=("pair", (ends[first] - ends[second]).norm(dim=-1).numpy()),
    )
    found.attrs["title"] = "Linear connectivity"
    return annotate(found, names=GLOSSARY["along_path"])


class _Measure:
    """Measures quantities at points ``(pair, pivot, coordinate)``."""

    def __init__(
        self, potential: Potential, quantities: Any, *, epsilon: float,
        settings: Mapping[str, Mapping[str, Any]] | None, seed: int,
    ) -> None:  # fmt: skip
        known = [*_SIMPLE, *_PROBED, *_ACROSS]
        names = [quantities] if isinstance(quantities, str) else list(quantities)
        if not names:
            raise ConfigError(f"there is no quantity to measure: choose from {', '.join(known)}")
        for name in [*names, *(settings or {})]:
            if name not in known:
                raise ConfigError(f"unknown quantity {name!r}: choose from {', '.join(known)}")
        for name in {"accuracy", "evaluation_energy", "fisher_trace", "score_singular_values"} & set(names):
            if not has_samples(potential):
                raise ConfigError(f"{name!r} exists for NetworkLoss only, not {type(potential).__name__}")
        self.potential, self.names = potential, names
        self.epsilon = finite_number("epsilon", epsilon, least=0)
        self.settings, self.seed = dict(settings or {}), check_seed(seed)

    def __call__(self, points: Tensor, tangents: Tensor | None) -> xr.Dataset:
        """All of them; those that need tangents ``(pivot, coordinate)`` only where there are some."""
        found = xr.Dataset()
        places = xr.DataArray(points.cpu().numpy(), dims=("pair", "pivot", "coordinate"))
        for name in self.names:
            if name in _PROBED:
                found = found.assign(self._probed(name, places))
            elif name in _ACROSS:
                if tangents is None:
                    raise ConfigError(f"{name!r} is measured across a path: use along_path")
                found[name] = (("pair", "pivot"), self._log_determinant(points, tangents))
            else:
                flat = points.reshape(-1, points.shape[-1])
                found[name] = (("pair", "pivot"), self._simple(name, flat).reshape(points.shape[:-1]))
        if "trace" in self.names and tangents is not None:
            along = [self._curvature_along(x, t) for x, t in zip(points[0], tangents, strict=True)]
            found["tangent_curvature"] = (("pair", "pivot"), np.array(along)[None])
        if "log_determinant" in self.names:
            found.attrs["epsilon"] = self.epsilon
        return found

    def _curvature_along(self, point: Tensor, tangent: Tensor) -> float:
        hessian = curvature.HessianOperator(self.potential, point)
        direction = tangent.to(hessian.device, hessian.dtype)
        return float((hessian @ direction).double() @ direction.double())

    def _simple(self, name: str, flat: Tensor) -> np.ndarray:
        functions: dict[str, Callable[[Tensor], Tensor]] = {
            "energy": lambda x: energies_at(self.potential, x, None),
            "norm": lambda x: x.norm(dim=-1),
            "gradient_norm": lambda x: torch.stack([self.potential.gradient(row).detach().norm() for row in x]),
        }
        function = functions.get(name) or (lambda x: torch.stack([getattr(self.potential, name)(row) for row in x]))
        return function(flat).detach().cpu().double().numpy()

    def _probed(self, name: str, places: xr.DataArray) -> dict[str, xr.DataArray]:
        probe, variables = _PROBED[name]
        options = dict(self.settings.get(name, {}))
        if probe in _SEEDED:
            options.setdefault("seed", self.seed)
        result: xr.Dataset = getattr(curvature, probe)(self.potential, places, **options)
        found = {own: result[theirs].drop_attrs() for theirs, own in variables.items()}
        if "converged" in result and not bool(result.converged.all()):
            found[f"{name}_converged"] = result.converged.drop_attrs()
        return found

    def _log_determinant(self, points: Tensor, tangents: Tensor) -> np.ndarray:
        """Of the Hessian in the hyperplane across the path, by a reflection that takes t to the first axis."""
        values = []
        for x, t in zip(points[0], tangents, strict=True):
            hessian = torch.as_tensor(self.potential.hessian(x)).detach().double()
            axis = torch.zeros_like(t)
            axis[0] = -1.0 if t[0] > 0 else 1.0
            mirror = torch.nn.functional.normalize(t - axis, dim=0)
            mirrored = hessian - 2 * torch.outer(mirror, mirror @ hessian)
            mirrored = mirrored - 2 * torch.outer(mirrored @ mirror, mirror)
            across = torch.linalg.eigvalsh(mirrored[1:, 1:]).clamp_min(0.0)
            values.append(float((across + self.epsilon).log().sum()))
        return np.array(values)[None]


def _siblings(positions: Any, potential: Potential) -> Tensor:
    """Positions ``(chain, coordinate)`` in float64."""
    given = list(positions) if isinstance(positions, Sequence) else [positions]
    layouts = {str(one.attrs.get("layout")) for one in given if isinstance(one, xr.Dataset)}
    if len(layouts) > 1:
        raise ConfigError("these are networks of different architectures: only equal ones lie on one landscape")
    rows: list[Tensor] = []
    for one in given:
        if isinstance(one, xr.Dataset):
            name = "last_position" if "last_position" in one else "position"
            if name not in one or "draw" in one[name].dims:
                raise ConfigError("a Dataset among the positions has no last_position: expected runs or minima")
            one = one[name]
        values = torch.as_tensor(ordered(one, potential.coordinates, potential.dim)).double()
        if values.ndim not in (1, 2) or values.shape[-1] != potential.dim:
            raise ShapeError(
                f"got positions of shape {tuple(values.shape)}, expected (chain, {potential.dim}): networks of "
                "different architectures do not lie on one landscape"
            )
        rows.append(values.reshape(-1, potential.dim))
    return torch.cat(rows)
