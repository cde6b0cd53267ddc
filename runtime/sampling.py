"""Each slot's sampling parameters as the kernels read them, and the operands of the draws."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.operands import fill
from slotmux.kernels.ops.sampling.draw import SAMPLE
from slotmux.kernels.ops.sampling.slot_words import SLOT, work_bytes
from slotmux.kernels.team import aligned_zeros
from slotmux.runtime import exact
from slotmux.runtime.engine.request import InvalidRequestError, SamplingParams
from slotmux.runtime.ubatch import I32, MAX_TOP_LOGPROBS

_N_INT_WORDS = SLOT._fields.index("inverse_temperature")
_DTYPE = np.dtype(
    [(name, np.int64 if i < _N_INT_WORDS else np.float64) for i, name in enumerate(SLOT._fields)]
)
_MASK = (1 << 64) - 1
# Every temperature above 0 draws. The factor stays where 0 * factor and inf * factor are defined.
_LEAST_FACTOR, _LARGEST_FACTOR = 1e-30, 1e30
_LARGEST_PENALTY = 1e4


def _mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def draw_key(seed: int) -> int:
    """What uniform() of kernels/ops/sampling takes: SplitMix64's first output, as an int64."""
    key = _mix((seed + 0x9E3779B97F4A7C15) & _MASK)
    return key - (1 << 64) if key >> 63 else key


def _check(field: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise InvalidRequestError(field, f"{field} should be from {low:g} to {high:g}")
    return value


class SamplingTable:
    """One row of parameters a slot. Engine thread only; not while a step runs."""

    def __init__(self, n_slots: int, n_vocab: int, n_ctx: int) -> None:
        self.n_vocab = n_vocab
        self.n_ctx = n_ctx
        self.rows: NDArray[Any] = np.zeros(n_slots, _DTYPE)
        # Arrays that a slot's row points at.
        self._kept: list[tuple[NDArray[Any], ...]] = [()] * n_slots
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
    ) -> None:
        """Write a slot's parameters; ``eog_ids`` are not drawn at positions below ``min_pos``.

        ``history`` [n_ctx] stays the caller's, who fills it as tokens come: the draw at position
        p reads the tokens before p. Raises InvalidRequestError and changes nothing when a
        parameter is out of range.
        """
        assert history.dtype == np.int32
        assert history.flags.c_contiguous
        values = self._values(params)
        bias_ids = self._ids("logit_bias", [i for i, _ in params.logit_bias])
        biases = np.array([_bias(b) for _, b in params.logit_bias], np.float32)
        banned_ids = self._ids("stop_token_ids", sorted(eog_ids))
        row = self.rows[slot]
        for name, value in values.items():
            row[name] = value
        row["history"] = history.ctypes.data
        row["n_bias"], row["n_banned"], row["min_pos"] = bias_ids.size, banned_ids.size, min_pos
        row["bias_ids"], row["biases"] = bias_ids.ctypes.data, biases.ctypes.data
        row["banned_ids"] = banned_ids.ctypes.data
        self._kept[slot] = (history, bias_ids, biases, banned_ids)

    def check(self, params: SamplingParams) -> None:
        """Raise InvalidRequestError, as ``set`` would, for what is out of range. Any thread."""
        self._values(params)
        self._ids("logit_bias", [i for i, _ in params.logit_bias])
        for _, value in params.logit_bias:
            _bias(value)

    def clear(self, slot: int) -> None:
        """Back to the plain distribution; nothing of the request is kept."""
        self.set(slot, SamplingParams(), self._no_history, frozenset(), 0)

    def operands(
        self,
        logits: NDArray[np.float32],
        n_threads: int,
        masks: NDArray[np.int64] | None = None,
        *,
        is_draft: bool = False,
    ) -> NDArray[np.int64]:
        """Operands of sample_rows for rows of ``logits`` [max_outputs, >= n_vocab].

        ``masks`` [max_outputs]: for each draw the address of its allowed-token bits (bit i % 32
        of uint32 word i // 32 allows token i) or 0. ``is_draft``: logprobs of the drawn tokens
        only, of every draw. The table and the caller keep arrays alive.
        """
        assert logits.dtype == np.float32
        assert logits.shape[1] >= self.n_vocab
        assert logits.strides[1] == 4
        size = -(-work_bytes(self.n_vocab) // 4096) * 4096
        # A team runs one program at a time: all that draw may have the same working memory.
        if self._work.nbytes < n_threads * size:
            assert not self._work.size, "draws of one table with different numbers of threads"
            self._work = aligned_zeros(n_threads * size, 4096)
        return fill(
            SAMPLE,
            logits=logits,
            stride=logits.strides[0],
            n_vocab=self.n_vocab,
            slots=self.rows,
            work=self._work,
            work_bytes=size,
            masks=0 if masks is None else masks,
            is_draft=int(is_draft),
        )

    def _ids(self, field: str, ids: list[int]) -> I32:
        for token_id in ids:
            if not 0 <= token_id < self.n_vocab:
                raise InvalidRequestError(field, f"there is no token {token_id}")
        return np.array(ids, np.int32)

    def _values(self, params: SamplingParams) -> dict[str, float]:
        temperature = _check("temperature", params.temperature, 0.0, math.inf)
        factor = 0.0
        if temperature > 0.0:
            factor = min(max(1.0 / max(temperature, 1e-300), _LEAST_FACTOR), _LARGEST_FACTOR)
        min_p = _check("min_p", params.min_p, 0.0, 1.0)
        top_k = _check("top_k", params.top_k, 0, math.inf)
        last_n = _check("repeat_last_n", params.repeat_last_n, -1, math.inf)
        penalty = _LARGEST_PENALTY
        return {
            "key": draw_key(params.seed),
            "top_k": min(top_k, self.n_vocab),
            "n_logprobs": _check("top_logprobs", params.n_logprobs, -1, MAX_TOP_LOGPROBS),
            "repeat_last_n": min(last_n, self.n_ctx),
            "inverse_temperature": factor,
            "top_p": _check("top_p", params.top_p, 0.0, 1.0),
            "log_min_p": exact.log(min_p),
            "typical_p": _check("typical_p", params.typical_p, 0.0, 1.0),
            "repeat_penalty": _check("repeat_penalty", params.repeat_penalty, 1 / penalty, penalty),
            "frequency_penalty": _check(
                "frequency_penalty", params.frequency_penalty, -penalty, penalty
            ),
            "presence_penalty": _check(
                "presence_penalty", params.presence_penalty, -penalty, penalty
            ),
        }


def _bias(value: float) -> float:
    if math.isnan(value) or value > 3e38:
        raise InvalidRequestError("logit_bias", "a bias should be a finite number or -inf")
    return value
