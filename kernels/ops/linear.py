"""Matrix product with a weight in panels: out[t, n] (+)= sum over k of x[t, k] * w[n, k].

Each output is summed over k in ascending order (blocks of 32 for quantised formats) in one
accumulator, whatever the number of rows computed together: the result does not depend on how
tokens were grouped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels import activations as act
from kernels.activations import compact_tile
from kernels.address import F32, I32, I64, PTR, load_i64, pointer
from kernels.claims import T_N_THREADS, T_SCRATCH, claim
from kernels.cpu import Isa
from kernels.dot import I8X64, dot4
from kernels.formats import FORMATS, Format, SubBlock, float_vector
from kernels.operands import words
from kernels.simd import F32X16, I32X16, const_ir, fma_ir, splat_ir

# w: panels; x: activation tiles (quantised) or float32 rows of x_stride bytes; out: float32 rows
# of out_stride bytes, as many as tokens rounded up to a tile. n_rows: address of the number of
# tokens (a word of the step). accumulate: 1 adds to out.
LINEAR = words("Linear", "w x out n_rows n_panels n_blocks x_stride out_stride accumulate")
TILE_HEIGHTS = (1, 2, 4, 8)
CHUNK_BYTES = 49152  # weights that a thread takes at a time when there are few tokens
PREFETCH_BYTES = 8192  # how far ahead of the product weights are asked for
TOKEN_BLOCK_BYTES = 393216  # activations that stay in a core's own cache


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


def _splat_load(b: Any, base: Any, offset: int, scalar: Any, vector: Any) -> Any:
    value = b.load(pointer(b, base, offset), typ=scalar)
    value.align = 4
    return splat_ir(b, value, vector)


def activation_bytes(f: Format, rows: int = act.TILE_ROWS) -> int:
    """Bytes that one panel block takes of a tile of ``rows`` rows of 8-bit activations."""
    return f.n_sub_blocks * 4 * act.N_WORDS * rows


@dataclass(frozen=True, slots=True)
class Tile:
    """What a product is compiled for: a format and instruction set, ``height`` rows computed
    together, and the number of rows ``layout`` of the activation tiles that they stand in."""

    isa: Isa
    format: Format
    height: int
    layout: int

    def word(self, b: Any, x: Any, word: int, row: int, scalar: Any, vector: Any) -> Any:
        """A word of a row's activations in all lanes."""
        return _splat_load(b, x, 4 * (self.layout * word + row), scalar, vector)


def _zeros(b: Any, height: int) -> list[Any]:
    return [cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(height)]


def _finish(b: Any, accs: list[Any], out: Any, out_stride: Any, accumulate: Any) -> None:
    adds = b.icmp_signed("!=", accumulate, _const(0))
    for m, acc in enumerate(accs):
        target = pointer(b, out, b.mul(out_stride, _const(m)))
        with b.if_else(adds) as (then, otherwise):
            with then:
                old = b.load(target, typ=F32X16)
                old.align = 4
                b.store(b.fadd(b.load(acc), old), target).align = 4
            with otherwise:
                b.store(b.load(acc), target).align = 4


def _dot_part(b: Any, t: Tile, codes: Any, x: Any, part: int) -> Any:
    """Integer sums of one part (a whole or half sub-block) for each row."""
    f, rows = t.format, range(t.height)
    sums = [ir.Constant(I32X16, None)] * t.height
    if f.offset:  # the stored words are -8 * sum
        shift = ir.Constant(I32X16, [abs(f.offset.bit_length() - 4)] * 16)
        move = b.shl if f.offset >= 8 else b.ashr
        word = act.OFFSET if f.n_parts == 1 else act.HALF_OFFSETS + part
        sums = [move(t.word(b, x, word, m, I32, I32X16), shift) for m in rows]
    n_groups = 8 // f.n_parts
    for j in range(part * n_groups, (part + 1) * n_groups):
        vector = next(codes)
        for m in rows:
            acts = b.bitcast(t.word(b, x, j, m, I32, I32X16), I8X64)
            sums[m] = dot4(b, t.isa, sums[m], vector, acts, small=f.max_code < 128)
    return [b.sitofp(value, F32X16) for value in sums]


