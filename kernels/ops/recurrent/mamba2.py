"""State-space duality scan of Mamba-2 (Dao & Gu 2024), its time steps, its gate and norm.

dt       = softplus(dt_in[t, h] + dt_bias[h])
S[h,p,n] = exp(dt * A[h]) * S[h, p, n] + dt * x[t, h, p] * B[t, g, n]       g = h // (H / G)
y[t,h,p] = sum over n of S[h, p, n] * C[t, g, n] + D[h] * x[t, h, p]
out      = RMSNorm over each of G groups of columns of (y * silu(z)), times weight
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Count,
    Op,
    Rows,
    State,
    Vector,
    given,
    keeps,
    offsets,
    reads,
    round_up,
    word,
    writes,
)
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.ops.dense.norm import rms_norm_row
from slotmux.kernels.ops.recurrent.frame import build_recurrent, copy_bytes, copy_vectors, in_order
from slotmux.kernels.ops.recurrent.ssm_scan import SEGMENT, TOKEN_BYTES, U, Y, make_scan


class Mamba2Steps(Op, kernel="mamba2_steps"):
    """dt = softplus(x + dt_bias), decay = exp(dt * a)"""

    x: Rows = reads("float32 [n_rows, n_head]")
    dt_bias: Vector = given("float32 [n_head]")
    a: Vector = given("float32 [n_head]")
    dt: Rows = writes("float32 [n_rows, n_head]")
    decay: Rows = writes("float32 [n_rows, n_head]", stride_of="dt")

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.x.n_rows

    @word
    def n_head(self) -> int:
        """Heads."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_mamba2_steps()


