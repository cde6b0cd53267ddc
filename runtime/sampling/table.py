"""Each slot's sampling parameters as the kernels read them, and the op that draws by them."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import Address, Rows
from slotmux.kernels.ops.sampling.draw import Sample
from slotmux.kernels.ops.sampling.slot_words import SLOT, work_bytes
from slotmux.kernels.team import aligned_zeros
from slotmux.runtime import exact
from slotmux.runtime.engine.request import InvalidRequestError, SamplerState, SamplingParams
from slotmux.runtime.sampling.plan import check_samplers, is_greedy
from slotmux.runtime.sampling.words import check, further_words, plain_words
from slotmux.runtime.token_sets import Breakers, TokenSequences, TokenSet
from slotmux.runtime.ubatch import I32, MAX_TOP_LOGPROBS

_N_INT_WORDS = SLOT._fields.index("inverse_temperature")
_DTYPE = np.dtype(
    [(name, np.int64 if i < _N_INT_WORDS else np.float64) for i, name in enumerate(SLOT._fields)]
)
_MASK = (1 << 64) - 1
# Every temperature above 0 draws. The factor stays where 0 * factor and inf * factor are defined.
_LEAST_FACTOR, _LARGEST_FACTOR = 1e-30, 1e30


def _mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def draw_key(seed: int, purpose: int = 0) -> int:
    """What uniform() of kernels/ops/sampling takes: an output of SplitMix64, as an int64. The
    ``purpose`` of its numbers is 0: to draw, 1: to decide whether xtc applies."""
    key = _mix((seed + 0x9E3779B97F4A7C15 * (1 + purpose)) & _MASK)
    return key - (1 << 64) if key >> 63 else key


def _factor(params: SamplingParams, temperature: float) -> float:
    """1 / temperature; 0 means greedy, and 1 where the kernel finds the temperature itself."""
    if is_greedy(params):
        return 0.0
    if temperature == 0.0:
        return 1.0
    return min(max(1.0 / max(temperature, 1e-300), _LEAST_FACTOR), _LARGEST_FACTOR)


class SamplingTable:
    """One row of parameters a slot. Engine thread only; not while a step runs."""

    def __init__(self, n_slots: int, n_vocab: int, n_ctx: int) -> None:
        self.n_vocab = n_vocab
        self.n_ctx = n_ctx
        self.rows: NDArray[Any] = np.zeros(n_slots, _DTYPE)
        # Arrays that a slot's row points at.
        self._kept: list[tuple[NDArray[Any], ...]] = [()] * n_slots
        self._mu: list[NDArray[np.float64] | None] = [None] * n_slots
        self._no_words = TokenSequences.of([])
        self._no_breakers = Breakers.of(np.zeros(0, np.int32), (), n_vocab)
        self._no_surprises = np.zeros(1)
        self._work: NDArray[np.uint8] = aligned_zeros(0)
        self._no_history: I32 = np.zeros(n_ctx, np.int32)
        for slot in range(n_slots):
            self.clear(slot)

    def set(
        self,
        slot: int,
        params: SamplingParams,
        history: I32,
        eog_ids: AbstractSet[int],
        min_pos: int,
        state: SamplerState | None = None,
    ) -> None:
        """Write a slot's parameters; ``eog_ids`` are not drawn at positions below ``min_pos``.

        ``history`` [n_ctx] stays the caller's, who fills it as tokens come: the draw at position
        p reads the tokens before p. ``state``: of ``state``, when the sequence left its slot; None:
        it has drawn nothing yet. Raises InvalidRequestError and changes nothing when a parameter
        is out of range.
        """
        assert history.dtype == np.int32
        assert history.flags.c_contiguous
        values = self._values(params)
        self._check_sets(params)
        bias_ids = self._ids("logit_bias", [i for i, _ in params.logit_bias])
        biases = np.array([_bias(b) for _, b in params.logit_bias], np.float32)
        banned_ids = self._ids("stop_token_ids", sorted(eog_ids))
        surprises, first_pos = self._surprises(params, state, history.size)
        row = self.rows[slot]
        for name, value in values.items():
            row[name] = value
        row["n_bias"], row["n_banned"], row["min_pos"] = bias_ids.size, banned_ids.size, min_pos
        row["first_pos"] = first_pos
        breakers = params.dry_breakers or self._no_breakers
        bad_words = params.bad_words or self._no_words
        row["n_bad"], row["n_dry"] = bad_words.n, breakers.several.n
        arrays: dict[str, NDArray[Any]] = {
            "history": history, "bias_ids": bias_ids, "biases": biases, "banned_ids": banned_ids,
            "bad_starts": bad_words.starts, "bad_tokens": bad_words.tokens,
            "dry_breakers": self._bits(breakers.first), "dry_singles": self._bits(breakers.single),
            "dry_starts": breakers.several.starts, "dry_tokens": breakers.several.tokens,
            "surprises": surprises,
        }  # fmt: skip
        row["allowed"] = 0
        if params.allowed is not None:
            arrays["allowed"] = self._bits(params.allowed)
        for name, array in arrays.items():
            row[name] = array.ctypes.data
        self._kept[slot] = tuple(arrays.values())
        self._mu[slot] = surprises if params.mirostat else None

    def state(self, slot: int, pos: int) -> SamplerState | None:
        """What the draw at ``pos``, the next one, needs of those before it; None: nothing."""
        surprises = self._mu[slot]
        return None if surprises is None else SamplerState(pos, surprises.item(pos))

    def check(self, params: SamplingParams) -> None:
        """Raise InvalidRequestError, as ``set`` would, for what is out of range. Any thread."""
        self._values(params)
        self._check_sets(params)
        self._ids("logit_bias", [i for i, _ in params.logit_bias])
        for _, value in params.logit_bias:
            _bias(value)

    def clear(self, slot: int) -> None:
        """Back to the plain distribution; nothing of the request is kept."""
        self.set(slot, SamplingParams(), self._no_history, frozenset(), 0)

    @property
    def slots(self) -> Address:
        """Of the rows of parameters, one a slot."""
        return Address(int(self.rows.ctypes.data))

    def draws(
        self,
        logits: Rows,
        n_threads: int,
        masks: NDArray[np.int64] | None = None,
        *,
        is_draft: bool = False,
    ) -> Sample:
        """The op that draws from rows of ``logits`` [max_outputs, n_vocab].

        ``masks`` [max_outputs]: for each draw the address of its allowed-token bits (bit i % 32
        of uint32 word i // 32 allows token i) or 0. ``is_draft``: logprobs of the drawn tokens
        only, of every draw. The table and the caller keep arrays alive.
        """
        assert logits.width == self.n_vocab
        size = -(-work_bytes(self.n_vocab, self.n_ctx) // 4096) * 4096
        # A team runs one program at a time: all that draw may have the same working memory.
        if self._work.nbytes < n_threads * size:
            assert not self._work.size, "draws of one table with different numbers of threads"
            self._work = aligned_zeros(n_threads * size, 4096)
        return Sample(
            logits=logits,
            slots=self.slots,
            work=self._work,
            work_bytes=size,
            masks=masks,
            is_draft=is_draft,
        )

    def _ids(self, field: str, ids: list[int]) -> I32:
        for token_id in ids:
            if not 0 <= token_id < self.n_vocab:
                raise InvalidRequestError(field, f"there is no token {token_id}")
        return np.array(ids, np.int32)

    def _check_sets(self, params: SamplingParams) -> None:
        n_words = -(-self.n_vocab // 32)
        sets = [] if params.allowed is None else [("allowed_token_ids", params.allowed)]
        sequences = [("bad_words", params.bad_words or self._no_words)]
        if params.dry_breakers is not None:
            sets.append(("dry_sequence_breakers", params.dry_breakers.first))
            sequences.append(("dry_sequence_breakers", params.dry_breakers.several))
        for field, token_set in sets:
            if token_set.bits.size > n_words:
                raise InvalidRequestError(field, f"{field} has a token outside the vocabulary")
        for field, words in sequences:
            if words.tokens.size and not 0 <= words.tokens.min() <= words.tokens.max() < (
                self.n_vocab
            ):
                raise InvalidRequestError(field, f"{field} has a token outside the vocabulary")

    def _bits(self, token_set: TokenSet) -> NDArray[np.uint32]:
        """As many as the logits have: a tokenizer may know fewer tokens."""
        n_missing = -(-self.n_vocab // 32) - token_set.bits.size
        return np.pad(token_set.bits, (0, n_missing)) if n_missing else token_set.bits

    def _surprises(
        self, params: SamplingParams, state: SamplerState | None, n_ctx: int
    ) -> tuple[NDArray[np.float64], int]:
        """Mirostat's mu of each position, and from which position on draws change it."""
        if not params.mirostat:
            return self._no_surprises, 0
        surprises = np.full(n_ctx + 2, 2.0 * params.mirostat_tau)
        if state is None:
            return surprises, 0
        surprises[state.pos] = state.mu
        return surprises, state.pos

    def _values(self, params: SamplingParams) -> dict[str, float]:
        check_samplers(params.samplers)
        has = params.samplers.__contains__
        words = plain_words(params)
        is_tempered = has("temperature") or params.mirostat > 0
        words |= {
            "key": draw_key(params.seed),
            "xtc_key": draw_key(params.seed, 1),
            "n_logprobs": check("top_logprobs", params.n_logprobs, -1, MAX_TOP_LOGPROBS),
            "repeat_last_n": min(params.repeat_last_n, self.n_ctx),
            "inverse_temperature": _factor(params, params.temperature if is_tempered else 1.0),
            "top_k": min(params.top_k, self.n_vocab) if has("top_k") else 0,
            "top_p": params.top_p if has("top_p") else 1.0,
            "log_min_p": exact.log(params.min_p if has("min_p") else 0.0),
            "typical_p": params.typical_p if has("typ_p") else 1.0,
        }
        return words | further_words(params, self.n_ctx)


def _bias(value: float) -> float:
    if math.isnan(value) or value > 3e38:
        raise InvalidRequestError("logit_bias", "a bias should be a finite number or -inf")
    return value
