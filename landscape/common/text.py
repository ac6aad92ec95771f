"""Numbers as a reader wants to see them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["duration", "measured"]


def measured(value: float, error: float, remarks: Sequence[str] = (), *, sign: str = "+-") -> str:
    """A value with its error, two digits of the error, and in brackets what is to be said against it.

    Examples
    --------
    >>> measured(0.0804719, 0.00123), measured(1234.5, 56.0), measured(2.0e-7, 3e-9), measured(1.0, float("nan"))
    ('0.0805 +- 0.0012', '1234 +- 56', '(2.000 +- 0.030)e-07', '1')
    >>> measured(0.0, 1.9)
    '0.0 +- 1.9'
    >>> measured(0.1022, 0.0013, ["not resolved"], sign="/")
    '0.1022 / 0.0013 (not resolved)'
    """
    if not math.isfinite(value):
        return "-"
    against = f" ({', '.join(remarks)})" if remarks else ""
    return _with_error(value, error, sign) + against


def _with_error(value: float, error: float, sign: str) -> str:
    if not (math.isfinite(error) and error > 0):
        return f"{value:.3g}"
    size = max(abs(value), error)
    if not 1e-3 <= size < 1e5:
        power = math.floor(math.log10(size))
        return f"({_fixed(value / 10**power, error / 10**power, sign)})e{power:+03d}"
    return _fixed(value, error, sign)


def _fixed(value: float, error: float, sign: str) -> str:
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} {sign} {error:.{digits}f}"


def duration(seconds: float) -> str:
    """A length of time in the largest unit of which it has two.

    Examples
    --------
    >>> duration(1.25), duration(300.0), duration(10_000.0), duration(1e6)
    ('1.2 s', '5.0 min', '2.8 h', '11.6 days')
    """
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
