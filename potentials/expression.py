"""A landscape given by a formula, with symbolic derivatives."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from landscape.errors import ConfigError, FormulaError
from landscape.potentials.base import Bounds, Potential, check_bounds
from landscape.potentials.formula import CONSTANTS, FUNCTIONS, absolute, parse_formula, signum
from landscape.potentials.tape import Tape, compile_tape, real_number

__all__ = ["Expression"]


class Expression(Potential):
    """Energy V(x; p) given by a formula in named coordinates x and parameters p.

    Gradient and Hessian are symbolic. The same operations, in the same order, run in torch (CPU or GPU, any dtype) and
    in the compiled kernels (float64). A subclass that overrides a derivative in torch must keep to the formula,
    which is what the kernels run; to change the derivative itself it overrides `_gradient_expressions`.

    Parameters
    ----------
    energy : str or sympy.Expr
        The formula: numbers, names, ``+ - * / **``, parentheses, the constants ``pi`` and ``e`` and the functions
        exp, log, log1p, expm1, sqrt, sin, cos, tan, asin, acos, atan, atan2, sinh, cosh, tanh, erf, abs, sign, min,
        max, heaviside, softplus, sigmoid and ``where(a < b, x, y)``. Text is parsed against this list, not run.
    coordinates : sequence of str
        Names of the coordinates, in the order of the position vector.
    parameters : mapping of str to float, optional
        Values of the other names in the formula.
    bounds : mapping of str to (low, high), optional
        Hard walls; None leaves a side open. Closed forms integrate between them and dynamics reflects at them.

    Raises
    ------
    FormulaError
        For unknown names or functions, complex or non-finite constants, towers of powers, absurd lengths.
    ConfigError
        For names that are repeated or reserved, and for bounds that make no sense.

    Examples
    --------
    >>> spring = Expression("k*(x - y)**2/2", ["x", "y"], {"k": 3.0})
    >>> spring.energy([1.0, 0.0]), spring.gradient([1.0, 0.0])
    (array(1.5), array([ 3., -3.]))
    >>> spring.hessian([1.0, 0.0])
    array([[ 3., -3.],
           [-3.,  3.]])
    """

    def __init__(
        self,
        energy: str | sympy.Expr,
        coordinates: Sequence[str],
        parameters: Mapping[str, float] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.coordinates = _check_names(coordinates, parameters or {})
        self.dim = len(self.coordinates)
        self.parameters = {name: _check_parameter(name, value) for name, value in (parameters or {}).items()}
        self.bounds = check_bounds(bounds, self.coordinates)
        names = [*self.coordinates, *self.parameters]
        given = parse_formula(energy, names) if isinstance(energy, str) else _check_sympy(energy, names)
        self.expression = _real_arithmetic(given)
        self.energy_tape  # noqa: B018  # a formula that cannot run is refused here, not at first use

    # Tapes are compiled at first use: a Hessian in many dimensions costs time that a simulation never needs.

    @cached_property
    def energy_tape(self) -> Tape:
        """Straight-line program of the energy."""
        return compile_tape([self.expression], self.coordinates or (), self.parameters)

    @cached_property
    def gradient_tape(self) -> Tape:
        """Straight-line program of the gradient."""
        return compile_tape(self._gradient_expressions(), self.coordinates or (), self.parameters)

    def tape_with(self, others: Sequence[sympy.Expr]) -> Tape:
        """Straight-line program of the gradient, then of other expressions in the same coordinates and parameters."""
        if not others:
            return self.gradient_tape
        return compile_tape([*self._gradient_expressions(), *others], self.coordinates or (), self.parameters)

    def second_derivative(self, row: int, column: int) -> sympy.Expr:
        """An entry of the Hessian as an expression."""
        symbols = self._symbols()
        return sympy.diff(self.expression, symbols[row], symbols[column])

    @cached_property
    def hessian_tape(self) -> Tape:
        """Straight-line program of the upper triangle of the Hessian, row by row."""
        symbols = self._symbols()
        gradient = self._gradient_expressions()
        upper = [sympy.diff(gradient[i], symbols[j]) for i in range(self.dim) for j in range(i, self.dim)]
        return compile_tape(upper, self.coordinates or (), self.parameters)

    def _symbols(self) -> list[sympy.Symbol]:
        return [sympy.Symbol(name, real=True) for name in self.coordinates or ()]

    def _gradient_expressions(self) -> list[sympy.Expr]:
        return [sympy.diff(self.expression, symbol) for symbol in self._symbols()]

    def _energy(self, position: Tensor) -> Tensor:
        return self.energy_tape.run(position)[0]

    def _gradient(self, position: Tensor) -> Tensor:
        return torch.stack(self.gradient_tape.run(position), dim=-1)

    def _hessian(self, position: Tensor) -> Tensor:
        upper = self.hessian_tape.run(position)
        row, column = np.triu_indices(self.dim)
        place = np.empty((self.dim, self.dim), dtype=np.int64)
        place[row, column] = place[column, row] = np.arange(len(row))
        flat = torch.stack(upper, dim=-1)[..., torch.from_numpy(place.ravel()).to(position.device)]
        return flat.reshape(*position.shape[:-1], self.dim, self.dim)

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        return (self._hessian(position) @ vector.unsqueeze(-1)).squeeze(-1)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        spec: dict[str, Any] = {
            "kind": "Expression",
            "energy": _formula_text(self.expression),
            "coordinates": list(self.coordinates or ()),
        }
        if self.parameters:
            spec["parameters"] = dict(self.parameters)
        if self.bounds:
            spec["bounds"] = plain_bounds(self.bounds)
        return spec

    def __repr__(self) -> str:
        """Kind and arguments, as in the specification."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.spec().items() if key != "kind")
        return f"{type(self).__name__}({arguments})"


