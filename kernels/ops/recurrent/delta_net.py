"""Gated DeltaNet: the recurrence of a linear-attention layer (Yang et al. 2024, equation 10).

Per v head, with the state S [d_k, d_v] and a token's q, k (l2-normalised), v, decay g, rate beta:

    g = exp(a * simd.softplus(alpha + dt_bias)),  beta = sigmoid(b)
    u = beta * (v - g * S^T k);   S = g * S + k u^T;   o = S^T q / sqrt(d)

d_v stands in lanes. Columns do not touch each other, so a block of them is scanned over all tokens
of the run while it stays in a core's own cache (delta_rule.py). Every sum over d_k is in ascending
order, so a result does not depend on how the tokens were cut into ubatches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Op,
    Rows,
    State,
    Vector,
    given,
    keeps,
    offsets,
    reads,
    word,
    writes,
)
from slotmux.kernels.ops.recurrent.delta_block import make_blocks
from slotmux.kernels.ops.recurrent.delta_rule import (
    MAX_VERIFIED,
    S_DECAY,
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


class DeltaNet(Op, kernel="delta_net"):
    """out = the recurrence over q, k and v"""

    d: int = given("width of a head, a multiple of 16; its blocks' columns are compiled in")
    q: Rows = reads("float32 [n_tokens, n_k_heads * d]")
    k: Rows = reads("float32 [n_tokens, n_k_heads * d]", stride_of="q")
    v: Rows = reads("float32 [n_tokens, n_heads * d]", stride_of="q")
    alpha: Rows = reads("float32 [n_tokens, n_heads]")
    b: Rows = reads("float32 [n_tokens, n_heads]", stride_of="alpha")
    a: Vector = given("float32 [n_heads]")
    dt_bias: Vector = given("float32 [n_heads]")
    k_heads: NDArray[np.int32] = given("[n_heads], the q and k head of each v head")
    eps: float = given("float32, under the root of the l2 norm")
    out: Rows = writes("float32 [n_tokens, n_heads * d]")
    state: State | None = keeps(
        "float32 [n_heads, d / width, d, width], width = columns of a block; of each draft "
        "[n_heads, d / width, d + width + 16]: k, v, then alpha and b"
    )

    @word
    def n_heads(self) -> int:
        """Heads of v."""
        return self.k_heads.size

    @property
    def variant(self) -> tuple[int]:
        return (block_vectors(self.d),)

    @property
    def state_floats(self) -> int:
        return self.n_heads * self.d * self.d

    @property
    def pending_floats(self) -> int:
        return pending_floats(self.n_heads, self.d)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_delta_net(*self.variant)

    def scratch_bytes(self, isa: Isa) -> int:
        """A segment's scalars and vectors, and a copy of a block of the state."""
        return S_STATE + 4 * self.d * 16 * block_vectors(self.d)


DELTA = offsets(DeltaNet)


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


@njit(forceinline=True)
def _finish_scalars(op, scalars, head, n_tokens):
    """Decay, down and rate, where alpha, k's scale and b are now."""
    bias = simd.splat(load_f32(load_i64(op + DELTA.dt_bias) + 4 * head))
    a = simd.splat(load_f32(load_i64(op + DELTA.a) + 4 * head))
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for t in range(0, n_tokens, 16):  # lanes past the last token are not used
        at = scalars + 4 * t
        k_scale = simd.load(at + S_DOWN)
        decay = simd.exp(a * simd.softplus(simd.load(at + S_DECAY) + bias))
        beta = one / (one + simd.exp(zero - simd.load(at + S_RATE)))
        simd.store(at + S_DECAY, decay)
        simd.store(at + S_DOWN, decay * k_scale)
        simd.store(at + S_RATE, beta * k_scale)


@njit
def _prepare(op, x, alpha, rate, gate_stride, head, n_tokens):
    """The scalars of a segment's tokens, of one head."""
    d = load_i64(op + DELTA.d)
    eps = load_f32(load_i64(op + DELTA.eps))
    root = np.float32(1.0) / np.sqrt(np.float32(d))
    for t in range(n_tokens):
        at = x.scalars + 4 * t
        store_f32(at + S_DOWN, inverse_l2(x.k + t * x.stride, d, eps))
        store_f32(at + S_SCALE, inverse_l2(x.q + t * x.stride, d, eps) * root)
        store_f32(at + S_DECAY, load_f32(alpha + t * gate_stride))
        store_f32(at + S_RATE, load_f32(rate + t * gate_stride))
    _finish_scalars(op, x.scalars, head, n_tokens)


@njit(forceinline=True)
def _gates(op, head, token):
    """Addresses of a token's alpha and b."""
    at = token * load_i64(op + DELTA.alpha_stride) + 4 * head
    return load_i64(op + DELTA.alpha) + at, load_i64(op + DELTA.b) + at


@njit(forceinline=True)
def _tokens_of(op, head, token, scalars):
    """Tokens of the step from ``token`` on, as one head sees them."""
    d, stride = load_i64(op + DELTA.d), load_i64(op + DELTA.q_stride)
    out_stride, at = load_i64(op + DELTA.out_stride), token * stride
    k_at = at + 4 * d * load_i32(load_i64(op + DELTA.k_heads) + 4 * head)
    q, k = load_i64(op + DELTA.q) + k_at, load_i64(op + DELTA.k) + k_at
    v = load_i64(op + DELTA.v) + at + 4 * head * d
    out = load_i64(op + DELTA.out) + token * out_stride + 4 * head * d
    return Tokens(q, k, v, stride, out, out_stride, k, stride, scalars + S_DECAY, 4, scalars)


