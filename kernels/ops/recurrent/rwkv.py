"""What the recurrences of RWKV-6 and 7 share: a head's output normalised, gated and written."""

from __future__ import annotations

from typing import ClassVar

from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at
from slotmux.kernels.address import load_f32, store_f32
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Op,
    Rows,
    State,
    Tiles,
    Vector,
    given,
    keeps,
    reads,
    round_up,
    tiles_of,
    word,
    writes,
)
from slotmux.kernels.ops.recurrent.frame import copy_bytes
from slotmux.kernels.quantize import quantize_block


class TimeMixing(Op, kernel=""):
    """What both declare: out = the recurrence over r, k and v, normed and gated. Version 6 always
    has a norm and a gate."""

    N_KEPT: ClassVar[int]  # vectors of a head kept of a draft
    N_SCRATCH: ClassVar[int]  # vectors in a thread's scratch
    d: int = given("width of a head")
    r: Rows = reads("float32 [n_tokens, n_heads * d]")
    k: Rows = reads("float32 [n_tokens, n_heads * d]", stride_of="r")
    v: Rows = reads("float32 [n_tokens, n_heads * d]", stride_of="r")
    w: Rows = reads("float32 [n_tokens, n_heads * d], decay, 0 to 1", stride_of="r")
    g: Rows | None = reads("float32 [n_tokens, n_heads * d], gate; None: 1", stride_of="r")
    ln_weight: Vector | None = given("float32 [n_heads * d]; None: no norm")
    ln_bias: Vector | None = given("float32 [n_heads * d]")
    eps: float = given("float32, of the norm")
    out: Rows | None = writes("float32 [n_tokens, n_heads * d]")
    tiles: Tiles | None = tiles_of("out")
    state: State | None = keeps(
        "float32 [n_heads, d (key), d (value) rounded up to 16]; of each draft [n_heads, N_KEPT, d "
        "rounded up to 16]"
    )

    @word
    def n_heads(self) -> int:
        """Heads."""
        return self.r.width // self.d

    @property
    def can_quantise(self) -> bool:
        return self.d % 32 == 0  # else 8-bit blocks would span heads

    @property
    def state_floats(self) -> int:
        return self.n_heads * self.d * round_up(self.d, 16)

    @property
    def pending_floats(self) -> int:
        return pending_floats(self.N_KEPT, self.n_heads, self.d)

    def scratch_bytes(self, isa: Isa) -> int:
        """A copy of a head's state, and vectors of it."""
        width = round_up(self.d, 16)
        return copy_bytes(self.d * width) + 4 * self.N_SCRATCH * width


def pending_floats(n_kept: int, n_heads: int, d: int) -> int:
    """Size of what is kept of a draft: ``n_kept`` vectors of each head."""
    return n_kept * n_heads * -(-d // 16) * 16


@njit(forceinline=True)
def padded(d):
    """Floats that a vector of a head takes in state and scratch."""
    return (d + 15) // 16 * 16


@njit(forceinline=True)
def splat_at(address):
    """A float32 of memory in all lanes."""
    return simd.splat(load_f32(address))


@njit(forceinline=True)
def pending_at(pending, n_kept, d, n_heads, head, i):
    """Where ``n_kept`` padded vectors of a head are kept of draft ``i``."""
    return pending + 4 * padded(d) * n_kept * (i * n_heads + head)


@njit(forceinline=True)
def state_of_head(d, head):
    """Where a head's state begins, and its size, in bytes."""
    n_bytes = 4 * d * padded(d)
    return head * n_bytes, n_bytes


@njit(forceinline=True)
def write_head(y, d, out):
    """Copy a head's d floats; what follows them in the row is another head's."""
    whole = d // 16 * 16
    for i in range(0, 4 * whole, 64):
        simd.store(out + i, simd.load(y + i))
    for i in range(4 * whole, 4 * d, 4):
        store_f32(out + i, load_f32(y + i))


@njit(forceinline=True)
def quantize_head(y, d, tiles, token, column, n):
    """8-bit activations of a head (d a multiple of 32) at ``column`` of rows of n inputs."""
    for i in range(0, d, 32):
        low, high = simd.load(y + 4 * i), simd.load(y + 4 * i + 64)
        quantize_block(low, high, blocks_at(tiles, n, token, column + i), token % TILE_ROWS)


@njit(forceinline=True)
def emit_head(y, d, head, n_heads, token, out, out_stride, tiles):
    """Write a head's result to the row of its token, as floats and as 8-bit activations."""
    if out != 0:
        write_head(y, d, out + token * out_stride + 4 * head * d)
    if tiles != 0:
        quantize_head(y, d, tiles, token, head * d, n_heads * d)
