"""`Path`: a polyline or spline against independent geometry, its projection, and what is stored of it."""

import itertools

import numpy as np
import pytest
import scipy.interpolate
import torch
from scipy.integrate import quad
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape.paths import Path, straight_line
from landscape.paths.curve import Curve, respace

BOTH = ("linear", "spline")


def wiggly(pivots, dim, seed=0):
    """Unevenly spaced pivots along a smooth curve in `dim` dimensions."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 1, pivots - 2))
    t = np.concatenate([[0.0], t, [1.0]])
    phases, rates = rng.uniform(0, 6, dim), rng.uniform(0.5, 4, dim)
    return np.sin(rates * t[:, None] + phases)


def reference_spline(pivots):
    chords = np.linalg.norm(np.diff(pivots, axis=0), axis=1)
    knots = np.concatenate([[0.0], np.cumsum(chords)])
    return knots, scipy.interpolate.CubicSpline(knots, pivots, bc_type="natural")


# -- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pivots", "dim"), [(2, 3), (5, 2), (12, 3), (9, 40)])
def test_polyline_by_hand(pivots, dim):
    points = wiggly(pivots, dim)
    path = Path(points)
    arcs = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    np.testing.assert_allclose(path.arc_length, arcs, rtol=1e-14)
    assert path.length == pytest.approx(arcs[-1], rel=1e-14)
    s = np.linspace(0, arcs[-1], 101)
    expected = np.stack([np.interp(s, arcs, column) for column in points.T], axis=1)
    np.testing.assert_allclose(path.at(s), expected, atol=1e-13)
    inside = s[:-1] + 1e-3 * arcs[-1] / 101
    slope = (path.at(inside + 1e-7) - path.at(inside - 1e-7)) / 2e-7
    np.testing.assert_allclose(path.tangent(inside), slope, atol=1e-5)
    np.testing.assert_array_equal(path.at(path.arc_length), path.pivots)  # to the bit, at every pivot
    np.testing.assert_array_equal(path.at([-1.0, 2 * arcs[-1]]), points[[0, -1]])


@pytest.mark.parametrize(("pivots", "dim"), [(2, 3), (3, 2), (6, 2), (12, 3), (9, 40)])
def test_spline_against_scipy(pivots, dim):
    points = wiggly(pivots, dim)
    path = Path(points).spline
    knots, spline = reference_spline(points)
    lengths = [
        quad(lambda u: np.linalg.norm(spline(u, 1)), a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(knots)
    ]
    np.testing.assert_allclose(np.diff(path.arc_length), lengths, rtol=1e-9)
    np.testing.assert_allclose(path.at(path.arc_length), points, atol=1e-12)
    u = np.linspace(0, knots[-1], 40)
    s = np.array([quad(lambda v: np.linalg.norm(spline(v, 1)), 0, x, epsabs=1e-12, limit=400)[0] for x in u])
    np.testing.assert_allclose(path.at(s), spline(u), atol=5e-6)  # of a curve that nearly has a cusp
    unit = spline(u, 1) / np.linalg.norm(spline(u, 1), axis=1, keepdims=True)
    np.testing.assert_allclose(path.tangent(s), unit, atol=1e-3)


def test_spline_approaches_a_circle_by_the_fourth_power_and_the_polyline_by_the_second():
    errors = {}
    for pivots in (17, 33):
        angle = np.linspace(0, 3, pivots)
        path = Path(np.stack([np.cos(angle), np.sin(angle)], axis=1))
        for one in (path, path.spline):
            middle = one.at(np.linspace(0.3, 0.7, 301) * one.length)
            errors[one.interpolation, pivots] = abs(np.linalg.norm(middle, axis=1) - 1).max()
    assert 3.0 < np.log2(errors["spline", 17] / errors["spline", 33]) < 5.0
    assert 1.8 < np.log2(errors["linear", 17] / errors["linear", 33]) < 2.2


@pytest.mark.parametrize("interpolation", BOTH)
def test_refined_path_is_the_same_curve(interpolation):
    path = Path(wiggly(9, 3), interpolation=interpolation)
    fine = path.refine(3)
    assert len(fine) == 8 * 4 + 1
    np.testing.assert_array_equal(fine.pivots[::4], path.pivots)
    assert fine.length == pytest.approx(path.length, rel=1e-12 if interpolation == "linear" else 1e-3)
    gaps = np.diff(np.asarray(path.project(fine.pivots)[0])).reshape(8, 4)
    np.testing.assert_allclose(gaps, gaps.mean(1, keepdims=True) * np.ones(4), rtol=1e-6)


@pytest.mark.parametrize("interpolation", BOTH)
def test_resampled_path_is_even(interpolation):
    path = Path(wiggly(15, 3), interpolation=interpolation)
    even = path.resample(60)
    chords = even.pivots.diff(dim=0).norm(dim=1)
    assert float(chords.std() / chords.mean()) < 0.05
    np.testing.assert_array_equal(even.pivots[[0, -1]], path.pivots[[0, -1]])
    before = path.pivots.diff(dim=0).norm(dim=1)
    assert float(before.std() / before.mean()) > 0.3  # control


def test_respacing_keeps_ends_to_the_bit_in_float32():
    pivots = torch.from_numpy(wiggly(7, 5)).float()
    moved = respace(pivots, torch.linspace(0, 1, 7, dtype=torch.float64) ** 2, spline=False)
    assert moved.dtype == torch.float32
    assert torch.equal(moved[[0, -1]], pivots[[0, -1]])
    arcs = Path(pivots).project(moved)[0]
    np.testing.assert_allclose(arcs / arcs[-1], np.linspace(0, 1, 7) ** 2, atol=1e-6)


def test_answers_are_of_the_kind_that_was_asked():
    path = Path(wiggly(5, 3))
    assert isinstance(path.at(0.5), np.ndarray)
    assert isinstance(path.at(torch.tensor(0.5)), torch.Tensor)
    assert path.at(torch.zeros(2, 4)).shape == (2, 4, 3)
    s, distance = path.project(torch.zeros(2, 4, 3, dtype=torch.float32))
    assert s.shape == distance.shape == (2, 4)
    assert s.dtype == distance.dtype == torch.float64
    assert path.segment(path.arc_length).tolist() == [0, 1, 2, 3, 3]


# -- nearest point ----------------------------------------------------------------------------------------------------


def nearest_on_polyline(points, x):
    """By hand: the nearest point of every segment, and the nearest of those."""
    best = (np.inf, 0.0)
    start = 0.0
    for a, b in itertools.pairwise(points):
        length = np.linalg.norm(b - a)
        t = np.clip((x - a) @ (b - a) / length**2, 0, 1)
        best = min(best, (np.linalg.norm(x - a - t * (b - a)), start + t * length))
        start += length
    return best[1], best[0]


@pytest.mark.parametrize(("pivots", "dim"), [(2, 1), (9, 2), (30, 3), (9, 60), (25, 300)])
def test_projection_on_the_polyline(pivots, dim):
    points = wiggly(pivots, dim)
    path = Path(points)
    rng = np.random.default_rng(1)
    x = path.at(rng.uniform(0, path.length, 50)) + rng.normal(0, rng.choice([0.01, 0.3, 3.0], (50, 1)), (50, dim))
    s, distance = path.project(x)
    expected = np.array([nearest_on_polyline(points, one) for one in x])
    np.testing.assert_allclose(distance, expected[:, 1], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(s, expected[:, 0], atol=1e-7)
    wrong = np.linalg.norm(x[:, None] - points, axis=-1).min(1)  # control: the nearest pivot is not the nearest point
    assert dim == 1 or abs(distance / wrong - 1).max() > 1e-3


@pytest.mark.parametrize(("pivots", "dim"), [(3, 2), (9, 2), (12, 3), (9, 60)])
def test_projection_on_the_spline(pivots, dim):
    points = wiggly(pivots, dim)
    path = Path(points).spline
    rng = np.random.default_rng(2)
    on = rng.uniform(0, path.length, 40)
    x = path.at(on) + rng.normal(0, rng.choice([0.01, 0.2, 2.0], (40, 1)), (40, dim))
    s, distance = path.project(x)
    knots, spline = reference_spline(points)
    dense = spline(np.linspace(0, knots[-1], 20001))
    brute = np.linalg.norm(x[:, None] - dense, axis=-1).min(1) if dim < 10 else None
    if brute is not None:
        assert (distance <= brute * (1 + 1e-9) + 1e-9).all()
        np.testing.assert_allclose(distance, brute, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(x - path.at(s), axis=-1), distance, rtol=1e-12)
    inner = (s > 0) & (s < path.length)
    away = ((x - path.at(s)) * path.tangent(s)).sum(-1)
    assert inner.sum() > 10
    assert abs(away[inner]).max() < 1e-6
    np.testing.assert_allclose(path.project(path.at(on))[0], on, atol=1e-7)  # a point of the curve is its own
    assert path.project(path.at(on))[1].max() < 1e-7


def test_vertices_hold_what_lies_in_their_wedge():
    """A polyline's corner is nearest to a whole wedge; its arc length then comes back to the bit."""
    path = Path([[0.0, 0.0], [1.0, 0.1], [2.0, 0.0]])
    wedge = np.array([1.0, 0.1]) + 0.5 * np.array([[0.0, 1.0], [0.05, 1.0], [-0.05, 1.0]])
    s, _ = path.project(wedge)
    assert (s == float(path.arc_length[1])).all()
    smooth, _ = path.spline.project(wedge)  # control: the spline has no corner
    assert len(set(smooth.tolist())) == 3


