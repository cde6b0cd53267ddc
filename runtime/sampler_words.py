"""The words of a slot's row that only unusual samplers read: checks, and the way to numbers."""

from __future__ import annotations

import math

from slotmux.runtime import exact
from slotmux.runtime.engine.request import InvalidRequestError, SamplingParams
from slotmux.runtime.sampler_plan import plan

_MAX_TAU, _MAX_ETA = 100.0, 100.0
_MAX_RANGE, _MAX_EXPONENT = 1e4, 1e3
_MAX_MULTIPLIER, _MAX_BASE = 1e6, 1e6
_LOG_OF_LARGEST = 88.7228391  # of float32
_WHOLE = 2**31  # no bound for a power of a base next to 1


def check(field: str, value: float, low: float, high: float) -> float:
    """The value. Raises InvalidRequestError where it is out of range."""
    if not low <= value <= high:
        raise InvalidRequestError(field, f"{field} should be from {low:g} to {high:g}")
    return value


def further_words(params: SamplingParams, n_ctx: int) -> dict[str, float]:
    """Word by word; raises InvalidRequestError."""
    p = params
    check("mirostat", p.mirostat, 0, 2)
    spread = check("dynatemp_range", p.dynatemp_range, 0.0, _MAX_RANGE)
    xtc_threshold = check("xtc_threshold", p.xtc_threshold, 0.0, 1.0)
    xtc_probability = check("xtc_probability", p.xtc_probability, 0.0, 1.0)
    edits, chain = plan(p)
    return {
        "edits": edits,
        "chain": chain,
        "min_keep": min(check("min_keep", p.min_keep, 0, math.inf), _WHOLE),
        "top_n_sigma": check("top_n_sigma", p.top_n_sigma, -math.inf, math.inf),
        "xtc_probability": xtc_probability,
        "xtc_threshold": xtc_threshold,
        "temperature_low": max(0.0, p.temperature - spread),
        "temperature_high": p.temperature + spread,
        "temperature_exponent": check("dynatemp_exponent", p.dynatemp_exponent, 0.0, _MAX_EXPONENT),
        "mirostat_tau": check("mirostat_tau", p.mirostat_tau, 0.0, _MAX_TAU),
        "mirostat_eta": check("mirostat_eta", p.mirostat_eta, 0.0, _MAX_ETA),
        **_dry_words(p, n_ctx),
    }


def _dry_words(p: SamplingParams, n_ctx: int) -> dict[str, float]:
    base = check("dry_base", p.dry_base, 0.0, _MAX_BASE)
    allowed = check("dry_allowed_length", p.dry_allowed_length, 0, math.inf)
    return {
        "dry_multiplier": check("dry_multiplier", p.dry_multiplier, 0.0, _MAX_MULTIPLIER),
        "dry_base": base,
        "dry_allowed_length": min(allowed, _WHOLE),
        "dry_last_n": min(check("dry_penalty_last_n", p.dry_penalty_last_n, -1, math.inf), n_ctx),
        # No power is larger than the largest float32.
        "dry_max_exponent": int(_LOG_OF_LARGEST / exact.log(base)) if base > 1.000001 else _WHOLE,
    }
