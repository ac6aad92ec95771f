"""Formulas as landscapes: energy, gradient and Hessian against autograd, finite differences and the compiled tape."""

import functools
import inspect
import math
import random

import numpy as np
import pytest
import sympy
import torch

from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.kernels import tape as compiled
from landscape.potentials import Expression, toys
from tests.cases import LANDSCAPES

RTOL = 1e-7
COORDINATES = ("x", "y", "z")
PARAMETERS = {"k": 1.3, "s": -0.4}


def derivative(function, position, step=1e-3):
    """Central difference of fourth order along every coordinate, in a new last axis."""
    slopes = []
    for axis in np.eye(position.shape[-1]) * step:
        near = function(position + axis) - function(position - axis)
        far = function(position + 2 * axis) - function(position - 2 * axis)
        slopes.append((8 * near - far) / (12 * step))
    return np.stack(slopes, axis=-1)


def smooth_here(function, position):
    """Where differences at two steps agree, that is, where no kink lies between; shape of the positions."""
    wide, narrow = derivative(function, position), derivative(function, position, 5e-4)
    scale = 1 + np.abs(narrow)
    difference = np.abs(wide - narrow) / scale
    return (difference < 1e-9).reshape(len(position), -1).all(axis=-1)


def worst(actual, expected):
    """Largest difference, relative to the size of the vector or matrix it belongs to (at least 1)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    axes = tuple(range(1, expected.ndim))
    scale = 1.0 + (np.abs(expected).max(axis=axes) if axes else np.abs(expected))
    return float((np.abs(actual - expected) / np.reshape(scale, scale.shape + (1,) * len(axes))).max())


def full_hessian(upper, dim):
    """The symmetric matrices whose upper triangles, row by row, are the last axis."""
    matrix = np.empty((*upper.shape[:-1], dim, dim))
    rows, columns = np.triu_indices(dim)
    matrix[..., rows, columns] = upper
    matrix[..., columns, rows] = upper
    return matrix


# -- formulas at random -----------------------------------------------------------------------------------------------
# A random tree gives the text and, independently, the torch function that it stands for.

UNARY = {
    "sin({0})": torch.sin,
    "cos({0})": torch.cos,
    "tan(tanh({0})/2)": lambda a: torch.tan(torch.tanh(a) / 2),
    "tanh({0})": torch.tanh,
    "atan({0})": torch.atan,
    "asin(sin({0})/2)": lambda a: torch.asin(torch.sin(a) / 2),
    "acos(tanh({0})/3)": lambda a: torch.acos(torch.tanh(a) / 3),
    "sinh(sin({0}))": lambda a: torch.sinh(torch.sin(a)),
    "cosh(cos({0}))": lambda a: torch.cosh(torch.cos(a)),
    "exp(-({0})**2)": lambda a: torch.exp(-(a**2)),
    "expm1(sin({0}))": lambda a: torch.expm1(torch.sin(a)),
    "log(1.5 + ({0})**2)": lambda a: torch.log(1.5 + a**2),
    "log1p(({0})**2/3)": lambda a: torch.log1p(a**2 / 3),
    "sqrt(2 + ({0})**2)": lambda a: torch.sqrt(2 + a**2),
    "(1 + ({0})**2)**1.7": lambda a: (1 + a**2) ** 1.7,
    "(2 + sin({0}))**-0.5": lambda a: (2 + torch.sin(a)) ** -0.5,
    "(1 + exp(-({0})**2))**s": lambda a: (1 + torch.exp(-(a**2))) ** PARAMETERS["s"],
    "erf({0})": torch.erf,
    "softplus({0})": torch.nn.functional.softplus,
    "sigmoid({0})": torch.sigmoid,
    "abs({0})": torch.abs,
    "sign({0})": torch.sign,
    "-({0})": lambda a: -a,
    "({0})**2": lambda a: a**2,
    "({0})**3/4": lambda a: a**3 / 4,
}
BINARY = {
    "({0} + {1})": lambda a, b: a + b,
    "({0} - {1})": lambda a, b: a - b,
    "({0})*({1})": lambda a, b: a * b,
    "({0})/(1 + ({1})**2)": lambda a, b: a / (1 + b**2),
    "atan2({0}, 2 + cos({1}))": lambda a, b: torch.atan2(a, 2 + torch.cos(b)),
    "min({0}, {1})": torch.minimum,
    "max({0}, {1})": torch.maximum,
    "max({0}, {1}, k/3)": lambda a, b: torch.maximum(a, b).clamp(min=PARAMETERS["k"] / 3),
}


def grow(dice, depth):
    """Text of a formula and the torch function of the position that it means."""
    if depth == 0:
        choice = dice.randrange(6)
        if choice < 4:
            i = dice.randrange(3)
            return COORDINATES[i], lambda p: p[..., i]
        if choice == 4:
            name = dice.choice(list(PARAMETERS))
            return name, lambda p: torch.full_like(p[..., 0], PARAMETERS[name])
        number = round(dice.uniform(0.1, 3.0), 2)
        return repr(number), lambda p: torch.full_like(p[..., 0], number)
    if dice.random() < 0.5:
        form, function = dice.choice(list(UNARY.items()))
        text, inner = grow(dice, depth - 1)
        return form.format(text), lambda p: function(inner(p))
    form, function = dice.choice(list(BINARY.items()))
    left, first = grow(dice, depth - 1)
    right, second = grow(dice, dice.randrange(depth))
    return form.format(left, right), lambda p: function(first(p), second(p))


@functools.cache
def random_formula(seed):
    dice = random.Random(seed)
    text, function = grow(dice, 2 + seed % 3)
    base = "0.1*(x**2 + y**2 + z**2)"
    return f"{text} + {base}", lambda p: function(p) + 0.1 * (p**2).sum(-1)


@functools.cache
def random_landscape(seed):
    return Expression(random_formula(seed)[0], COORDINATES, PARAMETERS, bounds={"x": (-9, None), "z": (None, 8)})


def positions(seed, count=24, dim=3):
    return np.random.default_rng(seed).uniform(-2, 2, (count, dim))


def autograd(function, points):
    """Energy, gradient and Hessian of a torch function at points ``(n, dim)``, as arrays."""
    leaf = torch.tensor(points, requires_grad=True)
    energy = function(leaf)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf, create_graph=True)
    rows = [
        torch.autograd.grad(gradient[:, i].sum(), leaf, retain_graph=True, materialize_grads=True)[0]
        for i in range(points.shape[1])
    ]
    return energy.detach().numpy(), gradient.detach().numpy(), torch.stack(rows, dim=1).numpy()


SEEDS = (20, 83, 96, 116, *range(121, 163))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_formula_against_autograd_of_its_meaning(seed):
    text, function = random_formula(seed)
    landscape = random_landscape(seed)
    points = positions(seed)
    energy, gradient, hessian = autograd(function, points)
    assert worst(landscape.energy(points), energy) < 1e-11, text
    assert worst(landscape.gradient(points), gradient) < 1e-9, text
    assert worst(landscape.hessian(points), hessian) < 1e-8, text


@pytest.mark.parametrize("seed", SEEDS)
def test_random_formula_against_finite_differences(seed):
    text, _ = random_formula(seed)
    landscape = random_landscape(seed)
    points = positions(seed)
    points = points[smooth_here(landscape.energy, points) & smooth_here(landscape.gradient, points)]
    assert len(points) >= 6, "too few points are away from kinks"
    assert worst(landscape.gradient(points), derivative(landscape.energy, points)) < RTOL, text
    assert worst(landscape.hessian(points), derivative(landscape.gradient, points)) < RTOL, text


@pytest.mark.parametrize("seed", SEEDS)
def test_random_formula_against_the_compiled_tape(seed):
    text, _ = random_formula(seed)
    landscape = random_landscape(seed)
    points = positions(seed)
    energy = compiled.evaluate(landscape.energy_tape, points)
    gradient = compiled.evaluate(landscape.gradient_tape, points)
    hessian = compiled.evaluate(landscape.hessian_tape, points)
    assert worst(energy[:, 0], landscape.energy(points)) < 1e-12, text
    assert worst(gradient, landscape.gradient(points)) < 1e-12, text
    assert worst(full_hessian(hessian, 3), landscape.hessian(points)) < 1e-12, text


@pytest.mark.parametrize("seed", SEEDS)
def test_random_formula_comes_back_from_its_plain_data(seed):
    landscape = random_landscape(seed)
    plain = landscape.spec()
    assert plain.pop("kind") == "Expression"
    again = Expression(**plain)
    points = positions(seed)
    np.testing.assert_array_equal(again.energy(points), landscape.energy(points))
    np.testing.assert_array_equal(again.gradient(points), landscape.gradient(points))
    assert again.bounds == landscape.bounds
    assert again.spec() == landscape.spec()


def test_a_formula_in_which_constants_emerge_comes_back_from_its_plain_data():
    landscape = Expression("x*y*acos(tanh(sign(2 + x**2))/3)", ["x", "y"])
    plain = landscape.spec()
    plain.pop("kind")
    points = positions(0, 500, dim=2)
    np.testing.assert_array_equal(Expression(**plain).energy(points), landscape.energy(points))


def test_the_random_formulas_are_a_fair_sample():
    """Control: every building block appears, and a formula that is off by 1e-6 is noticed."""
    texts = " ".join(random_formula(seed)[0] for seed in SEEDS)
    names = ["sin", "asin", "acos", "atan2", "abs", "sign", "min", "max", "erf", "softplus", "sigmoid", "expm1"]
    names += ["log1p", "log", "sqrt", "tan", "sinh", "cosh", "tanh", "**s", "**1.7", "**-0.5", "exp", "cos", "atan"]
    assert [name for name in names if name not in texts] == []
    points = positions(0)
    energy, gradient, _ = autograd(random_formula(0)[1], points)
    wrong = Expression(f"{random_formula(0)[0]} + 1e-6*x", COORDINATES, PARAMETERS)
    assert worst(wrong.gradient(points), gradient) > RTOL
    assert worst(wrong.energy(points), energy) > 1e-8


# -- every toy with default arguments ---------------------------------------------------------------------------------

NEEDED = {"Quadratic": {"stiffness": [0.5, 2.0, 30.0]}, "Valley": {"g": "1 + y**2"}}
# A box where the energies are moderate.
BOXES = {"ExponentialWall": (-3, 2), "MullerBrown": (-1, 1), "Ring": (0.5, 1.5)}


def toy(name):
    needed = NEEDED.get(name, {})
    signature = inspect.signature(getattr(toys, name))
    required = {k for k, p in signature.parameters.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD}
    assert required <= set(needed), f"{name} needs {required}: add them to NEEDED"
    return getattr(toys, name)(**needed)


def check_conformance(landscape, points):
    """Formula = autograd = finite differences = compiled tape, for energy, gradient and Hessian."""
    gradient, hessian = landscape.gradient(points), landscape.hessian(points)
    energy, by_autograd, curvature = autograd(landscape.energy, points)
    np.testing.assert_array_equal(energy, landscape.energy(points))
    assert worst(gradient, by_autograd) < 1e-9
    assert worst(hessian, curvature) < 1e-8
    assert worst(gradient, derivative(landscape.energy, points, 1e-4)) < RTOL
    assert worst(hessian, derivative(landscape.gradient, points, 1e-4)) < RTOL
    assert worst(compiled.evaluate(landscape.energy_tape, points)[:, 0], energy) < 1e-12
    assert worst(compiled.evaluate(landscape.gradient_tape, points), gradient) < 1e-12
    tape = full_hessian(compiled.evaluate(landscape.hessian_tape, points), landscape.dim)
    assert worst(tape, hessian) < 1e-12
    np.testing.assert_array_equal(hessian, np.swapaxes(hessian, -1, -2))
    vector = np.random.default_rng(4).normal(size=points.shape)
    assert worst(landscape.hvp(points, vector), np.einsum("nij,nj->ni", hessian, vector)) < 1e-11


@pytest.mark.parametrize("name", toys.__all__)
def test_every_toy_conforms(name):
    landscape = toy(name)
    low, high = BOXES.get(name, (-1.5, 1.5))
    check_conformance(landscape, np.random.default_rng(3).uniform(low, high, (20, landscape.dim)))


@pytest.mark.parametrize("case", LANDSCAPES, ids=str)
def test_every_case_of_the_pool_conforms(case):
    shifts = np.random.default_rng(6).uniform(-0.15, 0.15, (20, len(case.start)))
    check_conformance(case.make(), np.array(case.start) + shifts)


@pytest.mark.parametrize("name", toys.__all__)
def test_every_toy_comes_back_from_its_plain_data(name):
    landscape = toy(name)
    plain = landscape.spec()
    again = getattr(toys, plain.pop("kind"))(**plain)
    points = np.random.default_rng(5).uniform(0.2, 1.2, (20, landscape.dim))
    np.testing.assert_array_equal(again.energy(points), landscape.energy(points))
    assert again.spec() == landscape.spec()
    assert again.coordinates == landscape.coordinates
    assert again.bounds == landscape.bounds


@pytest.mark.parametrize("name", toys.__all__)
def test_every_toy_starts_inside_its_walls_where_it_is_finite(name):
    landscape = toy(name)
    start = landscape.default_start()
    assert start.shape == (landscape.dim,)
    assert torch.isfinite(landscape.energy(start))
    for coordinate, (low, high) in landscape.bounds.items():
        assert low <= float(start[landscape.coordinate_index(coordinate)]) <= high


# -- by hand ----------------------------------------------------------------------------------------------------------

SPRING = Expression("k*(x - y)**2/2 + s*x", ["x", "y"], {"k": 3.0, "s": -0.5})


def test_closed_forms_with_every_symbol_varied():
    for k, s, x, y in [(3.0, -0.5, 1.0, 0.2), (1.0, -0.5, 1.0, 0.2), (3.0, 0.7, 1.0, 0.2), (3.0, 0.7, -2.0, 0.9)]:
        spring = Expression("k*(x - y)**2/2 + s*x", ["x", "y"], {"k": k, "s": s})
        assert float(spring.energy([x, y])) == pytest.approx(k * (x - y) ** 2 / 2 + s * x, rel=1e-15)
        np.testing.assert_allclose(spring.gradient([x, y]), [k * (x - y) + s, -k * (x - y)], rtol=1e-14)
        np.testing.assert_allclose(spring.hessian([x, y]), [[k, -k], [-k, k]], rtol=1e-15)
        np.testing.assert_allclose(spring.hvp([x, y], [1.0, 0.5]), [k * 0.5, -k * 0.5], rtol=1e-15)


def test_the_order_of_coordinates_is_the_order_of_the_vector():
    forward, backward = Expression("x + 10*y", ["x", "y"]), Expression("x + 10*y", ["y", "x"])
    assert float(forward.energy([1.0, 2.0])) == 21.0
    assert float(backward.energy([1.0, 2.0])) == 12.0
    assert forward.coordinates == ("x", "y")
    assert forward.coordinate_index("y") == backward.coordinate_index("x") == 1


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 4), (0,)])
def test_any_leading_dimensions(shape):
    points = np.random.default_rng(0).normal(size=(*shape, 2))
    assert SPRING.energy(points).shape == shape
    assert SPRING.gradient(points).shape == (*shape, 2)
    assert SPRING.hessian(points).shape == (*shape, 2, 2)
    assert SPRING.hvp(points, np.ones(2)).shape == (*shape, 2)


def test_energies_do_not_depend_on_the_company():
    points = np.random.default_rng(0).normal(size=(7, 3, 2))
    together = SPRING.gradient(points)
    for i in range(7):
        for j in range(3):
            np.testing.assert_array_equal(SPRING.gradient(points[i, j]), together[i, j])


def test_arrays_give_arrays_and_tensors_give_tensors():
    assert isinstance(SPRING.energy([1.0, 2.0]), np.ndarray)
    assert isinstance(SPRING.gradient(np.ones(2)), np.ndarray)
    for dtype in (torch.float32, torch.float64):
        point = torch.ones(4, 2, dtype=dtype)
        for answer in (SPRING.energy(point), SPRING.gradient(point), SPRING.hessian(point)):
            assert isinstance(answer, torch.Tensor)
            assert answer.dtype == dtype
    assert SPRING.energy(np.ones((4, 2), dtype=np.float32)).dtype == np.float32
    assert SPRING.energy(np.ones((4, 2), dtype=np.int64)).dtype == np.float64
    assert SPRING.energy(torch.ones(4, 2, dtype=torch.int64)).dtype == torch.float64


def test_float32_is_the_same_landscape():
    text, _ = random_formula(8)
    landscape = Expression(text, COORDINATES, PARAMETERS)
    points = positions(8)
    single = landscape.gradient(points.astype(np.float32))
    assert worst(single, landscape.gradient(points)) < 1e-4


def test_energies_are_differentiable_through_torch():
    point = torch.tensor([0.3, -0.8], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(SPRING.energy(point), point)
    np.testing.assert_allclose(gradient.numpy(), SPRING.gradient(point.detach()).numpy(), rtol=1e-14)


def test_positions_given_are_left_alone():
    points = np.random.default_rng(0).normal(size=(4, 2))
    points.flags.writeable = False
    copy = points.copy()
    for call in (SPRING.energy, SPRING.gradient, SPRING.hessian):
        call(points)
    SPRING.hvp(points, points)
    np.testing.assert_array_equal(points, copy)
    tensor = torch.tensor(copy, requires_grad=True)
    SPRING.gradient(tensor)
    assert tensor.grad is None
    assert tensor.requires_grad
    views = np.random.default_rng(0).normal(size=(2, 8)).T[::2]
    np.testing.assert_array_equal(SPRING.energy(views), SPRING.energy(views.copy()))


def test_kinks_and_walls_of_elementary_functions():
    """One-sided values at a kink are finite, and the Hessian has no delta functions."""
    kinked = Expression("abs(x) + max(x, y) + min(x, 0)*sign(y)", ["x", "y"])
    at_zero = kinked.gradient([0.0, 0.0])
    assert np.isfinite(at_zero).all()
    np.testing.assert_array_equal(kinked.hessian([0.3, -0.2]), np.zeros((2, 2)))
    assert np.isfinite(kinked.hessian([0.0, 0.0])).all()
    np.testing.assert_array_equal(Expression("sqrt(x)", ["x"]).gradient([0.25]), [1.0])


@pytest.mark.parametrize(
    "text", ["abs(log(x))", "abs(x/y)", "abs(sqrt(x))", "abs(acos(x/3))", "abs(x**1.5)", "sign(sqrt(x))*x", "abs(x**y)"]
)
def test_absolute_values_of_what_need_not_be_real_everywhere(text):
    landscape, points = Expression(text, ["x", "y"]), np.array([[0.5, 0.25], [1.7, 0.6]])
    assert worst(landscape.gradient(points), derivative(landscape.energy, points)) < RTOL
    assert worst(landscape.hessian(points), derivative(landscape.gradient, points)) < RTOL


def test_constant_and_linear_energies():
    for text, slope in (("3", 0.0), ("0*x", 0.0), ("2*x", 2.0)):
        flat = Expression(text, ["x", "y"])
        points = np.zeros((5, 2))
        assert flat.energy(points).shape == (5,)
        np.testing.assert_array_equal(flat.gradient(points), np.array([[slope, 0.0]] * 5))
        np.testing.assert_array_equal(flat.hessian(points), np.zeros((5, 2, 2)))
        assert compiled.evaluate(flat.gradient_tape, points).shape == (5, 2)


def test_a_tape_takes_other_parameters():
    tape = SPRING.energy_tape.with_parameters([1.0, 4.0])
    point = np.array([[1.0, 3.0]])
    assert float(compiled.evaluate(tape, point)[0, 0]) == 1.0 * 4 / 2 + 4.0
    assert float(tape.run(torch.tensor(point))[0]) == 6.0
    assert float(SPRING.energy(point[0])) == 3.0 * 4 / 2 - 0.5


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
def test_the_block_of_the_compiled_tape_changes_nothing(count):
    text, _ = random_formula(11)
    landscape = Expression(text, COORDINATES, PARAMETERS)
    points = positions(1, count)
    whole = compiled.evaluate(landscape.gradient_tape, points)
    np.testing.assert_array_equal(whole, compiled.evaluate(landscape.gradient_tape, points, block=16))
    np.testing.assert_array_equal(whole[:1], compiled.evaluate(landscape.gradient_tape, points[:1]))


def test_sympy_input_is_the_same_landscape_as_text():
    x, y, k = sympy.symbols("x y k")
    by_sympy = Expression(k * (x - y) ** 2 / 2 + sympy.Rational(1, 3) * sympy.Max(x, y), ["x", "y"], {"k": 2.0})
    by_text = Expression("k*(x - y)**2/2 + max(x, y)/3", ["x", "y"], {"k": 2.0})
    points = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(by_sympy.energy(points), by_text.energy(points), rtol=1e-14)
    plain = by_sympy.spec()
    plain.pop("kind")
    np.testing.assert_array_equal(Expression(**plain).energy(points), by_sympy.energy(points))


@pytest.mark.parametrize("kind", ["Piecewise", "Heaviside"])
def test_sympy_input_beyond_the_text_syntax_comes_back_from_its_plain_data(kind):
    x = sympy.Symbol("x", real=True)
    choices = {"Piecewise": sympy.Piecewise((x**2, x > 0), (-x, True)), "Heaviside": sympy.Heaviside(x) * x}
    landscape = Expression(choices[kind], ["x"])
    plain = landscape.spec()
    plain.pop("kind")
    assert float(Expression(**plain).energy([0.5])) == float(landscape.energy([0.5]))


def test_plain_data_are_json_types():
    plain = Expression("k*x", ["x", "y"], {"k": np.float64(2.0)}, bounds={"x": (np.float32(0), None)}).spec()
    assert plain == {
        "kind": "Expression",
        "energy": "k*x",
        "coordinates": ["x", "y"],
        "parameters": {"k": 2.0},
        "bounds": {"x": [0.0, None]},
    }
    assert type(plain["parameters"]["k"]) is float
    assert type(plain["bounds"]["x"][0]) is float


# -- walls, names, closed forms ---------------------------------------------------------------------------------------


def test_bounds_are_pairs_of_floats():
    landscape = Expression("x + y", ["x", "y"], bounds={"y": (None, 3), "x": (-1, 1)})
    assert landscape.bounds == {"x": (-1.0, 1.0), "y": (-math.inf, 3.0)}
    assert Expression("x", ["x"]).bounds == {}


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"z": (0, 1)}, ["'z'", "['x', 'y']"]),
        ({"x": (1, 0)}, ["'x'", "low < high", "1.0"]),
        ({"x": (2, 2)}, ["'x'", "low < high"]),
        ({"x": (math.nan, 1)}, ["'x'", "nan"]),
        ({"x": 1}, ["'x'", "pair", "1"]),
        ({"x": (0, 1, 2)}, ["'x'", "pair"]),
        pytest.param({"x": ("a", 1)}, ["'x'", "'a'"]),
        pytest.param([(0, 1)], ["bounds"]),
    ],
)
def test_bounds_that_make_no_sense(bounds, words):
    with pytest.raises(ConfigError) as caught:
        Expression("x + y", ["x", "y"], bounds=bounds)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ([1.0, 2.0, 3.0], ["(3,)", "2", "(x, y)"]),
        (1.0, ["()", "2"]),
        ([], ["(0,)", "2"]),
        (np.zeros((2, 3)), ["(2, 3)", "2"]),
        ([1j, 0.0], ["complex", "real"]),
        ([True, False], ["bool", "real"]),
        (["a", "b"], ["real"]),
        (None, ["real"]),
        (torch.zeros(3), ["(3,)", "2"]),
        (torch.zeros(2, dtype=torch.complex64), ["complex", "real"]),
        (torch.zeros(2, dtype=torch.bool), ["bool", "real"]),
        pytest.param([[1.0, 2.0], [3.0]], ["real"]),
    ],
)
def test_positions_of_the_wrong_shape_or_kind(position, words):
    for call in (SPRING.energy, SPRING.gradient, SPRING.hessian):
        with pytest.raises(ShapeError) as caught:
            call(position)
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_vectors_of_the_wrong_shape():
    with pytest.raises(ShapeError, match=r"\(3,\).*2"):
        SPRING.hvp([1.0, 2.0], [1.0, 2.0, 3.0])


def test_vectors_that_do_not_broadcast():
    with pytest.raises(LandscapeError, match=r"3.*4"):
        SPRING.hvp(np.zeros((3, 2)), np.zeros((4, 2)))


def test_vectors_broadcast_against_positions():
    point, vectors = np.array([0.3, 0.4]), np.random.default_rng(0).normal(size=(6, 2))
    np.testing.assert_allclose(SPRING.hvp(point, vectors), vectors @ SPRING.hessian(point), rtol=1e-14)
    points = np.random.default_rng(1).normal(size=(6, 2))
    assert SPRING.hvp(points, vectors[0]).shape == (6, 2)


def test_coordinates_by_name_or_number():
    assert SPRING.coordinate_index("y") == SPRING.coordinate_index(-1) == 1
    for wrong, words in (("z", ["'z'", "['x', 'y']"]), (2, ["2"]), (-3, ["-3", "2"])):
        with pytest.raises(ConfigError) as caught:
            SPRING.coordinate_index(wrong)
        assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "name",
    [
        "log_partition_function",
        "mean_energy",
        "energy_variance",
        "heat_capacity",
        "free_energy",
        "entropy",
        "mean_curvature",
    ],
)
def test_missing_closed_forms_are_named(name):
    with pytest.raises(NotImplementedError, match="Expression"):
        getattr(SPRING, name)(0.1)


def test_missing_marginals_and_stationary_points_are_named():
    for call in (lambda: SPRING.marginal([0.0], 0.1), lambda: SPRING.effective_potential([0.0], 0.1)):
        with pytest.raises(NotImplementedError, match="Expression"):
            call()
    for call in (SPRING.minima, SPRING.saddles):
        with pytest.raises(NotImplementedError, match="Expression"):
            call()


def test_the_default_start_is_the_origin():
    assert SPRING.default_start().tolist() == [0.0, 0.0]
    assert SPRING.default_start().dtype == torch.float64
