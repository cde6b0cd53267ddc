"""Gated DeltaNet: the recurrence of a linear-attention layer (Yang et al. 2024, equation 10).

Per v head, with the state S [d_k, d_v] and a token's q, k (l2-normalised), v, decay g, rate beta:

    g = exp(a * simd.softplus(alpha + dt_bias)),  beta = sigmoid(b)
    u = beta * (v - g * S^T k);   S = g * S + k u^T;   o = S^T q / sqrt(d)

d_v stands in lanes. Columns do not touch each other, so a block of them is scanned over all tokens
of the run while it stays in a core's own cache. S is read and written once a token: the pass that
updates it for one token also takes its product with the next token's k. Every sum over d_k is
in ascending order, so a result does not depend on how the tokens were cut into ubatches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.recurrent.delta_block import make_product, make_update
from slotmux.kernels.ops.recurrent.state import drafts_of_run, locate_run

# q, k, v: float32 rows of stride bytes: n_k_heads, n_k_heads and n_heads heads of d; alpha, b:
# float32 rows [n_tokens, n_heads] of gate_stride bytes; a, dt_bias: float32 [n_heads];
# k_heads: int32 [n_heads], the q and k head of each v head; eps: address of the float32 under the
# root of the l2 norm; out: float32 rows of out_stride bytes.
# State: float32 [n_heads, d / width, d, width], width = columns of a block; pending (bytes behind
# it): of each draft float32 [n_heads, d / width, d + width + 16]: k, v, then alpha and b.
DELTA = words(
    "Delta",
    "q k v stride alpha b gate_stride a dt_bias k_heads n_heads d eps out out_stride "
    "rows row_stride pending",
)
SEGMENT = 128  # tokens scanned through one block of columns after the other
# Scratch: per token of a segment the scale of k, that of q, the decay and beta; a vector S^T k; a
# copy of a block of the state.
S_K, S_Q, S_DECAY, S_BETA, S_VECTORS = (4 * SEGMENT * i for i in range(5))
S_STATE = S_VECTORS + 128
MAX_VERIFIED = SEGMENT - 16  # tokens and pending ones taken together: vectors of scalars must fit


def block_vectors(d: int) -> int:
    """Vectors in a row of a block of columns: 32 columns of 128 inputs fill half of an L1."""
    return 2 if d % 32 == 0 else 1


def scratch_bytes(d: int) -> int:
    """What a thread needs for heads of d."""
    return S_STATE + 4 * d * 16 * block_vectors(d)


def pending_floats(n_heads: int, d: int) -> int:
    """What is kept of a draft: each block of columns has its own, which no other chunk touches."""
    width = 16 * block_vectors(d)
    return n_heads * (d // width) * (d + width + 16)


@njit(forceinline=True)
def inverse_l2(x, d, eps):
    """1 / sqrt(sum(x^2) + eps) of d floats."""
    total = simd.splat(np.float32(0.0))
    for i in range(0, d, 16):
        v = simd.load(x + 4 * i)
        total = simd.fma(v, v, total)
    return np.float32(1.0) / np.sqrt(simd.sum_lanes(total) + eps)


@njit
def _prepare(op, scratch, q, k, stride, alpha, rate, gate_stride, head, n_tokens):
    """The scalars of a segment's tokens, of one head, into scratch."""
    d = load_i64(op + DELTA.d)
    eps = load_f32(load_i64(op + DELTA.eps))
    root = np.float32(1.0) / np.sqrt(np.float32(d))
    for t in range(n_tokens):
        store_f32(scratch + S_K + 4 * t, inverse_l2(k + t * stride, d, eps))
        store_f32(scratch + S_Q + 4 * t, inverse_l2(q + t * stride, d, eps) * root)
        store_f32(scratch + S_DECAY + 4 * t, load_f32(alpha + t * gate_stride))
        store_f32(scratch + S_BETA + 4 * t, load_f32(rate + t * gate_stride))
    bias = simd.splat(load_f32(load_i64(op + DELTA.dt_bias) + 4 * head))
    a = simd.splat(load_f32(load_i64(op + DELTA.a) + 4 * head))
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for t in range(0, n_tokens, 16):  # lanes past the last token are not used
        decay, beta = scratch + S_DECAY + 4 * t, scratch + S_BETA + 4 * t
        simd.store(decay, simd.exp(a * simd.softplus(simd.load(decay) + bias)))
        simd.store(beta, one / (one + simd.exp(zero - simd.load(beta))))


