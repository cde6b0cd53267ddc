"""One quantised panel, or two side by side, times a few rows of 8-bit activations.

Each output is summed over the inputs in ascending order (blocks of 32) in one accumulator,
whatever the number of rows or panels computed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels import activations as act
from slotmux.kernels.address import F32, I32, I64, hidden, pointer, prefetch_ir
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X64, dot4
from slotmux.kernels.formats import Format, SubBlock
from slotmux.kernels.simd import F32X16, I32X16, const_ir, fma_ir, splat_ir

PREFETCH_BYTES = 8192  # how far ahead of the product weights are asked for
ROW_PREFETCH_BYTES = 4096  # the same for a single row
PAIR_AHEAD = 256  # bytes that a tile of two panels asks for every 32 inputs


def const(value: int) -> Any:
    """An int64."""
    return ir.Constant(I64, value)


def splat_load(b: Any, base: Any, offset: int, scalar: Any, vector: Any) -> Any:
    """A value of memory in all lanes."""
    value = b.load(pointer(b, base, offset), typ=scalar)
    value.align = 4
    return splat_ir(b, value, vector)


def activation_bytes(f: Format, rows: int = act.TILE_ROWS) -> int:
    """Bytes that one panel block takes of a tile of ``rows`` rows of 8-bit activations."""
    return f.n_sub_blocks * 4 * act.N_WORDS * rows


def can_pair(isa: Isa) -> bool:
    """Whether many rows are multiplied with two panels at a time.

    Both take an activation from the same register, where one panel loads it for every product.
    There are registers for two panels and four rows, so eight rows decode their weights twice.
    One Zen 5 core, 8 rows, one -> two panels with one scale for 32 activations, GOP/s: Q4_0 730 ->
    777, Q8_0 636 -> 745, but Q5_K 680 -> 566: see ``must_unpack``. Its limit is 755 now: per row,
    panel and sub-block 8 vpdpbusd, a multiplication and two FMAs on two pipes (all else runs on
    others), one more for a minimum or a second scale. Eight rows at once, with sums in memory, were
    slower (606).
    """
    return isa.is_avx512


def must_unpack(f: Format) -> bool:
    """Whether decoding takes so long that panels are decoded first to be multiplied in pairs.

    Two Zen 5 cores, 512 rows, 3584 inputs, decoded twice a tile -> first, GOP/s: Q4_K 1168 -> 1296,
    IQ4_XS 1174 -> 1419; but with 1024 inputs Q4_0 1410 -> 1392, Q4_1 1294 -> 1237.
    """
    return f.is_quantised and not f.is_light


@dataclass(frozen=True, slots=True)
class Tile:
    """What a product is compiled for: a format and instruction set, ``height`` rows computed
    together, the number of rows ``layout`` of the activation tiles that they stand in, and the
    number of panels side by side."""

    isa: Isa
    format: Format
    height: int
    layout: int
    n_panels: int = 1

    @property
    def groups(self) -> list[range]:
        """Rows whose sums of a sub-block are in registers at once."""
        fits = 4 if self.n_panels > 1 or self.isa is Isa.AVX_VNNI else self.height
        return [range(m, min(m + fits, self.height)) for m in range(0, self.height, fits)]

    def word(self, b: Any, x: Any, word: int, row: int, scalar: Any, vector: Any) -> Any:
        """A word of a row's activations in all lanes."""
        return splat_load(b, x, 4 * (self.layout * word + row), scalar, vector)


Accs = list[list[Any]]  # of each panel, for each row: where 16 outputs are summed up


def zeros(b: Any, n_panels: int, height: int) -> Accs:
    """Sums that are yet to be made."""
    zero = ir.Constant(F32X16, None)
    return [[cgutils.alloca_once_value(b, zero) for _ in range(height)] for _ in range(n_panels)]


def finish(b: Any, accs: Accs, out: Any, out_stride: Any, accumulate: Any) -> None:
    """Write the sums, or add them to what is there."""
    adds = b.icmp_signed("!=", accumulate, const(0))
    for p, panel in enumerate(accs):
        for m, acc in enumerate(panel):
            target = pointer(b, b.add(out, b.mul(out_stride, const(m))), 64 * p)
            with b.if_else(adds) as (then, otherwise):
                with then:
                    old = b.load(target, typ=F32X16)
                    old.align = 4
                    b.store(b.fadd(b.load(acc), old), target).align = 4
                with otherwise:
                    b.store(b.load(acc), target).align = 4


