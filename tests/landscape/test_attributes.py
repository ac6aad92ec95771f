"""Attributes that netCDF has no kind for are kept as their text; what has no text is refused by name."""

import json

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError

KEPT = {
    "nothing": None,
    "flag": True,
    "off": np.bool_(False),
    "table": {"a": 1, "b": [1, None]},
    "ragged": [[1], [2, 3]],
    "mixed": ["a", 1, None],
    "square": np.eye(2),
    "flags": [True, False],
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_as_text(name, tmp_path):
    data = xr.Dataset({"x": ("draw", np.arange(3.0), {name: KEPT[name]})}, attrs={name: KEPT[name], "plain": 3})
    path = ls.save(data, tmp_path / "run.nc")
    with ls.open(path) as found:
        for attributes in (found.attrs, found.x.attrs):
            assert json.loads(attributes[name]) == json.loads(
                json.dumps(np.array(KEPT[name]).tolist() if name in ("off", "square") else KEPT[name])
            )
        assert found.attrs["plain"] == 3
    assert data.attrs[name] is KEPT[name]  # the dataset in hand is left as it was


def test_plain_attributes_stay_what_they_are(tmp_path):
    plain = {"text": "T", "number": 1.5, "whole": 3, "list": [1.0, 2.0], "array": np.arange(3), "names": ["a", "b"]}
    with ls.open(ls.save(xr.Dataset({"x": 1.0}, attrs=plain), tmp_path / "run.nc")) as found:
        for name, value in plain.items():
            assert np.array_equal(found.attrs[name], value)


@pytest.mark.parametrize("value", [object(), {"f": len}, 1j, {1, 2}, np.array([1j])])
def test_what_has_no_text_is_refused_by_name(value, tmp_path):
    with pytest.raises(ConfigError, match=r"'odd' of 'x'"):
        ls.save(xr.Dataset({"x": ((), 1.0, {"odd": value})}), tmp_path / "run.nc")
    assert not list(tmp_path.iterdir())
