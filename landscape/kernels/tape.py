"""Interpreter of formula tapes: one instruction, one loop over a block of positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.kernels.compilation import exact, exact_inline
from landscape.kernels.philox import bits_to_float64, float64_to_bits
from landscape.potentials.tape import Op, Tape

__all__ = ["evaluate", "execute", "execute_block"]

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


@exact_inline
def execute(n, instructions, registers):  # type: ignore[no-untyped-def]
    """Run a tape on ``registers (r, n)`` whose input and constant rows are filled."""
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
        else:
            _execute_scalar(operation, registers[t], registers[a], registers[b])


@exact
def execute_block(instructions, registers):  # type: ignore[no-untyped-def]
    """`execute` as a call of its own."""
    execute(registers.shape[1], instructions, registers)


@exact
def _execute_scalar(operation, target, a, b):  # type: ignore[no-untyped-def]
    """Operations that call the mathematical library element by element."""
    n = target.size
    if operation == _LOG:
        for i in range(n):
            target[i] = np.log(a[i])
    elif operation == _POW:
        for i in range(n):
            target[i] = a[i] ** b[i]
    elif operation == _SIN:
        for i in range(n):
            target[i] = np.sin(a[i])
    elif operation == _COS:
        for i in range(n):
            target[i] = np.cos(a[i])
    elif operation == _TAN:
        for i in range(n):
            target[i] = np.tan(a[i])
    elif operation == _TANH:
        for i in range(n):
            target[i] = np.tanh(a[i])
    elif operation == _SINH:
        for i in range(n):
            target[i] = np.sinh(a[i])
    elif operation == _COSH:
        for i in range(n):
            target[i] = np.cosh(a[i])
    elif operation == _ASIN:
        for i in range(n):
            target[i] = np.arcsin(a[i])
    elif operation == _ACOS:
        for i in range(n):
            target[i] = np.arccos(a[i])
    elif operation == _ATAN:
        for i in range(n):
            target[i] = np.arctan(a[i])
    elif operation == _ATAN2:
        for i in range(n):
            target[i] = np.arctan2(a[i], b[i])
    elif operation == _ERF:
        for i in range(n):
            target[i] = math.erf(a[i])
    elif operation == _SIGN:
        for i in range(n):
            target[i] = np.sign(a[i])
    elif operation == _LOG1P:
        for i in range(n):
            target[i] = np.log1p(a[i])
    elif operation == _EXPM1:
        for i in range(n):
            target[i] = np.expm1(a[i])
    elif operation == _SOFTPLUS:
        for i in range(n):
            target[i] = np.log1p(np.exp(-abs(a[i]))) + (a[i] if a[i] > 0.0 else 0.0)
    elif operation == _SIGMOID:
        for i in range(n):
            e = np.exp(-abs(a[i]))
            target[i] = (1.0 if a[i] >= 0.0 else e) / (1.0 + e)


@exact
def _evaluate(instructions, constants, outputs, registers, positions, results):  # type: ignore[no-untyped-def]
    dim, block = positions.shape[1], registers.shape[1]
    for k in range(constants.size):
        registers[dim + k, :] = constants[k]
    for first in range(0, positions.shape[0], block):
        n = min(block, positions.shape[0] - first)
        for d in range(dim):
            for i in range(n):
                registers[d, i] = positions[first + i, d]
            for i in range(n, block):
                registers[d, i] = positions[first, d]
        execute_block(instructions, registers)
        for j in range(outputs.size):
            for i in range(n):
                results[first + i, j] = registers[outputs[j], i]


def evaluate(tape: Tape, positions: NDArray[Any], block: int = 128) -> NDArray[np.float64]:
    """Outputs of a tape at positions ``(n, dim)`` by the compiled interpreter, shape ``(n, outputs)``."""
    points = np.ascontiguousarray(positions, dtype=np.float64)
    results = np.empty((len(points), len(tape.outputs)))
    registers = np.empty((tape.registers, block))
    _evaluate(tape.instructions, tape.constants, tape.outputs, registers, points, results)
    return results
