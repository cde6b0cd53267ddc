"""A chunk's K and V as float32 in a thread's scratch, for many query rows: what is in cells is
converted once and read from a near cache by every tile of rows, in the same order as cells are.

K: blocks [head_dim][16 cells]; of q8_0 its codes, and behind them its scales [head_dim / 32][16].
V: panels of 32 dimensions, [cell][32], so that a tile reads on and on.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels import simd
from slotmux.kernels.address import I64, load_i64, pointer, prefetch_ir, store_i64
from slotmux.kernels.ops.attention.cells import CELL_BYTES, CELLS, GROUP, WORDS
from slotmux.kernels.ops.attention.tiles import (
    CHUNK,
    broadcast,
    half_scalar,
    load_cells,
    make_score_tile,
)
from slotmux.kernels.simd import F32X16, f32x16, fma_ir

HEIGHT = 8  # rows of a tile
PANEL = 32  # dimensions of V that a tile sums
PANEL_BYTES = 4 * CHUNK * PANEL


def unpacked_bytes(head_dim: int, v_padded: int) -> int:
    """Scratch for a chunk; ``v_padded``: a multiple of 16."""
    return CHUNK * 4 * (head_dim + head_dim // GROUP) + -(-v_padded // PANEL) * PANEL_BYTES


@njit(forceinline=True)
def unpacked_values_at(unpacked, head_dim):
    """Where V is, behind K."""
    return unpacked + CHUNK * 4 * (head_dim + head_dim // GROUP)


def _loader(cell_type: str) -> Any:
    @intrinsic
    def load(ctx: Any, address: Any) -> Any:
        """16 values of a cell type."""

        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            return load_cells(b, pointer(b, args[0]), cell_type)

        return f32x16(types.int64), codegen

    return load


@intrinsic
def _load_scale(ctx: Any, address: Any) -> Any:
    """An f16 in all lanes."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return half_scalar(b, pointer(b, args[0]))

    return f32x16(types.int64), codegen


@intrinsic
def _prefetch(ctx: Any, address: Any) -> Any:
    """Ask for a cache line, into the second cache."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        prefetch_ir(b, args[0], 2)
        return c.get_dummy_value()

    return types.void(types.int64), codegen


@njit
def prefetch_bytes(address, n):
    """Ask for ``n`` bytes, into the second cache."""
    for i in range(0, n, 64):
        _prefetch(address + i)


@njit
def _stays(blocks, n, width, to):
    pass


def build_unpack_keys(cell_type: str) -> Any:
    """unpack(keys, n_blocks, head_dim, to): blocks at the addresses in ``keys``, which then say
    where they are in ``to``. Float32 and 16-bit codes stay where they are."""
    if cell_type in ("f32", WORDS):
        return _stays
    size, has_scales = CELL_BYTES[cell_type], cell_type == "q8_0"
    load, load_half = _loader(cell_type), _loader("f16")

    @njit
    def unpack(keys, n_blocks, head_dim, to):
        for i in range(n_blocks):
            block, at = load_i64(keys + 8 * i), to + 4 * CELLS * (head_dim + head_dim // GROUP) * i
            store_i64(keys + 8 * i, at)
            for d in range(head_dim):
                simd.store(at + 64 * d, load(block + CELLS * size * d))
            if has_scales:
                block, at = block + CELLS * head_dim, at + 64 * head_dim
                for g in range(head_dim // GROUP):
                    simd.store(at + 64 * g, load_half(block + 2 * CELLS * g))

    return unpack


def build_unpack_values(cell_type: str) -> Any:
    """unpack(values, n_cells, v_padded, to): the first ``n_cells`` of blocks at the addresses in
    ``values``, each value times its scale, to panels, the first of which is where values[0] says
    then. 16-bit codes stay where they are."""
    if cell_type == WORDS:
        return _stays
    size, has_scales = CELL_BYTES[cell_type], cell_type == "q8_0"
    load = _loader(cell_type)

    @njit
    def unpack(values, n_cells, v_padded, to):
        for cell in range(n_cells):
            block = load_i64(values + 8 * (cell // CELLS))
            row = block + cell % CELLS * v_padded * size
            scales = block + CELLS * v_padded + cell % CELLS * (v_padded // GROUP) * 2
            for d in range(0, v_padded, 16):
                v = load(row + size * d)
                if has_scales:
                    v = v * _load_scale(scales + d // GROUP * 2)
                at = to + d // PANEL * PANEL_BYTES + 4 * (PANEL * cell + d % PANEL)
                simd.store(at, v)
        store_i64(values, to)

    return unpack


def make_panel_tile(width: int) -> Any:
    """(p, panel, n_cells, out, out_stride): sums of p * v over cells, for 8 rows and ``width``
    vectors of a panel's dimensions. p: float32 rows of CHUNK."""

    @intrinsic
    def tile(ctx, p, panel, n_cells, out, out_stride):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            p, panel, n_cells, out, out_stride = args
            zero = ir.Constant(F32X16, None)
            accs = [
                [cgutils.alloca_once_value(b, zero) for _ in range(width)] for _ in range(HEIGHT)
            ]
            with cgutils.for_range(b, n_cells, intp=I64) as loop:
                row = b.add(panel, b.mul(loop.index, ir.Constant(I64, 4 * PANEL)))
                values = [load_cells(b, pointer(b, row, 64 * w), "f32") for w in range(width)]
                column = b.add(p, b.shl(loop.index, ir.Constant(I64, 2)))
                for m in range(HEIGHT):
                    weight = broadcast(b, column, 4 * CHUNK * m)
                    for value, acc in zip(values, accs[m], strict=True):
                        b.store(fma_ir(b, value, weight, b.load(acc)), acc)
            for m in range(HEIGHT):
                at = b.add(out, b.mul(out_stride, ir.Constant(I64, m)))
                for w in range(width):
                    b.store(b.load(accs[m][w]), pointer(b, at, 64 * w)).align = 4
            return c.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return tile


def build_unpacked_scores(cell_type: str) -> Any:
    """As ``build_scores``, of blocks unpacked from ``cell_type``; 8 rows are computed."""
    kind = "codes" if cell_type == "q8_0" else "f32"
    one, two = (make_score_tile(HEIGHT, n, kind, asks=False) for n in (1, 2))

    @njit
    def scores(n_rows, q, q_stride, head_dim, keys, values, n_blocks, out):
        for i in range(0, n_blocks - 1, 2):
            two(q, q_stride, head_dim, keys + 8 * i, values, out + 64 * i)
        if n_blocks % 2 == 1:
            i = n_blocks - 1
            one(q, q_stride, head_dim, keys + 8 * i, values, out + 64 * i)

    return scores


def build_unpacked_values() -> Any:
    """As ``build_values``, of panels from blocks[0] on; 8 rows are computed."""
    wide, thin = make_panel_tile(2), make_panel_tile(1)

    @njit
    def values(n_rows, p, blocks, later, v_padded, n_cells, out):
        panels = load_i64(blocks)
        for i in range(v_padded // PANEL):
            wide(p, panels + PANEL_BYTES * i, n_cells, out + 4 * PANEL * i, 4 * v_padded)
        if v_padded % PANEL != 0:
            i = v_padded // PANEL
            thin(p, panels + PANEL_BYTES * i, n_cells, out + 4 * PANEL * i, 4 * v_padded)

    return values
