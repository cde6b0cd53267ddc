"""Matrix product with a weight in panels: out[t, n] (+)= sum over k of x[t, k] * w[n, k].

The tiles of kernels/tile.py sum over k in the same order whatever the number of rows and panels
computed together: the result does not depend on how tokens were grouped.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from slotmux.kernels.activations import N_WORDS, compact_tile
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.float_tile import PAIR_AHEAD as FLOAT_AHEAD
from slotmux.kernels.float_tile import form_of, make_float_pair, make_float_tile
from slotmux.kernels.formats import FORMATS, Format
from slotmux.kernels.formats.panels import Panels
from slotmux.kernels.formats.unpacked import make_unpack, unpacked
from slotmux.kernels.heights import HEIGHTS, by_height, tile_height
from slotmux.kernels.operands import (
    ANY_ROWS,
    Activations,
    Count,
    Form,
    Op,
    Rows,
    given,
    offsets,
    reads,
    word,
    writes,
)
from slotmux.kernels.tile import (
    PAIR_AHEAD,
    activation_bytes,
    can_pair,
    make_pair_tile,
    make_tile,
    must_unpack,
)

CHUNK_BYTES = 49152  # weights that a thread takes at a time when there are few tokens
# Activations that stay in a core's own cache; more of them where panels are unpacked for each.
TOKEN_BLOCK_BYTES, UNPACKING_BLOCK_BYTES = 393216, 786432
# From FEW_TILES on two panels are computed together (PAIR_TILES: where they are decoded first). A
# single tile is bound by memory, and one stream of weights is faster than two. One panel -> two,
# two Zen 5 cores, 16 and 24 rows: Q8_0 from memory 15 and 18 % faster, from the third cache 13 to
# 24 %, Q4_0 7 and 11 to 20 %; 8 rows from memory 4 to 24 % slower.
PAIR_TILES, FEW_TILES = 4, 2
# The same for formats that are decoded first and have a minimum or two scales: their operations
# fill the units as it is, and two panels save nothing but loads. Two Zen 4 cores, 2048 inputs, 32,
# 64 and 96 rows, what one panel at a time gains in %: Q4_K 5, 3, 1, Q6_K 7, 1, -1, Q3_K 6, 2, -3,
# Q5_1 5, 2, -1, Q2_K 2, 2, 0, Q5_K 2, 0, -2; but with one scale Q5_0 3, -6, -6, IQ4_XS -1, -6, -8.
BUSY_TILES = 10
# Tiles of a chunk however many inputs there are: less would read weights too often. 8192 inputs,
# 512 rows, two Zen 5 cores, 1 -> 16, GOP/s: Q8_0 1123 -> 1330, BF16 617 -> 960, Q4_K 1199 -> 1248.
LEAST_TILES = 16
UNPACKED_BYTES = 786432  # two panels of a format that must be unpacked, where they fit in a cache


class Linear(Op, kernel="linear"):
    """out = x w^T, or out += that"""

    w: Panels = given("weights [n_out, n_in]; their format is compiled in")
    x: Activations = reads("[n_rows, n_in], in the form that the weights' format takes")
    out: Rows = writes("float32 [n_rows in whole tiles, n_out in whole panels]", reads_if="add")
    add: bool = given("adds to out", default=False)
    most_rows: int = given("with more it does nothing: see gated.py", default=ANY_ROWS)

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.out.n_rows

    @word
    def n_panels(self) -> int:
        """Panels of w."""
        return self.w.n_panels

    @word
    def n_blocks(self) -> int:
        """Blocks of a panel."""
        return self.w.n_blocks

    @property
    def form(self) -> Form:
        return form_of(self.w.format)

    @property
    def variant(self) -> tuple[str]:
        return (self.w.format.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_linear(isa, self.w.format.name)

    def scratch_bytes(self, isa: Isa) -> int:
        """A last tile of few rows, and unpacked panels."""
        f, n_blocks = self.w.format, self.w.n_blocks
        return n_blocks * compact_bytes(f) + unpacking_bytes(isa, f, n_blocks)


LINEAR = offsets(Linear)


def compact_bytes(f: Format) -> int:
    """Of a block of inputs, in a last tile of few rows, with which a thread's scratch begins."""
    return round_up_line(4 * f.n_sub_blocks * N_WORDS * HEIGHTS[-2]) if f.is_quantised else 0


