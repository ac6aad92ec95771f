"""A path as a Dataset, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.errors import ConfigError
from landscape.storage.buffers import PREFIX, stored_buffers

__all__ = ["dataset_of", "parts_of"]


def dataset_of(
    pivots: Tensor, arc_length: Tensor, *, energies: Tensor | None, buffers: Mapping[str, Tensor],
    names: tuple[str, ...] | None, history: xr.Dataset | None, interpolation: str, attributes: Mapping[str, Any],
) -> xr.Dataset:  # fmt: skip
    """``pivots (pivot, coordinate)``, ``energy (pivot)``, buffers, and the history of how the path was found."""
    about = {"long_name": "pivots of the path", "units": "1"}
    variables: dict[str, Any] = {"pivots": (("pivot", "coordinate"), pivots.cpu().numpy(), about)}
    if energies is not None:
        about = {"long_name": "potential energy at the pivots", "units": "energy"}
        variables["energy"] = ("pivot", energies.cpu().numpy(), about)
    variables |= stored_buffers(buffers, "pivots", "pivot")
    coordinates: dict[str, Any] = {
        "pivot": ("pivot", np.arange(len(pivots)), {"long_name": "pivot", "units": "1"}),
        "arc_length": ("pivot", arc_length.cpu().numpy(), {"long_name": "arc length along the path", "units": "1"}),
    }
    if names is not None:
        coordinates["coordinate"] = ("coordinate", np.array(names, dtype=np.str_), {"long_name": "coordinate"})
    dataset = xr.Dataset(variables, coordinates)
    if history is not None:
        dataset = dataset.merge(history)
    return dataset.assign_attrs({**attributes, "interpolation": interpolation})


def parts_of(dataset: xr.Dataset) -> dict[str, Any]:
    """Arguments of `Path`.

    Raises
    ------
    ConfigError
        If the Dataset holds no path.
    """
    if not isinstance(dataset, xr.Dataset) or "pivots" not in dataset:
        raise ConfigError("expected a stored path: a Dataset with `pivots (pivot, coordinate)`")
    own = [name for name in dataset.variables if "pivot" in dataset[name].dims or dataset[name].dims == ("coordinate",)]
    history = dataset.drop_vars(own)
    history.attrs = {}
    return {
        "pivots": dataset["pivots"].values,
        "interpolation": dataset.attrs.get("interpolation", "linear"),
        "energies": dataset["energy"].values if "energy" in dataset else None,
        "buffers": {
            variable.attrs["buffer"]: torch.from_numpy(np.array(variable.values))
            for name, variable in dataset.data_vars.items()
            if str(name).startswith(PREFIX)
        },
        "names": dataset["coordinate"].values if "coordinate" in dataset.coords else None,
        "history": history if history.variables else None,
        "attributes": {key: value for key, value in dataset.attrs.items() if key != "interpolation"},
    }
