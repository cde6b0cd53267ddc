"""RMS norm of every head, then a gate: out = x / rms(x) * w * act(z)

Gated DeltaNet's output with SiLU, Kimi Delta Attention's with the sigmoid.

The result as float32, as 8-bit activations, or both.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_f32, load_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Op,
    Rows,
    Tiles,
    Vector,
    compiled,
    given,
    offsets,
    reads,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.ops.dense.elementwise import sigmoid
from slotmux.kernels.ops.dense.glu import silu
from slotmux.kernels.ops.dense.norm import inverse_rms
from slotmux.kernels.quantize import quantize_tile

GATES = {"silu": silu, "sigmoid": sigmoid}
CHUNK_WIDTH = 256  # columns of a token that a chunk covers, about


class GatedNorm(Op, kernel="gated_norm"):
    """out = x / rms(x) * weight * gate(z), the norm over each head"""

    gate: str = compiled("one of GATES")
    x: Rows = reads("float32 [n_tokens, n_heads * d]")
    z: Rows = reads("float32 [n_tokens, n_heads * d]")
    weight: Vector = given("float32 [d], d a multiple of 16")
    eps: float = given("float32")
    out: Rows | None = writes("float32 [n_tokens, n_heads * d]")
    tiles: Tiles | None = tiles_of("out")

    @word
    def d(self) -> int:
        """Width of a head."""
        return self.weight.size

    @word
    def n_heads(self) -> int:
        """Heads of a token."""
        return self.x.width // self.weight.size

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_gated_norm(self.gate)

    def scratch_bytes(self, isa: Isa) -> int:
        """A chunk's heads of a tile of tokens."""
        return 4 * TILE_ROWS * self.d * heads_of_chunk(self.d)


GATED_NORM = offsets(GatedNorm)


def heads_of_chunk(d):  # type: ignore[no-untyped-def]
    """An even number of heads, so that 8-bit blocks end with a chunk."""
    return max(2, CHUNK_WIDTH // d // 2 * 2)


_heads_of_chunk = njit(heads_of_chunk)


def build_gated_norm(activation: str) -> Callable[..., None]:
    """The kernel with one of GATES; a chunk is some heads of a tile of tokens, an even number so
    that 8-bit blocks end."""
    gate = GATES[activation]

    @njit
    def norm_heads(op, token, first, end, to):
        """Heads ``first`` to ``end`` of a token, to ``to``."""
        d, eps = load_i64(op + GATED_NORM.d), load_f32(load_i64(op + GATED_NORM.eps))
        x = load_i64(op + GATED_NORM.x) + token * load_i64(op + GATED_NORM.x_stride)
        z = load_i64(op + GATED_NORM.z) + token * load_i64(op + GATED_NORM.z_stride)
        weight = load_i64(op + GATED_NORM.weight)
        for head in range(first, end):
            at, to_head = 4 * head * d, to + 4 * (head - first) * d
            scale = simd.splat(inverse_rms(x + at, d, eps))
            for i in range(0, 4 * d, 64):
                y = simd.load(x + at + i) * scale * simd.load(weight + i)
                simd.store(to_head + i, y * gate(simd.load(z + at + i)))

    def gated_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_heads, d = load_i64(op + GATED_NORM.n_heads), load_i64(op + GATED_NORM.d)
        out, tiles = load_i64(op + GATED_NORM.out), load_i64(op + GATED_NORM.tiles)
        n_tokens, scratch = load_i64(step + STEP.n_tokens), load_i64(thread + 8 * T_SCRATCH)
        per_chunk = _heads_of_chunk(d)
        n_chunks = n_tile_parts(n_tokens, n_heads, per_chunk)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token, n_of_tile, first, end = tile_part(chunk, n_tokens, n_heads, per_chunk)
            to, stride = scratch, 4 * per_chunk * d
            if out != 0:
                stride = load_i64(op + GATED_NORM.out_stride)
                to = out + token * stride + 4 * first * d
            for i in range(n_of_tile):
                norm_heads(op, token + i, first, end, to + i * stride)
            if tiles != 0:
                blocks = blocks_at(tiles, n_heads * d, token, first * d)
                quantize_tile(to, stride, (end - first) * d, n_of_tile, blocks)
            chunk = claim(thread, n_chunks)

    return gated_norm
