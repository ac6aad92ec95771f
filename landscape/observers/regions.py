"""Regions of space from conditions: ``"x < -0.8"``, ``"x**2 + y**2 < 0.1"``, ``"0 < x < 1 and y > 2"``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.errors import ConfigError, FormulaError

__all__ = ["Region", "names_in", "read_region"]

Region: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.bool_]]

_COMPARE: Mapping[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EXAMPLES = '"x < -0.8", "x**2 + y**2 < 0.1" or "0 < x < 1 and y > 2"'


def read_region(condition: Any, names: Sequence[str]) -> Region:
    """Whether points ``(..., len(names))`` lie in a region; NaN lies in none.

    Parameters
    ----------
    condition : str or pair
        Comparisons of formulas in the names, joined by ``and``, ``or`` and ``not`` (or ``&`` and ``|``); of a single
        name also an interval (low, high), None where it is open.
    names : sequence of str

    Raises
    ------
    ConfigError, FormulaError

    Examples
    --------
    >>> disk = read_region("x**2 + y**2 < 1 and x > 0", ["x", "y"])
    >>> disk(np.array([[0.5, 0.5], [-0.5, 0.5], [2.0, 0.0]]))
    array([ True, False, False])
    """
    if not isinstance(condition, str):
        return _interval(condition, names)
    region = _read(_parsed(condition).body, condition, list(names))

    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return region(points) & ~np.isnan(points).any(axis=-1)

    return inside


def names_in(condition: str) -> tuple[str, ...]:
    """Names that a condition depends on, in the order in which they appear.

    Raises
    ------
    FormulaError

    Examples
    --------
    >>> names_in("sin(x) < pi/4 and y > 0")
    ('x', 'y')
    """
    from landscape.potentials.expression.formula import CONSTANTS

    tree = _parsed(condition)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    ordered = sorted(found, key=lambda node: (node.lineno, node.col_offset))
    return tuple(dict.fromkeys(node.id for node in ordered if node.id not in CONSTANTS))


def _parsed(condition: str) -> ast.Expression:
    try:
        return ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise FormulaError(f"cannot read the condition {condition!r}: {error}; expected such as {_EXAMPLES}") from None


def _read(node: ast.expr, text: str, names: list[str]) -> Region:
    match node:
        case ast.BoolOp(values=parts):
            regions = [_read(part, text, names) for part in parts]
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return lambda points: join.reduce([region(points) for region in regions])  # type: ignore[no-any-return]
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr(), left=left, right=right):
            one, other = _read(left, text, names), _read(right, text, names)
            joined = np.logical_and if isinstance(node.op, ast.BitAnd) else np.logical_or
            return lambda points: joined(one(points), other(points))
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            inner = _read(operand, text, names)
            return lambda points: ~inner(points)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            sides = [left, *others]
            pairs = zip(sides[:-1], ops, sides[1:], strict=True)
            regions = [_comparison(low, _COMPARE[type(op)], high, names) for low, op, high in pairs]
            return lambda points: np.logical_and.reduce([region(points) for region in regions])  # type: ignore[no-any-return]
    raise FormulaError(f"{ast.unparse(node)!r} in {text!r} is no condition: expected such as {_EXAMPLES}")


def _comparison(left: ast.expr, compare: Callable[..., Any], right: ast.expr, names: list[str]) -> Region:
    """Left less right compared with 0, which has the same sign in floating point."""
    from landscape.potentials.expression.formula import parse_formula
    from landscape.potentials.expression.tape import compile_tape

    sides = [parse_formula(ast.unparse(side), names) for side in (left, right)]
    tape = compile_tape([sides[0] - sides[1]], names, {})

    def region(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        (value,) = tape.run(torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64)))
        return np.asarray(compare(value.numpy(), 0.0))

    return region


def _interval(pair: Any, names: Sequence[str]) -> Region:
    """low <= x <= high."""
    values = list(pair) if isinstance(pair, Sequence | np.ndarray) else []
    numbers = [one is None or (isinstance(one, int | float | np.number) and not np.isnan(one)) for one in values]
    if len(values) != 2 or not all(numbers) or all(one is None for one in values):
        raise ConfigError(f"a region must be a condition such as {_EXAMPLES}, or an interval (low, high), got {pair!r}")
    if len(names) != 1:
        raise ConfigError(f"an interval is one of a single column, and there are {len(names)}: write a condition")
    low, high = (default if one is None else float(one) for one, default in zip(values, (-np.inf, np.inf), strict=True))
    if not low < high:
        raise ConfigError(f"the low end of an interval must be below the high one, got {pair!r}")
    return lambda points: np.asarray((points[..., 0] >= low) & (points[..., 0] <= high))