@njit(forceinline=True)
def token_rows(op, head, token):
    """Addresses of a token's q, k and v of a head, and of its output."""
    d, at = load_i64(op + DELTA.d), token * load_i64(op + DELTA.stride)
    k_at = at + 4 * d * load_i32(load_i64(op + DELTA.k_heads) + 4 * head)
    q, k, v = load_i64(op + DELTA.q) + k_at, load_i64(op + DELTA.k) + k_at, load_i64(op + DELTA.v)
    out = load_i64(op + DELTA.out) + token * load_i64(op + DELTA.out_stride)
    return q, k, v + at + 4 * head * d, out + 4 * head * d


@njit(forceinline=True)
def prepare_tokens(op, scratch, q, k, head, first, n_tokens):
    """The scalars of tokens of the step."""
    gate_stride = load_i64(op + DELTA.gate_stride)
    gates = first * gate_stride + 4 * head
    alpha, rate = load_i64(op + DELTA.alpha) + gates, load_i64(op + DELTA.b) + gates
    stride = load_i64(op + DELTA.stride)
    _prepare(op, scratch, q, k, stride, alpha, rate, gate_stride, head, n_tokens)


def build_delta_net(n_vectors: int) -> Callable[..., None]:
    """The kernel for blocks of 16 * ``n_vectors`` columns.

    A chunk is one sequence's tokens of one v head, or of a block of its columns when there would
    be too few chunks.
    """
    product = make_product(n_vectors)
    update, last_update = (make_update(n_vectors, True, has_next) for has_next in (True, False))
    begin, only = (make_update(n_vectors, False, has_next) for has_next in (True, False))
    again, last_again = (
        make_update(n_vectors, True, has_next, False) for has_next in (True, False)
    )
    width_bytes = 64 * n_vectors

    @njit(forceinline=True)
    def error_times_rate(u, v, scratch, t):
        """u = k's scale * beta * (v - decay * k's scale * u), u holding S^T k."""
        k_scale, decay = load_f32(scratch + S_K + 4 * t), load_f32(scratch + S_DECAY + 4 * t)
        down = simd.splat(np.float32(0.0) - decay * k_scale)
        rate = simd.splat(load_f32(scratch + S_BETA + 4 * t) * k_scale)
        for j in range(0, width_bytes, 64):
            simd.store(u + j, simd.fma(down, simd.load(u + j), simd.load(v + j)) * rate)

    @njit(forceinline=True)
    def scale_output(out, scalars):
        """q's scale, which was left out of the sums."""
        scale = simd.splat(load_f32(scalars + S_Q))
        for j in range(0, width_bytes, 64):
            simd.store(out + j, simd.load(out + j) * scale)

    @njit(forceinline=True)
    def copy_block(state, to, d):
        for j in range(0, width_bytes * d, 64):
            simd.store(to + j, simd.load(state + j))

    @njit
    def scan(state, fresh, scratch, n_tokens, d, q, k, v, stride, out, out_stride):
        """A segment's tokens through one block of columns."""
        u = scratch + S_VECTORS
        if fresh:
            for j in range(0, width_bytes, 64):
                simd.store(u + j, simd.splat(np.float32(0.0)))
        else:
            product(state, d, k, u)
        for t in range(n_tokens):
            decay = load_f32(scratch + S_DECAY + 4 * t)
            error_times_rate(u, v, scratch, t)
            after, is_last = k + stride, t + 1 == n_tokens
            if fresh and t == 0:
                if is_last:
                    only(state, d, decay, k, u, q, out, after, u)
                else:
                    begin(state, d, decay, k, u, q, out, after, u)
            elif is_last:
                last_update(state, d, decay, k, u, q, out, after, u)
            else:
                update(state, d, decay, k, u, q, out, after, u)
            scale_output(out, scratch + 4 * t)
            q, k, v, out = q + stride, k + stride, v + stride, out + out_stride

    @njit
    def scan_again(state, scratch, n_tokens, d, k, v, stride):
        """Tokens through one block of columns of which no output is wanted."""
        u = scratch + S_VECTORS
        product(state, d, k, u)
        for t in range(n_tokens):
            decay = load_f32(scratch + S_DECAY + 4 * t)
            error_times_rate(u, v, scratch, t)
            if t + 1 == n_tokens:
                last_again(state, d, decay, k, u, k, u, k, u)
            else:
                again(state, d, decay, k, u, k, u, k + stride, u)
            k, v = k + stride, v + stride

    @njit(forceinline=True)
    def pending_of(op, pending, head, block):
        """What is kept of drafts for a block of a head: of the first, and bytes to the next."""
        d = load_i64(op + DELTA.d)
        n_blocks = 4 * d // width_bytes
        n_bytes = 4 * d + width_bytes + 64
        at = pending + (head * n_blocks + block) * n_bytes
        return at, load_i64(op + DELTA.n_heads) * n_blocks * n_bytes

    @njit
    def prepare_pending(op, scratch, pending, n_pending, head, block):
        """The scalars of accepted drafts; every block has a copy of their k."""
        d = load_i64(op + DELTA.d)
        k, stride = pending_of(op, pending, head, block)
        gates = k + 4 * d + width_bytes
        _prepare(op, scratch, k, k, stride, gates, gates + 4, stride, head, n_pending)

    @njit
    def apply_pending(op, scratch, state, pending, n_pending, head, first_block, end_block):
        """Accepted drafts of the run before, to some blocks of a head."""
        d = load_i64(op + DELTA.d)
        prepare_pending(op, scratch, pending, n_pending, head, first_block)
        for block in range(first_block, end_block):
            k, stride = pending_of(op, pending, head, block)
            scan_again(state + block * width_bytes * d, scratch, n_pending, d, k, k + 4 * d, stride)

    @njit
    def keep_draft(op, pending, i, head, block, token):
        """Keep what draft ``i`` does to a block of the state."""
        d, gate_stride = load_i64(op + DELTA.d), load_i64(op + DELTA.gate_stride)
        _, k, v, _ = token_rows(op, head, token)
        to, n_bytes = pending_of(op, pending, head, block)
        to += i * n_bytes
        for j in range(0, 4 * d, 64):
            simd.store(to + j, simd.load(k + j))
        for j in range(0, width_bytes, 64):
            simd.store(to + 4 * d + j, simd.load(v + block * width_bytes + j))
        gates, at = to + 4 * d + width_bytes, token * gate_stride + 4 * head
        store_f32(gates, load_f32(load_i64(op + DELTA.alpha) + at))
        store_f32(gates + 4, load_f32(load_i64(op + DELTA.b) + at))

    @njit
    def scan_head(op, scratch, state, fresh, head, first, n_tokens, first_block, end_block):
        """Tokens of a run through some blocks of a head, segment by segment."""
        d, stride = load_i64(op + DELTA.d), load_i64(op + DELTA.stride)
        out_stride = load_i64(op + DELTA.out_stride)
        for begin_token in range(0, n_tokens, SEGMENT):
            token, n = first + begin_token, min(SEGMENT, n_tokens - begin_token)
            q, k, v, out = token_rows(op, head, token)
            prepare_tokens(op, scratch, q, k, head, token, n)
            for block in range(first_block, end_block):
                at = block * width_bytes
                is_fresh = fresh and begin_token == 0
                scan(state + at * d, is_fresh, scratch, n, d, q, k, v + at, stride, out + at,
                     out_stride)  # fmt: skip

    @njit
    def verify_block(
        op, scratch, state, pending, n_pending, head, block, first, n_tokens, n_drafts
    ):
        """A run through one block: accepted drafts of the one before, its tokens, its drafts.

        Each update also takes the product with the next token's k, across all three; from the
        first draft on it is a copy of the block that is updated.
        """
        d, stride = load_i64(op + DELTA.d), load_i64(op + DELTA.stride)
        out_stride, at, u = (
            load_i64(op + DELTA.out_stride),
            block * width_bytes,
            scratch + S_VECTORS,
        )
        q, k, v, out = token_rows(op, head, first)
        v, out, state = v + at, out + at, state + at * d
        past, past_stride = pending_of(op, pending, head, block)
        product(state, d, past if n_pending > 0 else k, u)
        for t in range(n_pending):
            error_times_rate(u, past + 4 * d, scratch, t)
            after = past + past_stride if t + 1 < n_pending else k
            decay = load_f32(scratch + S_DECAY + 4 * t)
            again(state, d, decay, past, u, past, u, after, u)
            past += past_stride
        for t in range(n_tokens):
            if t == n_tokens - n_drafts:
                copy_block(state, scratch + S_STATE, d)
                state = scratch + S_STATE
            scalars = scratch + 4 * (n_pending + t)
            error_times_rate(u, v, scalars, 0)
            decay = load_f32(scalars + S_DECAY)
            if t + 1 == n_tokens:
                last_update(state, d, decay, k, u, q, out, k, u)
            else:
                update(state, d, decay, k, u, q, out, k + stride, u)
            scale_output(out, scalars)
            q, k, v, out = q + stride, k + stride, v + stride, out + out_stride

    @njit
    def verify(op, scratch, state, pending, n_pending, head, first, n_tokens, n_drafts,
               first_block, end_block):  # fmt: skip
        """A short run with drafts or after one with them, through some blocks of a head."""
        q, k, _, _ = token_rows(op, head, first)
        if n_pending > 0:
            prepare_pending(op, scratch, pending, n_pending, head, first_block)
        prepare_tokens(op, scratch + 4 * n_pending, q, k, head, first, n_tokens)
        for block in range(first_block, end_block):
            verify_block(op, scratch, state, pending, n_pending, head, block, first, n_tokens,
                         n_drafts)  # fmt: skip
            for i in range(n_drafts):
                keep_draft(op, pending, i, head, block, first + n_tokens - n_drafts + i)

    @njit
    def scan_run(op, step, scratch, run, head, first_block, end_block):
        """A run through some blocks of a head."""
        first, n_tokens, state, fresh = locate_run(
            load_i64(op + DELTA.rows), load_i64(op + DELTA.row_stride), step, run
        )
        n_pending, n_drafts = drafts_of_run(step, run)
        d, pending = load_i64(op + DELTA.d), state + load_i64(op + DELTA.pending)
        state += 4 * head * d * d
        if n_drafts > 0 or (n_pending > 0 and n_pending + n_tokens <= MAX_VERIFIED):
            verify(op, scratch, state, pending, n_pending, head, first, n_tokens, n_drafts,
                   first_block, end_block)  # fmt: skip
            return
        if n_pending > 0:
            apply_pending(op, scratch, state, pending, n_pending, head, first_block, end_block)
        scan_head(op, scratch, state, fresh != 0, head, first, n_tokens, first_block, end_block)

    def delta_net(op, step, thread):  # type: ignore[no-untyped-def]
        n_seqs, n_heads = load_i64(step + STEP.n_seqs), load_i64(op + DELTA.n_heads)
        d = load_i64(op + DELTA.d)
        n_blocks = 4 * d // width_bytes
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

    return delta_net
