"""Straight-line programs: what a formula becomes so that torch and compiled kernels run the same operations.

A `Tape` is a list of instructions on numbered registers. The first registers hold the coordinates, the next the
parameters and constants, the rest intermediate results, reused as soon as they are no longer needed. Running it needs
no code generation: an interpreter that handles many positions per instruction loses almost nothing to dispatch.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from sympy.codegen.cfunctions import expm1, log1p
from torch import Tensor

from landscape.errors import FormulaError
from landscape.potentials.expression.formula import absolute, sigmoid, signum, softplus

__all__ = ["Op", "Tape", "compile_tape", "real_number"]


class Op(enum.IntEnum):
    """Operations of a tape. Comparisons give 1.0 or 0.0."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    NEG = 4
    SQUARE = 5
    SQRT = 6
    EXP = 7
    LOG = 8
    POW = 9
    SIN = 10
    COS = 11
    TAN = 12
    TANH = 13
    SINH = 14
    COSH = 15
    ASIN = 16
    ACOS = 17
    ATAN = 18
    ATAN2 = 19
    ERF = 20
    ABS = 21
    SIGN = 22
    MIN = 23
    MAX = 24
    LOG1P = 25
    EXPM1 = 26
    SOFTPLUS = 27
    SIGMOID = 28
    LESS = 29
    LESS_EQUAL = 30
    EQUAL = 31
    WHERE = 32
    COPY = 33