def _dot_part(b: Any, t: Tile, subs: list[SubBlock], x: Any, part: int, rows: range) -> Accs:
    """Integer sums of half a sub-block of each panel for each row."""
    f = t.format
    start = [ir.Constant(I32X16, None)] * len(rows)
    if f.offset:  # the stored words are -8 * sum
        shift = ir.Constant(I32X16, [abs(f.offset.bit_length() - 4)] * 16)
        move = b.shl if f.offset >= 8 else b.ashr
        start = [move(t.word(b, x, act.OFFSETS + part, m, I32, I32X16), shift) for m in rows]
    sums = [list(start) for _ in subs]
    for j in range(4 * part, 4 * part + 4):
        vectors = [next(sub.codes) for sub in subs]
        for i, m in enumerate(rows):
            acts = b.bitcast(t.word(b, x, j, m, I32, I32X16), I8X64)
            for p, vector in enumerate(vectors):
                sums[p][i] = dot4(b, t.isa, sums[p][i], vector, acts, small=f.max_code < 128)
    return [[b.sitofp(value, F32X16) for value in panel] for panel in sums]


def _row_scale(b: Any, t: Tile, x: Any, half: int, row: int) -> Any:
    return t.word(b, x, act.SCALES + half, row, F32, F32X16)


def _add_whole(b: Any, t: Tile, subs: list[SubBlock], x: Any, accs: Accs, rows: range) -> None:
    """Add a sub-block with one scale a row to ``accs``."""
    first = _dot_part(b, t, subs, x, 0, rows)
    low = [
        [b.fmul(v, _row_scale(b, t, x, 0, m)) for m, v in zip(rows, p, strict=True)] for p in first
    ]
    second = _dot_part(b, t, subs, x, 1, rows)
    scales = [sub.scales() for sub in subs]
    for i, m in enumerate(rows):
        row_scale = _row_scale(b, t, x, 1, m)
        for p, (scale, minimum) in enumerate(scales):
            value = fma_ir(b, second[p][i], row_scale, low[p][i])
            value = fma_ir(b, value, scale[0], b.load(accs[p][m]))
            if minimum:
                value = fma_ir(b, minimum[0], t.word(b, x, act.SUM, m, F32, F32X16), value)
            b.store(value, accs[p][m])


def _add_halves(b: Any, t: Tile, subs: list[SubBlock], x: Any, accs: Accs, rows: range) -> None:
    """The same for a sub-block with two scales a row."""
    scales = None
    for half in (0, 1):
        sums = _dot_part(b, t, subs, x, half, rows)
        scales = scales or [sub.scales() for sub in subs]
        for p, (scale, minima) in enumerate(scales):
            for i, m in enumerate(rows):
                row_scale, acc = _row_scale(b, t, x, half, m), b.load(accs[p][m])
                if not minima:
                    value = fma_ir(b, sums[p][i], b.fmul(scale[half], row_scale), acc)
                else:
                    eighth = b.fmul(minima[half], const_ir(-0.125))  # words are -8 * sum
                    total = b.sitofp(t.word(b, x, act.OFFSETS + half, m, I32, I32X16), F32X16)
                    value = fma_ir(b, eighth, total, b.fmul(scale[half], sums[p][i]))
                    value = fma_ir(b, value, row_scale, acc)
                b.store(value, accs[p][m])


def _sub_block(
    b: Any, t: Tile, blocks: Sequence[Any], heads: list[Any], index: Any, x: Any, accs: Accs
) -> None:
    """Add sub-block ``index`` of each panel."""
    decoder = t.format.decoder
    assert decoder is not None
    add = _add_whole if t.format.n_parts == 1 else _add_halves
    for n, rows in enumerate(t.groups):
        # The next group decodes anew: codes that were kept for it would not fit into registers.
        at = [hidden(b, block) for block in blocks] if n else blocks
        subs = [
            decoder.sub_block(b, t.isa, block, head, index)
            for block, head in zip(at, heads, strict=True)
        ]
        add(b, t, subs, x, accs, rows)


def prefetch_outputs(b: Any, out: Any, out_stride: Any, n_panels: int, height: int) -> None:
    """Ask for the lines that ``finish`` will write."""
    for m in range(height):
        prefetch_lines(b, b.add(out, b.mul(out_stride, const(m))), 64 * n_panels, 3, to_write=1)


