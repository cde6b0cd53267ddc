"""Panels of floats times a few rows. As in kernels/tile.py, each output is summed over the inputs
in ascending order in one accumulator, whatever the number of rows or panels computed together.

Weights are widened and multiplied with float32 activations; BF16 weights with activations rounded
to BF16, by two FMAs or, where the CPU can, by one instruction: the same bits (kernels/bf16.py).
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import F32, I32, I64
from slotmux.kernels.bf16 import BF16X32, dot2
from slotmux.kernels.cpu import Isa
from slotmux.kernels.formats import Format, float_vectors
from slotmux.kernels.formats.base import load_vector
from slotmux.kernels.operands import Form
from slotmux.kernels.simd import F32X16, I32X16, fma_ir
from slotmux.kernels.tile import (
    Accs,
    const,
    finish,
    prefetch_lines,
    prefetch_outputs,
    splat_load,
    zeros,
)

AHEAD = 8192  # bytes
PAIR_AHEAD = 32  # bytes that a tile of two panels asks for every block


def rounds_rows(f: Format) -> bool:
    """Whether products take activations rounded to BF16.

    A rounding error of 2^-9 at most, where 8-bit activations have 2^-8 of a block's largest.
    """
    return f.name == "bf16"


def form_of(f: Format) -> Form:
    """In what form products with weights of this format take activations."""
    if f.is_quantised:
        return "tiles"
    return "bf16" if rounds_rows(f) else "floats"


def takes_bf16(isa: Isa, f: Format) -> bool:
    """Whether such activations are rows of BF16, two inputs a word, or still of float32."""
    return isa is Isa.AVX512_BF16 and rounds_rows(f)


def _rows(b: Any, x: Any, x_stride: Any, height: int) -> list[Any]:
    return [b.add(x, b.mul(x_stride, const(m))) for m in range(height)]


def _add_bf16(b: Any, blocks: list[Any], rows: list[Any], accs: Accs) -> None:
    """Add two inputs of each panel."""
    weights = [load_vector(b, block, 0, BF16X32) for block in blocks]
    for m, row in enumerate(rows):
        both = b.bitcast(splat_load(b, row, 0, I32, I32X16), BF16X32)
        for p, vector in enumerate(weights):
            b.store(dot2(b, b.load(accs[p][m]), vector, both), accs[p][m])


def _add_floats(b: Any, f: Format, blocks: list[Any], rows: list[Any], accs: Accs) -> None:
    """Add a block's inputs of each panel: the odd one of a BF16 pair first, see kernels/bf16.py."""
    weights = [float_vectors(b, f, block) for block in blocks]
    for i in reversed(range(f.block_inputs)):
        for m, row in enumerate(rows):
            value = splat_load(b, row, 4 * i, F32, F32X16)
            for p, vectors in enumerate(weights):
                b.store(fma_ir(b, vectors[i], value, b.load(accs[p][m])), accs[p][m])


def _emit(b: Any, isa: Isa, f: Format, height: int, n_panels: int, args: Any, ask: Any) -> None:
    """``n_panels`` panels times ``height`` rows; ``ask(blocks, index)`` prefetches."""
    w, x, n_blocks, x_stride, out, out_stride, accumulate = args
    accs = zeros(b, n_panels, height)
    panel_bytes = b.mul(n_blocks, const(f.block_bytes))
    narrow = takes_bf16(isa, f)
    x_bytes = 4 if narrow else 4 * f.block_inputs
    with cgutils.for_range(b, n_blocks, intp=I64) as loop:
        block = b.add(w, b.mul(loop.index, const(f.block_bytes)))
        blocks = [b.add(block, b.mul(panel_bytes, const(p))) for p in range(n_panels)]
        rows = _rows(b, b.add(x, b.mul(loop.index, const(x_bytes))), x_stride, height)
        ask(blocks, loop.index)
        if narrow:
            _add_bf16(b, blocks, rows, accs)
        else:
            _add_floats(b, f, blocks, rows, accs)
    finish(b, accs, out, out_stride, accumulate)


def make_float_tile(isa: Isa, f: Format, height: int, n_panels: int = 1) -> Any:
    """An intrinsic: panels times ``height`` rows of x_stride bytes, (w, x, n_blocks, x_stride,
    out, out_stride, accumulate). Weights ahead are asked for: BF16 from memory on one Zen 5 core,
    one row 31 -> 35 GB/s, 8 rows 8 -> 25."""

    @intrinsic
    def tile(ctx, w, x, n_blocks, x_stride, out, out_stride, accumulate):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            def ask(blocks: list[Any], index: Any) -> None:
                for block in blocks:
                    prefetch_lines(b, b.add(block, const(AHEAD // n_panels)), 1, 3)

            _emit(b, isa, f, height, n_panels, args, ask)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return tile


def make_float_pair(isa: Isa, f: Format, height: int) -> Any:
    """An intrinsic: two panels times ``height`` rows, (w, x, n_blocks, x_stride, out, out_stride,
    accumulate, ahead, end). Meanwhile weights from ``ahead`` on, up to ``end``, are asked for."""

    @intrinsic
    def tile(ctx, w, x, n_blocks, x_stride, out, out_stride, accumulate, ahead, end):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            ahead, end = args[7:]

            def ask(blocks: list[Any], index: Any) -> None:
                line = b.add(ahead, b.mul(index, const(PAIR_AHEAD)))
                line = b.select(b.icmp_signed("<", line, end), line, end)
                prefetch_lines(b, line, 1, 2)

            prefetch_outputs(b, args[4], args[5], 2, height)
            _emit(b, isa, f, height, 2, args[:7], ask)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 9), codegen

    return tile
