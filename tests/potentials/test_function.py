"""Landscapes from a torch callable: derivatives by autograd, and refusals of callables that are not energies."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import potentials
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials import Expression, Function

TEXT = "k*(x - y)**2/2 + exp(-x**2)*y + abs(y)**3/3 + 1/(1 + z**2)"


def energy(position, k=1.7):
    x, y, z = position.unbind(-1)
    return k * (x - y) ** 2 / 2 + torch.exp(-(x**2)) * y + y.abs() ** 3 / 3 + 1 / (1 + z**2)


def formula(k=1.7):
    return Expression(TEXT, ["x", "y", "z"], {"k": k})


POINTS = np.random.default_rng(0).uniform(-2, 2, (30, 3))


@pytest.mark.parametrize("k", [1.7, 0.3])
def test_function_and_formula_are_the_same_landscape(k):
    by_torch, by_text = Function(lambda p: energy(p, k), 3), formula(k)
    np.testing.assert_allclose(by_torch.energy(POINTS), by_text.energy(POINTS), rtol=1e-13)
    np.testing.assert_allclose(by_torch.gradient(POINTS), by_text.gradient(POINTS), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(by_torch.hessian(POINTS), by_text.hessian(POINTS), rtol=1e-10, atol=1e-12)
    vector = np.random.default_rng(1).normal(size=3)
    np.testing.assert_allclose(by_torch.hvp(POINTS, vector), by_text.hessian(POINTS) @ vector, rtol=1e-10, atol=1e-12)


def test_a_formula_that_is_off_is_noticed():
    """Control: a wrong constant of one part in 10^6 fails the comparison above."""
    wrong = Function(lambda p: energy(p, 1.7 * (1 + 1e-6)), 3)
    assert np.abs(wrong.gradient(POINTS) - formula().gradient(POINTS)).max() > 1e-7


def test_gradient_and_hessian_against_finite_differences():
    landscape, step = Function(energy, 3), 1e-4
    for i, axis in enumerate(np.eye(3) * step):
        for function, derivative in ((landscape.energy, landscape.gradient), (landscape.gradient, landscape.hessian)):
            near = function(POINTS + axis) - function(POINTS - axis)
            far = function(POINTS + 2 * axis) - function(POINTS - 2 * axis)
            slope = (8 * near - far) / (12 * step)
            np.testing.assert_allclose(derivative(POINTS)[..., i], slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", [(), (1,), (4, 5)])
def test_any_leading_dimensions(shape):
    landscape = Function(energy, 3)
    points = np.random.default_rng(0).normal(size=(*shape, 3))
    assert landscape.energy(points).shape == shape
    assert landscape.gradient(points).shape == (*shape, 3)
    assert landscape.hessian(points).shape == (*shape, 3, 3)


def test_kinds_and_dtypes_are_kept():
    landscape = Function(energy, 3)
    assert isinstance(landscape.energy([0.0, 1.0, 2.0]), np.ndarray)
    for dtype in (torch.float32, torch.float64):
        assert landscape.gradient(torch.ones(2, 3, dtype=dtype)).dtype == dtype
    assert landscape.energy(np.ones((2, 3), np.float32)).dtype == np.float32
    assert landscape.energy(np.ones((2, 3), np.int32)).dtype == np.float64


def test_constant_and_linear_energies():
    flat = Function(lambda p: torch.zeros_like(p[..., 0]), 2)
    slope = Function(lambda p: 2 * p[..., 0], 2)
    points = np.zeros((3, 2))
    np.testing.assert_array_equal(flat.gradient(points), np.zeros((3, 2)))
    np.testing.assert_array_equal(slope.gradient(points), [[2.0, 0.0]] * 3)
    for landscape in (flat, slope):
        np.testing.assert_array_equal(landscape.hessian(points), np.zeros((3, 2, 2)))
        np.testing.assert_array_equal(landscape.hvp(points, np.ones(2)), np.zeros((3, 2)))


def test_names_of_coordinates():
    assert Function(energy, 3).coordinates == ("x0", "x1", "x2")
    named = Function(energy, 3, coordinates=["x", "y", "z"], bounds={"z": (0, None)})
    assert named.coordinates == ("x", "y", "z")
    assert named.bounds == {"z": (0.0, math.inf)}
    assert named.dim == 3
    assert named.default_start().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("dim", "coordinates", "bounds", "words"),
    [
        (0, None, None, ["dim", "0"]),
        (-1, None, None, ["dim", "-1"]),
        (2.0, None, None, ["dim", "2.0"]),
        ("3", None, None, ["dim", "'3'"]),
        (3, ["x", "y"], None, ["3", "['x', 'y']"]),
        (2, ["x", "x"], None, ["'x'"]),
        (2, None, {"x": (0, 1)}, ["'x'", "x0"]),
        (2, None, {"x0": (1, 0)}, ["'x0'", "low < high"]),
    ],
)
def test_arguments_that_make_no_sense(dim, coordinates, bounds, words):
    with pytest.raises(ConfigError) as caught:
        Function(energy, dim, coordinates, bounds)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("callable_", "words"),
    [
        (lambda p: p, ["(5, 2)", "(5,)"]),
        (lambda p: p.sum(), ["()", "(3,)"]),  # tried with three when it is given
        (lambda p: p.sum(-1, keepdim=True), ["(5, 1)", "(5,)"]),
        (lambda p: 3.0, ["float"]),
        (lambda p: p.sum(-1).detach().numpy(), ["ndarray"]),
        (lambda p: None, ["NoneType"]),
    ],
    ids=["vector", "total", "column", "float", "array", "nothing"],
)
def test_callables_that_do_not_return_one_energy_per_position(callable_, words):
    for call in (lambda x: Function(callable_, 2).energy(x), lambda x: Function(callable_, 2).gradient(x)):
        with pytest.raises(ShapeError) as caught:
            call(np.ones((5, 2)))
        assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("thing", ["x**2", 3, None])
def test_only_callables_are_functions(thing):
    with pytest.raises(LandscapeError) as caught:
        Function(thing, 2)
    assert "callable" in str(caught.value)


def test_positions_of_the_wrong_shape():
    with pytest.raises(ShapeError, match=r"\(2,\).*3"):
        Function(energy, 3).energy([1.0, 2.0])


def test_errors_inside_the_callable_are_the_users_own():
    def broken(position):
        raise KeyError("my own")

    with pytest.raises(KeyError, match="my own"):
        Function(broken, 2).energy([0.0, 0.0])


def test_plain_data_name_the_callable():
    plain = Function(energy, 3).spec()
    assert plain["kind"] == "python"
    assert "energy" in plain["name"]
    assert plain["name"].count(":") == 1


def test_a_run_on_a_function_is_the_run_on_its_formula():
    """Same noise, same steps: trajectories agree to rounding over a short run."""
    settings = {"temperature": 0.3, "chains": 7, "steps": 40, "seed": 5, "start": [0.4, -0.3, 0.6]}
    by_torch = ls.simulate(Function(energy, 3, ["x", "y", "z"]), ls.EulerMaruyama(dt=0.02), **settings)
    by_text = ls.simulate(formula(), ls.EulerMaruyama(dt=0.02), **settings)
    assert by_torch.attrs["backend"] == "batched"
    assert by_text.attrs["backend"] == "compiled"
    np.testing.assert_allclose(by_torch.position, by_text.position, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_torch.energy, by_text.energy, rtol=0, atol=1e-12)


def test_a_function_cannot_be_compiled():
    with pytest.raises(ConfigError) as caught:
        ls.simulate(Function(energy, 3), ls.EulerMaruyama(dt=0.1), steps=1, backend="compiled")
    assert "compiled" in str(caught.value)
    assert "Function" in str(caught.value)


def test_walls_of_a_function_hold_in_dynamics():
    box = Function(lambda p: 0 * p.sum(-1), 2, bounds={"x0": (-0.5, 0.5), "x1": (0, None)})
    run = ls.simulate(box, ls.Diffusion(dt=0.1), temperature=1.0, chains=20, steps=50, seed=0)
    x0, x1 = run.position.sel(coordinate="x0"), run.position.sel(coordinate="x1")
    assert float(abs(x0).max()) <= 0.5
    assert float(x1.min()) >= 0.0
    assert float(x1.max()) > 1.0


# -- derivatives of another library -----------------------------------------------------------------------------------


def slopes(position, k=1.7):
    return Function(lambda p: energy(p, k), 3).gradient(position)


def elsewhere(k=1.7, **more):
    """The same landscape as if torch could not see into it."""
    return Function(lambda p: energy(p.detach(), k), 3, gradient=lambda p: slopes(p, k), **more)


@pytest.mark.parametrize("k", [1.7, 0.3])
def test_given_gradients_take_the_place_of_autograd(k):
    given, exact = elsewhere(k), Function(lambda p: energy(p, k), 3)
    along = np.random.default_rng(1).normal(size=3)
    np.testing.assert_array_equal(given.energy(POINTS), exact.energy(POINTS))
    np.testing.assert_array_equal(given.gradient(POINTS), exact.gradient(POINTS))
    for length in (1.0, 1e-6, 1e6):
        expected = exact.hvp(POINTS, length * along)
        np.testing.assert_allclose(given.hvp(POINTS, length * along), expected, rtol=1e-6, atol=1e-7 * length)
    np.testing.assert_allclose(given.hessian(POINTS), exact.hessian(POINTS), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(given.hvp(POINTS, np.zeros(3)), np.zeros((30, 3)))


def test_a_given_product_is_exact():
    exact = Function(energy, 3)
    given = elsewhere(hvp=exact.hvp)
    np.testing.assert_array_equal(given.hvp(POINTS, np.ones(3)), exact.hvp(POINTS, np.ones(3)))


def test_a_wrong_gradient_is_followed():
    """Control: it is the given gradient that dynamics sees."""
    given = Function(lambda p: energy(p.detach()), 3, gradient=lambda p: 1.01 * slopes(p))
    assert not np.allclose(given.gradient(POINTS), slopes(POINTS), rtol=1e-3)


def test_a_run_with_given_gradients_is_the_same_run():
    settings = {"temperature": 0.3, "chains": 4, "steps": 20, "seed": 5, "start": [0.4, -0.3, 0.6]}
    runs = [ls.simulate(one, ls.EulerMaruyama(dt=0.02), **settings) for one in (elsewhere(), Function(energy, 3))]
    np.testing.assert_array_equal(runs[0].position, runs[1].position)


def test_energies_that_torch_cannot_differentiate_are_refused():
    """Their derivative would be zero, and dynamics diffusion."""
    unseen = Function(lambda p: energy(p.detach()), 3)
    assert unseen.energy(POINTS).shape == (30,)
    for call in (lambda: unseen.gradient(POINTS), lambda: unseen.hvp(POINTS, np.ones(3))):
        with pytest.raises(ConfigError, match="gradient="):
            call()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"gradient": 3.0}, ["gradient", "float"]),
        ({"gradient": slopes, "hvp": "exact"}, ["hvp", "str"]),
        ({"hvp": lambda p, v: v}, ["hvp", "gradient"]),
    ],
)
def test_derivatives_that_make_no_sense(more, words):
    with pytest.raises(ConfigError) as caught:
        Function(energy, 3, **more)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_given_derivatives_of_the_wrong_shape():
    short = Function(energy, 3, gradient=lambda p: p[..., :2], hvp=lambda p, v: 1.0)
    with pytest.raises(ShapeError, match=r"gradient.*\(30, 2\).*\(30, 3\)"):
        short.gradient(POINTS)
    with pytest.raises(ShapeError, match=r"hvp.*float"):
        short.hvp(POINTS, np.ones(3))


def test_a_class_of_ones_own_needs_no_more_than_its_energy_and_dim():
    """No bounds are no walls; a missing number of coordinates is said, other names stay Python's affair."""

    class Bowl(potentials.Potential):
        dim = 2

        def _energy(self, position):
            return (position**2).sum(-1)

    class Forgetful(potentials.Potential):
        _energy = Bowl._energy

    run = ls.simulate(Bowl(), ls.EulerMaruyama(dt=0.1), temperature=0.1, steps=3, chains=2, start=[0.1, 0.0])
    assert run.position.notnull().all()
    assert not Bowl().bounds
    for use in (lambda: Forgetful().energy([0.0]), lambda: ls.simulate(Forgetful(), ls.EulerMaruyama(dt=0.1), steps=1)):
        with pytest.raises(ConfigError, match="Forgetful does not say how many coordinates it has: set dim"):
            use()
    with pytest.raises(AttributeError, match="no attribute 'sides'"):
        _ = Bowl().sides
