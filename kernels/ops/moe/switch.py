"""Which of a model's own adapters each token takes: tokens of its vocabulary call them (Granite
Switch).

    id_t = the mean of the adapters called up to t, rounded, halves up; 0 (none) before the first

The published layer is an attention head whose scores are +gain at tokens that call and -gain at
all others, with a gain so large that the others' shares are nothing: it reads the mean of what was
called. Here that is a sum and a count in the sequence's row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32, store_i32
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Address, Op, State, Table, given, keeps, offsets, writes
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_bytes, in_order

STATE_FLOATS = 16  # the sum and the count of calls, whole numbers; the rest means nothing


class Switch(Op, kernel="switch"):
    """ids = the adapter of each token; weights = 1"""

    called: NDArray[np.int32] = given("int32 [n_vocab], the adapter that a token calls, or 0")
    tokens: Address = given("int32 [n_tokens], the step's")
    ids: Table[np.int32] = writes("[n_tokens]")
    weights: Table[np.float32] = writes("[n_tokens]")
    state: State | None = keeps("float32 [STATE_FLOATS]; of each draft the same, for what it calls")

    @property
    def state_floats(self) -> int:
        return STATE_FLOATS

    @property
    def pending_floats(self) -> int:
        return STATE_FLOATS

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_switch()

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of the state."""
        return copy_bytes(STATE_FLOATS)


SWITCH = offsets(Switch)


@njit(forceinline=True)
def _called_by(op, token):
    """The adapter that a token of the step calls, or 0."""
    token_id = load_i32(load_i64(op + SWITCH.tokens) + 4 * token)
    return load_i32(load_i64(op + SWITCH.called) + 4 * token_id)


@njit(forceinline=True)
def _call(state, adapter):
    """Count a call, if it is one."""
    if adapter != 0:
        store_f32(state, load_f32(state) + np.float32(adapter))
        store_f32(state + 4, load_f32(state + 4) + np.float32(1.0))


@njit(forceinline=True)
def _mean(state):
    """Of the adapters that were called, rounded: in integers, so that halves are exact."""
    total, n = np.int64(load_f32(state)), np.int64(load_f32(state + 4))
    return (2 * total + n) // (2 * n) if n > 0 else np.int64(0)


@njit
def _n_parts(op):
    return np.int64(1)


@njit
def _state_of(op, part):
    return np.int64(0), np.int64(4 * STATE_FLOATS)


@njit
def _apply(op, scratch, state, pending, n_pending, part):
    for i in range(n_pending):
        _call(state, np.int64(load_f32(pending + 4 * STATE_FLOATS * i)))


@njit
def _advance(op, scratch, state, fresh, first, n_tokens, part):
    if fresh != 0:
        simd.store(state, simd.splat(np.float32(0.0)))
    for token in range(first, first + n_tokens):
        _call(state, _called_by(op, token))
        store_i32(load_i64(op + SWITCH.ids) + 4 * token, _mean(state))
        store_f32(load_i64(op + SWITCH.weights) + 4 * token, np.float32(1.0))


@njit
def _keep(op, pending, first, n_drafts, part):
    for i in range(n_drafts):
        adapter = np.float32(_called_by(op, first + i))
        simd.store(pending + 4 * STATE_FLOATS * i, simd.splat(adapter))


def build_switch() -> Callable[..., None]:
    """The kernel; a chunk is a sequence."""
    return build_recurrent(SWITCH, _n_parts, in_order(_state_of, _apply, _advance, _keep))