def _add_whole(b: Any, t: Tile, sub: SubBlock, x: Any, accs: list[Any]) -> None:
    """Add a sub-block with one scale a row to ``accs`` (one vector of 16 outputs a row)."""
    sums = _dot_part(b, t, sub.codes, x, 0)
    scale, minimum = sub.scales()
    for m, acc in enumerate(accs):
        row_scale = t.word(b, x, act.SCALE, m, F32, F32X16)
        value = fma_ir(b, sums[m], b.fmul(scale[0], row_scale), b.load(acc))
        if minimum:
            value = fma_ir(b, minimum[0], t.word(b, x, act.SUM, m, F32, F32X16), value)
        b.store(value, acc)


def _add_halves(b: Any, t: Tile, sub: SubBlock, x: Any, accs: list[Any]) -> None:
    """The same for a sub-block with two scales a row."""
    first = _dot_part(b, t, sub.codes, x, 0)
    scales, minima = sub.scales()
    values = [b.fmul(scales[0], value) for value in first]
    second = _dot_part(b, t, sub.codes, x, 1)
    values = [fma_ir(b, scales[1], s, v) for s, v in zip(second, values, strict=True)]
    for part, minimum in enumerate(minima):
        eighth = b.fmul(minimum, const_ir(-0.125))  # the stored words are -8 * sum
        for m in range(t.height):
            total = b.sitofp(t.word(b, x, act.HALF_OFFSETS + part, m, I32, I32X16), F32X16)
            values[m] = fma_ir(b, eighth, total, values[m])
    for m, acc in enumerate(accs):
        row_scale = t.word(b, x, act.SCALE, m, F32, F32X16)
        b.store(fma_ir(b, values[m], row_scale, b.load(acc)), acc)


def _quantised_block(b: Any, t: Tile, block: Any, x: Any, accs: list[Any]) -> None:
    """Add a panel block, sub-block after sub-block."""
    f = t.format
    add = _add_whole if f.n_parts == 1 else _add_halves
    head = f.decoder.head(b, block)
    if f.n_sub_blocks == 1:
        add(b, t, f.decoder.sub_block(b, t.isa, block, head, _const(0)), x, accs)
        return
    share = -(-f.block_bytes // f.n_sub_blocks)
    with cgutils.for_range(b, _const(f.n_sub_blocks), intp=I64) as loop:
        if t.height > 1:
            _prefetch(b, b.add(block, b.mul(loop.index, _const(share))), share)
        at = b.add(x, b.mul(loop.index, _const(4 * act.N_WORDS * t.layout)))
        add(b, t, f.decoder.sub_block(b, t.isa, block, head, loop.index), at, accs)


def _prefetch(b: Any, at: Any, n_bytes: int) -> None:
    """Ask for the weights that come ``PREFETCH_BYTES`` after those at ``at``.

    Only with several rows, where the core is too busy to run far enough ahead by itself. 8 rows of
    Q8_0 from memory on one Zen 5 core: 390 GOP/s with 2 KiB, 465 with 4, 513 with 8, 522 with 16.
    One row does better without: 10 % on whole models of a Zen 4, although a single large matrix
    streams faster with it.
    """
    i32 = ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [PTR, i32, i32, i32])
    fn = cgutils.get_or_insert_function(b.module, signature, "llvm.prefetch.p0")
    flags = [ir.Constant(i32, 0), ir.Constant(i32, 3), ir.Constant(i32, 1)]  # read, keep, data
    for line in range(0, n_bytes, 64):
        b.call(fn, [pointer(b, at, PREFETCH_BYTES + line), *flags])


