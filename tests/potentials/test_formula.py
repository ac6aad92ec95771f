"""Formulas: what the whitelist accepts, what it refuses, and that no text is ever run as code."""

import math

import numpy as np
import pytest
import sympy

from landscape.errors import ConfigError, FormulaError, LandscapeError
from landscape.potentials import Expression
from landscape.potentials.expression.formula import FUNCTIONS, parse_formula, sigmoid, softplus


def value(text, x=0.0, y=0.0):
    """V(x, y) of a formula in float64."""
    return float(Expression(text, ["x", "y"]).energy([x, y]))


# -- every documented function, against the standard library ----------------------------------------------------------

BY_HAND = {
    "exp": (math.exp, [-3.2, 0.0, 1.7]),
    "log": (math.log, [1e-5, 0.3, 40.0]),
    "log1p": (math.log1p, [-0.7, 1e-14, 3.0]),
    "expm1": (math.expm1, [-2.0, 1e-14, 1.3]),
    "sqrt": (math.sqrt, [0.0, 0.2, 9.0]),
    "sin": (math.sin, [-2.0, 0.4]),
    "cos": (math.cos, [-2.0, 0.4]),
    "tan": (math.tan, [-1.1, 0.4]),
    "asin": (math.asin, [-0.9, 0.3]),
    "acos": (math.acos, [-0.9, 0.3]),
    "atan": (math.atan, [-9.0, 0.3]),
    "sinh": (math.sinh, [-2.0, 0.4]),
    "cosh": (math.cosh, [-2.0, 0.4]),
    "tanh": (math.tanh, [-2.0, 0.4]),
    "erf": (math.erf, [-1.2, 0.0, 0.5]),
    "abs": (abs, [-1.2, 0.0, 0.5]),
    "sign": (lambda x: math.copysign(1.0, x) if x else 0.0, [-1.2, 0.0, 0.5]),
    "softplus": (lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))), [-40.0, -1.0, 0.0, 2.0, 50.0, 800.0]),
    "sigmoid": (lambda x: 0.5 * (1 + math.tanh(x / 2)), [-3.0, 0.0, 2.0, 50.0]),
}
OF_TWO = {
    "atan2": (math.atan2, [(0.3, 0.7), (-1.0, -2.0), (1.0, -0.5), (0.0, -1.0)]),
    "min": (min, [(0.3, 0.7), (2.0, -2.0), (1.0, 1.0)]),
    "max": (max, [(0.3, 0.7), (2.0, -2.0), (1.0, 1.0)]),
}


def test_the_documented_functions_are_all_there_and_no_others():
    assert set(FUNCTIONS) == set(BY_HAND) | set(OF_TWO) | {"heaviside"}


@pytest.mark.parametrize("name", BY_HAND)
def test_function_of_one_argument(name):
    function, points = BY_HAND[name]
    for x in points:
        assert value(f"{name}(x)", x) == pytest.approx(function(x), rel=1e-14, abs=1e-300), x


@pytest.mark.parametrize("name", BY_HAND)
def test_function_of_a_constant(name):
    function, points = BY_HAND[name]
    for x in points:
        assert value(f"x + {name}({x})", 0.5) == pytest.approx(0.5 + function(x), rel=1e-14), x


@pytest.mark.parametrize("name", OF_TWO)
def test_function_of_two_arguments(name):
    function, points = OF_TWO[name]
    for x, y in points:
        assert value(f"{name}(x, y)", x, y) == pytest.approx(function(x, y), rel=1e-14), (x, y)
        assert value(f"x + {name}({x}, {y})", 0.25) == pytest.approx(0.25 + function(x, y), rel=1e-14), (x, y)


def test_min_and_max_of_several():
    assert value("min(x, y, 1, x + y)", 3.0, 2.0) == 1.0
    assert value("max(x, y, 1, x + y)", 3.0, 2.0) == 5.0


def test_small_and_large_arguments_keep_their_digits():
    assert value("log1p(x)", 1e-20) == 1e-20
    assert value("expm1(x)", 1e-20) == 1e-20
    assert value("softplus(x)", -700.0) == pytest.approx(math.exp(-700.0), rel=1e-12)
    assert value("softplus(x)", 1e5) == 1e5
    assert value("sigmoid(x)", -700.0) == pytest.approx(math.exp(-700.0), rel=1e-12)
    assert value("sigmoid(x)", 1e5) == 1.0


