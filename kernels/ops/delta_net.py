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
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels import simd
from kernels.address import F32, I64, load_f32, load_i32, load_i64, pointer, store_f32
from kernels.claims import T_N_THREADS, T_SCRATCH, claim
from kernels.operands import STEP, words
from kernels.ops.state import drafts_of_run, locate_run
from kernels.simd import F32X16, fma_ir, splat_ir

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


def block_vectors(d: int) -> int:
    """Vectors in a row of a block of columns: 32 columns of 128 inputs fill half of an L1."""
    return 2 if d % 32 == 0 else 1


def pending_floats(n_heads: int, d: int) -> int:
    """What is kept of a draft: each block of columns has its own, which no other chunk touches."""
    width = 16 * block_vectors(d)
    return n_heads * (d // width) * (d + width + 16)


def _load(b: Any, base: Any, offset: Any, ir_type: Any) -> Any:
    value = b.load(pointer(b, base, offset), typ=ir_type)
    value.align = 4
    return value


def _splat(b: Any, base: Any, index: Any) -> Any:
    """Float ``index`` of an array in all lanes."""
    return splat_ir(b, _load(b, base, b.mul(index, ir.Constant(I64, 4)), F32), F32X16)


def _sums(b: Any, n: int) -> list[Any]:
    return [cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(n)]


def _add_product(b: Any, total: Any, x: Any, y: Any) -> None:
    b.store(fma_ir(b, x, y, b.load(total)), total)


def _store_sums(b: Any, totals: list[Any], address: Any) -> None:
    for j, total in enumerate(totals):
        b.store(b.load(total), pointer(b, address, 64 * j)).align = 4


def make_product(n_vectors: int) -> Any:
    """An intrinsic (state, d, k, out): out = S^T k for one block of columns."""

    @intrinsic
    def product(ctx, state, d, k, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            state, d, k, out = args
            sums = _sums(b, n_vectors)
            with cgutils.for_range(b, d, intp=I64) as loop:
                row = b.add(state, b.mul(loop.index, ir.Constant(I64, 64 * n_vectors)))
                k_i = _splat(b, k, loop.index)
                for j, total in enumerate(sums):
                    _add_product(b, total, k_i, _load(b, row, 64 * j, F32X16))
            _store_sums(b, sums, out)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return product


def make_update(n_vectors: int, has_past: bool, has_next: bool, has_out: bool = True) -> Any:
    """An intrinsic (state, d, decay, k, u, q, out, k_next, next_out) for one block of columns:
    S = decay * S + k u^T (without past, S was zero and is not read); out = S^T q, unless nobody
    wants it; and with a next token next_out = S^T k_next."""

    @intrinsic
    def update(ctx, state, d, decay, k, u, q, out, k_next, next_out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            state, d, decay, k, u, q, out, k_next, next_out = args
            outs, nexts = _sums(b, n_vectors), _sums(b, n_vectors)
            decay = splat_ir(b, decay, F32X16)
            u = [_load(b, u, 64 * j, F32X16) for j in range(n_vectors)]
            with cgutils.for_range(b, d, intp=I64) as loop:
                row = b.add(state, b.mul(loop.index, ir.Constant(I64, 64 * n_vectors)))
                k_i = _splat(b, k, loop.index)
                q_i = _splat(b, q, loop.index) if has_out else None
                n_i = _splat(b, k_next, loop.index) if has_next else None
                for j in range(n_vectors):
                    if has_past:
                        old = b.fmul(decay, _load(b, row, 64 * j, F32X16))
                        s = fma_ir(b, k_i, u[j], old)
                    else:
                        s = b.fmul(k_i, u[j])
                    b.store(s, pointer(b, row, 64 * j)).align = 4
                    if has_out:
                        _add_product(b, outs[j], q_i, s)
                    if has_next:
                        _add_product(b, nexts[j], n_i, s)
            if has_out:
                _store_sums(b, outs, out)
            if has_next:
                _store_sums(b, nexts, next_out)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 2, types.float32, *[types.int64] * 6), codegen

    return update


@njit(forceinline=True)
def _inverse_l2(x, d, eps):
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
        store_f32(scratch + S_K + 4 * t, _inverse_l2(k + t * stride, d, eps))
        store_f32(scratch + S_Q + 4 * t, _inverse_l2(q + t * stride, d, eps) * root)
        store_f32(scratch + S_DECAY + 4 * t, load_f32(alpha + t * gate_stride))
        store_f32(scratch + S_BETA + 4 * t, load_f32(rate + t * gate_stride))
    bias = simd.splat(load_f32(load_i64(op + DELTA.dt_bias) + 4 * head))
    a = simd.splat(load_f32(load_i64(op + DELTA.a) + 4 * head))
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for t in range(0, n_tokens, 16):  # lanes past the last token are not used
        decay, beta = scratch + S_DECAY + 4 * t, scratch + S_BETA + 4 * t
        simd.store(decay, simd.exp(a * simd.softplus(simd.load(decay) + bias)))
        simd.store(beta, one / (one + simd.exp(zero - simd.load(beta))))


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
            scale = simd.splat(load_f32(scratch + S_Q + 4 * t))
            for j in range(0, width_bytes, 64):
                simd.store(out + j, simd.load(out + j) * scale)
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
    def apply_pending(op, scratch, state, pending, n_pending, head, first_block, end_block):
        """Accepted drafts of the run before, to some blocks of a head."""
        d = load_i64(op + DELTA.d)
        for block in range(first_block, end_block):
            k, stride = pending_of(op, pending, head, block)
            v, gates = k + 4 * d, k + 4 * d + width_bytes
            if block == first_block:
                _prepare(op, scratch, k, k, stride, gates, gates + 4, stride, head, n_pending)
            scan_again(state + block * width_bytes * d, scratch, n_pending, d, k, v, stride)

    @njit
    def keep_draft(op, pending, i, head, block, k, v, token):
        """Keep what draft ``i`` does to a block of the state."""
        d, gate_stride = load_i64(op + DELTA.d), load_i64(op + DELTA.gate_stride)
        to, n_bytes = pending_of(op, pending, head, block)
        to += i * n_bytes
        for j in range(0, 4 * d, 64):
            simd.store(to + j, simd.load(k + j))
        for j in range(0, width_bytes, 64):
            simd.store(to + 4 * d + j, simd.load(v + j))
        gates, at = to + 4 * d + width_bytes, token * gate_stride + 4 * head
        store_f32(gates, load_f32(load_i64(op + DELTA.alpha) + at))
        store_f32(gates + 4, load_f32(load_i64(op + DELTA.b) + at))

    @njit
    def draft_block(op, scratch, state, pending, head, block, token, n, q, k, v, out):
        """n drafts through a copy of a block, which leaves the block as it is."""
        d, stride = load_i64(op + DELTA.d), load_i64(op + DELTA.stride)
        for j in range(0, width_bytes * d, 64):
            simd.store(scratch + S_STATE + j, simd.load(state + j))
        scan(scratch + S_STATE, False, scratch, n, d, q, k, v, stride, out,
             load_i64(op + DELTA.out_stride))  # fmt: skip
        for i in range(n):
            keep_draft(op, pending, i, head, block, k + i * stride, v + i * stride, token + i)

    @njit
    def scan_head(
        op, scratch, state, fresh, pending, head, first, n_tokens, is_draft, first_block, end_block
    ):
        """Tokens of a run, or its drafts, through some blocks of a head, segment by segment."""
        d, stride = load_i64(op + DELTA.d), load_i64(op + DELTA.stride)
        k_head = load_i32(load_i64(op + DELTA.k_heads) + 4 * head)
        out_stride, gate_stride = load_i64(op + DELTA.out_stride), load_i64(op + DELTA.gate_stride)
        for begin_token in range(0, n_tokens, SEGMENT):
            token, n = first + begin_token, min(SEGMENT, n_tokens - begin_token)
            q = load_i64(op + DELTA.q) + token * stride + 4 * k_head * d
            k = load_i64(op + DELTA.k) + token * stride + 4 * k_head * d
            v = load_i64(op + DELTA.v) + token * stride + 4 * head * d
            out = load_i64(op + DELTA.out) + token * out_stride + 4 * head * d
            gates = token * gate_stride + 4 * head
            alpha, rate = load_i64(op + DELTA.alpha) + gates, load_i64(op + DELTA.b) + gates
            _prepare(op, scratch, q, k, stride, alpha, rate, gate_stride, head, n)
            for block in range(first_block, end_block):
                at = block * width_bytes
                is_fresh = fresh and begin_token == 0
                if is_draft:
                    draft_block(op, scratch, state + at * d, pending, head, block, token, n, q, k,
                                v + at, out + at)  # fmt: skip
                else:
                    scan(state + at * d, is_fresh, scratch, n, d, q, k, v + at, stride, out + at,
                         out_stride)  # fmt: skip

    @njit
    def scan_run(op, step, scratch, run, head, first_block, end_block):
        """A run: accepted drafts of the one before, its own tokens, its drafts."""
        first, n_tokens, state, fresh = locate_run(
            load_i64(op + DELTA.rows), load_i64(op + DELTA.row_stride), step, run
        )
        n_pending, n_drafts = drafts_of_run(step, run)
        d, pending = load_i64(op + DELTA.d), state + load_i64(op + DELTA.pending)
        state += 4 * head * d * d
        if n_pending > 0:
            apply_pending(op, scratch, state, pending, n_pending, head, first_block, end_block)
        n_kept = n_tokens - n_drafts
        scan_head(op, scratch, state, fresh != 0, pending, head, first, n_kept, False,
                  first_block, end_block)  # fmt: skip
        scan_head(op, scratch, state, False, pending, head, first + n_kept, n_drafts, True,
                  first_block, end_block)  # fmt: skip

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
