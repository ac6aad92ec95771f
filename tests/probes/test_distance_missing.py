"""Distances of positions that are not finite, and of whole numbers."""

import numpy as np
import pytest
import xarray as xr

from landscape.probes import fluctuations


def test_dropped_chains_have_no_distance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(8, 5, 3))
    exact = np.linalg.norm(points, axis=-1)
    whole = fluctuations.distance(points, np.zeros(3))
    assert np.allclose(whole.distance, exact) and whole.attrs["dropped_chains"] == 0
    points[1, 2:] = np.nan
    points[4, 3, 1] = np.nan  # one coordinate is enough
    found = fluctuations.distance(points, np.zeros(3))
    gone = np.isnan(points).any(axis=-1)
    assert np.array_equal(np.isnan(found.distance), gone)
    assert np.allclose(found.distance.values[~gone], exact[~gone])
    assert found.attrs["dropped_chains"] == 2
    left = np.array([exact[~gone[:, d], d].mean() for d in range(5)])
    assert np.allclose(found.mean_distance, left)
    as_zero = np.where(gone, 0.0, exact).mean(axis=0)
    assert np.abs(as_zero - left)[2:].min() > 0.05  # the control: a chain that is gone is not at the reference
    assert np.isnan(fluctuations.distance(np.array([[np.nan, 1.0]]), np.zeros(2)).distance)
    assert np.isnan(fluctuations.distance(np.array([np.nan, 1.0]), np.zeros(2)).distance)
    assert np.isnan(fluctuations.distance(np.ones((3, 2)), np.array([np.nan, 0.0])).distance).all()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32])
def test_whole_numbers_do_not_overflow(kind):
    far = np.array([[100, 120, 3], [1, 2, 3]], dtype=kind)
    origin = np.array([27, 0, 90], dtype=kind)
    exact = np.linalg.norm(far.astype(float) - origin.astype(float), axis=1)
    assert np.allclose(fluctuations.distance(far, origin).distance, exact)
    assert np.allclose(fluctuations.distance(far[0], origin).distance, exact[0])
    labelled = xr.DataArray(far[0], dims="coordinate")
    assert np.allclose(fluctuations.distance(labelled, origin).distance, exact[0])
