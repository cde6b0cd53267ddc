"""From the names of samplers to what a draw does: changes of the whole row, then a chain."""

from __future__ import annotations

from slotmux.kernels.ops.sampling import codes
from slotmux.runtime.engine.request import SAMPLERS, InvalidRequestError, SamplingParams

_CODES: dict[str, int] = {name: getattr(codes, name.upper()) for name in SAMPLERS}
_EDITS = ("penalties", "dry")
# What truncation.py does without a chain, in this order.
_USUAL = ("top_k", "typ_p", "top_p", "min_p", "temperature")
_MIROSTAT = (0, codes.MIROSTAT_1, codes.MIROSTAT_2)


def check_samplers(names: tuple[str, ...]) -> None:
    """Raise InvalidRequestError for what is no list of samplers."""
    if len(names) > codes.N_MAX:
        raise InvalidRequestError("samplers", f"at most {codes.N_MAX} samplers")
    for name in names:
        if name not in SAMPLERS:
            raise InvalidRequestError("samplers", f"a sampler is one of {', '.join(SAMPLERS)}")


def is_greedy(params: SamplingParams) -> bool:
    """Whether the largest logit is taken, whatever the other samplers say."""
    is_named = "temperature" in params.samplers or params.mirostat > 0
    is_dynamic = params.dynatemp_range > 0.0 and not params.mirostat
    return is_named and params.temperature == 0.0 and not is_dynamic


def plan(params: SamplingParams) -> tuple[int, int]:
    """The words ``edits`` and ``chain`` of a slot."""
    active = [name for name in params.samplers if _is_active(name, params)]
    if is_greedy(params) or params.mirostat:
        edits = [_CODES[name] for name in active if name in _EDITS]
        return codes.packed(edits), 0 if is_greedy(params) else _MIROSTAT[params.mirostat]
    n_edits = 0
    while n_edits < len(active) and active[n_edits] in _EDITS:
        n_edits += 1
    edits = [_CODES[name] for name in active[:n_edits]]
    return codes.packed(edits), codes.packed(_chain(active[n_edits:], params))


def _chain(names: list[str], params: SamplingParams) -> list[int]:
    """Empty where the usual order does the same."""
    is_dynamic = params.dynatemp_range > 0.0
    usual = [name for name in _USUAL if name in names]
    if names == usual and params.min_keep <= 1 and not (is_dynamic and "temperature" in names):
        return []
    chain = [_CODES[name] for name in names]
    if is_dynamic:
        chain = [codes.DYNAMIC_TEMPERATURE if c == codes.TEMPERATURE else c for c in chain]
    return chain


def _is_active(name: str, params: SamplingParams) -> bool:
    """Whether a sampler may change anything."""
    p = params
    return {
        "penalties": p.repeat_last_n != 0
        and (p.repeat_penalty, p.frequency_penalty, p.presence_penalty) != (1.0, 0.0, 0.0),
        "dry": p.dry_multiplier != 0.0 and p.dry_base >= 1.0 and p.dry_penalty_last_n != 0,
        "top_n_sigma": p.top_n_sigma > 0.0,
        "top_k": p.top_k > 0,
        "typ_p": p.typical_p < 1.0,
        "top_p": p.top_p < 1.0,
        "min_p": p.min_p > 0.0,
        "xtc": p.xtc_probability > 0.0 and p.xtc_threshold <= 0.5,
        "temperature": p.temperature != 1.0 or p.dynatemp_range > 0.0,
    }[name]