@njit(forceinline=True)
def _pending_of(op, pending, part, scalars):
    """What is kept of drafts for one block: k, v, then alpha and b."""
    d = load_i64(op + DELTA.d)
    width = width_bytes(d)
    n_bytes = 4 * d + width + 64
    k, stride = pending + part * n_bytes, _n_parts(op) * n_bytes
    return Tokens(k, k, k + 4 * d, stride, 0, 0, k, stride, scalars + S_DECAY, 4, scalars)


@njit
def _prepare_pending(op, scratch, pending, n_pending, part, head):
    """The scalars of accepted drafts, of one head: every block has a copy of their k."""
    x = _pending_of(op, pending, part, scratch)
    gates = x.v + width_bytes(load_i64(op + DELTA.d))
    _prepare(op, x, gates, gates + 4, x.stride, head, n_pending)


@njit
def _keep(op, pending, first, n_drafts, part, head, column):
    """Keep what drafts do to a block, whose first column is at byte ``column`` of its head."""
    d = load_i64(op + DELTA.d)
    width, x = width_bytes(d), _tokens_of(op, head, first, 0)
    to = _pending_of(op, pending, part, 0)
    for i in range(n_drafts):
        copy_vectors(x.k + i * x.stride, d, to.k + i * to.stride)
        copy_vectors(x.v + i * x.stride + column, width // 4, to.v + i * to.stride)
        alpha, rate = _gates(op, head, first + i)
        store_f32(to.v + i * to.stride + width, load_f32(alpha))
        store_f32(to.v + i * to.stride + width + 4, load_f32(rate))


@njit(forceinline=True)
def _n_blocks(op):
    d = load_i64(op + DELTA.d)
    return 4 * d // width_bytes(d)


@njit(forceinline=True)
def _n_parts(op):
    return load_i64(op + DELTA.n_heads) * _n_blocks(op)


@njit
def _per_chunk(op, n_runs, n_threads):
    """The blocks of a head, or one when there would be too few chunks."""
    if n_runs * load_i64(op + DELTA.n_heads) < 4 * n_threads:
        return np.int64(1)
    return _n_blocks(op)


@njit
def _apply(blocks, op, scratch, run, first_part, end_part):
    """Accepted drafts of the run before, to blocks of a head."""
    d, head = load_i64(op + DELTA.d), first_part // _n_blocks(op)
    _prepare_pending(op, scratch, run.pending, run.n_pending, first_part, head)
    for part in range(first_part, end_part):
        x = _pending_of(op, run.pending, part, scratch)
        state = run.state + part * width_bytes(d) * d
        scan_again(blocks, state, scratch + S_VECTORS, d, x, run.n_pending)


@njit
def _advance(blocks, op, scratch, run, first_part, end_part):
    """A run's tokens through blocks of a head, segment by segment."""
    d, n_blocks = load_i64(op + DELTA.d), _n_blocks(op)
    head, width = first_part // n_blocks, width_bytes(d)
    for t in range(0, run.n_kept, SEGMENT):
        n, x = min(SEGMENT, run.n_kept - t), _tokens_of(op, head, run.first + t, scratch)
        alpha, rate = _gates(op, head, run.first + t)
        _prepare(op, x, alpha, rate, load_i64(op + DELTA.alpha_stride), head, n)
        for part in range(first_part, end_part):
            state, x_block = run.state + part * width * d, columns(x, part % n_blocks * width)
            fresh = run.fresh != 0 and t == 0
            scan(blocks, state, fresh, scratch + S_VECTORS, d, x_block, n)


@njit
def _verify(blocks, op, scratch, run, first_part, end_part):
    """A short run with drafts, or after one with them, through blocks of a head."""
    d, n_blocks = load_i64(op + DELTA.d), _n_blocks(op)
    head, width = first_part // n_blocks, width_bytes(d)
    if run.n_pending > 0:
        _prepare_pending(op, scratch, run.pending, run.n_pending, first_part, head)
    x = _tokens_of(op, head, run.first, scratch + 4 * run.n_pending)
    alpha, rate = _gates(op, head, run.first)
    n_tokens = run.n_kept + run.n_drafts
    _prepare(op, x, alpha, rate, load_i64(op + DELTA.alpha_stride), head, n_tokens)
    for part in range(first_part, end_part):
        column = part % n_blocks * width
        past = _pending_of(op, run.pending, part, scratch)
        verify(
            blocks, run.state + part * width * d, scratch + S_STATE, scratch + S_VECTORS, d,
            past, run.n_pending, columns(x, column), run.n_kept, run.n_drafts,
        )  # fmt: skip
        _keep(op, run.pending, run.first + run.n_kept, run.n_drafts, part, head, column)


def build_delta_net(n_vectors: int) -> Callable[..., None]:
    """The kernel for blocks of 16 * ``n_vectors`` columns, which are its parts. It has its own
    order, as blocks of a head share the scalars of its tokens, and as a run with drafts takes one
    pass."""
    blocks = make_blocks(n_vectors)

    @njit
    def visit(op, scratch, run, first_part, end_part):
        n_tokens = run.n_kept + run.n_drafts
        if run.n_drafts > 0 or (run.n_pending > 0 and run.n_pending + n_tokens <= MAX_VERIFIED):
            _verify(blocks, op, scratch, run, first_part, end_part)
            return
        if run.n_pending > 0:
            _apply(blocks, op, scratch, run, first_part, end_part)
        _advance(blocks, op, scratch, run, first_part, end_part)

    return build_recurrent(DELTA, _n_parts, visit, _per_chunk, in_turn=True)