def plain_bounds(bounds: Mapping[str, tuple[float, float]]) -> dict[str, list[float | None]]:
    """Bounds as JSON-ready data: an open side is None."""
    return {name: [side if np.isfinite(side) else None for side in pair] for name, pair in bounds.items()}


def _check_names(coordinates: Sequence[str], parameters: Mapping[str, float]) -> tuple[str, ...]:
    if isinstance(coordinates, str):
        raise ConfigError(f'coordinates must be a sequence of names such as ["x", "y"], got the text {coordinates!r}')
    names = [*coordinates, *parameters]
    if not len(coordinates):
        raise ConfigError("a formula needs at least one coordinate, got none")
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"{name!r} is not a usable name: expected letters, digits and underscores")
        if name in FUNCTIONS or name in CONSTANTS or keyword.iskeyword(name) or name == "where":
            raise ConfigError(
                f"{name!r} is a function, a constant or a word of the language of formulas: choose another"
            )
        if names.count(name) > 1:
            raise ConfigError(f"the name {name!r} is given more than once among coordinates and parameters")
    return tuple(coordinates)


def _check_parameter(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"parameter {name!r} must be a number, got {value!r}") from None
    if not np.isfinite(number):
        raise ConfigError(f"parameter {name!r} must be finite, got {number}")
    return number


def _check_sympy(expression: Any, names: Sequence[str]) -> sympy.Expr:
    if not isinstance(expression, sympy.Expr):
        raise FormulaError(f"a formula must be text or a SymPy expression, got {type(expression).__name__}")
    unknown = sorted(str(symbol) for symbol in expression.free_symbols if str(symbol) not in names)
    if unknown:
        raise FormulaError(f"unknown symbols {unknown} in the formula: add them to `coordinates` or `parameters`")
    return expression.xreplace({symbol: sympy.Symbol(str(symbol), real=True) for symbol in expression.free_symbols})


def _real_arithmetic(expression: sympy.Expr) -> sympy.Expr:
    """Constants as floats, which text gives back exactly; absolute values and signs as functions of real arguments."""
    if expression.has(sympy.Abs, sympy.sign):
        expression = expression.replace(sympy.Abs, absolute).replace(sympy.sign, signum)

    def constant(e: sympy.Basic) -> bool:
        return isinstance(e, sympy.Expr) and bool(e.is_number) and not (e.is_Integer or e.is_Float)

    return expression.replace(constant, lambda e: sympy.Float(real_number(e)))


def _formula_text(expression: sympy.Expr) -> str:
    """The formula in the grammar that `parse_formula` reads, with all digits of its numbers."""
    exact = expression.xreplace({number: sympy.Symbol(repr(float(number))) for number in expression.atoms(sympy.Float)})
    return str(_Printer().doprint(exact))


class _Printer(sympy.printing.str.StrPrinter):  # type: ignore[misc]
    # the printer finds these by the names of the functions
    def _print_absolute(self, e: sympy.Expr) -> str:
        return f"abs({self._print(e.args[0])})"

    def _print_signum(self, e: sympy.Expr) -> str:
        return f"sign({self._print(e.args[0])})"

    def _print_Heaviside(self, e: sympy.Heaviside) -> str:  # noqa: N802
        return f"heaviside({self._print(e.args[0])})"

    def _print_Piecewise(self, e: sympy.Piecewise) -> str:  # noqa: N802
        *cases, (last, _) = e.args
        text = self._print(last)
        for value, condition in reversed(cases):
            test = f"{self._print(condition.lhs)} {condition.rel_op} {self._print(condition.rhs)}"
            text = f"where({test}, {self._print(value)}, {text})"
        return str(text)

    def _print_Abs(self, e: sympy.Abs) -> str:  # noqa: N802
        return f"abs({self._print(e.args[0])})"

    def _print_Max(self, e: sympy.Max) -> str:  # noqa: N802
        return f"max({', '.join(map(self._print, e.args))})"

    def _print_Min(self, e: sympy.Min) -> str:  # noqa: N802
        return f"min({', '.join(map(self._print, e.args))})"

    def _print_Exp1(self, e: sympy.Expr) -> str:  # noqa: N802
        return "e"
