"""Text to SymPy through a whitelist: a formula is parsed, never evaluated as code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import sympy
from sympy.codegen.cfunctions import expm1, log1p

from landscape.common.names import normalised
from landscape.errors import FormulaError

__all__ = ["FUNCTIONS", "absolute", "parse_formula", "sigmoid", "signum", "softplus"]

MAX_LENGTH = 20_000
MAX_DEPTH = 100
MAX_EXPONENT = 100


class _Known(sympy.Function):  # type: ignore[misc]
    """A real function of one number that says what its derivative is, and its value in functions of SymPy."""

    nargs = 1
    slope: ClassVar[Any]  # functions of the number
    value: ClassVar[Any]

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """The derivative."""
        return type(self).slope(self.args[0])

    def _eval_is_extended_real(self) -> bool:
        return True

    def _eval_evalf(self, prec: int) -> sympy.Expr:
        return type(self).value(self.args[0])._eval_evalf(prec)


class sigmoid(_Known):  # noqa: N801
    """Logistic function s(x) = 1 / (1 + exp(-x)), the derivative of `softplus`; its own is s(x) s(-x)."""

    slope = staticmethod(lambda x: sigmoid(x) * sigmoid(-x))
    value = staticmethod(lambda x: 1 / (1 + sympy.exp(-x)))


class softplus(_Known):  # noqa: N801
    """Smooth ramp log(1 + exp(x)), accurate at both ends; its derivative is `sigmoid`."""

    slope = staticmethod(sigmoid)
    value = staticmethod(lambda x: sympy.log(1 + sympy.exp(x)))


class signum(_Known):  # noqa: N801
    """Sign of a real argument, 0 at 0; its derivative is taken as 0 everywhere."""

    slope = staticmethod(lambda x: sympy.Integer(0))
    value = staticmethod(sympy.sign)


class absolute(_Known):  # noqa: N801
    """Absolute value of an argument that is real wherever it is evaluated; SymPy's own asks for a proof of that.

    Its derivative is `signum`.
    """

    slope = staticmethod(signum)
    value = staticmethod(sympy.Abs)


FUNCTIONS: Mapping[str, tuple[Callable[..., sympy.Expr], Callable[..., float], int]] = {
    # name: (symbolic, numeric for constants, number of arguments; -1 = two or more)
    "exp": (sympy.exp, math.exp, 1),
    "log": (sympy.log, math.log, 1),
    "log1p": (log1p, math.log1p, 1),
    "expm1": (expm1, math.expm1, 1),
    "sqrt": (sympy.sqrt, math.sqrt, 1),
    "sin": (sympy.sin, math.sin, 1),
    "cos": (sympy.cos, math.cos, 1),
    "tan": (sympy.tan, math.tan, 1),
    "asin": (sympy.asin, math.asin, 1),
    "acos": (sympy.acos, math.acos, 1),
    "atan": (sympy.atan, math.atan, 1),
    "atan2": (sympy.atan2, math.atan2, 2),
    "sinh": (sympy.sinh, math.sinh, 1),
    "cosh": (sympy.cosh, math.cosh, 1),
    "tanh": (sympy.tanh, math.tanh, 1),
    "erf": (sympy.erf, math.erf, 1),
    "abs": (absolute, abs, 1),
    "sign": (signum, lambda x: math.copysign(1.0, x) if x else 0.0, 1),
    "heaviside": (sympy.Heaviside, lambda x: 0.5 * (1.0 + (x > 0) - (x < 0)), 1),
    "min": (sympy.Min, min, -1),
    "max": (sympy.Max, max, -1),
    "softplus": (softplus, lambda x: math.log1p(math.exp(-abs(x))) + max(x, 0.0), 1),
    "sigmoid": (sigmoid, lambda x: 0.5 * (1.0 + math.tanh(0.5 * x)), 1),
}
COMPARISONS: Mapping[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: sympy.StrictLessThan,
    ast.LtE: sympy.LessThan,
    ast.Gt: sympy.StrictGreaterThan,
    ast.GtE: sympy.GreaterThan,
    ast.Eq: sympy.Equality,
}
CONSTANTS = {"pi": math.pi, "e": math.e}
OPERATORS = ("+", "-", "*", "/", "**")


def parse_formula(text: str, names: Iterable[str]) -> sympy.Expr:
    """A real SymPy expression from text.

    Parameters
    ----------
    text : str
        Numbers, the given names, ``+ - * / **``, parentheses, the functions of `FUNCTIONS`, and
        ``where(a < b, x, y)`` with any of ``< <= > >= ==``.
    names : iterable of str
        Coordinates and parameters that may appear; they become real symbols.

    Returns
    -------
    sympy.Expr

    Raises
    ------
    FormulaError
        For unknown names or functions, syntax that is not arithmetic, constants that are complex or not finite,
        towers of powers, and formulas too long or too deep.

    Examples
    --------
    >>> parse_formula("x**2*(1 + y**2)/2", ["x", "y"])
    x**2*(y**2 + 1)/2
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula must be text or a SymPy expression, got {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"the formula has {len(text)} characters; at most {MAX_LENGTH} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        hint = " (write powers as **, not ^)" if "^" in text else ""
        raise FormulaError(f"cannot read the formula {_short(text)}: {error}{hint}") from None
    reader = _Reader(text, {normalised(name): sympy.Symbol(name, real=True) for name in names})
    return reader.symbolic(reader.read(tree.body, depth=0))


class _Reader:
    """Walks a syntax tree. Constant parts are folded as floats on the way, so no constant can blow up later."""

    def __init__(self, text: str, symbols: Mapping[str, sympy.Symbol]) -> None:
        self.text = text
        self.symbols = symbols

    def read(self, node: ast.expr, depth: int) -> sympy.Expr | float:
        if depth > MAX_DEPTH:
            raise FormulaError(f"the formula is nested more than {MAX_DEPTH} levels deep")
        match node:
            case ast.Constant(value=value):
                return self.number(value)
            case ast.Name(id=name):
                return self.name(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                value = self.read(operand, depth + 1)
                return -value if isinstance(node.op, ast.USub) else value
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return self.sum(node, depth)
            case ast.BinOp():
                return self.binary(node, depth)
            case ast.Call(func=ast.Name(id="where"), args=[ast.Compare() as condition, then, other], keywords=[]):
                return self.choice(condition, then, other, depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self.call(name, [self.read(arg, depth + 1) for arg in args])
        raise FormulaError(
            f"{_short(ast.unparse(node))} in the formula {_short(self.text)} is not arithmetic; "
            f"expected numbers, names, {' '.join(OPERATORS)} and functions"
        )

    def choice(self, condition: ast.Compare, then: ast.expr, other: ast.expr, depth: int) -> sympy.Expr:
        if len(condition.ops) != 1 or type(condition.ops[0]) not in COMPARISONS:
            raise FormulaError(f"where takes one comparison < <= > >= ==, got {_short(ast.unparse(condition))}")
        sides = [self.symbolic(self.read(side, depth + 1)) for side in (condition.left, condition.comparators[0])]
        test = COMPARISONS[type(condition.ops[0])](*sides)
        values = [self.symbolic(self.read(value, depth + 1)) for value in (then, other)]
        return sympy.Piecewise((values[0], test), (values[1], True))

    def number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormulaError(f"{value!r} in the formula {_short(self.text)} is not a real number")
        return self.finite(lambda: float(value))

    def name(self, name: str) -> sympy.Expr | float:
        if name in self.symbols:
            return self.symbols[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        known = ", ".join([*self.symbols, *CONSTANTS])
        raise FormulaError(
            f"unknown symbol {name!r} in the formula {_short(self.text)}; known are {known}. "
            "Add it to `coordinates`, or to `parameters` with a value"
        )

    def call(self, name: str, args: list[sympy.Expr | float]) -> sympy.Expr | float:
        if name not in FUNCTIONS:
            raise FormulaError(
                f"unknown function {name!r} in the formula {_short(self.text)}; known are {', '.join(FUNCTIONS)}"
            )
        symbolic, numeric, count = FUNCTIONS[name]
        if len(args) != count and not (count < 0 and len(args) >= 2):
            wanted = "two or more arguments" if count < 0 else f"{count} argument{'s' * (count != 1)}"
            raise FormulaError(f"{name} takes {wanted}, got {len(args)} in the formula {_short(self.text)}")
        if all(isinstance(arg, float) for arg in args):
            return self.finite(lambda: numeric(*args))
        return symbolic(*(self.symbolic(arg) for arg in args))

    def sum(self, node: ast.expr, depth: int) -> sympy.Expr | float:
        # A long sum nests to the left as deep as it has terms: walk that spine in a loop.
        terms: list[sympy.Expr | float] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            term = self.read(node.right, depth + 1)
            terms.append(-term if isinstance(node.op, ast.Sub) else term)
            node = node.left
        terms.append(self.read(node, depth + 1))
        if all(isinstance(term, float) for term in terms):
            return self.finite(lambda: sum(reversed(terms)))
        return sympy.Add(*(self.symbolic(term) for term in reversed(terms)))

    def binary(self, node: ast.BinOp, depth: int) -> sympy.Expr | float:
        left, right = self.read(node.left, depth + 1), self.read(node.right, depth + 1)
        if isinstance(left, float) and isinstance(right, float):
            return self.finite(lambda: self.operate(node.op, left, right))
        if isinstance(node.op, ast.Pow):
            self.check_power(right)
        return self.operate(node.op, self.symbolic(left), self.symbolic(right))

    def operate(self, operator: ast.operator, left: Any, right: Any) -> Any:
        match operator:
            case ast.Mult():
                return left * right
            case ast.Div():
                if right == 0:
                    raise FormulaError(f"division by zero in the formula {_short(self.text)}")
                return left / right
            case ast.Pow() if left == math.e and not isinstance(right, float):
                return sympy.exp(right)
            case ast.Pow():
                return left**right
        hint = "; write powers as **" if isinstance(operator, ast.BitXor) else ""
        raise FormulaError(
            f"operator {type(operator).__name__} in the formula {_short(self.text)} is not one of "
            f"{' '.join(OPERATORS)}{hint}"
        )

    def check_power(self, exponent: sympy.Expr | float) -> None:
        if isinstance(exponent, float):
            if abs(exponent) > MAX_EXPONENT:
                raise FormulaError(f"exponent {exponent:g} is larger than {MAX_EXPONENT} in {_short(self.text)}")
        elif exponent.has(sympy.Pow):
            raise FormulaError(f"a power in the exponent of another power in the formula {_short(self.text)}")

    def finite(self, compute: Callable[[], Any]) -> float:
        try:
            value = compute()
        except (OverflowError, ZeroDivisionError, ValueError) as error:
            if isinstance(error, FormulaError):
                raise
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            raise FormulaError(f"a constant in the formula {_short(self.text)} is complex or not finite")
        return float(value)

    @staticmethod
    def symbolic(value: sympy.Expr | float) -> sympy.Expr:
        if not isinstance(value, float):
            return value
        return sympy.Integer(int(value)) if value.is_integer() and abs(value) < 2**53 else sympy.Float(value)


def _short(text: str, length: int = 80) -> str:
    return repr(text if len(text) <= length else text[: length - 3] + "...")
