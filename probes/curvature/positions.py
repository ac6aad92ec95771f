"""Where the curvature is measured: positions with any leading dimensions, layers, and the dataset that comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, ParamSpec

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import one_of, whole_number
from landscape.common.docstrings import documented
from landscape.common.positions import aligned, check_dense, labelled, plain_array, stored
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, Potential
from landscape.potentials.base import has_samples
from landscape.potentials.network.data import check_dtype
from landscape.potentials.network.modes import out_of_inference, plain_modes
from landscape.probes.curvature.linear import LinearMap, as_linear
from landscape.probes.curvature.operators import HessianOperator, layer_blocks
from landscape.probes.estimation.describe import annotate

__all__ = ["Places", "Sites", "at_positions", "products_cost", "scores_cost"]

P = ParamSpec("P")

_LEADING = {0: (), 1: ("position",), 2: ("chain", "snapshot")}
_SHARED: Final = {
    "potential": "Potential, or a square matrix or operator with `shape` and `@`",
    "loss": "NetworkLoss",
    "positions": "DataArray, Dataset, tensor or array, shape ``(..., dim)``\n"
    "A DataArray keeps its dims and coordinates; of a run its `snapshot`. A matrix has none.",
    "blocks": '{"layer"}, optional\nThe diagonal block of each layer of a network instead of the whole.',
    "chunk_size": "int, optional\nSamples of a network at once.",
    "dtype": "torch.dtype, optional\nOf the products.",
}
_ENTRIES: Final = {name: f"{name} : {text}".replace("\n", "\n    ") for name, text in _SHARED.items()}


def at_positions(function: Callable[P, xr.Dataset]) -> Callable[P, xr.Dataset]:
    """A function of the curvature at positions, out of torch's modes, with the parameters that they share told of."""
    measured: Callable[P, xr.Dataset] = plain_modes()(documented(_ENTRIES)(function))
    return measured


def products_cost(products: Any) -> dict[str, Any]:
    """Attributes that say how many products were spent in all."""
    total = int(np.sum(products))
    return {"products": total, "cost": f"{total} Hessian-vector products"}


def scores_cost(gradients: int, route: str | None) -> dict[str, Any]:
    """Attributes that say how many gradients of single samples were taken, and how."""
    cost = f"{gradients} gradients of single samples, forward pass shared"
    return {"route": route, "gradients": gradients, "cost": cost}


@dataclass(frozen=True, slots=True)
class Places:
    """Positions in a row, and the dims that they are to be put back into.

    Attributes
    ----------
    rows : array or tensor, shape ``(n, dim)``
    dims : tuple of str
    shape : tuple of int
        n is their product.
    coords : mapping
        Coordinates of those dims.
    """

    rows: Any
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: Mapping[str, Any]

    @classmethod
    def of(cls, positions: Any, potential: Potential) -> Places:
        """From a DataArray, a Dataset (its `snapshot`, else its `position`), a Path, a tensor or an array.

        Labels of coordinates are brought into the order of the potential's.

        Raises
        ------
        ShapeError
            If the last dimension is not that of the potential, labels are others than its coordinates, or positions
            are not real numbers.
        """
        dim, coords = potential.dim, dict[str, Any]()
        if hasattr(positions, "pivots") and not isinstance(positions, xr.Dataset):
            names = getattr(positions, "names", None)
            labels = {} if names is None else {"coordinate": list(names)}
            positions = (
                positions.pivots
                if names is None
                else xr.DataArray(positions.pivots.cpu().numpy(), dims=("position", "coordinate"), coords=labels)
            )
        if isinstance(positions, xr.Dataset):
            positions = stored(positions, ("snapshot", "position", "last_position"))
        array = labelled(positions)
        if array is not None:
            array = aligned(array, potential.coordinates, dim)
            dims = tuple(str(name) for name in array.dims[:-1])
            coords = {str(name): c for name, c in array.coords.items() if "coordinate" not in c.dims}
            values: Any = plain_array(array.to_numpy())
        else:
            if isinstance(positions, torch.Tensor):
                check_dense(positions)
                values = out_of_inference(positions)
            else:
                values = plain_array(positions)
            count = values.ndim - 1
            dims = _LEADING.get(count, tuple(f"axis_{i}" for i in range(count)))
        if values.ndim == 0 or values.shape[-1] != dim:
            raise ShapeError(f"got positions of shape {tuple(values.shape)}; expected the last dimension to be {dim}")
        return cls(values.reshape(-1, dim), dims, tuple(values.shape[:-1]), coords)