# -- arithmetic -------------------------------------------------------------------------------------------------------

ARITHMETIC = {
    "x - y - 1": lambda x, y: x - y - 1,
    "x - (y - 1)": lambda x, y: x - (y - 1),
    "x/y/2": lambda x, y: x / y / 2,
    "x/y*2": lambda x, y: x / y * 2,
    "x/(y*2)": lambda x, y: x / (y * 2),
    "-x**2": lambda x, y: -(x**2),
    "(-x)**2": lambda x, y: x**2,
    "2**-x": lambda x, y: 2**-x,
    "2*-x": lambda x, y: -2 * x,
    "- -x": lambda x, y: x,
    "+x": lambda x, y: x,
    "x + y*x**2": lambda x, y: x + y * x * x,
    "(x + y)*x": lambda x, y: (x + y) * x,
    "x**3*y**-2": lambda x, y: x**3 / y**2,
    "x**-1": lambda x, y: 1 / x,
    "x**y": lambda x, y: x**y,
    "x**2.5": lambda x, y: x**2.5,
    "x**-0.5": lambda x, y: x**-0.5,
    "x**(1/3)": lambda x, y: x ** (1 / 3),
    "2*3**2/6": lambda x, y: 3.0,
    "pi*x": lambda x, y: math.pi * x,
    "e**x": lambda x, y: math.e**x,
    "1e-3*x + .5*y + 2.": lambda x, y: 1e-3 * x + 0.5 * y + 2,
    "  ( x\n + y ) ": lambda x, y: x + y,
    "sin(cos(x)*exp(-y))": lambda x, y: math.sin(math.cos(x) * math.exp(-y)),
    "3": lambda x, y: 3.0,
    "0*x": lambda x, y: 0.0,
}


@pytest.mark.parametrize("text", ARITHMETIC)
def test_precedence_and_numbers(text):
    for x, y in [(1.3, 0.7), (0.2, 2.5)]:
        assert value(text, x, y) == pytest.approx(ARITHMETIC[text](x, y), rel=1e-14), (x, y)


def test_unknown_signs_do_not_become_positive():
    assert value("sqrt(x**2)", -1.5) == 1.5
    assert value("(x**2)**0.5", -1.5) == 1.5
    assert value("abs(x)**3", -2.0) == 8.0
    assert math.isnan(value("log(x)", -1.0))


def test_long_sums_are_read():
    text = " + ".join(f"{i}*x" for i in range(1500))
    assert value(text, 1.0) == 1500 * 1499 / 2
    text = " - ".join(["y"] + ["x"] * 1500)
    assert value(text, 1.0, 2.0) == 2.0 - 1500


def test_names_may_be_anything_python_could_write():
    bowl = Expression("k_1*theta0**2 + _y", ["theta0", "_y"], {"k_1": 3.0})
    assert float(bowl.energy([2.0, 0.5])) == 12.5


def test_the_result_is_a_real_sympy_expression():
    expression = parse_formula("x**2*(1 + y**2)/2", ["x", "y"])
    assert isinstance(expression, sympy.Expr)
    assert all(symbol.is_real for symbol in expression.free_symbols)


def test_sympy_functions_and_their_derivatives():
    x = sympy.Symbol("x", real=True)
    assert sympy.diff(softplus(x), x) == sigmoid(x)
    slope = Expression(sympy.diff(sigmoid(3 * x), x), ["x"])
    at = 0.4
    expected = 3 * math.exp(-3 * at) / (1 + math.exp(-3 * at)) ** 2
    assert float(slope.energy([at])) == pytest.approx(expected, rel=1e-14)


# -- refusals: what was given, what was expected ----------------------------------------------------------------------

NOT_ARITHMETIC = [
    "__import__('os').system('true')",
    "x.__class__",
    "x.real",
    "x[0]",
    "x < 1",
    "x == y",
    "lambda: x",
    "(lambda x: x)(y)",
    "'x'",
    "b'x'",
    "f'{x}'",
    "x if y else 1",
    "[x]",
    "(x, y)",
    "{x}",
    "{x: y}",
    "(x := 1)",
    "not x",
    "~x",
    "x and y",
    "True",
    "None",
    "...",
    "exp(x=1)",
    "exp(*x)",
    "exp(**x)",
    "await x",
    "[x for x in y]",
    "x()",
    "exp(x)(y)",
    "x; y",
    "x = 1",
    "import os",
    "yield x",
    "x y",
    "2x",
    "x +",
    "(x",
    "",
    "   ",
    "x\x00",
    "x // 2",
    "x % 2",
    "x @ y",
    "x << 1",
    "x | y",
    "1j",
    "x + 2j",
]


