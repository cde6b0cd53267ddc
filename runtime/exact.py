"""Powers and logarithms of a model's and a request's numbers, the same bits on every machine.

NumPy and C libraries differ in the last bit from version to version and from CPU to CPU; decimal
arithmetic does not. For numbers that are computed once: a call takes some tens of microseconds.
"""

from __future__ import annotations

from decimal import Context, Decimal

_DIGITS = Context(prec=40, traps=[])  # no traps: as in IEEE 754 the results are inf and NaN


def log(x: float) -> float:
    """The natural logarithm; -inf of 0, NaN of what is negative."""
    return float(_DIGITS.ln(Decimal(x)))


def power(base: float, exponent: float) -> float:
    """base to the power of exponent."""
    return float(_DIGITS.power(Decimal(base), Decimal(exponent)))


def exp(x: float) -> float:
    """e to the power of x; 0 and inf where that is too small or too large for a float."""
    return float(_DIGITS.exp(Decimal(x)))