def round_up_line(n_bytes: int) -> int:
    """To whole cache lines."""
    return -(-n_bytes // 64) * 64


def working_bytes(f: Format) -> int:
    """Of a block of inputs, in two unpacked panels; 0 where nothing is unpacked."""
    return 2 * unpacked(f).block_bytes * f.n_sub_blocks if must_unpack(f) else 0


def unpacking_bytes(isa: Isa, f: Format, n_blocks: int) -> int:
    """Scratch in which ``build_panels_times_rows`` unpacks panels of ``n_blocks`` blocks."""
    n_bytes = n_blocks * working_bytes(f)
    return n_bytes if can_pair(isa) and n_bytes <= UNPACKED_BYTES else 0


def token_block_bytes(isa: Isa, f: Format) -> int:
    """How many bytes of activations a chunk goes through."""
    unpacks = can_pair(isa) and must_unpack(f)
    return UNPACKING_BLOCK_BYTES if unpacks else TOKEN_BLOCK_BYTES


def least_pair_tiles(f: Format) -> int:
    """From how many tiles of rows on two panels are computed together."""
    if must_unpack(f):
        return BUSY_TILES if f.has_minimum or f.n_parts > 1 else PAIR_TILES
    return FEW_TILES if f.is_quantised else PAIR_TILES


@njit(forceinline=True)
def even_parts(n_tiles, most):
    """Into how many parts, of ``most`` at most, n_tiles are cut evenly; the tiles of a part."""
    n_parts = (n_tiles + most - 1) // most
    return n_parts, (n_tiles + n_parts - 1) // max(1, n_parts)


@njit
def no_panels(w, x, n_tiles, n_blocks, x_stride, out, out_stride, accumulate, scratch):
    """In the place of ``build_two_panels``, where it is never called."""


def build_two_float_panels(isa: Isa, f: Format) -> Callable[..., None]:
    """The same as ``build_two_panels`` for floats."""
    pair8, block_bytes = make_float_pair(isa, f, 8), f.block_bytes

    @njit
    def two_panels(w, x, n_tiles, n_blocks, x_stride, out, out_stride, accumulate, scratch):
        next_pair = w + 2 * n_blocks * block_bytes
        end = next_pair + 2 * n_blocks * block_bytes - 64
        for t in range(n_tiles):
            x_t, to = x + 8 * t * x_stride, out + 8 * t * out_stride
            ahead = next_pair + t * n_blocks * FLOAT_AHEAD
            pair8(w, x_t, n_blocks, x_stride, to, out_stride, accumulate, ahead, end)

    return two_panels


def build_two_panels(isa: Isa, f: Format) -> Callable[..., None]:
    """A Numba function: two panels times ``n_tiles`` tiles of 8 rows."""
    if not f.is_quantised:
        return build_two_float_panels(isa, f)
    unpacks = must_unpack(f)
    pair = unpacked(f) if unpacks else f
    unpack, n_ahead = make_unpack(isa, f), PAIR_AHEAD * f.n_sub_blocks
    pair8 = make_pair_tile(isa, pair, PAIR_AHEAD * pair.n_sub_blocks)
    # Few tiles have to ask for more, each its share of two panels.
    few_ahead = n_ahead if unpacks else (f.block_bytes + 63) // 64 * 64
    few8 = pair8 if unpacks else make_pair_tile(isa, pair, few_ahead)
    n_units = f.block_inputs // pair.block_inputs  # blocks of ``pair`` in a block of ``f``
    block_bytes, pair_bytes, x_bytes = f.block_bytes, pair.block_bytes, activation_bytes(f)

    @njit
    def two_panels(w, x, n_tiles, n_blocks, x_stride, out, out_stride, accumulate, scratch):
        next_pair = w + 2 * n_blocks * block_bytes
        is_few = n_tiles < PAIR_TILES
        n_asked = few_ahead if is_few else n_ahead
        end = next_pair + 2 * n_blocks * block_bytes - n_asked
        source, n = w, n_blocks * n_units
        apart = n * pair_bytes
        if unpacks:
            unpack(w, 2 * n_blocks, scratch)
            source = scratch
        for t in range(n_tiles):
            x_t, to = x + t * n_blocks * x_bytes, out + 8 * t * out_stride
            ahead = next_pair + t * n_blocks * n_asked
            if is_few:
                few8(source, apart, x_t, n, ahead, end, to, out_stride, accumulate)
            else:
                pair8(source, apart, x_t, n, ahead, end, to, out_stride, accumulate)

    return two_panels


def build_panels_times_rows(isa: Isa, format_name: str, *, compact: bool) -> Callable[..., None]:
    """A Numba function: ``n_panels`` panels at ``w`` times ``n_rows`` rows at ``x``.

    ``last``: where the last tile is, with ``compact`` in a layout of its own height; ``scratch``:
    ``unpacking_bytes`` of working memory.
    """
    f = FORMATS[format_name]
    pairs = can_pair(isa)
    if f.is_quantised:
        layouts = HEIGHTS if compact else (8, 8, 8, 8)
        tiles = [make_tile(isa, f, *size) for size in zip(HEIGHTS, layouts, strict=True)]
    else:
        tiles = [make_float_tile(isa, f, height) for height in HEIGHTS]
    one_panel = by_height(tiles)
    pair1 = tiles[0] if f.is_quantised else make_float_tile(isa, f, 1, n_panels=2)
    block_bytes, quantised, x_bytes = f.block_bytes, f.is_quantised, activation_bytes(f)
    two_panels = build_two_panels(isa, f) if pairs else no_panels
    pair_tiles = least_pair_tiles(f)
    unpacked_bytes = working_bytes(f)

    @njit
    def panels_times_rows(
        w, n_panels, x, n_rows, last, n_blocks, x_stride, out, out_stride, accumulate, scratch
    ):
        tile_stride = n_blocks * x_bytes if quantised else 8 * x_stride
        n_tiles, n_whole = (n_rows + 7) // 8, (n_rows + 3) // 8  # 5 rows and more are a whole tile
        by_pairs = pairs and n_whole >= pair_tiles and n_blocks * unpacked_bytes <= UNPACKED_BYTES
        panel = 0
        while panel < n_panels:
            n, first = 1, 0
            if by_pairs and panel + 1 < n_panels:
                at, to = w + panel * n_blocks * block_bytes, out + 64 * panel
                two_panels(at, x, n_whole, n_blocks, x_stride, to, out_stride, accumulate, scratch)
                n, first = 2, n_whole
            elif not quantised and n_rows == 1 and panel + 1 < n_panels:
                # One sum of floats waits for itself: two keep up with memory.
                at, to = w + panel * n_blocks * block_bytes, out + 64 * panel
                pair1(at, x, n_blocks, x_stride, to, out_stride, accumulate)
                n, first = 2, 1
            for p in range(panel, panel + n):
                at = w + p * n_blocks * block_bytes
                for t in range(first, n_tiles):
                    height, to = tile_height(n_rows - 8 * t), out + 64 * p + 8 * t * out_stride
                    x_t = last if t == n_tiles - 1 else x + t * tile_stride
                    one_panel(height, (at, x_t, n_blocks, x_stride, to, out_stride, accumulate))
            panel += n

    return panels_times_rows


def build_linear(isa: Isa, format_name: str) -> Callable[..., None]:
    """The kernel for one weight format; a chunk is some panels times some tiles of rows."""
    f = FORMATS[format_name]
    panels_times_rows = build_panels_times_rows(isa, format_name, compact=True)
    token_block = token_block_bytes(isa, f)
    block_bytes, pairs, pair_tiles = f.block_bytes, can_pair(isa), least_pair_tiles(f)
    least_tiles = LEAST_TILES if pairs else 1
    # Bytes between tiles of 8 rows: activation tiles, or 8 float rows (x_stride each).
    quantised, x_bytes, n_sub_blocks = f.is_quantised, activation_bytes(f), f.n_sub_blocks
    last_bytes = compact_bytes(f)

    def linear(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows = load_i64(load_i64(op + LINEAR.n_rows))
        if n_rows > load_i64(op + LINEAR.most_rows):
            n_rows = 0
        n_panels, n_blocks = load_i64(op + LINEAR.n_panels), load_i64(op + LINEAR.n_blocks)
        x_stride, out_stride = load_i64(op + LINEAR.x_stride), load_i64(op + LINEAR.out_stride)
        tile_stride = n_blocks * x_bytes if quantised else 8 * x_stride
        panel_stride = n_blocks * block_bytes
        n_tiles = (n_rows + 7) // 8
        most = max(1, min(max(least_tiles, token_block // tile_stride), n_tiles))  # of a chunk
        n_token_blocks, block_tiles = even_parts(n_tiles, most)
        # Whole pairs where there are any; else less, so that threads end together.
        least = 2 if (n_tiles >= pair_tiles if pairs else n_rows == 1 and not quantised) else 1
        per_chunk = max(least, CHUNK_BYTES // (panel_stride * max(1, block_tiles // 2)))
        per_chunk = min(per_chunk, 1 + n_panels // (4 * load_i64(thread + 8 * T_N_THREADS)))
        per_chunk = max(1, per_chunk // least * least)
        n_groups = (n_panels + per_chunk - 1) // per_chunk
        n_chunks = n_groups * n_token_blocks
        chunk = claim(thread, n_chunks)
        x, height = load_i64(op + LINEAR.x), tile_height(n_rows - 8 * (n_tiles - 1))
        last = x + (n_tiles - 1) * tile_stride
        if quantised and height < 8 and chunk >= 0:
            scratch = load_i64(thread + 8 * T_SCRATCH)
            compact_tile(last, n_blocks * n_sub_blocks, height, scratch)
            last = scratch
        while chunk >= 0:
            first_panel = chunk % n_groups * per_chunk
            first_tile = chunk // n_groups * block_tiles
            x_first, end_tile = x + first_tile * tile_stride, first_tile + block_tiles
            panels_times_rows(
                load_i64(op + LINEAR.w) + first_panel * panel_stride,
                min(per_chunk, n_panels - first_panel),
                x_first,
                min(8 * block_tiles, n_rows - 8 * first_tile),
                last if end_tile >= n_tiles else x + (end_tile - 1) * tile_stride,
                n_blocks,
                x_stride,
                load_i64(op + LINEAR.out) + first_panel * 64 + 8 * first_tile * out_stride,
                out_stride,
                load_i64(op + LINEAR.add),
                load_i64(thread + 8 * T_SCRATCH) + n_blocks * last_bytes,
            )
            chunk = claim(thread, n_chunks)

    return linear
