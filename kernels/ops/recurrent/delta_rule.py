"""The delta rule over a run of tokens, for one block of columns of a head's state (delta_block.py).

    u = rate * (v - down * S^T seen);   S = decay * S + k u^T;   o = scale * S^T q

A token's scalars and its decay stand in a thread's scratch. S is read and written once a token: the
pass that updates it for one token also takes its product with what the next one sees. Decay is one
float a token (``seen`` is k, and ``down`` holds the decay) or, with blocks made for that, one for
each row of S (``seen`` is decay * k, a row of its own).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32
from slotmux.kernels.ops.recurrent.frame import copy_vectors

SEGMENT = 128  # tokens scanned through one block of columns after the other
MAX_VERIFIED = SEGMENT - 16  # tokens and pending ones taken together: vectors of scalars must fit
# Scratch: of each token of a segment the scale of its output, decay, down and rate; a vector u; a
# copy of a block.
S_SCALE, S_DECAY, S_DOWN, S_RATE, S_VECTORS = (4 * SEGMENT * i for i in range(5))
S_STATE = S_VECTORS + 128


class Tokens(NamedTuple):
    """Consecutive tokens of a head: addresses of the first one's and bytes to the next one's. q, k
    and v, out, what of k the state before the token sees, and the decay; ``scalars``: in scratch,
    4 bytes to the next."""

    q: int
    k: int
    v: int
    stride: int
    out: int
    out_stride: int
    seen: int
    seen_stride: int
    decay: int
    decay_stride: int
    scalars: int


@njit(forceinline=True)
def columns(x, at):
    """The same tokens, v and out from byte ``at`` on."""
    return Tokens(
        x.q, x.k, x.v + at, x.stride, x.out + at, x.out_stride,
        x.seen, x.seen_stride, x.decay, x.decay_stride, x.scalars,
    )  # fmt: skip


def block_vectors(d: int) -> int:
    """Vectors in a row of a block of columns: 32 columns of 128 inputs fill half of an L1."""
    return 2 if d % 32 == 0 else 1


@njit(forceinline=True)
def width_bytes(d):
    """Bytes of a row of a block."""
    return np.int64(128) if d % 32 == 0 else np.int64(64)


@njit(forceinline=True)
def _error_times_rate(u, x, t, width):
    """u = rate * (v - down * u), u holding S^T seen."""
    down = simd.splat(np.float32(0.0) - load_f32(x.scalars + S_DOWN + 4 * t))
    rate = simd.splat(load_f32(x.scalars + S_RATE + 4 * t))
    v = x.v + t * x.stride
    for j in range(0, width, 64):
        simd.store(u + j, simd.fma(down, simd.load(u + j), simd.load(v + j)) * rate)


@njit(forceinline=True)
def _scale_output(x, t, width):
    """The scale that was left out of the sums."""
    scale, out = simd.splat(load_f32(x.scalars + S_SCALE + 4 * t)), x.out + t * x.out_stride
    for j in range(0, width, 64):
        simd.store(out + j, simd.load(out + j) * scale)


@njit(forceinline=True)
def _call(update, state, d, x, t, u, seen_next):
    """One of a block's updates, by token ``t``."""
    at = t * x.stride
    update(state, d, x.decay + t * x.decay_stride, x.k + at, u, x.q + at,
           x.out + t * x.out_stride, seen_next, u)  # fmt: skip


@njit
def scan(blocks, state, fresh, u, d, x, n_tokens):
    """A segment's tokens through one block."""
    width = blocks.width()
    if fresh:
        for j in range(0, width, 64):
            simd.store(u + j, simd.splat(np.float32(0.0)))
    else:
        blocks.product(state, d, x.seen, u)
    # Written out, with addresses that grow: LLVM's code for the same in functions of a token takes
    # a quarter longer (one Zen core, 128 tokens).
    q, k, v, out, seen, scalars, decay = x.q, x.k, x.v, x.out, x.seen, x.scalars, x.decay
    for t in range(n_tokens):
        down = simd.splat(np.float32(0.0) - load_f32(scalars + S_DOWN + 4 * t))
        rate = simd.splat(load_f32(scalars + S_RATE + 4 * t))
        for j in range(0, width, 64):
            simd.store(u + j, simd.fma(down, simd.load(u + j), simd.load(v + j)) * rate)
        is_last = t + 1 == n_tokens
        seen += x.seen_stride
        if fresh and t == 0:
            if is_last:
                blocks.only(state, d, decay, k, u, q, out, seen, u)
            else:
                blocks.begin(state, d, decay, k, u, q, out, seen, u)
        elif is_last:
            blocks.last(state, d, decay, k, u, q, out, seen, u)
        else:
            blocks.update(state, d, decay, k, u, q, out, seen, u)
        scale = simd.splat(load_f32(scalars + S_SCALE + 4 * t))
        for j in range(0, width, 64):
            simd.store(out + j, simd.load(out + j) * scale)
        q, k, v, out = q + x.stride, k + x.stride, v + x.stride, out + x.out_stride
        decay += x.decay_stride


@njit
def scan_again(blocks, state, u, d, x, n_tokens):
    """Tokens through one block of which no output is wanted."""
    blocks.product(state, d, x.seen, u)
    for t in range(n_tokens):
        _error_times_rate(u, x, t, width_bytes(d))
        if t + 1 == n_tokens:
            _call(blocks.last_again, state, d, x, t, u, x.seen)
        else:
            _call(blocks.again, state, d, x, t, u, x.seen + (t + 1) * x.seen_stride)


@njit
def verify(blocks, state, copy, u, d, past, n_pending, x, n_kept, n_drafts):
    """A run through one block in one pass: accepted drafts of the one before, its tokens, and its
    drafts, whose updates go to a copy of the block."""
    width, n_tokens = width_bytes(d), n_kept + n_drafts
    blocks.product(state, d, past.seen if n_pending > 0 else x.seen, u)
    for t in range(n_pending):
        _error_times_rate(u, past, t, width)
        seen_next = past.seen + (t + 1) * past.seen_stride if t + 1 < n_pending else x.seen
        _call(blocks.again, state, d, past, t, u, seen_next)
    for t in range(n_tokens):
        if t == n_kept:
            copy_vectors(state, d * width // 4, copy)
            state = copy
        _error_times_rate(u, x, t, width)
        if t + 1 == n_tokens:
            _call(blocks.last, state, d, x, t, u, x.seen)
        else:
            _call(blocks.update, state, d, x, t, u, x.seen + (t + 1) * x.seen_stride)
        _scale_output(x, t, width)
