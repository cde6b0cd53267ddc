"""From parameters to the words of a slot's row: checks, and the way to numbers."""

from __future__ import annotations

from slotmux.kernels.ops.sampling.slot_words import SLOT
from slotmux.runtime import exact
from slotmux.runtime.engine.request import InvalidRequestError, SamplingParams
from slotmux.runtime.sampling.params import NUMBERS
from slotmux.runtime.sampling.plan import plan

_LOG_OF_LARGEST = 88.7228391  # of float32
_WHOLE = 2**31  # of a count: as good as no bound


def check(field: str, value: float, low: float, high: float) -> float:
    """The value. Raises InvalidRequestError where it is out of range."""
    if not low <= value <= high:
        raise InvalidRequestError(field, f"{field} should be from {low:g} to {high:g}")
    return value


def plain_words(p: SamplingParams) -> dict[str, float]:
    """The words of a slot that are a parameter of the same name. Raises InvalidRequestError for
    every number that is out of range, whether it is a word or not."""
    words: dict[str, float] = {}
    for name, number in NUMBERS.items():
        value = check(name, getattr(p, name), *number.can_draw)
        if name in SLOT._fields:
            words[name] = min(value, _WHOLE) if number.kind is int else value
    return words


def further_words(p: SamplingParams, n_ctx: int) -> dict[str, float]:
    """Words that are made of parameters of other names; these are in range."""
    edits, chain = plan(p)
    base = p.dry_base
    return {
        "edits": edits,
        "chain": chain,
        "temperature_low": max(0.0, p.temperature - p.dynatemp_range),
        "temperature_high": p.temperature + p.dynatemp_range,
        "temperature_exponent": p.dynatemp_exponent,
        "dry_last_n": min(p.dry_penalty_last_n, n_ctx),
        # No power is larger than the largest float32.
        "dry_max_exponent": int(_LOG_OF_LARGEST / exact.log(base)) if base > 1.000001 else _WHOLE,
    }