def _compare(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: function(a, b).to(torch.promote_types(a.dtype, b.dtype))


_TORCH: Mapping[int, Callable[..., Tensor]] = {
    Op.ADD: torch.add,
    Op.SUB: torch.sub,
    Op.MUL: torch.mul,
    Op.DIV: torch.div,
    Op.NEG: torch.neg,
    Op.SQUARE: torch.square,
    Op.SQRT: torch.sqrt,
    Op.EXP: torch.exp,
    Op.LOG: torch.log,
    Op.POW: torch.pow,
    Op.SIN: torch.sin,
    Op.COS: torch.cos,
    Op.TAN: torch.tan,
    Op.TANH: torch.tanh,
    Op.SINH: torch.sinh,
    Op.COSH: torch.cosh,
    Op.ASIN: torch.asin,
    Op.ACOS: torch.acos,
    Op.ATAN: torch.atan,
    Op.ATAN2: torch.atan2,
    Op.ERF: torch.erf,
    Op.ABS: torch.abs,
    Op.SIGN: torch.sign,
    Op.MIN: torch.minimum,
    Op.MAX: torch.maximum,
    Op.LOG1P: torch.log1p,
    Op.EXPM1: torch.expm1,
    Op.SOFTPLUS: lambda a: -torch.nn.functional.logsigmoid(-a),
    Op.SIGMOID: torch.sigmoid,
    Op.LESS: _compare(torch.lt),
    Op.LESS_EQUAL: _compare(torch.le),
    Op.EQUAL: _compare(torch.eq),
    Op.WHERE: lambda a, b, c: torch.where(a != 0, b, c),
    Op.COPY: torch.clone,
}

_ARITY = {Op.WHERE: 3} | dict.fromkeys(
    (Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.POW, Op.ATAN2, Op.MIN, Op.MAX, Op.LESS, Op.LESS_EQUAL, Op.EQUAL), 2
)


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """A straight-line program.

    Attributes
    ----------
    inputs : int
        Number of coordinates, in registers ``0 .. inputs - 1``.
    constants : array of float64
        Parameters in their order, then numbers; in the registers after the inputs.
    parameters : int
        How many of the constants are parameters.
    instructions : array of int32, shape (n, 5)
        Rows ``(operation, target, a, b, c)``; unused operands repeat `a`.
    outputs : array of int32
        Registers that hold the results.
    registers : int
        How many registers the program needs in all.
    """

    inputs: int
    constants: NDArray[np.float64]
    parameters: int
    instructions: NDArray[np.int32]
    outputs: NDArray[np.int32]
    registers: int

    def with_parameters(self, values: Sequence[float]) -> Tape:
        """The same program with other parameter values."""
        constants = self.constants.copy()
        constants[: self.parameters] = values
        return replace(self, constants=constants)

    def run(self, position: Tensor) -> list[Tensor]:
        """Outputs for positions ``(..., inputs)``, each of shape ``(...)``; differentiable by torch."""
        registers: dict[int, Tensor] = dict(enumerate(position.unbind(-1)))
        for index, value in enumerate(self.constants, start=self.inputs):
            registers[index] = torch.full((), value, dtype=position.dtype, device=position.device)
        for operation, target, a, b, c in self.instructions.tolist():
            operands = (registers[a], registers[b], registers[c])[: _ARITY.get(Op(operation), 1)]
            registers[target] = _TORCH[operation](*operands)
        shape = position.shape[:-1]
        return [registers[output].expand(shape) for output in self.outputs.tolist()]


def compile_tape(
    expressions: Sequence[sympy.Expr], coordinates: Sequence[str], parameters: Mapping[str, float]
) -> Tape:
    """Translate expressions, with common subexpressions computed once.

    Raises
    ------
    FormulaError
        If an expression has a function or a constant that no real arithmetic can run.
    """
    shared, reduced = sympy.cse(list(expressions), order="none" if len(expressions) > 200 else "canonical")
    writer = _Writer(coordinates, parameters)
    for symbol, expression in shared:
        writer.known[symbol] = writer.write(expression)
    outputs = [writer.write(expression) for expression in reduced]
    return writer.finish(outputs)


class _Writer:
    """Emits instructions in single-assignment form; `finish` then packs the registers."""

    def __init__(self, coordinates: Sequence[str], parameters: Mapping[str, float]) -> None:
        self.inputs = len(coordinates)
        self.parameters = len(parameters)
        # Values are numbered in order of appearance: ("input", i), ("constant", i) or ("result", i).
        self.known: dict[Any, tuple[str, int]] = {}
        for index, name in enumerate(coordinates):
            self.known[sympy.Symbol(name, real=True)] = ("input", index)
        for index, name in enumerate(parameters):
            self.known[sympy.Symbol(name, real=True)] = ("constant", index)
        self.constants = [float(value) for value in parameters.values()]
        self.numbers: dict[float, int] = {}
        self.code: list[tuple[Op, tuple[tuple[str, int], ...]]] = []

    def emit(self, operation: Op, *operands: tuple[str, int]) -> tuple[str, int]:
        self.code.append((operation, operands))
        return ("result", len(self.code) - 1)

    def number(self, value: float) -> tuple[str, int]:
        if not math.isfinite(value):
            raise FormulaError(f"the formula contains the constant {value}, which is not finite")
        if value not in self.numbers:
            self.numbers[value] = len(self.constants)
            self.constants.append(value)
        return ("constant", self.numbers[value])

    def write(self, expression: sympy.Expr) -> tuple[str, int]:
        if expression not in self.known:
            self.known[expression] = self.translate(expression)
        return self.known[expression]

    def translate(self, e: sympy.Expr) -> tuple[str, int]:
        if e is sympy.true or e is sympy.false:
            return self.number(1.0 if e is sympy.true else 0.0)
        if e.is_number:
            return self.number(real_number(e))
        if e.is_Add:
            return self.sum(e)
        if e.is_Mul:
            return self.product(e)
        if e.is_Pow:
            return self.power(*e.as_base_exp())
        if isinstance(e, sympy.Piecewise):
            return self.piecewise(e)
        if isinstance(e, sympy.Min | sympy.Max):
            return self.chain(Op.MIN if isinstance(e, sympy.Min) else Op.MAX, e.args)
        if isinstance(e, sympy.Heaviside):
            zero = self.number(0.0)
            half = self.emit(Op.WHERE, self.emit(Op.EQUAL, self.write(e.args[0]), zero), self.number(0.5), zero)
            return self.emit(Op.ADD, self.emit(Op.LESS, zero, self.write(e.args[0])), half)
        if isinstance(e, sympy.DiracDelta):  # second derivative of |x|: zero almost everywhere
            return self.number(0.0)
        if type(e) in _RELATIONS:
            operation, swap = _RELATIONS[type(e)]
            left, right = self.write(e.lhs), self.write(e.rhs)
            return self.emit(operation, *((right, left) if swap else (left, right)))
        if type(e) in _CALLS:
            return self.emit(_CALLS[type(e)], *(self.write(arg) for arg in e.args))
        if e.is_Symbol:
            raise FormulaError(f"unknown symbol {str(e)!r} in the formula: add it to `coordinates` or `parameters`")
        raise FormulaError(f"no real arithmetic is known for {e.func.__name__} in the formula ({str(e)[:80]})")

    def chain(self, operation: Op, terms: Sequence[sympy.Expr]) -> tuple[str, int]:
        total = self.write(terms[0])
        for term in terms[1:]:
            total = self.emit(operation, total, self.write(term))
        return total

    def sum(self, e: sympy.Add) -> tuple[str, int]:
        plus = [term for term in e.args if not term.could_extract_minus_sign()]
        minus = [-term for term in e.args if term.could_extract_minus_sign()]
        if not plus:
            return self.emit(Op.NEG, self.chain(Op.ADD, minus))
        total = self.chain(Op.ADD, plus)
        for term in minus:
            total = self.emit(Op.SUB, total, self.write(term))
        return total

    def product(self, e: sympy.Mul) -> tuple[str, int]:
        coefficient, factors = e.as_coeff_mul()
        below = [f for f in factors if f.is_Pow and f.exp.is_number and f.exp.could_extract_minus_sign()]
        above = [f for f in factors if f not in below]
        negative = coefficient == -1
        if above and (coefficient == 1 or negative):
            total = self.chain(Op.MUL, above)
        else:
            total, negative = self.number(real_number(coefficient)), False
            for factor in above:
                total = self.emit(Op.MUL, total, self.write(factor))
        for factor in below:
            total = self.emit(Op.DIV, total, self.write(factor.base ** (-factor.exp)))
        return self.emit(Op.NEG, total) if negative else total

    def power(self, base: sympy.Expr, exponent: sympy.Expr) -> tuple[str, int]:
        if base == sympy.E:
            return self.emit(Op.EXP, self.write(exponent))
        if exponent.is_number:
            value = real_number(exponent)
            if value < 0:
                return self.emit(Op.DIV, self.number(1.0), self.write(base ** (-exponent)))
            if value == 1:
                return self.write(base)
            if (2 * value).is_integer():
                return self.half_integer_power(self.write(base), value)
        return self.emit(Op.POW, self.write(base), self.write(exponent))

    def half_integer_power(self, base: tuple[str, int], value: float) -> tuple[str, int]:
        whole, half = divmod(value, 1.0)
        result = self.emit(Op.SQRT, base) if half else None
        square, n = base, int(whole)
        while n:
            if n & 1:
                result = square if result is None else self.emit(Op.MUL, result, square)
            n >>= 1
            if n:
                square = self.emit(Op.SQUARE, square)
        return result if result is not None else self.number(1.0)

    def piecewise(self, e: sympy.Piecewise) -> tuple[str, int]:
        *cases, (last, condition) = e.args
        if condition != sympy.true:
            raise FormulaError("a Piecewise formula needs a last case that holds everywhere")
        result = self.write(last)
        for value, when in reversed(cases):
            result = self.emit(Op.WHERE, self.write(when), self.write(value), result)
        return result

    def finish(self, outputs: list[tuple[str, int]]) -> Tape:
        """Registers by linear scan: a result frees its operands' registers once nothing later reads them."""
        # An output that is a coordinate itself gets a row of its own: a step overwrites the coordinates one by one.
        outputs = [self.emit(Op.COPY, value) if value[0] == "input" else value for value in outputs]
        first_free = self.inputs + len(self.constants)
        last_use = {value: at for at, (_, operands) in enumerate(self.code) for value in operands}
        kept = set(outputs)
        register: dict[tuple[str, int], int] = {}
        free: list[int] = []
        top = first_free
        rows = []

        def locate(value: tuple[str, int]) -> int:
            kind, index = value
            return {"input": index, "constant": self.inputs + index}.get(kind, register.get(value, -1))

        for at, (operation, operands) in enumerate(self.code):
            sources = [locate(value) for value in operands]
            # The target never shares a register with an operand: loops over distinct rows vectorise.
            if free:
                target = free.pop()
            else:
                target, top = top, top + 1
            for value in dict.fromkeys(operands):
                if value[0] == "result" and last_use[value] == at and value not in kept:
                    free.append(register[value])
            register[("result", at)] = target
            rows.append((int(operation), target, *(sources + [sources[0]] * (3 - len(sources)))))
        return Tape(
            inputs=self.inputs,
            constants=np.array(self.constants, dtype=np.float64),
            parameters=self.parameters,
            instructions=np.array(rows, dtype=np.int32).reshape(-1, 5),
            outputs=np.array([locate(value) for value in outputs], dtype=np.int32),
            registers=top,
        )


_RELATIONS = {
    sympy.StrictLessThan: (Op.LESS, False),
    sympy.LessThan: (Op.LESS_EQUAL, False),
    sympy.StrictGreaterThan: (Op.LESS, True),
    sympy.GreaterThan: (Op.LESS_EQUAL, True),
    sympy.Equality: (Op.EQUAL, False),
}

_CALLS = {
    sympy.exp: Op.EXP,
    sympy.log: Op.LOG,
    sympy.sin: Op.SIN,
    sympy.cos: Op.COS,
    sympy.tan: Op.TAN,
    sympy.tanh: Op.TANH,
    sympy.sinh: Op.SINH,
    sympy.cosh: Op.COSH,
    sympy.asin: Op.ASIN,
    sympy.acos: Op.ACOS,
    sympy.atan: Op.ATAN,
    sympy.atan2: Op.ATAN2,
    sympy.erf: Op.ERF,
    sympy.Abs: Op.ABS,
    sympy.sign: Op.SIGN,
    absolute: Op.ABS,
    signum: Op.SIGN,
    log1p: Op.LOG1P,
    expm1: Op.EXPM1,
    softplus: Op.SOFTPLUS,
    sigmoid: Op.SIGMOID,
}


def real_number(e: sympy.Expr) -> float:
    """Value of a constant.

    Raises
    ------
    FormulaError
        If it is complex or not finite.
    """
    try:
        value = complex(e)
    except (TypeError, OverflowError):
        value = complex(math.nan)
    if value.imag != 0 or not math.isfinite(value.real):
        raise FormulaError(f"the formula contains the constant {str(e)[:80]}, which is complex or not finite")
    return value.real
