"""Functions of one position are told from those of many at once, whatever the number of chains, and made to be such."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import Drift, Function

POINTS = np.array([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0]])


def single(p):
    return p[0] ** 2 + 3.0 * p[0] * p[1] + p[1] ** 4


def many(p):
    return p[..., 0] ** 2 + 3.0 * p[..., 0] * p[..., 1] + p[..., 1] ** 4


def slope(p):
    return torch.stack([2.0 * p[0] + 3.0 * p[1], 3.0 * p[0] + 4.0 * p[1] ** 3])


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_energies_of_one_position_are_refused_when_they_are_given(dim):
    """By a batch whose size is not dim: with dim chains the transposed energy has the right shape, and is wrong."""

    def of_one(p):
        return sum(k * p[k - 1] ** 2 for k in range(1, dim + 1))

    square = torch.arange(1.0, dim * dim + 1).reshape(dim, dim)
    right = (torch.arange(1.0, dim + 1) * square**2).sum(-1)
    assert of_one(square).shape == right.shape and (dim == 1 or not torch.equal(of_one(square), right))
    with pytest.raises(ShapeError, match=r"one position.*several.*last dimension.*batched=False"):
        Function(of_one, dim)
    given = Function(of_one, dim, batched=False)
    assert np.allclose(given.energy(square.numpy()), right)


def test_functions_of_one_position_are_those_of_many():
    one, two = Function(single, 2, batched=False), Function(many, 2)
    vector = np.array([0.3, -1.0])
    for shape in ((3, 2), (3, 1, 2), (1, 2)):
        points = POINTS[: shape[0]].reshape(shape)
        assert np.allclose(one.energy(points), two.energy(points), rtol=1e-14)
        assert np.allclose(one.gradient(points), two.gradient(points), rtol=1e-14)
        assert np.allclose(one.hvp(points, vector), two.hvp(points, vector), rtol=1e-14)
        assert np.allclose(one.hessian(points), two.hessian(points), rtol=1e-14)
    assert float(one.energy(POINTS[0])) == float(two.energy(POINTS[0]))
    settings = {"temperature": 0.3, "steps": 20, "start": [[0.1, 0.2], [0.3, 0.1]], "seed": 3}
    runs = [ls.simulate(landscape, ls.EulerMaruyama(0.01), **settings) for landscape in (one, two)]
    assert np.allclose(runs[0].position, runs[1].position, rtol=1e-12)
    assert one.spec()["batched"] is False and "batched" not in two.spec()


def test_gradients_of_one_position():
    """With a gradient given, positions go one by one, so that other libraries' scalars work; and are tried as well."""
    exact = Function(many, 2)
    scalar = Function(
        lambda p: torch.tensor(float(p[0]) ** 2 + 3.0 * float(p[0] * p[1]) + math.pow(float(p[1]), 4)), 2,
        gradient=slope, batched=False,
    )  # fmt: skip
    assert np.allclose(scalar.energy(POINTS), exact.energy(POINTS), rtol=1e-6)
    assert np.allclose(scalar.gradient(POINTS), exact.gradient(POINTS))
    assert np.allclose(scalar.hvp(POINTS, [1.0, 2.0]), exact.hvp(POINTS, [1.0, 2.0]), rtol=1e-6)
    with pytest.raises(ShapeError, match="the gradient takes one position"):
        Function(
            many, 2, gradient=lambda p: torch.stack([2.0 * p[0] + 3.0 * p[1], 3.0 * p[0] + 4.0 * p[1] ** 3, p[0]])[:2]
        )
    with pytest.raises(ShapeError, match=r"drift takes one position.*torch\.vmap"):
        Drift(lambda p: torch.stack([p[1], -p[0]])[[1, 0]][[1, 0]], dim=2)


def test_energies_that_look_at_other_chains():
    """The right shape, and another physics: positions measured from the mean of the batch."""
    with pytest.raises(ConfigError, match="depends on the other positions"):
        Function(lambda p: (p - p.mean(0)).square().sum(-1), 2)
    with pytest.raises(ConfigError, match="depends on the other positions"):
        Function(many, 2, gradient=lambda p: p - p.mean(0))
    assert float(Function(lambda p: (p - 1.0).square().sum(-1), 2).energy([1.0, 3.0])) == 4.0  # the control


def test_functions_of_numpy_are_told_to_give_a_gradient():
    with pytest.raises(ConfigError, match=r"computes with NumPy.*gradient="):
        Function(lambda p: torch.as_tensor(np.sum(p.numpy() ** 2, axis=-1)), 2)
    with pytest.raises(ConfigError, match=r"computes with NumPy.*gradient="):
        Function(lambda p: np.sin(p).sum(-1), 2)
    with pytest.raises(ConfigError, match=r"batched=False cannot.*torch\.where"):
        Function(lambda p: p[0] ** 2 if p[0] > 0 else p[1], 2, batched=False).gradient(POINTS)
    given = Function(
        lambda p: torch.as_tensor(np.sum(p.numpy() ** 2, axis=-1)), 2, gradient=lambda p: torch.as_tensor(2 * p.numpy())
    )
    assert given.gradient(POINTS).tolist() == (2 * POINTS).tolist()


def test_drifts_that_write_into_their_argument():
    with pytest.raises(ConfigError, match="drift writes into its argument"):
        ls.simulate(Drift(lambda p: p.mul_(-1.0), dim=2), ls.EulerMaruyama(0.1), steps=2, start=[1.0, 1.0])
    run = ls.simulate(Drift(lambda p: -p, dim=2), ls.EulerMaruyama(0.1), steps=2, start=[1.0, 1.0])
    assert run.last_position.values == pytest.approx(np.full((1, 2), 0.81))
