"""The token before: x[t-1], or its difference x[t-1] - x[t]; the last x is kept in the state row.

RWKV mixes each token's input with the previous one's (Peng et al. 2023, section 3.1). A block for
multi-token prediction pairs each token with the trunk's hidden state of the one before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_i64
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Op,
    Rows,
    State,
    compiled,
    keeps,
    offsets,
    reads,
    round_up,
    word,
    writes,
)
from slotmux.kernels.ops.recurrent.frame import (
    build_recurrent,
    copy_bytes,
    copy_vectors,
    in_order,
)

CHANNELS = 256  # of a part


class TokenShift(Op, kernel="token_shift"):
    """out = x of the token before, or its difference to the token's own"""

    kind: str = compiled("before or difference")
    x: Rows = reads("float32 [n_tokens, n]")
    out: Rows = writes("float32 [n_tokens, n]")
    state: State | None = keeps(
        "float32 [n rounded up to 16], the sequence's last x; of each draft x in such a row"
    )

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    @property
    def state_floats(self) -> int:
        return state_floats(self.n)

    @property
    def pending_floats(self) -> int:
        return state_floats(self.n)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_token_shift(self.kind == "difference")

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of a part's state."""
        return copy_bytes(CHANNELS)


class LastToken(Op, kernel="last_token"):
    """out = a sequence's last x alone, one row a run of the step"""

    state: State = reads("of a TokenShift, which may belong to another program")
    out: Rows = writes("float32 [runs, n]")

    @word
    def n(self) -> int:
        """Width."""
        return self.out.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_last_token()


TOKEN_SHIFT, LAST_TOKEN = offsets(TokenShift), offsets(LastToken)


def state_floats(n: int) -> int:
    """Size of a sequence's state, and of what is kept of a draft."""
    return round_up(n, 16)


@njit(forceinline=True)
def _padded(n):
    return (n + 15) // 16 * 16


@njit
def _n_parts(op):
    return (load_i64(op + TOKEN_SHIFT.n) + CHANNELS - 1) // CHANNELS


@njit(forceinline=True)
def _channels(op, part):
    """First of a part's channels, and how many, in whole vectors."""
    first = part * CHANNELS
    return first, min(CHANNELS, _padded(load_i64(op + TOKEN_SHIFT.n)) - first)


@njit
def _state_of(op, part):
    first, n = _channels(op, part)
    return 4 * first, 4 * n


@njit(forceinline=True)
def _draft_at(n, pending, i):
    """Where x is kept of draft ``i``."""
    return pending + 4 * i * _padded(n)


@njit
def _apply(op, scratch, state, pending, n_pending, part):
    first, n = _channels(op, part)
    last = _draft_at(load_i64(op + TOKEN_SHIFT.n), pending, n_pending - 1)
    copy_vectors(last + 4 * first, n, state)


@njit(forceinline=True)
def _advance(op, is_difference, state, fresh, first, n_tokens, part):
    first_channel, n = _channels(op, part)
    x_stride, out_stride = (
        load_i64(op + TOKEN_SHIFT.x_stride),
        load_i64(op + TOKEN_SHIFT.out_stride),
    )
    x = load_i64(op + TOKEN_SHIFT.x) + first * x_stride + 4 * first_channel
    out = load_i64(op + TOKEN_SHIFT.out) + first * out_stride + 4 * first_channel
    for c in range(0, 4 * n, 64):
        before = simd.splat(np.float32(0.0))
        if fresh == 0:
            before = simd.load(state + c)
        for t in range(n_tokens):
            value = simd.load(x + t * x_stride + c)
            if is_difference:
                before = before - value
            simd.store(out + t * out_stride + c, before)
            before = value
        simd.store(state + c, before)


@njit
def _keep(op, pending, first, n_drafts, part):
    first_channel, n = _channels(op, part)
    for i in range(n_drafts):
        x = load_i64(op + TOKEN_SHIFT.x) + (first + i) * load_i64(op + TOKEN_SHIFT.x_stride)
        to = _draft_at(load_i64(op + TOKEN_SHIFT.n), pending, i) + 4 * first_channel
        copy_vectors(x + 4 * first_channel, n, to)


def build_token_shift(is_difference: bool) -> Callable[..., None]:
    """The kernel; its parts are groups of channels."""

    @njit
    def advance(op, scratch, state, fresh, first, n_tokens, part):
        _advance(op, is_difference, state, fresh, first, n_tokens, part)

    return build_recurrent(TOKEN_SHIFT, _n_parts, in_order(_state_of, _apply, advance, _keep))


@njit
def _one(op):
    return np.int64(1)


@njit
def _last_token(op, scratch, run, first_part, end_part):
    """The sequence's last x before the run."""
    n = load_i64(op + LAST_TOKEN.n)
    out = load_i64(op + LAST_TOKEN.out) + run.number * load_i64(op + LAST_TOKEN.out_stride)
    last = run.state
    if run.n_pending > 0:
        last = _draft_at(n, run.pending, run.n_pending - 1)
    for c in range(0, 4 * n, 64):
        value = simd.splat(np.float32(0.0))
        if run.fresh == 0 or run.n_pending > 0:
            value = simd.load(last + c)
        simd.store(out + c, value)


def build_last_token() -> Callable[..., None]:
    """The kernel of LAST_TOKEN, which leaves the state as it is."""
    return build_recurrent(LAST_TOKEN, _one, _last_token)
