"""Every toy keeps the promises of a potential: derivatives, shapes, stationary points, plain-data form."""

import json
import math

import numpy as np
import pytest
import torch

from landscape.potentials import toys
from landscape.potentials.base import Potential
from landscape.potentials.expression.potential import Expression
from landscape.potentials.toys import (
    DoubleWell,
    EntropicBarrier,
    ExponentialWall,
    Himmelblau,
    MullerBrown,
    Quadratic,
    Ring,
    Rosenbrock,
    ThreeHole,
    Valley,
    WolfeQuapp,
)

TOYS = {
    "springs": Quadratic([0.3, 2.0, 40.0]),
    "one-spring": Quadratic([3.0]),
    "flat-direction": Quadratic([0.0, 1.0]),
    "valley": Valley("1 + y**2"),
    "valley-confined": Valley("2 + sin(y)*tanh(y)", 0.4, {"y": (-3, None), "x": (-5, 5)}),
    "valley-constant": Valley("3"),
    "barrier": EntropicBarrier(),
    "barrier-3": EntropicBarrier(2.0, 0.5, 3, {"y": (-1, 1)}),
    "ring": Ring(),
    "ring-2-theta": Ring("20 + 5*sin(2*theta)", 0.7),
    "ring-round": Ring("10", 2.0),
    "wall": ExponentialWall(),
    "wall-exponential": ExponentialWall(2.0, 0.5, 3.0, "exponential"),
    "double-well": DoubleWell(),
    "double-well-2-0.5": DoubleWell(2.0, 0.5),
    "muller-brown": MullerBrown(),
    "three-hole": ThreeHole(),
    "himmelblau": Himmelblau(),
    "wolfe-quapp": WolfeQuapp(),
    "rosenbrock": Rosenbrock(),
    "rosenbrock--0.5-3": Rosenbrock(-0.5, 3.0),
}
EVERY = pytest.mark.parametrize("name", TOYS)


def random_points(toy, count=40, seed=0):
    """Points around the start, inside the walls; for a wall about the origin, where it rises."""
    generator = np.random.default_rng(seed)
    centre = np.zeros(toy.dim) if isinstance(toy, ExponentialWall) else toy.default_start().numpy()
    points = centre + generator.normal(size=(count, toy.dim)) * 0.7
    for name, (low, high) in toy.bounds.items():
        i = toy.coordinate_index(name)
        points[:, i] = np.clip(points[:, i], low + 1e-2, high - 1e-2)
    return points


def difference(function, points, step=2e-4):
    """Central differences of fourth order along every coordinate; the last axis of the result is the coordinate."""
    columns = []
    for axis in np.eye(points.shape[-1]):
        near = [function(points + shift * step * axis) for shift in (-2, -1, 1, 2)]
        columns.append((near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * step))
    return np.stack(columns, axis=-1)


def test_all_toys_are_here():
    assert {type(toy).__name__ for toy in TOYS.values()} == set(toys.__all__)


@EVERY
def test_gradient_is_finite_difference_and_autograd(name):
    toy = TOYS[name]
    points = random_points(toy)
    gradient = toy.gradient(points)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(gradient, difference(toy.energy, points), atol=3e-8 * scale)
    automatic = Potential._gradient(toy, torch.tensor(points)).numpy()
    np.testing.assert_allclose(gradient, automatic, rtol=1e-10, atol=1e-12 * scale)
    # Control: a gradient that is wrong by a factor of two.
    assert not np.allclose(0.5 * gradient, difference(toy.energy, points), atol=3e-8 * scale)


@EVERY
def test_tape_of_the_gradient_is_the_gradient(name):
    toy = TOYS[name]
    points = torch.tensor(random_points(toy))
    torch.testing.assert_close(torch.stack(toy.gradient_tape.run(points), -1), toy.gradient(points), rtol=1e-12, atol=0)
    torch.testing.assert_close(toy.energy_tape.run(points)[0], toy.energy(points), rtol=1e-12, atol=1e-300)


@EVERY
def test_hessian_is_symmetric_and_the_derivative_of_the_gradient(name):
    toy = TOYS[name]
    points = random_points(toy)
    hessian = toy.hessian(points)
    scale = np.abs(hessian).max()
    np.testing.assert_array_equal(hessian, np.swapaxes(hessian, -1, -2))
    np.testing.assert_allclose(hessian, difference(toy.gradient, points), atol=3e-8 * scale)
    vectors = np.random.default_rng(1).normal(size=points.shape)
    expected = np.einsum("nij,nj->ni", hessian, vectors)
    np.testing.assert_allclose(toy.hvp(points, vectors), expected, rtol=1e-10, atol=1e-12 * scale)
    automatic = Potential._hvp(toy, torch.tensor(points), torch.tensor(vectors)).numpy()
    np.testing.assert_allclose(automatic, expected, rtol=1e-8, atol=1e-10 * scale)


