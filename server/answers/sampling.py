"""From what a request says about sampling, and the server's own defaults, to SamplingParams."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from slotmux.runtime.sampling.params import NUMBERS, SamplingParams
from slotmux.runtime.token_sets import Breakers, TokenSequences, TokenSet
from slotmux.server.answers.breakers import BreakerFinder
from slotmux.server.http.errors import invalid
from slotmux.server.interfaces import TokenizerPort
from slotmux.server.schemas.sampling import SamplingFields

# Seeds are folded into this many bits: choice i draws with seed + i, which must not overflow.
_SEED_MASK = 2**62 - 1
LLAMA_SERVER = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What a request gets that does not say: llama-server's, the file's or the operator's."""

    params: SamplingParams = LLAMA_SERVER
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    seed: int = -1  # -1: a random one each time


class Served(Protocol):
    """What is asked of a loaded model here."""

    @property
    def tokenizer(self) -> TokenizerPort: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def sampling(self) -> SamplingDefaults: ...
    @property
    def breakers(self) -> BreakerFinder: ...


def needs_texts(params: SamplingFields, defaults: SamplingDefaults) -> bool:
    """Whether ``sampling_of`` has to tokenize something or to build sets: not on the event loop."""
    return bool(
        params.bad_words
        or params.allowed_token_ids
        or _given(params.number("dry_multiplier"), defaults.params.dry_multiplier)
        or any(isinstance(what, str) for what, _ in params.logit_bias)
    )


def sampling_of(
    params: SamplingFields, served: Served, n_ctx: int, n_logprobs: int
) -> SamplingParams:
    """SamplingParams; what is not given is the server's default. Raises ApiError 400."""
    defaults = served.sampling
    said = {name: params.number(name) for name in NUMBERS} | {"samplers": params.samplers}
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if given.get("dry_base", 1) < 1:
        del given["dry_base"]  # as in llama-server
    if "top_k" in given:
        given["top_k"] = min(max(0, given["top_k"]), served.n_vocab)
    if "repeat_last_n" in given:
        given["repeat_last_n"] = min(given["repeat_last_n"], n_ctx)
    seed = _given(params.seed, defaults.seed)
    sampling = replace(defaults.params, **given)
    return replace(
        sampling,
        logit_bias=_biases(params, served),
        allowed=_allowed(params, served.n_vocab),
        bad_words=_bad_words(params.bad_words or (), served.tokenizer),
        dry_breakers=_breakers(params, served) if sampling.dry_multiplier > 0 else None,
        seed=secrets.randbits(62) if seed == -1 else seed & _SEED_MASK,
        n_logprobs=n_logprobs,
    )


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _encode(tokenizer: TokenizerPort, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=True)


def _check_ids(ids: Sequence[int], n_vocab: int, param: str) -> None:
    if ids and max(ids) >= n_vocab:
        raise invalid(param, f"A token id is outside the vocabulary of {n_vocab}.")


def _biases(params: SamplingFields, served: Served) -> tuple[tuple[int, float], ...]:
    """A text stands for each of its tokens."""
    biases: list[tuple[int, float]] = []
    for what, bias in params.logit_bias:
        ids = [what] if isinstance(what, int) else _encode(served.tokenizer, what)
        added = -math.inf if bias is None else bias
        biases += [(token_id, added) for token_id in ids]
    _check_ids([token_id for token_id, _ in biases], served.n_vocab, "logit_bias")
    return tuple(biases)


def _allowed(params: SamplingFields, n_vocab: int) -> TokenSet | None:
    ids = params.allowed_token_ids
    if ids is None:
        return None
    _check_ids(ids, n_vocab, "allowed_token_ids")
    return TokenSet.of(ids, n_vocab)


def _bad_words(words: Sequence[str], tokenizer: TokenizerPort) -> TokenSequences | None:
    """Each word as it begins a text, and as it follows a blank."""
    sequences: dict[tuple[int, ...], None] = {}
    for word in words:
        bare = word.lstrip()
        for text in {bare, f" {bare}"} if bare else {word}:
            sequences[tuple(_encode(tokenizer, text))] = None
    kept = [list(sequence) for sequence in sorted(sequences) if sequence]
    return TokenSequences.of(kept) if kept else None


def _breakers(params: SamplingFields, served: Served) -> Breakers:
    texts = params.dry_sequence_breakers
    return served.breakers.find(served.sampling.dry_sequence_breakers if texts is None else texts)