class Mamba2(Op, kernel="mamba2"):
    """out = the scan of x, of each head"""

    x: Rows = reads("float32 [n_tokens, n_head * head_dim]")
    b: Rows = reads("float32 [n_tokens, n_group * n_state]")
    c: Rows = reads("float32 [n_tokens, n_group * n_state]", stride_of="b")
    dt: Rows = reads("float32 [n_tokens, n_head], see Mamba2Steps")
    decay: Rows = reads("float32 [n_tokens, n_head]", stride_of="dt")
    d: Vector = given("float32 [n_head]")
    n_state: int = given("states of a channel")
    out: Rows = writes("float32 [n_tokens, n_head * head_dim]")
    state: State | None = keeps(
        "float32 [n_head, head_dim / 16 rounded up, n_state, 16], a lane being one of head_dim; of "
        "each draft [n_head, head_dim and n_state, each rounded up to 16, and 16]: x, B, then dt "
        "and decay"
    )

    @word
    def n_head(self) -> int:
        """Heads."""
        return self.dt.width

    @word
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.x.width // self.dt.width

    @word
    def n_group(self) -> int:
        """Groups of heads that share B and C."""
        return self.b.width // self.n_state

    @property
    def state_floats(self) -> int:
        return state_floats(self.n_head, self.head_dim, self.n_state)

    @property
    def pending_floats(self) -> int:
        return pending_floats(self.n_head, self.head_dim, self.n_state)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_mamba2()

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of a head's state, and a segment's tokens."""
        return copy_bytes(state_floats(1, self.head_dim, self.n_state)) + TOKEN_BYTES * SEGMENT


class GateThenNorm(Op, kernel="mamba2_gate"):
    """out = RMSNorm(y * silu(z)) * weight, the norm over each group of columns"""

    y: Rows = reads("float32 [n_rows, n]")
    z: Rows = reads("float32 [n_rows, n]")
    n_group: int = given("groups of columns")
    weight: Vector | None = given("float32 [n]; None: no norm, only the gate")
    eps: float = given("float32")
    out: Rows = writes("float32 [n_rows, n]")

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.y.n_rows

    @word
    def n(self) -> int:
        """Width."""
        return self.y.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_gate_then_norm()

    def scratch_bytes(self, isa: Isa) -> int:
        """A gated row."""
        return 4 * round_up(self.n, 16)


MAMBA2_STEPS, MAMBA2 = offsets(Mamba2Steps), offsets(Mamba2)
GATE_THEN_NORM = offsets(GateThenNorm)


def state_floats(n_head: int, head_dim: int, n_state: int) -> int:
    """Size of a sequence's state."""
    return n_head * -(-head_dim // 16) * 16 * n_state


def pending_floats(n_head: int, head_dim: int, n_state: int) -> int:
    """What is kept of a draft: each head has its own B."""
    return n_head * (-(-head_dim // 16) * 16 + -(-n_state // 16) * 16 + 16)


def build_mamba2_steps() -> Callable[..., None]:
    """The kernel of dt and decay = exp(dt * A); a chunk is a row, or 8 when there are many."""

    def mamba2_steps(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + MAMBA2_STEPS.n_rows))
        per_chunk = 8 if n_rows > 32 else 1
        n_chunks = (n_rows + per_chunk - 1) // per_chunk
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            bias, a = load_i64(op + MAMBA2_STEPS.dt_bias), load_i64(op + MAMBA2_STEPS.a)
            for row in range(chunk * per_chunk, min(n_rows, (chunk + 1) * per_chunk)):
                x = load_i64(op + MAMBA2_STEPS.x) + row * load_i64(op + MAMBA2_STEPS.x_stride)
                offset = row * load_i64(op + MAMBA2_STEPS.dt_stride)
                for i in range(0, load_i64(op + MAMBA2_STEPS.n_head), 16):
                    at = 4 * i
                    dt = simd.softplus(simd.load(x + at) + simd.load(bias + at))
                    decay = simd.exp(dt * simd.load(a + at))
                    simd.store(load_i64(op + MAMBA2_STEPS.dt) + offset + at, dt)
                    simd.store(load_i64(op + MAMBA2_STEPS.decay) + offset + at, decay)
            chunk = claim(thread, n_chunks)

    return mamba2_steps


_scan = make_scan(decay_per_state=False)


@njit
def _prepare(op, tokens, x, x_stride, dt, dt_stride, n_tokens, head):
    """U = dt * x and Y = D * x of 16 channels of a head."""
    d = simd.splat(load_f32(load_i64(op + MAMBA2.d) + 4 * head))
    for t in range(n_tokens):
        v, dt_t = simd.load(x + t * x_stride), simd.splat(load_f32(dt + t * dt_stride))
        simd.store(tokens + TOKEN_BYTES * t + U, dt_t * v)
        simd.store(tokens + TOKEN_BYTES * t + Y, d * v)


@njit
def _write(op, tokens, first, n_tokens, column, n_lanes):
    """Y of 16 channels; where a head ends within them, not into the next head's."""
    stride = load_i64(op + MAMBA2.out_stride)
    out = load_i64(op + MAMBA2.out) + first * stride + 4 * column
    for t in range(n_tokens):
        y = tokens + TOKEN_BYTES * t + Y
        if n_lanes >= 16:
            simd.store(out + t * stride, simd.load(y))
        else:
            for lane in range(n_lanes):
                store_f32(out + t * stride + 4 * lane, load_f32(y + 4 * lane))


@njit(forceinline=True)
def _group_at(op, head):
    """Where a head's B, and its C, begin in their rows, in bytes."""
    group = head // (load_i64(op + MAMBA2.n_head) // load_i64(op + MAMBA2.n_group))
    return 4 * group * load_i64(op + MAMBA2.n_state)


@njit
def _scan_head(op, tokens, state, fresh, first, n_tokens, head):
    """One segment of tokens through one head, whose state is at ``state``."""
    head_dim, n_state = load_i64(op + MAMBA2.head_dim), load_i64(op + MAMBA2.n_state)
    bc_stride, dt_stride = load_i64(op + MAMBA2.b_stride), load_i64(op + MAMBA2.dt_stride)
    x_stride, at = load_i64(op + MAMBA2.x_stride), first * dt_stride + 4 * head
    offset = first * bc_stride + _group_at(op, head)
    dt, decay = load_i64(op + MAMBA2.dt) + at, load_i64(op + MAMBA2.decay) + at
    for p in range(0, head_dim, 16):
        column = head * head_dim + p
        x = load_i64(op + MAMBA2.x) + first * x_stride + 4 * column
        _prepare(op, tokens, x, x_stride, dt, dt_stride, n_tokens, head)
        _scan(
            state + 4 * p * n_state, fresh, 0, decay, dt_stride, tokens,
            load_i64(op + MAMBA2.b) + offset, load_i64(op + MAMBA2.c) + offset, bc_stride,
            n_tokens, n_state,
        )  # fmt: skip
        _write(op, tokens, first, n_tokens, column, head_dim - p)


@njit(forceinline=True)
def _pending_of(op, pending, head):
    """What is kept of drafts for a head: of the first its x, its B, its dt and decay, and bytes to
    the next draft's."""
    x_bytes = (load_i64(op + MAMBA2.head_dim) + 15) // 16 * 64
    b_bytes = (load_i64(op + MAMBA2.n_state) + 15) // 16 * 64
    n_bytes = x_bytes + b_bytes + 64
    x = pending + head * n_bytes
    return x, x + x_bytes, x + x_bytes + b_bytes, load_i64(op + MAMBA2.n_head) * n_bytes


@njit
def _n_parts(op):
    return load_i64(op + MAMBA2.n_head)


@njit
def _state_of(op, head):
    lanes = (load_i64(op + MAMBA2.head_dim) + 15) // 16 * 16
    n_bytes = 4 * lanes * load_i64(op + MAMBA2.n_state)
    return head * n_bytes, n_bytes


@njit
def _apply(op, tokens, state, pending, n_pending, head):
    n_state = load_i64(op + MAMBA2.n_state)
    x, b, steps, stride = _pending_of(op, pending, head)
    for p in range(0, load_i64(op + MAMBA2.head_dim), 16):
        _prepare(op, tokens, x + 4 * p, stride, steps, stride, n_pending, head)
        _scan(
            state + 4 * p * n_state, 0, 0, steps + 4, stride, tokens, b, b, stride,
            n_pending, n_state,
        )  # fmt: skip


@njit
def _advance(op, tokens, state, fresh, first, n_tokens, head):
    for t in range(0, n_tokens, SEGMENT):
        _scan_head(op, tokens, state, fresh, first + t, min(SEGMENT, n_tokens - t), head)
        fresh = 0


@njit
def _keep(op, pending, first, n_drafts, head):
    head_dim, n_state = load_i64(op + MAMBA2.head_dim), load_i64(op + MAMBA2.n_state)
    to_x, to_b, to_steps, stride = _pending_of(op, pending, head)
    for i in range(n_drafts):
        t = first + i
        x = load_i64(op + MAMBA2.x) + t * load_i64(op + MAMBA2.x_stride) + 4 * head * head_dim
        b = load_i64(op + MAMBA2.b) + t * load_i64(op + MAMBA2.b_stride) + _group_at(op, head)
        steps = t * load_i64(op + MAMBA2.dt_stride) + 4 * head
        copy_vectors(x, head_dim, to_x + i * stride)
        copy_vectors(b, n_state, to_b + i * stride)
        store_f32(to_steps + i * stride, load_f32(load_i64(op + MAMBA2.dt) + steps))
        store_f32(to_steps + i * stride + 4, load_f32(load_i64(op + MAMBA2.decay) + steps))


def build_mamba2() -> Callable[..., None]:
    """The kernel of the scan; its parts are heads."""
    visit = in_order(_state_of, _apply, _advance, _keep)
    return build_recurrent(MAMBA2, _n_parts, visit, in_turn=True)


def build_gate_then_norm() -> Callable[..., None]:
    """The kernel of the gate and the norm after it; a chunk is a row.

    It does not quantise: rows of a tile share cache lines, and threads that take a row each would
    fight over them.
    """

    @njit
    def gate_then_norm_row(op, row, gated, target):
        n, n_group = load_i64(op + GATE_THEN_NORM.n), load_i64(op + GATE_THEN_NORM.n_group)
        weight, eps = (
            load_i64(op + GATE_THEN_NORM.weight),
            load_f32(load_i64(op + GATE_THEN_NORM.eps)),
        )
        y = load_i64(op + GATE_THEN_NORM.y) + row * load_i64(op + GATE_THEN_NORM.y_stride)
        z = load_i64(op + GATE_THEN_NORM.z) + row * load_i64(op + GATE_THEN_NORM.z_stride)
        to = target if weight == 0 else gated
        for i in range(0, n, 16):
            simd.store(to + 4 * i, simd.load(y + 4 * i) * silu(simd.load(z + 4 * i)))
        if weight != 0:
            # Ascending: a group's last vector may reach into the next group, which follows.
            width = n // n_group
            for i in range(0, n, width):
                rms_norm_row(gated + 4 * i, width, weight + 4 * i, eps, target + 4 * i)

    def gate_then_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + GATE_THEN_NORM.n_rows))
        row = claim(thread, n_rows)
        while row >= 0:
            to = load_i64(op + GATE_THEN_NORM.out) + row * load_i64(op + GATE_THEN_NORM.out_stride)
            gate_then_norm_row(op, row, load_i64(thread + 8 * T_SCRATCH), to)
            row = claim(thread, n_rows)

    return gate_then_norm