@EVERY
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(name, shape, dtype):
    toy = TOYS[name]
    points = torch.tensor(random_points(toy, 6)[: math.prod(shape)], dtype=dtype).reshape(*shape, toy.dim)
    kept = points.clone()
    assert toy.energy(points).shape == shape
    assert toy.gradient(points).shape == points.shape
    assert toy.hessian(points).shape == (*points.shape, toy.dim)
    assert {toy.energy(points).dtype, toy.gradient(points).dtype, toy.hessian(points).dtype} == {dtype}
    assert torch.equal(points, kept)
    reference = toy.energy(points.double())
    torch.testing.assert_close(toy.energy(points).double(), reference, rtol=1e-3, atol=1e-3)
    assert isinstance(toy.energy(points.numpy()), np.ndarray)


@EVERY
def test_plain_data_form_builds_the_same_toy(name):
    toy = TOYS[name]
    spec = json.loads(json.dumps(toy.spec(), allow_nan=False))
    again = getattr(toys, spec.pop("kind"))(**spec)
    assert again.spec() == toy.spec()
    assert again.bounds == toy.bounds and again.coordinates == toy.coordinates and again.parameters == toy.parameters
    points = random_points(toy)
    np.testing.assert_array_equal(again.energy(points), toy.energy(points))
    np.testing.assert_array_equal(again.gradient(points), toy.gradient(points))
    assert repr(toy).startswith(type(toy).__name__ + "(")


@EVERY
def test_start_is_inside_the_walls_and_finite(name):
    toy = TOYS[name]
    start = toy.default_start()
    assert start.shape == (toy.dim,) and start.dtype == torch.float64
    for coordinate, (low, high) in toy.bounds.items():
        assert low <= start[toy.coordinate_index(coordinate)] <= high
    assert torch.isfinite(toy.energy(start)) and torch.isfinite(toy.gradient(start)).all()
    start += 1.0  # a caller may change what is returned
    assert not torch.equal(start, toy.default_start())


@EVERY
def test_stationary_points(name):
    toy = TOYS[name]
    try:
        minima = toy.minima()
    except NotImplementedError:
        assert isinstance(toy, Ring | Valley | EntropicBarrier)
        minima = torch.zeros(0, toy.dim, dtype=torch.float64)
    saddles = toy.saddles()
    for points, negative in ((minima, 0), (saddles, 1)):
        assert points.ndim == 2 and points.shape[1] == toy.dim and points.dtype == torch.float64
        if not len(points):
            continue
        curvature = torch.linalg.eigvalsh(toy.hessian(points))
        assert (toy.gradient(points).abs() <= 1e-12 * curvature.abs().max()).all()
        assert ((curvature < 0).sum(-1) == negative).all()
        energy = toy.energy(points)
        assert (torch.diff(energy) >= -1e-12 * (1 + energy.abs().max())).all()
        assert len({tuple(p) for p in points.numpy().round(6)}) == len(points)


@pytest.mark.parametrize(
    ("toy", "wells", "passes", "tops"),
    [(MullerBrown(), 3, 2, 0), (ThreeHole(), 3, 3, 1), (Himmelblau(), 4, 4, 1), (WolfeQuapp(), 3, 3, 1)],
    ids=lambda value: type(value).__name__ if isinstance(value, Expression) else None,
)
def test_no_stationary_point_is_missing(toy, wells, passes, tops):
    """Wells - passes + tops = 1 for a surface that rises without limit; and a search from everywhere finds no more."""
    assert (len(toy.minima()), len(toy.saddles())) == (wells, passes)
    assert wells - passes + tops == 1
    known = torch.cat([toy.minima(), toy.saddles()])
    extent = 1.3 * known.abs().max()
    points = (torch.rand(1000, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2 - 1) * extent
    for _ in range(40):
        step = torch.linalg.solve(toy.hessian(points), toy.gradient(points))
        points = points - step.clamp(-0.3, 0.3)
    found = points[(toy.gradient(points).norm(dim=-1) < 1e-9) & (points.abs().amax(-1) < extent)]
    curvature = torch.linalg.eigvalsh(toy.hessian(found))
    found = found[curvature[:, 1] > 0]
    assert len(found) > 100
    assert torch.cdist(found, known).amin(dim=1).max() < 1e-7


def test_ring_at_the_origin():
    for stiffness, k0 in (("50*(1 + 0.8*cos(theta))", 90.0), ("20 + 5*sin(2*theta)", 20.0), ("10", 10.0)):
        ring = Ring(stiffness, 0.7)
        origin = torch.zeros(2, 2, dtype=torch.float64)
        assert torch.equal(ring.gradient(origin), origin)
        torch.testing.assert_close(ring.energy(origin), torch.full((2,), 0.5 * k0 * 0.49, dtype=torch.float64))
        assert torch.isfinite(ring.hessian(origin)).all()
        assert torch.isfinite(ring.gradient(torch.tensor([[1e-9, 0.0], [0.0, -1e-9]], dtype=torch.float64))).all()


def test_ring_is_the_polar_formula():
    ring = Ring("20 + 5*sin(2*theta)", 0.7)
    theta, r = np.meshgrid(np.linspace(-3.1, 3.1, 9), [0.1, 0.7, 2.0])
    position = np.stack([r * np.cos(theta), r * np.sin(theta)], axis=-1)
    np.testing.assert_allclose(ring.energy(position), 0.5 * (20 + 5 * np.sin(2 * theta)) * (r - 0.7) ** 2, atol=1e-13)
