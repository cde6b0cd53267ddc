"""Rotary position embedding of q and k, and storing k and v into their cells.

    (a, b) -> (a cos t - b sin t, a sin t + b cos t),  t = pos * frequency[i]      (Su et al. 2021)

Pairs are neighbours (2i, 2i + 1), or halves (i, i + n_rot/2) as in GPT-NeoX. Before or after it, q
and k heads may be RMS-normalised; then q takes the attention scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from slotmux.kernels import simd
from slotmux.kernels.address import (
    F32,
    I32,
    PTR,
    load_f32,
    load_f64,
    load_i32,
    load_i64,
    store_f32,
)
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Cells,
    Op,
    Rows,
    Table,
    Vector,
    compiled,
    given,
    offsets,
    reads,
    updates,
    word,
    writes,
)
from slotmux.kernels.ops.attention.cells import CELLS, build_head_bytes, build_store
from slotmux.kernels.ops.attention.plan import block_table, seq_of
from slotmux.kernels.ops.dense.norm import rms_norm_row
from slotmux.kernels.scalar import cos_sin
from slotmux.kernels.simd import F32X16, f32x16


class RopeTable(Op, kernel="rope_table"):
    """cos, sin = those of pos * frequency, times magnitude, for every token of the step"""

    frequency: NDArray[np.float64] = given("[n_pairs], angle per position")
    magnitude: float = given("float32")
    cos: Table[np.float32] = writes("[n_tokens, n_pairs]")
    sin: Table[np.float32] = writes("[n_tokens, n_pairs]")

    @word
    def n_pairs(self) -> int:
        """Rotated pairs."""
        return self.frequency.size

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_rope_table()


class Rope(Op, kernel="rope"):
    """q, k = normed and rotated, q times scale too; k and v into the cells of their tokens"""

    pairs: str = compiled("neighbours or halves")
    q: Rows = updates("float32 [n_tokens, n_head * head_dim]")
    k: Rows | None = updates("float32 [n_tokens, n_head_kv * head_dim]", stride_of="q")
    v: Rows | None = updates("float32 [n_tokens, n_head_kv * v_dim]", stride_of="q")
    n_head: int = given("query heads; may be 0")
    n_head_kv: int = given("KV heads")
    head_dim: int = given("width of a head's q and k")
    v_dim: int = given("width of a head's values")
    n_pairs: int = given("rotated pairs of a head; 0: no rotation")
    cos: Table[np.float32] | None = reads("see RopeTable; None: no rotation")
    sin: Table[np.float32] | None = reads("see RopeTable; None: no rotation")
    q_norm: Vector | None = given("float32 [head_dim]; None: no norm")
    k_norm: Vector | None = given("float32 [head_dim]; None: no norm")
    v_norm: Vector | None = given("float32 [v_dim]; None: no norm", default=None)
    norms_last: bool = given("norms q and k after the rotation, not before", default=False)
    eps: float = given("float32, of the norms")
    scale: float = given("float32")
    cells: Cells | None = writes("the layer's, types compiled in; None: it shares another's")

    @property
    def variant(self) -> tuple[str, str, str]:
        k_type, v_type = (self.cells.k_type, self.cells.v_type) if self.cells else ("f16", "f16")
        return self.pairs, k_type, v_type

    def build(self, isa: Isa) -> Callable[..., None]:
        pairs, k_type, v_type = self.variant
        return build_rope(pairs == "neighbours", k_type, v_type)


ROPE_TABLE, ROPE = offsets(RopeTable), offsets(Rope)


@intrinsic
def _swap_neighbours(ctx: Any, x: Any) -> Any:
    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        index = ir.Constant(ir.VectorType(I32, 16), [i ^ 1 for i in range(16)])
        return b.shuffle_vector(args[0], ir.Constant(F32X16, ir.Undefined), index)

    return f32x16(f32x16), codegen


@intrinsic
def _load_doubled(ctx: Any, address: Any) -> Any:
    """8 floats, each in two neighbouring lanes."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        half = ir.VectorType(F32, 8)
        value = b.load(b.inttoptr(args[0], PTR), typ=half)
        value.align = 4
        index = ir.Constant(ir.VectorType(I32, 16), [i // 2 for i in range(16)])
        return b.shuffle_vector(value, ir.Constant(half, ir.Undefined), index)

    return f32x16(types.int64), codegen


@intrinsic
def _minus_plus(ctx: Any) -> Any:
    """-1, 1, -1, 1, ..."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(F32X16, [-1.0, 1.0] * 8)

    return f32x16(), codegen


def build_rope_table() -> Callable[..., None]:
    """cos and sin of every token's angles, computed in float64; a chunk is a token."""

    def rope_table(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n_pairs = load_i64(op + ROPE_TABLE.n_pairs)
            magnitude = load_f32(load_i64(op + ROPE_TABLE.magnitude))
            pos = np.float64(load_i32(load_i64(step + STEP.positions) + 4 * token))
            at = 4 * token * n_pairs
            for i in range(n_pairs):
                angle = pos * load_f64(load_i64(op + ROPE_TABLE.frequency) + 8 * i)
                c, s = cos_sin(angle)
                cos, sin = load_i64(op + ROPE_TABLE.cos), load_i64(op + ROPE_TABLE.sin)
                store_f32(cos + at + 4 * i, np.float32(c) * magnitude)
                store_f32(sin + at + 4 * i, np.float32(s) * magnitude)
            token = claim(thread, n_tokens)

    return rope_table


@njit(forceinline=True)
def rotate_neighbours(x, n_pairs, cos, sin):
    i = np.int64(0)
    while i + 8 <= n_pairs:
        v = simd.load(x + 8 * i)
        turned = _swap_neighbours(v) * (_load_doubled(sin + 4 * i) * _minus_plus())
        simd.store(x + 8 * i, simd.fma(v, _load_doubled(cos + 4 * i), turned))
        i += 8
    while i < n_pairs:
        a, b = load_f32(x + 8 * i), load_f32(x + 8 * i + 4)
        c, s = load_f32(cos + 4 * i), load_f32(sin + 4 * i)
        store_f32(x + 8 * i, a * c - b * s)
        store_f32(x + 8 * i + 4, a * s + b * c)
        i += 1


@njit(forceinline=True)
def rotate_halves(x, n_pairs, cos, sin):
    half = 4 * n_pairs
    i = np.int64(0)
    while i + 16 <= n_pairs:
        a, b = simd.load(x + 4 * i), simd.load(x + half + 4 * i)
        c, s = simd.load(cos + 4 * i), simd.load(sin + 4 * i)
        simd.store(x + 4 * i, a * c - b * s)
        simd.store(x + half + 4 * i, a * s + b * c)
        i += 16
    while i < n_pairs:
        a, b = load_f32(x + 4 * i), load_f32(x + half + 4 * i)
        c, s = load_f32(cos + 4 * i), load_f32(sin + 4 * i)
        store_f32(x + 4 * i, a * c - b * s)
        store_f32(x + half + 4 * i, a * s + b * c)
        i += 1


def build_rope(neighbours: bool, k_type: str, v_type: str) -> Callable[..., None]:
    """Norm, rotate, scale and store the heads of a token (a chunk); for its cells see cells.py."""
    rotate = rotate_neighbours if neighbours else rotate_halves
    store = build_store(k_type, v_type)
    k_bytes_of, v_bytes_of = build_head_bytes(k_type), build_head_bytes(v_type)

    @njit
    def prepare(op, x, n_head, norm, token):
        """Norm and rotate n_head heads at x."""
        head_dim, n_pairs = load_i64(op + ROPE.head_dim), load_i64(op + ROPE.n_pairs)
        eps, norms_last = load_f32(load_i64(op + ROPE.eps)), load_i64(op + ROPE.norms_last) != 0
        cos = load_i64(op + ROPE.cos) + 4 * token * n_pairs
        sin = load_i64(op + ROPE.sin) + 4 * token * n_pairs
        for head in range(n_head):
            at = x + 4 * head * head_dim
            if norm != 0 and not norms_last:
                norm_head(at, head_dim, norm, eps)
            if n_pairs > 0:
                rotate(at, n_pairs, cos, sin)
            if norm != 0 and norms_last:
                norm_head(at, head_dim, norm, eps)

    @njit
    def norm_values(op, v, norm):
        v_dim, eps = load_i64(op + ROPE.v_dim), load_f32(load_i64(op + ROPE.eps))
        for head in range(load_i64(op + ROPE.n_head_kv)):
            norm_head(v + 4 * head * v_dim, v_dim, norm, eps)

    @njit
    def store_token(op, k, v, block, cell):
        """Write a token's k and v into its cell."""
        head_dim, v_dim = load_i64(op + ROPE.head_dim), load_i64(op + ROPE.v_dim)
        n_head_kv, padded = load_i64(op + ROPE.n_head_kv), (v_dim + 15) // 16 * 16
        k_bytes, v_bytes = k_bytes_of(head_dim), v_bytes_of(padded)
        k_block = load_i64(op + ROPE.k_cells) + block * n_head_kv * k_bytes
        v_block = load_i64(op + ROPE.v_cells) + block * n_head_kv * v_bytes
        store(k, v, k_block, v_block, cell, n_head_kv, head_dim, v_dim)

    def rope(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            offset = token * load_i64(op + ROPE.q_stride)
            q, k = load_i64(op + ROPE.q) + offset, load_i64(op + ROPE.k) + offset
            n_head, n_head_kv = load_i64(op + ROPE.n_head), load_i64(op + ROPE.n_head_kv)
            prepare(op, q, n_head, load_i64(op + ROPE.q_norm), token)
            scale = load_f32(load_i64(op + ROPE.scale))
            for i in range(n_head * load_i64(op + ROPE.head_dim)):
                store_f32(q + 4 * i, load_f32(q + 4 * i) * scale)
            if load_i64(op + ROPE.k_cells) != 0:
                prepare(op, k, n_head_kv, load_i64(op + ROPE.k_norm), token)
                if load_i64(op + ROPE.v_norm) != 0:
                    norm_values(op, load_i64(op + ROPE.v) + offset, load_i64(op + ROPE.v_norm))
                pos = load_i32(load_i64(step + STEP.positions) + 4 * token)
                table = block_table(step, seq_of(step, token))
                block = load_i32(table + 4 * (pos // CELLS))
                store_token(op, k, load_i64(op + ROPE.v) + offset, block, pos % CELLS)
            token = claim(thread, n_tokens)

    return rope


@njit
def norm_head(x, head_dim, weight, eps):
    """RMS norm in place; a head that is no multiple of 16 wide must not touch its neighbour."""
    if head_dim % 16 == 0:
        rms_norm_row(x, head_dim, weight, eps, x)
        return
    total = np.float32(0.0)
    for i in range(head_dim):
        total += load_f32(x + 4 * i) * load_f32(x + 4 * i)
    scale = np.float32(1.0) / np.sqrt(total / np.float32(head_dim) + eps)
    for i in range(head_dim):
        store_f32(x + 4 * i, load_f32(x + 4 * i) * scale * load_f32(weight + 4 * i))
