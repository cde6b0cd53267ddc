"""``generation_settings``: what a request was computed with, by llama-server's names."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from slotmux.runtime.engine.request import Request
from slotmux.server.dialects.llama.schema import NativeOptions

# Sampling that is told in a form of its own.
_APART = ("n_logprobs", "logit_bias", "dry_breakers", "allowed", "bad_words")


def generation_settings(
    request: Request, options: NativeOptions, *, stream: bool, n_ctx: int, model: str
) -> dict[str, Any]:
    """Of one engine request; a seed that was drawn for it is told."""
    sampling = request.sampling
    told = {f.name: getattr(sampling, f.name) for f in fields(sampling) if f.name not in _APART}
    n_predict = 0 if options.is_prompt_only else request.max_tokens
    return told | {
        "n_ctx": n_ctx,
        "model": model,
        "logit_bias": [
            {"token": token_id, "bias": bias if bias > -math.inf else False}
            for token_id, bias in sampling.logit_bias
        ],
        "n_probs": max(0, sampling.n_logprobs),
        "n_predict": n_predict,
        "max_tokens": n_predict,
        "stop": list(request.stop),
        "ignore_eos": request.ignore_eos,
        "cache_prompt": request.cache_prompt,
        "stream": stream,
        "timings_per_token": bool(options.timings_per_token),
        "return_tokens": bool(options.return_tokens),
        "t_max_predict_ms": options.t_max_predict_ms or 0,
        "speculative.n_max": request.speculative.n_max,
        "speculative.n_min": request.speculative.n_min,
        "speculative.p_min": request.speculative.p_min,
    }
