"""Kimi Delta Attention: a delta net that forgets each channel of its keys at a rate of its own
(Kimi Team 2025, equation 1).

Per head, with the state S [d_k, d_v] and a token's q, k (l2-normalised), v, gate f [d_k], rate b:

    g = exp(a * softplus(f + dt_bias)), or with a bound exp(bound * sigmoid(a * (f + dt_bias)))
    u = sigmoid(b) * (v - S^T (g k));   S = diag(g) S + k u^T;   o = S^T q / sqrt(d)

Blocks, sums and what is kept of drafts are those of the delta net (delta_net.py); what a token's
product is taken with is its k, decayed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.dense.elementwise import sigmoid
from slotmux.kernels.ops.recurrent.delta_block import make_product, make_update
from slotmux.kernels.ops.recurrent.delta_net import inverse_l2
from slotmux.kernels.ops.recurrent.state import drafts_of_run, locate_run

# q, k, v: float32 rows of stride bytes, n_heads heads of d; f: rows of f_stride bytes, the same; b:
# rows of b_stride bytes [n_tokens, n_heads]; a: float32 [n_heads]; dt_bias: float32 [n_heads * d];
# bound, eps: addresses of a float32; out: float32 rows of out_stride bytes.
# State: float32 [n_heads, d / width, d, width], width = columns of a block; pending (bytes behind
# it): of each draft float32 [n_heads, d / width, 2 d + width + 16]: k, f, v, then b.
KDA = words(
    "Kda",
    "q k v stride f f_stride b b_stride a dt_bias bound n_heads d eps out out_stride "
    "rows row_stride pending",
)
SEGMENT = 128  # tokens scanned through one block of columns after the other
# Scratch: per token of a segment the scale of k, that of q, and beta; a vector S^T k; then, as wide
# as heads are, per token the decay and k decayed; a copy of a block of the state.
S_K, S_Q, S_BETA, S_VECTORS = (4 * SEGMENT * i for i in range(4))
S_DECAY = S_VECTORS + 128


def scratch_bytes(d: int, n_vectors: int) -> int:
    """What a thread needs for heads of d."""
    return S_DECAY + 8 * SEGMENT * d + 64 * d * n_vectors


def pending_floats(n_heads: int, d: int, n_vectors: int) -> int:
    """What is kept of a draft: each block of columns has its own, which no other chunk touches."""
    width = 16 * n_vectors
    return n_heads * (d // width) * (2 * d + width + 16)


@njit(forceinline=True)
def _decay_at(scratch, d, t):
    """Of a token of the segment: its decay, d floats; behind all of them k decayed."""
    return scratch + S_DECAY + 4 * d * t


@njit(forceinline=True)
def _decayed_k_at(scratch, d, t):
    return scratch + S_DECAY + 4 * d * (SEGMENT + t)


def build_kda(n_vectors: int, is_bounded: bool) -> Callable[..., None]:
    """The kernel for blocks of 16 * ``n_vectors`` columns; ``is_bounded``: the gate's kind.

    A chunk is one sequence's tokens of one head, or of a block of its columns when there would be
    too few chunks.
    """
    product = make_product(n_vectors)
    update, last_update = (
        make_update(n_vectors, True, has_next, by_channel=True) for has_next in (True, False)
    )
    begin, only = (
        make_update(n_vectors, False, has_next, by_channel=True) for has_next in (True, False)
    )
    again, last_again = (
        make_update(n_vectors, True, has_next, False, by_channel=True) for has_next in (True, False)
    )
    width_bytes = 64 * n_vectors

    @njit(forceinline=True)
    def log_decay(op, f, head, i):
        x = simd.load(f + 4 * i)
        d, a = load_i64(op + KDA.d), simd.splat(load_f32(load_i64(op + KDA.a) + 4 * head))
        x = x + simd.load(load_i64(op + KDA.dt_bias) + 4 * (head * d + i))
        if is_bounded:
            return simd.splat(load_f32(load_i64(op + KDA.bound))) * sigmoid(a * x)
        return a * simd.softplus(x)

    @njit
    def prepare(op, scratch, to, q, k, f, rate, strides, head, n_tokens):
        """What tokens ``to`` and on of a segment need, from their q, k, f and b; strides: of q and
        k, of f, of b."""
        d, eps = load_i64(op + KDA.d), load_f32(load_i64(op + KDA.eps))
        root = np.float32(1.0) / np.sqrt(np.float32(d))
        for t in range(n_tokens):
            k_t, f_t, at = k + t * strides[0], f + t * strides[1], scratch + 4 * (to + t)
            store_f32(at + S_K, inverse_l2(k_t, d, eps))
            store_f32(at + S_Q, inverse_l2(q + t * strides[0], d, eps) * root)
            b = simd.splat(load_f32(rate + t * strides[2]))
            store_f32(at + S_BETA, simd.first(sigmoid(b)))
            decay, decayed = _decay_at(scratch, d, to + t), _decayed_k_at(scratch, d, to + t)
            for i in range(0, d, 16):
                g = simd.exp(log_decay(op, f_t, head, i))
                simd.store(decay + 4 * i, g)
                simd.store(decayed + 4 * i, g * simd.load(k_t + 4 * i))

    @njit(forceinline=True)
    def token_rows(op, head, token):
        """Addresses of a token's q, k, v, f and b of a head, and of its output."""
        d = load_i64(op + KDA.d)
        at = token * load_i64(op + KDA.stride) + 4 * head * d
        f = load_i64(op + KDA.f) + token * load_i64(op + KDA.f_stride) + 4 * head * d
        b = load_i64(op + KDA.b) + token * load_i64(op + KDA.b_stride) + 4 * head
        out = load_i64(op + KDA.out) + token * load_i64(op + KDA.out_stride) + 4 * head * d
        q, k, v = load_i64(op + KDA.q), load_i64(op + KDA.k), load_i64(op + KDA.v)
        return q + at, k + at, v + at, f, b, out

    @njit(forceinline=True)
    def prepare_tokens(op, scratch, to, head, first, n_tokens):
        q, k, _, f, b, _ = token_rows(op, head, first)
        strides = (
            load_i64(op + KDA.stride),
            load_i64(op + KDA.f_stride),
            load_i64(op + KDA.b_stride),
        )
        prepare(op, scratch, to, q, k, f, b, strides, head, n_tokens)

    @njit(forceinline=True)
    def error_times_rate(u, v, scratch, t):
        """u = k's scale * beta * (v - k's scale * u), u holding S^T of the decayed k."""
        k_scale = load_f32(scratch + S_K + 4 * t)
        down = simd.splat(np.float32(0.0) - k_scale)
        rate = simd.splat(load_f32(scratch + S_BETA + 4 * t) * k_scale)
        for j in range(0, width_bytes, 64):
            simd.store(u + j, simd.fma(down, simd.load(u + j), simd.load(v + j)) * rate)

    @njit(forceinline=True)
    def scale_output(out, scratch, t):
        """q's scale, which was left out of the sums."""
        scale = simd.splat(load_f32(scratch + S_Q + 4 * t))
        for j in range(0, width_bytes, 64):
            simd.store(out + j, simd.load(out + j) * scale)

    @njit(forceinline=True)
    def copy_block(state, to, d):
        for j in range(0, width_bytes * d, 64):
            simd.store(to + j, simd.load(state + j))

    @njit
    def scan(op, state, fresh, scratch, n_tokens, head, first, block):
        """A segment's tokens through one block of columns."""
        d, u, offset = load_i64(op + KDA.d), scratch + S_VECTORS, block * width_bytes
        stride, out_stride = load_i64(op + KDA.stride), load_i64(op + KDA.out_stride)
        q, k, v, _, _, out = token_rows(op, head, first)
        v, out = v + offset, out + offset
        if fresh:
            for j in range(0, width_bytes, 64):
                simd.store(u + j, simd.splat(np.float32(0.0)))
        else:
            product(state, d, _decayed_k_at(scratch, d, 0), u)
        for t in range(n_tokens):
            decay, after = _decay_at(scratch, d, t), _decayed_k_at(scratch, d, t + 1)
            error_times_rate(u, v, scratch, t)
            is_last = t + 1 == n_tokens
            if fresh and t == 0:
                if is_last:
                    only(state, d, decay, k, u, q, out, after, u)
                else:
                    begin(state, d, decay, k, u, q, out, after, u)
            elif is_last:
                last_update(state, d, decay, k, u, q, out, after, u)
            else:
                update(state, d, decay, k, u, q, out, after, u)
            scale_output(out, scratch, t)
            q, k, v, out = q + stride, k + stride, v + stride, out + out_stride

    @njit(forceinline=True)
    def pending_of(op, pending, head, block):
        """What is kept of drafts for a block of a head: of the first, and bytes to the next."""
        d = load_i64(op + KDA.d)
        n_blocks = 4 * d // width_bytes
        n_bytes = 8 * d + width_bytes + 64
        at = pending + (head * n_blocks + block) * n_bytes
        return at, load_i64(op + KDA.n_heads) * n_blocks * n_bytes

    @njit
    def prepare_pending(op, scratch, pending, n_pending, head, block):
        """What accepted drafts need; every block has a copy of their k and f."""
        d = load_i64(op + KDA.d)
        k, stride = pending_of(op, pending, head, block)
        strides = stride, stride, stride
        rate = k + 8 * d + width_bytes
        prepare(op, scratch, 0, k, k, k + 4 * d, rate, strides, head, n_pending)

    @njit
    def apply_pending(op, scratch, state, pending, n_pending, head, first_block, end_block):
        """Accepted drafts of the run before, to some blocks of a head."""
        d, u = load_i64(op + KDA.d), scratch + S_VECTORS
        prepare_pending(op, scratch, pending, n_pending, head, first_block)
        for block in range(first_block, end_block):
            k, stride = pending_of(op, pending, head, block)
            at = state + block * width_bytes * d
            product(at, d, _decayed_k_at(scratch, d, 0), u)
            for t in range(n_pending):
                decay, after = _decay_at(scratch, d, t), _decayed_k_at(scratch, d, t + 1)
                error_times_rate(u, k + 8 * d, scratch, t)
                if t + 1 == n_pending:
                    last_again(at, d, decay, k, u, k, u, after, u)
                else:
                    again(at, d, decay, k, u, k, u, after, u)
                k += stride

    @njit
    def keep_draft(op, pending, i, head, block, token):
        """Keep what draft ``i`` does to a block of the state."""
        d = load_i64(op + KDA.d)
        _, k, v, f, b, _ = token_rows(op, head, token)
        to, n_bytes = pending_of(op, pending, head, block)
        to += i * n_bytes
        for j in range(0, 4 * d, 64):
            simd.store(to + j, simd.load(k + j))
            simd.store(to + 4 * d + j, simd.load(f + j))
        for j in range(0, width_bytes, 64):
            simd.store(to + 8 * d + j, simd.load(v + block * width_bytes + j))
        store_f32(to + 8 * d + width_bytes, load_f32(b))

    @njit
    def scan_head(op, scratch, state, fresh, head, first, n_tokens, first_block, end_block):
        """Tokens of a run through some blocks of a head, segment by segment."""
        d = load_i64(op + KDA.d)
        for begin_token in range(0, n_tokens, SEGMENT):
            token, n = first + begin_token, min(SEGMENT, n_tokens - begin_token)
            prepare_tokens(op, scratch, 0, head, token, n)
            for block in range(first_block, end_block):
                is_fresh = fresh and begin_token == 0
                scan(op, state + block * width_bytes * d, is_fresh, scratch, n, head, token, block)

    @njit
    def verify_block(
        op, scratch, state, pending, n_pending, head, block, first, n_tokens, n_drafts
    ):
        """A run through one block: accepted drafts of the one before, its tokens, its drafts.

        From the first draft on it is a copy of the block that is updated.
        """
        d, u, at = load_i64(op + KDA.d), scratch + S_VECTORS, block * width_bytes
        stride, out_stride = load_i64(op + KDA.stride), load_i64(op + KDA.out_stride)
        q, k, v, _, _, out = token_rows(op, head, first)
        v, out, state = v + at, out + at, state + at * d
        copy = _decayed_k_at(scratch, d, SEGMENT)
        past, past_stride = pending_of(op, pending, head, block)
        product(state, d, _decayed_k_at(scratch, d, 0), u)
        for t in range(n_pending):
            error_times_rate(u, past + 8 * d, scratch, t)
            decay, after = _decay_at(scratch, d, t), _decayed_k_at(scratch, d, t + 1)
            again(state, d, decay, past, u, past, u, after, u)
            past += past_stride
        for i in range(n_tokens):
            if i == n_tokens - n_drafts:
                copy_block(state, copy, d)
                state = copy
            t = n_pending + i
            error_times_rate(u, v, scratch, t)
            decay, after = _decay_at(scratch, d, t), _decayed_k_at(scratch, d, t + 1)
            if i + 1 == n_tokens:
                last_update(state, d, decay, k, u, q, out, after, u)
            else:
                update(state, d, decay, k, u, q, out, after, u)
            scale_output(out, scratch, t)
            q, k, v, out = q + stride, k + stride, v + stride, out + out_stride

    @njit
    def verify(op, scratch, state, pending, n_pending, head, first, n_tokens, n_drafts,
               first_block, end_block):  # fmt: skip
        """A short run with drafts or after one with them, through some blocks of a head."""
        if n_pending > 0:
            prepare_pending(op, scratch, pending, n_pending, head, first_block)
        prepare_tokens(op, scratch, n_pending, head, first, n_tokens)
        for block in range(first_block, end_block):
            verify_block(op, scratch, state, pending, n_pending, head, block, first, n_tokens,
                         n_drafts)  # fmt: skip
            for i in range(n_drafts):
                keep_draft(op, pending, i, head, block, first + n_tokens - n_drafts + i)

    @njit
    def scan_run(op, step, scratch, run, head, first_block, end_block):
        """A run through some blocks of a head."""
        first, n_tokens, state, fresh = locate_run(
            load_i64(op + KDA.rows), load_i64(op + KDA.row_stride), step, run
        )
        n_pending, n_drafts = drafts_of_run(step, run)
        d, pending = load_i64(op + KDA.d), state + load_i64(op + KDA.pending)
        state += 4 * head * d * d
        if n_drafts > 0 or (n_pending > 0 and n_pending + n_tokens <= SEGMENT):
            verify(op, scratch, state, pending, n_pending, head, first, n_tokens, n_drafts,
                   first_block, end_block)  # fmt: skip
            return
        if n_pending > 0:
            apply_pending(op, scratch, state, pending, n_pending, head, first_block, end_block)
        scan_head(op, scratch, state, fresh != 0, head, first, n_tokens, first_block, end_block)

    def kda(op, step, thread):  # type: ignore[no-untyped-def]
        n_seqs, n_heads = load_i64(step + STEP.n_seqs), load_i64(op + KDA.n_heads)
        n_blocks = 4 * load_i64(op + KDA.d) // width_bytes
        n_parts = np.int64(1)
        if n_seqs * n_heads < 4 * load_i64(thread + 8 * T_N_THREADS):
            n_parts = n_blocks
        n_chunks = n_seqs * n_heads * n_parts
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            part, run = chunk % n_parts, chunk // n_parts // n_heads
            head = chunk // n_parts % n_heads
            scratch = load_i64(thread + 8 * T_SCRATCH)
            first_block = part * n_blocks // n_parts
            end_block = (part + 1) * n_blocks // n_parts
            scan_run(op, step, scratch, run, head, first_block, end_block)
            chunk = claim(thread, n_chunks)

    return kda