def _quantised_block(b: Any, t: Tile, blocks: list[Any], x: Any, accs: Accs) -> None:
    """Add a block of each panel, sub-block after sub-block."""
    f = t.format
    assert f.decoder is not None
    heads = [f.decoder.head(b, block) for block in blocks]
    if f.n_sub_blocks == 1:
        _prefetch(b, t, blocks[0], f.block_bytes)
        _sub_block(b, t, blocks, heads, const(0), x, accs)
        return
    share = -(-f.block_bytes // f.n_sub_blocks)
    with cgutils.for_range(b, const(f.n_sub_blocks), intp=I64) as loop:
        _prefetch(b, t, b.add(blocks[0], b.mul(loop.index, const(share))), share)
        at = b.add(x, b.mul(loop.index, const(4 * act.N_WORDS * t.layout)))
        _sub_block(b, t, blocks, heads, loop.index, at, accs)


def prefetch_lines(b: Any, at: Any, n_bytes: int, level: int, to_write: int = 0) -> None:
    """``prefetch_ir`` of the lines from ``at`` on."""
    for line in range(0, n_bytes, 64):
        prefetch_ir(b, b.add(at, const(line)), level, to_write)


def _prefetch(b: Any, t: Tile, at: Any, n_bytes: int) -> None:
    """Ask for the weights that come a fixed number of bytes after those at ``at``.

    Several rows keep the core too busy to run far enough ahead by itself. 8 rows of Q8_0 from
    memory on one Zen 5 core: 390 GOP/s with 2 KiB, 465 with 4, 513 with 8, 522 with 16.

    One row needs it for blocks of many sub-blocks alone. Two Zen 5 cores from memory, without, 2,
    4 and 8 KiB ahead: Q4_K 35, 39, 39, 38 GB/s (beside other memory traffic 28, 30, 34, 34), as
    fast as mere reads; Q8_0 gains nothing, Q4_0 5 %, and whole models of these lost 10 % with
    8 KiB on a Zen 4.
    """
    if t.n_panels > 1 or (t.height == 1 and t.format.n_sub_blocks == 1):
        return
    ahead = PREFETCH_BYTES if t.height > 1 else ROW_PREFETCH_BYTES
    prefetch_lines(b, b.add(at, const(ahead)), n_bytes, 3)


def make_tile(isa: Isa, f: Format, height: int, layout: int = act.TILE_ROWS) -> Any:
    """An intrinsic: a panel times ``height`` rows of a tile of ``layout`` rows, (w, x, n_blocks,
    x_stride, out, out_stride, accumulate)."""
    t = Tile(isa, f, height, layout)

    @intrinsic
    def tile(ctx, w, x, n_blocks, x_stride, out, out_stride, accumulate):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            w, x, n_blocks, _, out, out_stride, accumulate = args
            accs = zeros(b, t.n_panels, t.height)
            with cgutils.for_range(b, n_blocks, intp=I64) as loop:
                block = b.add(w, b.mul(loop.index, const(f.block_bytes)))
                at = b.add(x, b.mul(loop.index, const(activation_bytes(f, layout))))
                _quantised_block(b, t, [block], at, accs)
            finish(b, accs, out, out_stride, accumulate)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return tile


def make_pair_tile(isa: Isa, f: Format, n_ahead: int) -> Any:
    """An intrinsic: two panels times 8 rows, (w, apart, x, n_blocks, ahead, end, out, out_stride,
    accumulate); the second panel is ``apart`` bytes behind the first.

    Meanwhile it asks for weights from ``ahead`` on, to a little behind ``end``, for its outputs'
    lines and for the next 8 rows, which come from the third cache the first time. Two Zen 5 cores,
    512 rows of Q4_0, without the last two -> with them, GOP/s: 4608 to 1024 1318 -> 1399, 1024 to
    9216 1299 -> 1375, 1024 to 1024 1207 -> 1324.
    """
    t = Tile(isa, f, act.TILE_ROWS, act.TILE_ROWS, 2)

    @intrinsic
    def tile(ctx, w, apart, x, n_blocks, ahead, end, out, out_stride, accumulate):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            w, apart, x, n_blocks, ahead, end, out, out_stride, accumulate = args
            accs = zeros(b, t.n_panels, t.height)
            x_bytes = activation_bytes(f)
            prefetch_outputs(b, out, out_stride, t.n_panels, t.height)
            with cgutils.for_range(b, n_blocks, intp=I64) as loop:
                first = b.add(w, b.mul(loop.index, const(f.block_bytes)))
                line = b.add(ahead, b.mul(loop.index, const(n_ahead)))
                line = b.select(b.icmp_signed("<", line, end), line, end)
                prefetch_lines(b, line, n_ahead, 2)
                at = b.add(x, b.mul(loop.index, const(x_bytes)))
                prefetch_lines(b, b.add(at, b.mul(n_blocks, const(x_bytes))), x_bytes, 2)
                _quantised_block(b, t, [first, b.add(first, apart)], at, accs)
            finish(b, accs, out, out_stride, accumulate)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 9), codegen

    return tile
