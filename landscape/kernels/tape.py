"""Interpreter of formula tapes: one instruction, one loop over a block of positions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.kernels.compilation import exact, exact_inline, exact_inner
from landscape.kernels.philox import bits_to_float64, float64_to_bits
from landscape.potentials.expression.tape import Op, Tape

__all__ = ["code_of", "evaluate", "execute"]

_ADD, _SUB, _MUL, _DIV = int(Op.ADD), int(Op.SUB), int(Op.MUL), int(Op.DIV)
_NEG, _SQUARE, _SQRT, _EXP = int(Op.NEG), int(Op.SQUARE), int(Op.SQRT), int(Op.EXP)
_LOG, _POW, _SIN, _COS, _TAN = int(Op.LOG), int(Op.POW), int(Op.SIN), int(Op.COS), int(Op.TAN)
_TANH, _SINH, _COSH = int(Op.TANH), int(Op.SINH), int(Op.COSH)
_ASIN, _ACOS, _ATAN, _ATAN2, _ERF = int(Op.ASIN), int(Op.ACOS), int(Op.ATAN), int(Op.ATAN2), int(Op.ERF)
_ABS, _SIGN, _MIN, _MAX = int(Op.ABS), int(Op.SIGN), int(Op.MIN), int(Op.MAX)
_LOG1P, _EXPM1, _SOFTPLUS, _SIGMOID = int(Op.LOG1P), int(Op.EXPM1), int(Op.SOFTPLUS), int(Op.SIGMOID)
_LESS, _LESS_EQUAL, _EQUAL, _WHERE, _COPY = (
    int(Op.LESS), int(Op.LESS_EQUAL), int(Op.EQUAL), int(Op.WHERE), int(Op.COPY),
)  # fmt: skip

_LIBRARY = (
    _LOG, _POW, _SIN, _COS, _TAN, _TANH, _SINH, _COSH, _ASIN, _ACOS, _ATAN, _ATAN2, _ERF, _SIGN, _LOG1P, _EXPM1,
    _SOFTPLUS, _SIGMOID,
)  # fmt: skip

_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest integer in the low bits


@exact_inline
def exponential(x):  # type: ignore[no-untyped-def]
    """exp(x) as plain arithmetic that vectorises: x = n ln 2 + r, Taylor series in r, relative error 3e-16."""
    low = x if x > -708.0 else -708.0
    z = low if low < 709.0 else 709.0
    shifted = z * _LOG2E + _ROUND
    n = shifted - _ROUND
    r = (z - n * _LN2_HIGH) - n * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    scale = bits_to_float64((float64_to_bits(shifted) + np.int64(1023)) << np.int64(52))
    value = p * scale
    value = value if x > -708.0 else 0.0
    value = value if x < 709.0 else np.inf
    return value if x == x else x


@partial(exact, forceinline=True, _nrt=False)
def execute(n, instructions, library, registers):  # type: ignore[no-untyped-def]
    """Run a tape on ``registers (r, n)`` whose input and constant rows are filled; see `code_of`."""
    for k in range(instructions.shape[0]):
        operation = instructions[k, 0]
        t, a, b, c = instructions[k, 1], instructions[k, 2], instructions[k, 3], instructions[k, 4]
        if operation == _ADD:
            for i in range(n):
                registers[t, i] = registers[a, i] + registers[b, i]
        elif operation == _SUB:
            for i in range(n):
                registers[t, i] = registers[a, i] - registers[b, i]
        elif operation == _MUL:
            for i in range(n):
                registers[t, i] = registers[a, i] * registers[b, i]
        elif operation == _DIV:
            for i in range(n):
                registers[t, i] = registers[a, i] / registers[b, i]
        elif operation == _NEG:
            for i in range(n):
                registers[t, i] = -registers[a, i]
        elif operation == _SQUARE:
            for i in range(n):
                registers[t, i] = registers[a, i] * registers[a, i]
        elif operation == _SQRT:
            for i in range(n):
                registers[t, i] = np.sqrt(registers[a, i])
        elif operation == _EXP:
            for i in range(n):
                registers[t, i] = exponential(registers[a, i])
        elif operation == _MIN:
            for i in range(n):
                registers[t, i] = (
                    registers[a, i]
                    if (registers[a, i] < registers[b, i] or registers[a, i] != registers[a, i])
                    else registers[b, i]
                )
        elif operation == _MAX:
            for i in range(n):
                registers[t, i] = (
                    registers[a, i]
                    if (registers[a, i] > registers[b, i] or registers[a, i] != registers[a, i])
                    else registers[b, i]
                )
        elif operation == _ABS:
            for i in range(n):
                registers[t, i] = abs(registers[a, i])
        elif operation == _LESS:
            for i in range(n):
                registers[t, i] = 1.0 if registers[a, i] < registers[b, i] else 0.0
        elif operation == _LESS_EQUAL:
            for i in range(n):
                registers[t, i] = 1.0 if registers[a, i] <= registers[b, i] else 0.0
        elif operation == _EQUAL:
            for i in range(n):
                registers[t, i] = 1.0 if registers[a, i] == registers[b, i] else 0.0
        elif operation == _WHERE:
            for i in range(n):
                registers[t, i] = registers[b, i] if registers[a, i] != 0.0 else registers[c, i]
        elif operation == _COPY:
            for i in range(n):
                registers[t, i] = registers[a, i]
        elif library is not None:
            _call_library(n, operation, registers, t, a, b)


@exact_inner
def _call_library(n, operation, registers, t, a, b):  # type: ignore[no-untyped-def]
    """Operations that call the mathematical library element by element."""
    if operation == _LOG:
        for i in range(n):
            registers[t, i] = np.log(registers[a, i])
    elif operation == _POW:
        for i in range(n):
            registers[t, i] = registers[a, i] ** registers[b, i]
    elif operation == _SIN:
        for i in range(n):
            registers[t, i] = np.sin(registers[a, i])
    elif operation == _COS:
        for i in range(n):
            registers[t, i] = np.cos(registers[a, i])
    elif operation == _TAN:
        for i in range(n):
            registers[t, i] = np.tan(registers[a, i])
    elif operation == _TANH:
        for i in range(n):
            registers[t, i] = np.tanh(registers[a, i])
    elif operation == _SINH:
        for i in range(n):
            registers[t, i] = np.sinh(registers[a, i])
    elif operation == _COSH:
        for i in range(n):
            registers[t, i] = np.cosh(registers[a, i])
    elif operation == _ASIN:
        for i in range(n):
            registers[t, i] = np.arcsin(registers[a, i])
    elif operation == _ACOS:
        for i in range(n):
            registers[t, i] = np.arccos(registers[a, i])
    elif operation == _ATAN:
        for i in range(n):
            registers[t, i] = np.arctan(registers[a, i])
    elif operation == _ATAN2:
        for i in range(n):
            registers[t, i] = np.arctan2(registers[a, i], registers[b, i])
    elif operation == _ERF:
        for i in range(n):
            registers[t, i] = math.erf(registers[a, i])
    elif operation == _SIGN:
        for i in range(n):
            registers[t, i] = np.sign(registers[a, i])
    elif operation == _LOG1P:
        for i in range(n):
            registers[t, i] = np.log1p(registers[a, i])
    elif operation == _EXPM1:
        for i in range(n):
            registers[t, i] = np.expm1(registers[a, i])
    elif operation == _SOFTPLUS:
        for i in range(n):
            e = np.exp(-abs(registers[a, i]))
            registers[t, i] = np.log1p(e) + (registers[a, i] if registers[a, i] > 0.0 else 0.0)
    elif operation == _SIGMOID:
        for i in range(n):
            e = np.exp(-abs(registers[a, i]))
            registers[t, i] = (1.0 if registers[a, i] >= 0.0 else e) / (1.0 + e)


def code_of(tape: Tape) -> tuple[NDArray[np.int32], bool | None]:
    """Instructions, and whether some of them call the mathematical library: None, and that part is not compiled."""
    return tape.instructions, bool(np.isin(tape.instructions[:, 0], _LIBRARY).any()) or None


def evaluate(tape: Tape, positions: NDArray[Any], block: int = 1024) -> NDArray[np.float64]:
    """Outputs of a tape at positions ``(n, dim)`` by the compiled interpreter, shape ``(n, outputs)``."""
    points = np.asarray(positions, dtype=np.float64)
    dim = points.shape[1]
    results = np.empty((len(points), len(tape.outputs)))
    registers = np.empty((tape.registers, min(block, len(points))))
    registers[dim : dim + len(tape.constants)] = tape.constants[:, None]
    for first in range(0, len(points), block):
        some = points[first : first + block]
        n = len(some)
        registers[:dim, :n] = some.T
        execute(n, *code_of(tape), registers)
        results[first : first + n] = registers[tape.outputs, :n].T
    return results