def make_tile(isa: Isa, f: Format, height: int, layout: int = act.TILE_ROWS) -> Any:
    """An intrinsic: one panel times ``height`` rows, (w, x, n_blocks, x_stride, out, out_stride,
    accumulate). Quantised: x is a tile of ``layout`` rows."""
    t = Tile(isa, f, height, layout)

    @intrinsic
    def tile(ctx, w, x, n_blocks, x_stride, out, out_stride, accumulate):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            w, x, n_blocks, x_stride, out, out_stride, accumulate = args
            accs = _zeros(b, height)
            with cgutils.for_range(b, n_blocks, intp=I64) as loop:
                block = b.add(w, b.mul(loop.index, _const(f.block_bytes)))
                if f.n_sub_blocks == 1 and height > 1:
                    _prefetch(b, block, f.block_bytes)
                if f.is_quantised:
                    at = b.add(x, b.mul(loop.index, _const(activation_bytes(f, layout))))
                    _quantised_block(b, t, block, at, accs)
                else:
                    weights = float_vector(b, f, block)
                    at = b.add(x, b.mul(loop.index, _const(4)))
                    for m, acc in enumerate(accs):
                        row = b.add(at, b.mul(x_stride, _const(m)))
                        value = _splat_load(b, row, 0, F32, F32X16)
                        b.store(fma_ir(b, weights, value, b.load(acc)), acc)
            _finish(b, accs, out, out_stride, accumulate)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return tile


def build_linear(isa: Isa, format_name: str) -> Callable[..., None]:
    """The kernel for one weight format."""
    f = FORMATS[format_name]
    tile1, tile2, tile4, tile8 = (make_tile(isa, f, h, h) for h in TILE_HEIGHTS)
    block_bytes = f.block_bytes
    # Bytes between tiles of 8 rows: activation tiles, or 8 float rows (x_stride each).
    quantised, x_bytes, n_sub_blocks = f.is_quantised, activation_bytes(f), f.n_sub_blocks

    @njit
    def product(height, w, x, n_blocks, x_stride, out, out_stride, accumulate):
        if height == 8:
            tile8(w, x, n_blocks, x_stride, out, out_stride, accumulate)
        elif height == 4:
            tile4(w, x, n_blocks, x_stride, out, out_stride, accumulate)
        elif height == 2:
            tile2(w, x, n_blocks, x_stride, out, out_stride, accumulate)
        else:
            tile1(w, x, n_blocks, x_stride, out, out_stride, accumulate)

    def linear(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + LINEAR.n_rows))
        height = tile_height(n_rows)
        n_panels, n_blocks = load_i64(op + LINEAR.n_panels), load_i64(op + LINEAR.n_blocks)
        x_stride, out_stride = load_i64(op + LINEAR.x_stride), load_i64(op + LINEAR.out_stride)
        accumulate = load_i64(op + LINEAR.accumulate)
        tile_stride = n_blocks * x_bytes if quantised else 8 * x_stride
        panel_stride = n_blocks * block_bytes
        n_tiles = (n_rows + 7) // 8
        block_tiles = min(max(1, TOKEN_BLOCK_BYTES // tile_stride), n_tiles)
        per_chunk = max(1, CHUNK_BYTES // (panel_stride * max(1, block_tiles // 2)))
        per_chunk = min(per_chunk, 1 + n_panels // (4 * load_i64(thread + 8 * T_N_THREADS)))
        n_groups = (n_panels + per_chunk - 1) // per_chunk
        n_chunks = n_groups * ((n_tiles + block_tiles - 1) // max(1, block_tiles))
        chunk = claim(thread, n_chunks)
        x = load_i64(op + LINEAR.x)
        if quantised and height < 8 and chunk >= 0:
            scratch = load_i64(thread + 8 * T_SCRATCH)
            compact_tile(x, n_blocks * n_sub_blocks, height, scratch)
            x = scratch
        while chunk >= 0:
            w, out = load_i64(op + LINEAR.w), load_i64(op + LINEAR.out)
            first_panel = chunk % n_groups * per_chunk
            first_tile = chunk // n_groups * block_tiles
            for panel in range(first_panel, min(first_panel + per_chunk, n_panels)):
                at = w + panel * panel_stride
                for t in range(first_tile, min(first_tile + block_tiles, n_tiles)):
                    x_t, out_t = x + t * tile_stride, out + panel * 64 + 8 * t * out_stride
                    product(height, at, x_t, n_blocks, x_stride, out_t, out_stride, accumulate)
            chunk = claim(thread, n_chunks)

    return linear


@njit
def tile_height(n_rows):
    """Rows computed together: a power of two up to 8; rows behind the last are computed and
    never read (buffers have room for whole tiles)."""
    if n_rows > 4:
        return 8
    return 4 if n_rows > 2 else n_rows
