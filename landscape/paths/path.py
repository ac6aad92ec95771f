"""A path: pivots and the curve through them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import one_of, whole_number
from landscape.common.arguments import guarded_class
from landscape.common.positions import aligned, check_dense, plain_array
from landscape.errors import ConfigError, NonFiniteError, ShapeError
from landscape.paths import storing
from landscape.paths.curve import Curve
from landscape.paths.evaluation import energies_at
from landscape.potentials.base import Potential
from landscape.storage.files import open_file as open_dataset
from landscape.storage.files import save as save_dataset

__all__ = ["Path", "real_tensor"]

Interpolation = Literal["linear", "spline"]
ZOOMS = 12  # in `highest`: each narrows the bracket fivefold


@guarded_class
class Path:
    """A curve through pivots, parametrised by its arc length s from 0 to `length`.

    Either the polyline, c(s) = p_i + (s - s_i) (p_{i+1} - p_i)/|p_{i+1} - p_i|, or the natural cubic spline over the
    chord lengths, c''(u) = 0 at both ends, whose arc length is the integral of |c'(u)| du. `path.spline` is the same
    pivots with the spline between them. All geometry is float64 and stays on the pivots' device. Arc lengths and
    positions are tensors or arrays, batched over leading dimensions; answers are of the same kind.

    Parameters
    ----------
    pivots : tensor or array, shape ``(pivot, coordinate)``
        Two or more, finite, no two neighbours equal.
    interpolation : {"linear", "spline"}
    energies : tensor or array, shape ``(pivot,)``, optional
        Energy at the pivots.
    buffers : mapping of str to tensor ``(pivot, ...)``, optional
        Statistics of batch normalisation that belong to the pivots; never coordinates of the path.
    names : sequence of str, optional
        Names of the coordinates.
    history : xarray.Dataset, optional
        How the path was found, on ``iteration`` and ``cycle``.
    attributes : mapping, optional
        What a stored path carries: title, source, specification.

    Raises
    ------
    ShapeError
        If the pivots are not points, or energies, buffers or names do not fit them.
    ConfigError
        If there are fewer than two, two neighbours coincide, or the interpolation is unknown.
    NonFiniteError
        If a pivot is not finite.

    Attributes
    ----------
    pivots : tensor, float64, shape ``(pivot, coordinate)``
    energies : tensor, float64, shape ``(pivot,)``, or None

    Notes
    -----
    The spline deviates from a smooth curve by O(h^4) inside and O(h^2) beside its ends, h the distance of the pivots.

    Examples
    --------
    >>> path = Path([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    >>> path.length, path.at(5.0), path.tangent(5.0)
    (7.0, array([3., 2.]), array([0., 1.]))
    >>> s, distance = path.project([1.0, -2.0])
    >>> float(s), float(distance)
    (1.0, 2.0)
    """

    def __init__(
        self,
        pivots: Any,
        *,
        interpolation: Interpolation = "linear",
        energies: Any = None,
        buffers: Mapping[str, Tensor] | None = None,
        names: Sequence[str] | None = None,
        history: xr.Dataset | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        one_of("interpolation", interpolation, ("linear", "spline"))
        self.interpolation = interpolation
        self.pivots = _checked(pivots)
        count, dim = self.pivots.shape
        self.energies = None if energies is None else real_tensor(energies).to(self.pivots)
        if self.energies is not None and self.energies.shape != (count,):
            raise ShapeError(f"energies have shape {tuple(self.energies.shape)}, expected one per pivot: ({count},)")
        self.buffers = dict(buffers or {})
        for name, values in self.buffers.items():
            if len(values) != count:
                raise ShapeError(f"buffer {name!r} has {len(values)} entries, expected one per pivot: {count}")
        self.names = None if names is None else tuple(str(name) for name in names)
        if self.names is not None and len(self.names) != dim:
            raise ShapeError(f"got {len(self.names)} names for {dim} coordinates")
        if not isinstance(history, xr.Dataset | None):
            raise ConfigError(f"history must be a Dataset, of what a search recorded, got {type(history).__name__}")
        self.history = history
        self.attributes = dict(attributes or {})
        self._curve = Curve(self.pivots, spline=interpolation == "spline")

    def __len__(self) -> int:
        return len(self.pivots)

    def __repr__(self) -> str:
        count, dim = self.pivots.shape
        return f"Path({count} pivots in {dim} dimensions, {self.interpolation}, length {self.length:.6g})"

    # -- geometry -------------------------------------------------------------------------------------------------

    @property
    def arc_length(self) -> Tensor:
        """Arc length at the pivots, float64 ``(pivot,)``."""
        return self._curve.arc_length

    @property
    def length(self) -> float:
        """Length of the whole curve."""
        return float(self.arc_length[-1])

    @cached_property
    def spline(self) -> Path:
        """The same pivots joined by the natural cubic spline."""
        return self if self.interpolation == "spline" else self._twin(interpolation="spline")

    def ordered(self, names: Sequence[str] | None) -> Path:
        """The same path with its coordinates in the order of these names; itself where one of the two has none.

        Raises
        ------
        ShapeError
            If its coordinates have other names.

        Examples
        --------
        >>> Path([[0.0, 1.0], [2.0, 3.0]], names=["y", "x"]).ordered(["x", "y"]).pivots.tolist()
        [[1.0, 0.0], [3.0, 2.0]]
        """
        if self.names is None or names is None or self.names == tuple(names):
            return self
        numbers = xr.DataArray(range(len(self.names)), dims="coordinate", coords={"coordinate": list(self.names)})
        order = aligned(numbers, names, len(self.names)).to_numpy().tolist()
        return self._twin(pivots=self.pivots[:, order], names=tuple(names))

    def at(self, s: Any) -> Any:
        """Positions at arc lengths `s` of any shape ``(...)``: ``(..., coordinate)``. Beyond the ends: the ends."""
        return self._along(self._curve.at, s)

    def tangent(self, s: Any) -> Any:
        """Unit tangents at arc lengths ``(...)``; on a polyline's pivot that of the segment after it."""
        return self._along(self._curve.tangent, s)

    def project(self, position: Any, *, near: Any = None) -> tuple[Any, Any]:
        """Nearest point of the curve.

        Parameters
        ----------
        position : tensor or array, shape ``(..., coordinate)``
        near : tensor or array, shape ``(...)``, optional
            Arc lengths: only their segment and its two neighbours are searched. Left out, the whole curve is.

        Returns
        -------
        s : shape ``(...)``, float64
            Arc length of the nearest point; exactly that of a pivot where a polyline's vertex is nearest.
        distance : shape ``(...)``, float64

        Notes
        -----
        Costs O(P N) for each position, memory O(N) for each besides the path, and no copy to the host.
        """
        points, back = real_tensor(position), _kind(position)
        if points.ndim == 0 or points.shape[-1] != self.pivots.shape[1]:
            raise ShapeError(
                f"got positions of shape {tuple(points.shape)}; expected the last dimension to be "
                f"{self.pivots.shape[1]}, as the path's"
            )
        lead = points.shape[:-1]
        start = None if near is None else real_tensor(near).to(self.pivots).expand(lead).reshape(-1)
        s, distance = self._curve.nearest(points.to(self.pivots.device).reshape(-1, points.shape[-1]), start)
        return back(s.reshape(lead)), back(distance.reshape(lead))

    def segment(self, s: Any) -> Any:
        """Number of the segment at arc lengths ``(...)``, int64; a pivot belongs to the segment after it."""
        return self._along(lambda flat: self._curve.segment(self._curve._parameter(flat)), s)

    def refine(self, n: int) -> Path:
        """The path with `n` more pivots in every segment, evenly spaced by arc length on its own curve."""
        whole_number("n", n)
        return Path(self._curve.at(self._dense(n)), interpolation=self.interpolation, names=self.names)

    def resample(self, n: int) -> Path:
        """A path through `n` points of this one, even in arc length; the ends stay."""
        whole_number("n", n, least=2)
        inner = self._curve.at(self.arc_length[-1] * torch.arange(1, n - 1, device=self.pivots.device) / (n - 1))
        pivots = torch.cat([self.pivots[:1], inner, self.pivots[-1:]])
        return Path(pivots, interpolation=self.interpolation, names=self.names)

    def to(self, device: torch.device | str) -> Path:
        """The same path on another device."""
        buffers = {name: values.to(device) for name, values in self.buffers.items()}
        return self._twin(pivots=self.pivots.to(device), buffers=buffers)

    # -- energy along it ------------------------------------------------------------------------------------------

    def profile(self, potential: Potential, *, between: int = 9, pivots_at_once: int | None = None) -> xr.Dataset:
        """Energy at the pivots and at points between them.

        Parameters
        ----------
        potential : Potential
        between : int
            Points in every segment, evenly spaced by arc length.
        pivots_at_once : int, optional
            Positions evaluated as one batch; by default all of a small potential, one by one of a large network.

        Returns
        -------
        xarray.Dataset
            ``energy (point)`` on ``arc_length (point)``, ``is_pivot (point)``, and ``barrier``: the highest energy
            above the straight line, in arc length, between the energies of the ends.
        """
        s = self._dense(whole_number("between", between, least=0))
        energy = energies_at(potential, self._curve.at(s), pivots_at_once).cpu().numpy()
        arcs = s.cpu().numpy()
        chord = energy[0] + (energy[-1] - energy[0]) * arcs / arcs[-1]
        return xr.Dataset(
            {
                "energy": ("point", energy, {"long_name": "potential energy", "units": "energy"}),
                "barrier": ((), float((energy - chord).max()), {"long_name": "barrier", "units": "energy"}),
            },
            {
                "arc_length": ("point", arcs, {"long_name": "arc length along the path", "units": "1"}),
                "is_pivot": ("point", np.arange(len(arcs)) % (between + 1) == 0, {"long_name": "pivot", "units": "1"}),
            },
        )

    def highest(
        self, potential: Potential, *, between: int = 9, pivots_at_once: int | None = None
    ) -> tuple[float, float]:
        """Arc length and energy of the highest point of the curve.

        The highest of the pivots and of `between` points in every segment, then zoomed in on between its neighbours by
        some 130 further energies. A peak that is narrower than the distance of the points can be missed.
        """
        profile = self.profile(potential, between=between, pivots_at_once=pivots_at_once)
        top = int(profile.energy.values.argmax())
        arcs = profile.arc_length.values
        best = (float(arcs[top]), float(profile.energy[top]))
        low, high = float(arcs[max(top - 1, 0)]), float(arcs[min(top + 1, len(arcs) - 1)])
        for _ in range(ZOOMS):
            s = torch.linspace(low, high, 11, dtype=torch.float64, device=self.pivots.device)
            energy = energies_at(potential, self._curve.at(s), pivots_at_once)
            k = int(energy.argmax())
            if float(energy[k]) > best[1]:
                best = (float(s[k]), float(energy[k]))
            low, high = float(s[max(k - 1, 0)]), float(s[min(k + 1, 10)])
        return best

    # -- storage --------------------------------------------------------------------------------------------------

    def to_dataset(self) -> xr.Dataset:
        """The path as ``pivots (pivot, coordinate)`` with arc length, energies, buffers and history."""
        return storing.dataset_of(
            self.pivots, self.arc_length, energies=self.energies, buffers=self.buffers, names=self.names,
            history=self.history, interpolation=self.interpolation, attributes=self.attributes,
        )  # fmt: skip

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Path:
        """The path that `to_dataset` stored.

        Raises
        ------
        ConfigError
            If the Dataset holds no path.
        """
        return cls(**storing.parts_of(dataset))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the path as netCDF; the file appears complete or not at all."""
        save_dataset(self.to_dataset(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Path:
        """Read a path written by `save`."""
        with open_dataset(path) as dataset:
            return cls.from_dataset(dataset.load())

    # -- private --------------------------------------------------------------------------------------------------

    def _twin(self, **changes: Any) -> Path:
        kept = {
            "pivots": self.pivots, "interpolation": self.interpolation, "energies": self.energies,
            "buffers": self.buffers, "names": self.names, "history": self.history, "attributes": self.attributes,
        }  # fmt: skip
        return Path(**(kept | changes))

    def _along(self, function: Any, s: Any) -> Any:
        at, back = real_tensor(s).to(self.pivots), _kind(s)
        found = function(at.reshape(-1))
        return back(found.reshape(*at.shape, *found.shape[1:]))

    def _dense(self, between: int) -> Tensor:
        """Arc lengths of the pivots and of so many points in every segment."""
        arcs = self.arc_length
        inner = torch.arange(between + 1, device=arcs.device, dtype=arcs.dtype) / (between + 1)
        return torch.cat([(arcs[:-1, None] + inner * arcs.diff()[:, None]).flatten(), arcs[-1:]])


def real_tensor(values: Any) -> Tensor:
    """Numbers as a tensor; of arrays and lists a copy in float64.

    Raises
    ------
    ShapeError
        If they are not real numbers in rows of equal length.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.dtype == torch.bool:
            raise ShapeError(f"expected real numbers, got dtype {values.dtype}")
        check_dense(values)
        return values.detach()
    return torch.from_numpy(np.array(plain_array(values, "these"), dtype=np.float64))


def _kind(values: Any) -> Any:
    """Turns an answer into the kind of thing that was given."""
    return (lambda tensor: tensor) if isinstance(values, Tensor) else (lambda tensor: tensor.cpu().numpy())


def _checked(pivots: Any) -> Tensor:
    tensor = real_tensor(pivots)
    if tensor.ndim != 2 or not tensor.shape[-1]:
        raise ShapeError(f"pivots must be real numbers (pivot, coordinate), got shape {tuple(tensor.shape)}")
    if len(tensor) < 2:
        raise ConfigError(f"a path needs 2 pivots or more, got {len(tensor)}")
    tensor = tensor.double()
    bad = torch.nonzero(~torch.isfinite(tensor))
    if len(bad):
        pivot, coordinate = bad[0].tolist()
        raise NonFiniteError(
            f"coordinate {coordinate} of pivot {pivot} is {float(tensor[pivot, coordinate])}; expected finite numbers",
            coordinate=coordinate,
        )
    equal = torch.nonzero(tensor.diff(dim=0).norm(dim=-1) == 0)
    if len(equal):
        i = int(equal[0])
        raise ConfigError(f"pivots {i} and {i + 1} coincide: leave one of them out, or give different ends")
    return tensor
