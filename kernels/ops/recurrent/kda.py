"""Kimi Delta Attention: a delta net that forgets each channel of its keys at a rate of its own
(Kimi Team 2025, equation 1).

Per head, with the state S [d_k, d_v] and a token's q, k (l2-normalised), v, gate f [d_k], rate b:

    g = exp(a * softplus(f + dt_bias)), or with a bound exp(bound * sigmoid(a * (f + dt_bias)))
    u = sigmoid(b) * (v - S^T (g k));   S = diag(g) S + k u^T;   o = S^T q / sqrt(d)

It is the delta rule with a decay for each row of S (delta_rule.py): what a token's product is taken
with is its k, decayed. Sums over d_k are in ascending order, however tokens were cut.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import Op, Rows, State, Vector, given, keeps, offsets, reads, writes
from slotmux.kernels.ops.dense.elementwise import sigmoid
from slotmux.kernels.ops.recurrent.delta_block import make_blocks
from slotmux.kernels.ops.recurrent.delta_net import inverse_l2
from slotmux.kernels.ops.recurrent.delta_rule import (
    MAX_VERIFIED,
    S_DOWN,
    S_RATE,
    S_SCALE,
    S_STATE,
    S_VECTORS,
    SEGMENT,
    Tokens,
    block_vectors,
    columns,
    scan,
    scan_again,
    verify,
    width_bytes,
)
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_vectors


class Kda(Op, kernel="kda"):
    """out = the recurrence over q, k and v, heads of d"""

    q: Rows = reads("float32 [n_tokens, n_heads * d]")
    k: Rows = reads("float32 [n_tokens, n_heads * d]", stride_of="q")
    v: Rows = reads("float32 [n_tokens, n_heads * d]", stride_of="q")
    f: Rows = reads("float32 [n_tokens, n_heads * d], of the decays")
    b: Rows = reads("float32 [n_tokens, n_heads], of the rates")
    a: Vector = given("float32 [n_heads]")
    dt_bias: Vector = given("float32 [n_heads * d]")
    bound: float = given("float32, of a decay's logarithm; 0: none, and its rate comes by softplus")
    n_heads: int = given("heads")
    d: int = given("width of a head, a multiple of 16")
    eps: float = given("float32, under the root of the l2 norm")
    out: Rows = writes("float32 [n_tokens, n_heads * d]")
    state: State | None = keeps(
        "float32 [n_heads, d / width, d, width], width: columns of a block; of a draft [n_heads, "
        "d / width, 2 d + width + 16]: k, f, v, then b"
    )

    @property
    def variant(self) -> tuple[int, str]:
        return block_vectors(self.d), "bounded" if self.bound else "softplus"

    @property
    def state_floats(self) -> int:
        return self.n_heads * self.d * self.d

    @property
    def pending_floats(self) -> int:
        """Each block of columns has its own, which no other chunk touches."""
        return pending_floats(self.n_heads, self.d)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_kda(block_vectors(self.d), bool(self.bound))

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of a block; of each token of a segment its decay and its k, decayed."""
        return S_STATE + 64 * block_vectors(self.d) * self.d + 8 * SEGMENT * self.d


KDA = offsets(Kda)