@pytest.mark.parametrize("interpolation", BOTH)
def test_local_projection_stays_on_its_branch(interpolation):
    angle = np.linspace(0, 2 * np.pi * 0.9, 30)
    path = Path(np.stack([np.cos(angle), np.sin(angle)], axis=1), interpolation=interpolation)
    x = np.array([[0.95, -0.35]])  # beside the start, and closer to the far end
    everywhere, _ = path.project(x)
    local, further = path.project(x, near=[0.02])
    assert everywhere > 0.8 * path.length
    assert local < 0.1 * path.length
    assert further > path.project(x)[1]


class Watch(TorchDispatchMode):
    """Notes values that are asked for, and the size of the largest result."""

    def __init__(self):
        super().__init__()
        self.asked, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = str(func)
        if any(part in name for part in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal.default")):
            self.asked.append(name)
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.numel())
        return result


@pytest.mark.parametrize("interpolation", BOTH)
def test_projection_neither_waits_for_values_nor_holds_all_pairs(interpolation):
    pivots, dim, chains = 40, 5000, 64
    path = Path(wiggly(pivots, dim), interpolation=interpolation)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(chains, dim)))
    with Watch() as watch:
        s, _ = path.project(x)
        path.at(s)
        path.tangent(s)
    assert watch.asked == []
    assert watch.largest <= max(chains, pivots) * dim < chains * pivots * dim / 10
    with Watch() as watch:  # control
        _ = path.length
    assert watch.asked