@dataclass(frozen=True, slots=True)
class Sites:
    """A potential at positions, whole or layer by layer; or a single matrix.

    Attributes
    ----------
    potential : Potential, or anything with `shape` and `@`
    places : Places or None
        None for a matrix.
    layers : tuple of (str or None, int)
        Name and size of each block; None for the whole.
    chunk_size, dtype
        Of the products with a network's matrices.
    """

    potential: Any
    places: Places | None
    layers: tuple[tuple[str | None, int], ...]
    chunk_size: int | None = None
    dtype: torch.dtype | None = None

    @classmethod
    def of(
        cls,
        potential: Any,
        positions: Any,
        *,
        blocks: str | None = None,
        chunk_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> Sites:
        """Check what a user gave.

        Raises
        ------
        ConfigError, ShapeError
        """
        if blocks is not None:
            one_of("blocks", blocks, ("layer",))
        check_dtype(dtype)
        if chunk_size is not None:
            whole_number("chunk_size", chunk_size)
        if not isinstance(potential, Potential):
            if blocks is not None:
                raise ConfigError('blocks="layer" needs the layers of a NetworkLoss, not a matrix')
            if positions is not None:
                raise ConfigError(
                    f"positions need a potential, got {type(potential).__name__}: a matrix has none, leave them out"
                )
            return cls(potential, None, ((None, 0),), chunk_size, dtype)
        if positions is None:
            raise ConfigError("positions are missing: give snapshots of a run, pivots of a path, or one position")
        layers: tuple[tuple[str | None, int], ...] = ((None, potential.dim),)
        if blocks is not None:
            layers = tuple((name, part.stop - part.start) for name, part in layer_blocks(potential).items())
        return cls(potential, Places.of(positions, potential), layers, chunk_size, dtype)

    @property
    def count(self) -> int:
        """Number of positions."""
        return 1 if self.places is None else math.prod(self.places.shape)

    @property
    def row(self) -> int:
        """Number of positions along the last leading dim, which neighbours are taken along."""
        return 1 if self.places is None or not self.places.shape else self.places.shape[-1]

    @property
    def dim(self) -> int:
        """Number of coordinates: the order of the whole matrix."""
        return int(self.potential.shape[0] if self.places is None else self.potential.dim)

    @property
    def by_layer(self) -> bool:
        """Whether layers are looked at one by one."""
        return self.layers[0][0] is not None

    def numbers(self) -> Iterator[int]:
        """Numbers of the positions that are finite: those of chains that were lost are not."""
        for number in range(self.count):
            if self.places is None or bool(torch.as_tensor(self.places.rows[number]).isfinite().all()):
                yield number

    def position(self, number: int, loss: NetworkLoss | None = None) -> Tensor:
        """The position of a number; of a network where and in which numbers it computes."""
        places: Any = self.places
        found = torch.as_tensor(places.rows[number])
        return found if loss is None else found.to(loss.device, loss.dtype)

    def operators(self, number: int, make: Callable[..., Any] = HessianOperator) -> Iterator[tuple[int, Any]]:
        """Number of the layer (0 for the whole) and its operator, at one position."""
        for layer, (name, _) in enumerate(self.layers):
            if self.places is None:
                yield layer, self.potential
            else:
                at = self.places.rows[number]
                yield layer, make(self.potential, at, block=name, chunk_size=self.chunk_size, dtype=self.dtype)

    def linear_maps(self) -> Iterator[tuple[int, int, LinearMap]]:
        """Number of the position and of the layer, and the Hessian there, at all positions that are finite."""
        for number in self.numbers():
            for layer, operator in self.operators(number):
                yield number, layer, as_linear(operator)

    def empty(self, *extra: int, fill: float = np.nan, dtype: type = float) -> np.ndarray:
        """An array with an entry for each position and layer."""
        return np.full((self.count, len(self.layers), *extra), fill, dtype=dtype)

    def dataset(
        self,
        variables: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
        names: Mapping[str, tuple[str, str]],
        **attributes: Any,
    ) -> xr.Dataset:
        """Variables ``name: (extra dims, (position, layer, ...))`` as a dataset with the dims of the positions."""
        dims: tuple[str, ...] = ()
        shape: tuple[int, ...] = ()
        coords: dict[str, Any] = {}
        if self.places is not None:
            dims, shape, coords = self.places.dims, self.places.shape, dict(self.places.coords)
        if self.by_layer:
            dims, shape = (*dims, "layer"), (*shape, len(self.layers))
            coords["layer"] = ("layer", [str(name) for name, _ in self.layers], {"long_name": "layer", "units": "1"})
            sizes = [size for _, size in self.layers]
            coords["weights"] = ("layer", sizes, {"long_name": "number of weights of the layer", "units": "1"})
        data = {}
        for name, (extra, values) in variables.items():
            data[name] = ((*dims, *extra), values.reshape((*shape, *values.shape[2:])))
        dataset = xr.Dataset(data, coords=coords)
        dataset.attrs.update(self._conventions())
        dataset.attrs.update({key: value for key, value in attributes.items() if value is not None})
        return annotate(dataset, names=names)

    def _conventions(self) -> dict[str, Any]:
        if not has_samples(self.potential):
            return {"conventions": "the energy as it is", "dtype": _type_name(self.dtype or torch.float64)}
        loss = self.potential
        return {
            "conventions": (
                f"energy = mean over {loss.samples} samples of the loss"
                + (f" + ({loss.weight_decay:g}/2) |theta|^2" if loss.weight_decay else "")
            ),
            "dtype": _type_name(self.dtype or loss.dtype),
            "batchnorm": loss.batchnorm or "none",
        }


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