@pytest.mark.parametrize("text", NOT_ARITHMETIC)
def test_what_is_not_arithmetic_is_refused(text):
    with pytest.raises(FormulaError) as caught:
        Expression(text, ["x", "y"])
    assert len(str(caught.value)) > 15


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x^2", ["x^2", "**"]),
        ("z*x", ["'z'", "x, y", "coordinates", "parameters"]),
        ("foo(x)", ["'foo'", "exp", "softplus", "sigmoid"]),
        ("exec(x)", ["'exec'", "exp"]),
        ("exp(x, y)", ["exp", "1 argument", "got 2"]),
        ("atan2(x)", ["atan2", "2 arguments", "got 1"]),
        ("max(x)", ["max", "two or more", "got 1"]),
        ("sin()", ["sin", "1 argument", "got 0"]),
        ("x // 2", ["+ - * / **"]),
        ("x.real", ["x.real", "expected"]),
        ("x**y**x", ["power", "x**y**x"]),
        ("x**100000", ["exponent", "100"]),
        ("x/0", ["zero", "x/0"]),
        ("sqrt(-2)*x", ["sqrt(-2)", "complex"]),
        ("1e400*x", ["1e400", "finite"]),
    ],
)
def test_messages_name_given_and_expected(text, words):
    with pytest.raises(FormulaError) as caught:
        Expression(text, ["x", "y"])
    message = str(caught.value)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "9**9**9**9",
        "2**(2**(2**100))",
        "exp(1000)",
        "exp(exp(20))*x",
        "10**400",
        "1e400",
        "1e300*1e300*x",
        "1e300*x*1e300",
        "sqrt(-1)",
        "log(-1)",
        "log(0)*x",
        "asin(2)",
        "acos(-1.1)",
        "(-8)**(1/3)",
        "(-1)**0.5*x",
        "0**-1",
        "1/0",
        "0/0",
        "x/0",
        "1/(x - x)",
        "log(x - x)",
        "sqrt(x - x - 1)",
        "asin(x - x + 2)",
        "exp(x - x + 1000)",
        "0**(x - x - 1)",
        "log1p(-2)",
        "erf(1e308*10)",
        "atan2(x - x, 0)*0 + log(y - y)",
    ],
)
def test_constants_that_are_complex_or_not_finite_are_refused(text):
    with pytest.raises(FormulaError):
        Expression(text, ["x", "y"])


@pytest.mark.parametrize("text", ["x**y**x", "2**x**2", "x**(y**2)", "x**(1 + y**2)", "(x + 1)**(2**y)"])
def test_towers_of_powers_are_refused(text):
    with pytest.raises(FormulaError, match="power"):
        Expression(text, ["x", "y"])


@pytest.mark.parametrize("text", ["x**1000000", "x**1e308", "exp(x)**100000", "x**-100000"])
def test_absurd_exponents_are_refused(text):
    with pytest.raises(FormulaError, match="exponent"):
        Expression(text, ["x", "y"])


@pytest.mark.parametrize(
    "text",
    [
        "(" * 400 + "x" + ")" * 400,
        "-" * 5000 + "x",
        "sin(" * 400 + "x" + ")" * 400,
        "+".join(["x"] * 100_000),
        "*".join(["x"] * 9_000),
        "x" * 100_000,
        "1" * 100_000,
        "x**2 + " * 40_000 + "x",
    ],
    ids=["parentheses", "signs", "calls", "terms", "factors", "a name", "a number", "a polynomial"],
)
def test_absurd_lengths_and_depths_are_refused(text):
    with pytest.raises(FormulaError) as caught:
        Expression(text, ["x", "y"])
    assert len(str(caught.value)) < 1000  # the message does not repeat the whole formula


@pytest.mark.parametrize("thing", [3, 2.5, None, ["x"], b"x", sympy.Symbol("x", real=True) < 1, sympy.eye(2)])
def test_only_text_and_sympy_expressions_are_formulas(thing):
    with pytest.raises(FormulaError, match=r"text|SymPy"):
        Expression(thing, ["x"])