def pending_floats(n_heads: int, d: int) -> int:
    """What is kept of a draft."""
    width = 16 * block_vectors(d)
    return n_heads * (d // width) * (2 * d + width + 16)


@njit(forceinline=True)
def _softplus_decay(op, x, a):
    """A decay's logarithm; x: f + dt_bias of 16 channels."""
    return a * simd.softplus(x)


@njit(forceinline=True)
def _bounded_decay(op, x, a):
    """The same above a bound."""
    return simd.splat(load_f32(load_i64(op + KDA.bound))) * sigmoid(a * x)


@njit(forceinline=True)
def _with_rows(x, op, scratch, first):
    """Tokens whose decays and decayed k stand in scratch, the first one's as number ``first``."""
    d = load_i64(op + KDA.d)
    decay = scratch + S_STATE + d * width_bytes(d) + 4 * d * first
    seen = decay + 4 * d * SEGMENT
    return Tokens(
        x.q, x.k, x.v, x.stride, x.out, x.out_stride, seen, 4 * d, decay, 4 * d,
        scratch + 4 * first,
    )  # fmt: skip


@njit(forceinline=True)
def _tokens_of(op, head, token, scratch, first):
    """Tokens of the step from ``token`` on, as one head sees them, from number ``first`` of a
    segment on."""
    d, stride = load_i64(op + KDA.d), load_i64(op + KDA.q_stride)
    out_stride, at = load_i64(op + KDA.out_stride), token * stride + 4 * head * d
    q, k, v = load_i64(op + KDA.q), load_i64(op + KDA.k), load_i64(op + KDA.v)
    out = load_i64(op + KDA.out) + token * out_stride + 4 * head * d
    x = Tokens(q + at, k + at, v + at, stride, out, out_stride, 0, 0, 0, 0, 0)
    return _with_rows(x, op, scratch, first)


@njit(forceinline=True)
def _gates(op, head, token):
    """Addresses of a token's f and b, and bytes to the next one's."""
    f_stride, b_stride = load_i64(op + KDA.f_stride), load_i64(op + KDA.b_stride)
    f = load_i64(op + KDA.f) + token * f_stride + 4 * head * load_i64(op + KDA.d)
    return f, f_stride, load_i64(op + KDA.b) + token * b_stride + 4 * head, b_stride


@njit(forceinline=True)
def _n_blocks(op):
    d = load_i64(op + KDA.d)
    return 4 * d // width_bytes(d)


@njit(forceinline=True)
def _n_parts(op):
    return load_i64(op + KDA.n_heads) * _n_blocks(op)


@njit(forceinline=True)
def _pending_of(op, pending, part, scratch):
    """What is kept of drafts for one block, and where their f and b are."""
    d = load_i64(op + KDA.d)
    width = width_bytes(d)
    n_bytes = 8 * d + width + 64
    k, stride = pending + part * n_bytes, _n_parts(op) * n_bytes
    x = Tokens(k, k, k + 8 * d, stride, 0, 0, 0, 0, 0, 0, 0)
    return _with_rows(x, op, scratch, 0), (k + 4 * d, stride, k + 8 * d + width, stride)


@njit
def _prepare(log_decay, op, x, gates, head, n_tokens):
    """The scalars, decays and decayed k of a segment's tokens, of one head."""
    d, eps = load_i64(op + KDA.d), load_f32(load_i64(op + KDA.eps))
    root = np.float32(1.0) / np.sqrt(np.float32(d))
    a = simd.splat(load_f32(load_i64(op + KDA.a) + 4 * head))
    bias = load_i64(op + KDA.dt_bias) + 4 * head * d
    f, f_stride, b, b_stride = gates
    for t in range(n_tokens):
        at, k = x.scalars + 4 * t, x.k + t * x.stride
        k_scale = inverse_l2(k, d, eps)
        rate = simd.first(sigmoid(simd.splat(load_f32(b + t * b_stride))))
        store_f32(at + S_DOWN, k_scale)
        store_f32(at + S_RATE, rate * k_scale)
        store_f32(at + S_SCALE, inverse_l2(x.q + t * x.stride, d, eps) * root)
        for i in range(0, 4 * d, 64):
            gate = simd.load(f + t * f_stride + i) + simd.load(bias + i)
            g = simd.exp(log_decay(op, gate, a))
            simd.store(x.decay + t * x.decay_stride + i, g)
            simd.store(x.seen + t * x.seen_stride + i, g * simd.load(k + i))


@njit
def _keep(op, pending, first, n_drafts, part, head, column):
    """Keep what drafts do to a block, whose first column is at byte ``column`` of its head."""
    d = load_i64(op + KDA.d)
    width, x = width_bytes(d), _tokens_of(op, head, first, 0, 0)
    f, f_stride, b, b_stride = _gates(op, head, first)
    to, (to_f, _, to_b, _) = _pending_of(op, pending, part, 0)
    for i in range(n_drafts):
        at = i * to.stride
        copy_vectors(x.k + i * x.stride, d, to.k + at)
        copy_vectors(f + i * f_stride, d, to_f + at)
        copy_vectors(x.v + i * x.stride + column, width // 4, to.v + at)
        store_f32(to_b + at, load_f32(b + i * b_stride))


@njit
def _per_chunk(op, n_runs, n_threads):
    """The blocks of a head, or one when there would be too few chunks."""
    if n_runs * load_i64(op + KDA.n_heads) < 4 * n_threads:
        return np.int64(1)
    return _n_blocks(op)


@njit
def _apply(blocks, log_decay, op, scratch, run, first_part, end_part):
    """Accepted drafts of the run before, to blocks of a head, each of which has a copy of them."""
    d, head = load_i64(op + KDA.d), first_part // _n_blocks(op)
    x, gates = _pending_of(op, run.pending, first_part, scratch)
    _prepare(log_decay, op, x, gates, head, run.n_pending)
    for part in range(first_part, end_part):
        x, _ = _pending_of(op, run.pending, part, scratch)
        state = run.state + part * width_bytes(d) * d
        scan_again(blocks, state, scratch + S_VECTORS, d, x, run.n_pending)


@njit
def _advance(blocks, log_decay, op, scratch, run, first_part, end_part):
    """A run's tokens through blocks of a head, segment by segment."""
    d, n_blocks = load_i64(op + KDA.d), _n_blocks(op)
    head, width = first_part // n_blocks, width_bytes(d)
    for t in range(0, run.n_kept, SEGMENT):
        n, token = min(SEGMENT, run.n_kept - t), run.first + t
        x = _tokens_of(op, head, token, scratch, 0)
        _prepare(log_decay, op, x, _gates(op, head, token), head, n)
        for part in range(first_part, end_part):
            state, x_block = run.state + part * width * d, columns(x, part % n_blocks * width)
            fresh = run.fresh != 0 and t == 0
            scan(blocks, state, fresh, scratch + S_VECTORS, d, x_block, n)


@njit
def _verify(blocks, log_decay, op, scratch, run, first_part, end_part):
    """A short run with drafts, or after one with them, through blocks of a head."""
    d, n_blocks = load_i64(op + KDA.d), _n_blocks(op)
    head, width = first_part // n_blocks, width_bytes(d)
    if run.n_pending > 0:
        x, gates = _pending_of(op, run.pending, first_part, scratch)
        _prepare(log_decay, op, x, gates, head, run.n_pending)
    x = _tokens_of(op, head, run.first, scratch, run.n_pending)
    _prepare(log_decay, op, x, _gates(op, head, run.first), head, run.n_kept + run.n_drafts)
    for part in range(first_part, end_part):
        column = part % n_blocks * width
        past, _ = _pending_of(op, run.pending, part, scratch)
        verify(
            blocks, run.state + part * width * d, scratch + S_STATE, scratch + S_VECTORS, d,
            past, run.n_pending, columns(x, column), run.n_kept, run.n_drafts,
        )  # fmt: skip
        _keep(op, run.pending, run.first + run.n_kept, run.n_drafts, part, head, column)


def build_kda(n_vectors: int, is_bounded: bool) -> Callable[..., None]:
    """The kernel for blocks of 16 * ``n_vectors`` columns, which are its parts; ``is_bounded``: the
    gate's kind. Its order is that of the delta net."""
    blocks = make_blocks(n_vectors, decay_per_row=True)
    log_decay = _bounded_decay if is_bounded else _softplus_decay

    @njit
    def visit(op, scratch, run, first_part, end_part):
        n_tokens = run.n_kept + run.n_drafts
        if run.n_drafts > 0 or (run.n_pending > 0 and run.n_pending + n_tokens <= MAX_VERIFIED):
            _verify(blocks, log_decay, op, scratch, run, first_part, end_part)
            return
        if run.n_pending > 0:
            _apply(blocks, log_decay, op, scratch, run, first_part, end_part)
        _advance(blocks, log_decay, op, scratch, run, first_part, end_part)

    return build_recurrent(KDA, _n_parts, visit, _per_chunk, in_turn=True)