# -- energy along it --------------------------------------------------------------------------------------------------


def test_profile_and_highest_point():
    well = ls.potentials.Expression("(x**2 - 1)**2 + 0.1*x", ["x"])
    line = straight_line([-1.0], [1.0], 4)
    profile = line.profile(well, between=4)
    np.testing.assert_allclose(profile.energy, well.energy((profile.arc_length.values - 1)[:, None]))
    assert profile.is_pivot.sum() == 4
    assert profile.sizes["point"] == 16
    s, top = line.highest(well)
    x = np.roots([4, 0, -4, 0.1])
    x = x[abs(x) < 0.5].item()
    assert s - 1 == pytest.approx(x, abs=1e-5)
    assert top == pytest.approx((x**2 - 1) ** 2 + 0.1 * x, abs=1e-12)
    assert float(line.profile(well, between=999).barrier) == pytest.approx(1.0, abs=1e-6)  # (x^2 - 1)^2 above the tilt


# -- storage ----------------------------------------------------------------------------------------------------------


def test_a_path_comes_back_from_netcdf(tmp_path):
    surface = ls.potentials.toys.WolfeQuapp()
    minima = surface.minima()
    path = ls.paths.string(surface, minima[0], minima[1], pivots=9, steps=40, lr=0.01)
    path.save(tmp_path / "path.nc")
    same = Path.load(tmp_path / "path.nc")
    assert torch.equal(same.pivots, path.pivots)
    assert torch.equal(same.energies, path.energies)
    assert same.interpolation == "linear"
    assert same.names == ("x", "y")
    assert same.attributes == path.attributes
    assert same.history.identical(path.history)
    assert same.to_dataset().identical(path.to_dataset())
    assert same.to_dataset().sizes["iteration"] == 40
    assert Path.from_dataset(path.spline.to_dataset()).interpolation == "spline"
    for variable in path.to_dataset().variables.values():
        assert {"long_name"} <= set(variable.attrs)


def test_a_bare_path_comes_back():
    path = straight_line([0.0, 1.0], [2.0, 2.0], 3)
    same = Path.from_dataset(path.to_dataset())
    assert torch.equal(same.pivots, path.pivots)
    assert same.energies is None
    assert same.history is None
    assert same.buffers == {}


def test_curves_agree_in_a_frame_of_their_own():
    """Many coordinates or few: the search in the span of the pivots finds the same."""
    points = wiggly(8, 3)
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3)))[0]
    x = np.random.default_rng(1).normal(size=(20, 3))
    for spline in (False, True):
        few = Curve(torch.from_numpy(points), spline=spline).nearest(torch.from_numpy(x))
        many = Curve(torch.from_numpy(points @ frame.T), spline=spline).nearest(torch.from_numpy(x @ frame.T))
        for a, b in zip(few, many, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)
