"""RMS norm of every head, then a gate: out = x / rms(x) * w * silu(z)   (Gated DeltaNet's output)

The result as float32, as 8-bit activations, or both.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels import simd
from kernels.activations import BLOCK_BYTES, quantize_block
from kernels.address import load_f32, load_i64
from kernels.claims import T_SCRATCH, claim
from kernels.operands import STEP, words
from kernels.ops.glu import silu
from kernels.ops.norm import inverse_rms

# x, z: float32 rows of x_stride, z_stride bytes: n_heads heads of d, a multiple of 16; weight:
# float32 [d]; eps: address of a float32; out: float32 rows of out_stride bytes (0: none);
# tiles: 8-bit activations (0: none), then n_heads * d is a multiple of 32.
GATED_NORM = words("GatedNorm", "x x_stride z z_stride weight eps n_heads d out out_stride tiles")
CHUNK_WIDTH = 512  # columns of a token that a chunk covers, about


def build_gated_norm() -> Callable[..., None]:
    """The kernel; a chunk is some heads of a token, an even number so that 8-bit blocks end."""

    def gated_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_heads, d = load_i64(op + GATED_NORM.n_heads), load_i64(op + GATED_NORM.d)
        per_chunk = max(2, CHUNK_WIDTH // d // 2 * 2)
        n_groups = (n_heads + per_chunk - 1) // per_chunk
        # Columns first: threads then write different cache lines of the 8-bit tiles, in which all
        # rows of a tile share lines.
        n_tokens = load_i64(step + STEP.n_tokens)
        n_chunks = n_tokens * n_groups
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token, first = chunk % n_tokens, chunk // n_tokens * per_chunk
            x = load_i64(op + GATED_NORM.x) + token * load_i64(op + GATED_NORM.x_stride)
            z = load_i64(op + GATED_NORM.z) + token * load_i64(op + GATED_NORM.z_stride)
            weight, eps = load_i64(op + GATED_NORM.weight), load_f32(load_i64(op + GATED_NORM.eps))
            out, tiles = load_i64(op + GATED_NORM.out), load_i64(op + GATED_NORM.tiles)
            target = out + token * load_i64(op + GATED_NORM.out_stride)
            if out == 0:  # room for one chunk, addressed as if it were the whole row
                target = load_i64(thread + 8 * T_SCRATCH) - 4 * first * d
            end = min(first + per_chunk, n_heads)
            for head in range(first, end):
                at = 4 * head * d
                scale = simd.splat(inverse_rms(x + at, d, eps))
                for i in range(0, 4 * d, 64):
                    y = simd.load(x + at + i) * scale * simd.load(weight + i)
                    simd.store(target + at + i, y * silu(simd.load(z + at + i)))
            if tiles != 0:
                tile = tiles + token // 8 * (n_heads * d // 32) * BLOCK_BYTES
                for i in range(first * d, end * d, 32):
                    low, high = simd.load(target + 4 * i), simd.load(target + 4 * i + 64)
                    quantize_block(low, high, tile + i // 32 * BLOCK_BYTES, token % 8)
            chunk = claim(thread, n_chunks)

    return gated_norm
