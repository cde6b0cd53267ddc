"""Sampling parameters of every kind, drawn at random: for crowds that are compared with each
choice alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from slotmux.runtime.engine.request import SAMPLERS, SamplingParams
from slotmux.runtime.token_sets import Breakers, TokenSequences, TokenSet


def unusual(rng: Random, base: SamplingParams, n_vocab: int) -> SamplingParams:
    """``base`` with some of the samplers that look at more than one row's usual candidates."""
    names = rng.sample(sorted(_KINDS), rng.choice((1, 1, 2, 4)))
    params = base
    for name in names:
        params = replace(params, **_KINDS[name](rng, n_vocab))
    return params


def _order(rng: Random, n_vocab: int) -> dict[str, Any]:
    names = list(SAMPLERS)
    rng.shuffle(names)
    return {"samplers": tuple(names[: rng.randint(3, len(names))])}


def _dry(rng: Random, n_vocab: int) -> dict[str, Any]:
    single = np.array(rng.sample(range(n_vocab), 3), np.int32)
    several = [[rng.randrange(n_vocab) for _ in range(2)] for _ in range(3)]
    return {
        "dry_multiplier": rng.choice((0.5, 2.0)), "dry_allowed_length": rng.choice((1, 2)),
        "dry_penalty_last_n": rng.choice((-1, 20)),
        "dry_breakers": Breakers.of(single, several, n_vocab),
    }  # fmt: skip


def _mirostat(rng: Random, n_vocab: int) -> dict[str, Any]:
    return {"mirostat": rng.choice((1, 2)), "mirostat_tau": rng.choice((1.0, 4.0)),
            "mirostat_eta": 0.3, "temperature": rng.choice((0.7, 1.0))}  # fmt: skip


def _bad_words(rng: Random, n_vocab: int) -> dict[str, Any]:
    words = [[rng.randrange(n_vocab) for _ in range(rng.choice((1, 1, 2)))] for _ in range(40)]
    return {"bad_words": TokenSequences.of(words)}


def _allowed(rng: Random, n_vocab: int) -> dict[str, Any]:
    return {"allowed": TokenSet.of(rng.sample(range(n_vocab), n_vocab // 2), n_vocab)}


_KINDS = {
    "order": _order,
    "dry": _dry,
    "mirostat": _mirostat,
    "bad_words": _bad_words,
    "allowed": _allowed,
    "top_n_sigma": lambda rng, n: {"top_n_sigma": rng.choice((0.5, 1.5))},
    "xtc": lambda rng, n: {"xtc_probability": 0.5, "xtc_threshold": rng.choice((0.01, 0.1))},
    "dynatemp": lambda rng, n: {"dynatemp_range": rng.choice((0.3, 1.0))},
    "min_keep": lambda rng, n: {"min_keep": rng.choice((2, 10)), "min_p": 0.2},
}
