"""A landscape given by a formula, with symbolic derivatives."""

from __future__ import annotations

import copy
import keyword
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import finite_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import Described
from landscape.common.names import check_different
from landscape.common.per_chain import count_chains, numbers
from landscape.common.schedules import Clock, Schedule, as_schedule
from landscape.errors import ConfigError, FormulaError, LandscapeError, ShapeError
from landscape.potentials.base import Bounds, Potential, check_bounds
from landscape.potentials.expression.formula import CONSTANTS, FUNCTIONS, absolute, parse_formula, signum
from landscape.potentials.expression.tape import Tape, compile_tape, real_number

__all__ = ["Expression", "formula_text", "plain_bounds", "timeless"]

TIME = "t"  # in a formula, unless it is a coordinate or a parameter


@guarded_class
class Expression(Described, Potential):
    """Energy V(x; p) given by a formula in named coordinates x and parameters p.

    Gradient and Hessian are symbolic. The same operations, in the same order, run in torch (CPU or GPU, any dtype) and
    in the compiled kernels (float64). A subclass that overrides a derivative in torch must keep to the formula,
    which is what the kernels run; to change the derivative itself it overrides `_gradient_expressions`.

    A parameter may change in time, by a schedule, or differ by chain; and ``t`` in a formula that has no coordinate or
    parameter of that name is the time at the start of a step. `simulate` fills them in. By itself such a formula has no
    energy that changes in time, and one for each chain where numbers differ by chain: `at` gives the formula of a
    moment, and of a chain, with which everything can be done that takes a fixed energy.

    Parameters
    ----------
    energy : str or sympy.Expr
        The formula: numbers, names, ``+ - * / **``, parentheses, the constants ``pi`` and ``e`` and the functions
        exp, log, log1p, expm1, sqrt, sin, cos, tan, asin, acos, atan, atan2, sinh, cosh, tanh, erf, abs, sign, min,
        max, heaviside, softplus, sigmoid and ``where(a < b, x, y)``. Text is parsed against this list, not run.
    coordinates : sequence of str
        Names of the coordinates, in the order of the position vector.
    parameters : mapping of str to float, one per chain, or a schedule, optional
        Values of the other names in the formula. Schedules are `ramp`, `cycle`, `cosine`, `piecewise` or a callable of
        the time, of either sign.
    bounds : mapping of str to (low, high), optional
        Reflecting boundaries; None leaves a side open. Closed forms integrate between them, dynamics reflects at them.

    Raises
    ------
    FormulaError
        For unknown names or functions, complex or non-finite constants, towers of powers, absurd lengths.
    ConfigError
        For names that are repeated or reserved, and for bounds that make no sense; on use, for an energy that changes
        in time (see `at`).
    ShapeError
        On use, if numbers differ by chain and the positions are not ``(..., chain, dim)``.

    Examples
    --------
    >>> spring = Expression("k*(x - y)**2/2", ["x", "y"], {"k": 3.0})
    >>> spring.energy([1.0, 0.0]), spring.gradient([1.0, 0.0])
    (array(1.5), array([ 3., -3.]))
    >>> spring.hessian([1.0, 0.0])
    array([[ 3., -3.],
           [-3.,  3.]])

    A force that oscillates, and its energy a quarter of a period later:

    >>> driven = Expression("x**2/2 - a*cos(w*t)*x", ["x"], {"a": 0.5, "w": 2.0})
    >>> round(float(driven.at(np.pi / 4).energy([1.0])), 12)
    0.5
    """

    def __init__(
        self,
        energy: str | sympy.Expr,
        coordinates: Sequence[str],
        parameters: Mapping[str, Any] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.coordinates = _check_names(coordinates, parameters or {})
        self.dim = len(self.coordinates)
        values = {name: _check_parameter(name, value) for name, value in (parameters or {}).items()}
        self.parameters = {name: value for name, value in values.items() if isinstance(value, float)}
        self.varying = {name: value for name, value in values.items() if not isinstance(value, float)}
        self.bounds = check_bounds(bounds, self.coordinates)
        names = dict.fromkeys([*self.coordinates, *values, TIME])
        given = parse_formula(energy, names) if isinstance(energy, str) else _check_sympy(energy, names)
        self.expression = _real_arithmetic(given)
        if TIME not in (*self.coordinates, *values) and self.expression.has(sympy.Symbol(TIME, real=True)):
            self.varying[TIME] = Clock()
        lengths = {name: one.length() if isinstance(one, Schedule) else len(one) for name, one in self.varying.items()}
        count_chains(None, **{f"parameter {name!r}": length for name, length in lengths.items()})
        self.energy_tape  # noqa: B018  # a formula that cannot run is refused here, not at first use

    # Tapes are compiled at first use: a Hessian in many dimensions costs time that a simulation never needs.

    @cached_property
    def energy_tape(self) -> Tape:
        """Straight-line program of the energy."""
        return self._tape([self.expression])

    @cached_property
    def gradient_tape(self) -> Tape:
        """Straight-line program of the gradient."""
        return self._tape(self._gradient_expressions())

    def tape_with(self, others: Sequence[sympy.Expr]) -> Tape:
        """Straight-line program of the gradient, then of other expressions in the same coordinates and parameters."""
        if not others:
            return self.gradient_tape
        if len(others) != 1 or others[0] is not self.expression:
            return self._tape([*self._gradient_expressions(), *others])
        numbers = tuple(self.parameters.items()), tuple(self.varying)  # a copy may have others
        held: tuple[Any, Tape] | None = self.__dict__.get("_slope_and_energy")
        if held is None or held[0] != numbers:
            held = numbers, self._tape([*self._gradient_expressions(), self.expression])
            self.__dict__["_slope_and_energy"] = held
        return held[1]

    def _tape(self, expressions: Sequence[sympy.Expr]) -> Tape:
        """Program of expressions; its inputs are the coordinates and then the numbers of `varying`."""
        return compile_tape(expressions, [*(self.coordinates or ()), *self.varying], self.parameters)

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
        return self._tape(upper)

    def _symbols(self) -> list[sympy.Symbol]:
        return [sympy.Symbol(name, real=True) for name in self.coordinates or ()]

    def _gradient_expressions(self) -> list[sympy.Expr]:
        return [sympy.diff(self.expression, symbol) for symbol in self._symbols()]

    loops = "formula"

    def compiled_form(self) -> Expression:
        """Itself."""
        return self

    def _energy(self, position: Tensor) -> Tensor:
        return self._run(self.energy_tape, position)[0]

    def _gradient(self, position: Tensor) -> Tensor:
        return torch.stack(self._run(self.gradient_tape, position), dim=-1)

    def _run(self, tape: Tape, position: Tensor) -> list[Tensor]:
        """Outputs of a tape at positions, with the numbers of each chain."""
        if not self.varying:
            return tape.run(position)
        numbers = self._present(position)
        return tape.run(torch.cat([position, numbers.expand(*position.shape[:-1], -1)], dim=-1))

    def _present(self, position: Tensor) -> Tensor:
        """The numbers of `varying` for positions, ``(numbers,)`` or ``(chains, numbers)``.

        Raises
        ------
        ConfigError, ShapeError
        """
        held: Tensor | None = self.__dict__.get("_held")
        if held is None:
            changing = [name for name, value in self.varying.items() if isinstance(value, Schedule)]
            if changing:
                raise ConfigError(
                    f"the energy changes in time ({', '.join(changing)}): take formula.at(time) for that of a moment"
                )
            held = torch.as_tensor(np.stack(list(self.varying.values()), axis=-1))
        chains = len(held) if held.ndim == 2 else 1
        if chains > 1 and position.shape[-2:-1] != held.shape[:1]:
            raise ShapeError(
                f"the formula has numbers for {chains} chains and positions are {tuple(position.shape)}: expected "
                f"(..., {chains}, {self.dim}), or take formula.at(chain=number) for that of one chain"
            )
        return held.to(position)

    def holding(self) -> Expression:
        """A copy that `hold` gives its numbers for positions of all chains, as a run does step by step."""
        self.gradient_tape  # noqa: B018  # the copy shares it
        return copy.copy(self)

    def hold(self, numbers: Tensor) -> None:
        """Take these ``(numbers, chains or 1)`` for those of `varying` from now on."""
        self.__dict__["_held"] = numbers.T if numbers.shape[1] > 1 else numbers[:, 0]

    def at(self, time: float = 0.0, *, chain: int | None = None) -> Expression:
        """The formula at one time, and of one chain: an energy that does not change.

        Parameters
        ----------
        time : float
            What ``t`` and the schedules of parameters are taken at.
        chain : int, optional
            Whose numbers, where they differ by chain; without it they still do.

        Returns
        -------
        Expression
            With the values of that time among its `parameters`, ``t`` too.

        Raises
        ------
        ConfigError
            If the time is not finite or there is no such chain.

        Examples
        --------
        >>> import landscape as ls
        >>> trap = Expression("k*x**2/2", ["x"], {"k": ls.ramp(1.0, 3.0, duration=10.0)})
        >>> trap.at(5.0).energy([1.0])
        array(1.)
        """
        finite_number("time", time)
        values = dict(self.varying)
        for name, value in values.items():
            length = value.length() if isinstance(value, Schedule) else len(value)
            row = value
            if isinstance(value, Schedule):
                row = value.at(np.full((1, length or 1), float(time)), length or 1, signed=True)[0]
            if chain is not None and length is not None:
                if isinstance(chain, bool) or not isinstance(chain, int | np.integer) or not 0 <= chain < length:
                    raise ConfigError(f"no chain {chain!r}: the parameter {name!r} has values for {length}")
                row = row[chain : chain + 1]
            values[name] = float(row[0]) if len(row) == 1 else np.array(row)
        other = copy.copy(self)
        other.parameters = self.parameters | {name: value for name, value in values.items() if isinstance(value, float)}
        other.varying = {name: value for name, value in values.items() if not isinstance(value, float)}
        for name in ("energy_tape", "gradient_tape", "hessian_tape", "_held"):
            other.__dict__.pop(name, None)
        return other

    def _hessian(self, position: Tensor) -> Tensor:
        upper = self._run(self.hessian_tape, position)
        row, column = np.triu_indices(self.dim)
        place = np.empty((self.dim, self.dim), dtype=np.int64)
        place[row, column] = place[column, row] = np.arange(len(row))
        flat = torch.stack(upper, dim=-1)[..., torch.from_numpy(place.ravel()).to(position.device)]
        return flat.reshape(*position.shape[:-1], self.dim, self.dim)

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        return (self._hessian(position) @ vector.unsqueeze(-1)).squeeze(-1)

    def arguments(self) -> dict[str, Any]:
        """Formula, names, the parameters that were given, and bounds."""
        energy, names = formula_text(self.expression), list(self.coordinates or ())
        return {"energy": energy, "coordinates": names} | self._numbers_and_bounds()

    @property
    def kind(self) -> str:
        """A subclass that adds no argument is an expression too."""
        return "Expression"

    def _numbers_and_bounds(self) -> dict[str, Any]:
        return {"parameters": self._given(), "bounds": plain_bounds(self.bounds)}

    def _given(self) -> dict[str, Any]:
        """Parameters of all kinds."""
        return self.parameters | {name: one for name, one in self.varying.items() if not isinstance(one, Clock)}

    def __repr__(self) -> str:
        """Kind and arguments, as in the specification."""
        table = {key: value for key, value in self.spec().items() if key != "kind"}
        if self.varying and "parameters" in table:
            table["parameters"] |= {name: one for name, one in self._given().items() if isinstance(one, Schedule)}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in table.items())})"


def timeless(formula: Expression) -> Expression:
    """The formula, if its energy is one and the same for all times and chains.

    Raises
    ------
    FormulaError
    """
    if formula.varying:
        raise FormulaError(
            f"the formula depends on {', '.join(formula.varying)}, which changes in time or by chain: expected one "
            "that does not"
        )
    return formula


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
    check_different(names, "coordinates and parameters")
    return tuple(coordinates)


def _check_parameter(name: str, value: Any) -> float | NDArray[np.float64] | Schedule:
    schedule = as_schedule(f"parameter {name!r}", value, signed=True)
    if schedule is not None:
        return schedule
    try:
        given = numbers(f"parameter {name!r}", value)
    except LandscapeError as error:
        raise ConfigError(f"{error}; expected a number, one per chain, or a schedule") from None
    if not np.isfinite(given).all():
        raise ConfigError(f"parameter {name!r} must be finite, got {value!r}")
    return float(given) if given.ndim == 0 else given


def _check_sympy(expression: Any, names: Iterable[str]) -> sympy.Expr:
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


def formula_text(expression: sympy.Expr) -> str:
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
