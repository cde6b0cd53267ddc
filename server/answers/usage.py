"""Token counts and times of an answer: OpenAI's usage object and llama-server's timings."""

from __future__ import annotations

from typing import Any

from slotmux.runtime.engine.request import Usage
from slotmux.runtime.memory.missed import CacheMiss
from slotmux.server.answers.generation import Generation


def usage_object(generation: Generation, n_reasoning: int | None = None) -> dict[str, Any]:
    """``usage``. The prompt of each engine request counts once, however many choices share it.
    ``n_reasoning``: tokens of thought, where thoughts are told apart."""
    n_prompt = n_cached = 0
    for sink in generation.sinks:
        usage = generation.usages[sink.base]
        n_prompt += usage.n_prompt
        n_cached += usage.n_cached
    n_generated = sum(usage.n_generated for usage in generation.usages.values())
    told: dict[str, Any] = {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": {"cached_tokens": n_cached},
    }
    if n_reasoning is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": n_reasoning}
    return told


def timings_object(generation: Generation) -> dict[str, Any]:
    """``timings`` over all choices; those of one prompt run side by side, so times do not add."""
    usages = generation.usages.values()
    first = [generation.usages[sink.base] for sink in generation.sinks]
    n_cached = sum(usage.n_cached for usage in first)
    n_prompt = sum(usage.n_prompt for usage in first) - n_cached
    n_generated = sum(usage.n_generated for usage in usages)
    timings: dict[str, Any] = {"cache_n": n_cached}
    if n_disk := sum(usage.n_disk for usage in first):
        timings |= {"cache_memory_n": n_cached - n_disk, "cache_disk_n": n_disk}
    if first[0].cache_miss:
        # A salt keeps end users apart: what others have is told to the operator only.
        is_others = first[0].cache_miss in (CacheMiss.OTHER_SALT, CacheMiss.OTHER_TENANT)
        timings["cache_miss"] = str(CacheMiss.COLD if is_others else first[0].cache_miss)
        timings["cache_miss_at"] = first[0].cache_miss_at
    timings |= rates("prompt", n_prompt, max(usage.prompt_s for usage in first))
    timings |= rates("predicted", n_generated, max(usage.generate_s for usage in usages))
    n_draft = sum(usage.n_draft for usage in usages)
    if n_draft:
        timings["draft_n"] = n_draft
        timings["draft_n_accepted"] = sum(usage.n_draft_accepted for usage in usages)
    return timings


def usage_timings(usage: Usage) -> dict[str, Any]:
    """``timings`` of one choice alone."""
    timings: dict[str, Any] = {"cache_n": usage.n_cached}
    if usage.n_disk:
        timings |= {
            "cache_memory_n": usage.n_cached - usage.n_disk,
            "cache_disk_n": usage.n_disk,
        }
    timings |= rates("prompt", usage.n_prompt - usage.n_cached, usage.prompt_s)
    timings |= rates("predicted", usage.n_generated, usage.generate_s)
    if usage.n_draft:
        timings |= {"draft_n": usage.n_draft, "draft_n_accepted": usage.n_draft_accepted}
    return timings


def rates(name: str, n_tokens: int, seconds: float) -> dict[str, Any]:
    """How many tokens in which time, by llama-server's names."""
    ms = seconds * 1000
    return {
        f"{name}_n": n_tokens,
        f"{name}_ms": round(ms, 3),
        f"{name}_per_token_ms": round(ms / n_tokens, 3) if n_tokens else 0.0,
        f"{name}_per_second": round(n_tokens / seconds, 3) if seconds > 0 else 0.0,
    }
