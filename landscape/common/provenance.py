"""Where a dataset comes from: attributes that everything which is written carries.

CF-1.11 (`Conventions`, `source`, `history`); of what a probe found also the `probe` and, as ``run_spec``, the
specification of the run that it was measured from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from landscape.common.version import package_version
from landscape.errors import StorageError

__all__ = ["REFERENCES", "global_attributes", "measured_from", "read_spec", "run_spec", "signed"]

REFERENCES = (
    "Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural "
    "Networks; Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network "
    "Landscape with Thermal-Like Noise"
)


def _signature(what: str) -> dict[str, str]:
    """By which program a dataset was made, when, and by which of its functions."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"Conventions": "CF-1.11", "source": f"landscape {package_version()}", "history": f"{now} {what}"}


def signed(dataset: xr.Dataset) -> xr.Dataset:
    """The same dataset with the attributes that everything which is written carries; what it says itself stays.

    Examples
    --------
    >>> sorted(signed(xr.Dataset()).attrs)
    ['Conventions', 'history', 'source']
    """
    signature = _signature(str(dataset.attrs.get("probe", "save")))
    return dataset if signature.keys() <= dataset.attrs.keys() else dataset.assign_attrs(signature | dataset.attrs)


def global_attributes(title: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a run: its signature, its title and what made it."""
    return {
        **_signature(str(spec.get("task", "simulate"))),
        "title": title,
        "references": REFERENCES,
        "spec": json.dumps(spec, sort_keys=True, default=_as_python),
    }


def _as_python(value: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no plain data")


def measured_from(found: xr.Dataset, probe: str, sources: Iterable[Any]) -> xr.Dataset:
    """The result of a probe with its name and, as far as a source tells it, the specification of the run.

    Parameters
    ----------
    found : xarray.Dataset
        A `run_spec` that it has already stays.
    probe : str
        Such as "fluctuations.summary".
    sources : iterable
        What was measured: runs or results of probes (of which the runs are taken), or anything else.

    Examples
    --------
    >>> run = xr.Dataset(attrs={"spec": '{"steps": 3}'})
    >>> measured_from(xr.Dataset({"mean": 1.0}), "fluctuations.summary", [run]).attrs
    {'run_spec': '{"steps": 3}', 'probe': 'fluctuations.summary'}
    """
    attributes = [one.attrs for one in sources if isinstance(one, xr.Dataset)]
    specs = list(dict.fromkeys(filter(None, (about.get("run_spec", about.get("spec")) for about in attributes))))
    told = {"run_spec": specs[0] if len(specs) == 1 else f"[{', '.join(specs)}]"} if specs else {}
    found.attrs = told | found.attrs | {"probe": probe}
    return found


def run_spec(dataset: xr.Dataset) -> dict[str, Any]:
    """The specification of a run; of a result that of the run which it was measured from, the first of several.

    Raises
    ------
    StorageError
    """
    return read_spec(dataset, "run_spec" if "run_spec" in dataset.attrs else "spec")


def read_spec(dataset: xr.Dataset, key: str = "spec") -> dict[str, Any]:
    """The specification stored in a run, or under another key.

    Raises
    ------
    StorageError
    """
    try:
        spec = json.loads(dataset.attrs[key])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError("the file carries no specification: it was not written by landscape") from error
    spec = spec[0] if isinstance(spec, list) and spec else spec
    if not isinstance(spec, dict):
        raise StorageError("the specification in the file is not a table")
    return spec