x, z = sympy.Symbol("x", real=True), sympy.Symbol("z")


@pytest.mark.parametrize(
    "expression",
    [
        x * z,
        sympy.I * x,
        sympy.zoo + x,
        sympy.oo * x,
        sympy.nan,
        sympy.gamma(x),
        sympy.Function("f")(x),
        sympy.Integral(sympy.sin(x**2), x),
        sympy.besselj(0, x),
        sympy.sqrt(-1 - x + x),
    ],
)
def test_sympy_expressions_are_held_to_the_same_list(expression):
    with pytest.raises(FormulaError):
        Expression(expression, ["x"])


def test_nothing_is_run(tmp_path):
    marker = tmp_path / "marker"
    for text in (
        f"__import__('pathlib').Path({str(marker)!r}).touch()",
        f"open({str(marker)!r}, 'w')",
        f"eval(\"open({str(marker)!r}, 'w')\")",
        "().__class__.__bases__[0].__subclasses__()",
        "__builtins__",
        "x.__init__.__globals__",
    ):
        with pytest.raises(FormulaError):
            Expression(text, ["x"])
        with pytest.raises(FormulaError):
            parse_formula(text, ["x", "open", "eval"])
    assert not marker.exists()


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coordinates", "parameters", "words"),
    [
        (["x", "x"], None, ["'x'", "once"]),
        ([], None, ["at least one"]),
        ("x", None, ["sequence", "'x'"]),
        (["x", "pi"], None, ["'pi'"]),
        (["x", "e"], None, ["'e'"]),
        (["x", "sin"], None, ["'sin'"]),
        (["x", "a b"], None, ["'a b'"]),
        (["x", 3], None, ["3"]),
        (["x"], {"x": 1.0}, ["'x'", "once"]),
        (["x"], {"exp": 1.0}, ["'exp'"]),
        (["x"], {"k": math.nan}, ["'k'", "finite"]),
        (["x"], {"k": math.inf}, ["'k'", "finite"]),
        (["x"], {"k": "three"}, ["'k'", "number"]),
        (["x"], {"k": 1j}, ["'k'", "number"]),
        (["x"], {"k": [[1.0, 2.0]]}, ["'k'", "number"]),
    ],
)
def test_names_that_are_repeated_or_reserved_are_refused(coordinates, parameters, words):
    with pytest.raises(ConfigError) as caught:
        Expression("x", coordinates, parameters)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_errors_are_also_standard_ones():
    for wrong in ("x +", "z"):
        with pytest.raises(ValueError):
            Expression(wrong, ["x"])
        with pytest.raises(LandscapeError):
            Expression(wrong, ["x"])


def test_parameters_are_values_not_text():
    for k in (2.0, np.float32(2.0), np.int64(2), 2):
        assert float(Expression("k*x", ["x"], {"k": k}).energy([1.5])) == 3.0


def test_a_name_that_no_formula_can_use_is_refused():
    with pytest.raises(ConfigError, match="lambda"):
        Expression("lambda*x", ["x"], {"lambda": 2.0})


def test_a_name_written_with_the_micro_sign():
    assert float(Expression("\u00b5*x", ["x"], {"\u00b5": 2.0}).energy([1.5])) == 3.0


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("where(x < 1, 2*x, 3)", {0.5: 1.0, 1.0: 3.0, 2.0: 3.0}),
        ("where(x >= 1, 2*x, 3)", {0.5: 3.0, 1.0: 2.0, 2.0: 4.0}),
        ("where(x == 1, 7, where(x > 1, 8, 9))", {0.5: 9.0, 1.0: 7.0, 2.0: 8.0}),
        ("heaviside(x - 1)", {0.5: 0.0, 1.0: 0.5, 2.0: 1.0}),
    ],
)
def test_choices(text, values):
    for x, expected in values.items():
        assert value(text, x) == expected


@pytest.mark.parametrize("text", ["where(x, 1, 2)", "where(0 < x < 1, 1, 2)", "where(x < 1, 2)", "where(x in x, 1, 2)"])
def test_choices_that_make_no_sense_are_refused(text):
    with pytest.raises(FormulaError):
        Expression(text, ["x"])
