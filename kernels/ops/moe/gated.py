"""The experts' first half in one go: products with gate and up, their activation, its 8-bit form.

Sums, activations and codes are those of experts.py to the bit, but they stay in a core's own
caches: no row of the groups is ever in memory as floats. As kernels/ops/dense/gated.py, but for any
number of rows: an expert has few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import BLOCK, BLOCK_BYTES, N_WORDS, TILE_ROWS, compact_tile
from slotmux.kernels.address import load_i64
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.formats import FORMATS, Format
from slotmux.kernels.formats.panels import Experts
from slotmux.kernels.formats.unpacked import make_unpack, unpacked
from slotmux.kernels.heights import HEIGHTS, by_height, tile_height
from slotmux.kernels.operands import (
    Op,
    Table,
    Tiles,
    Vector,
    compiled,
    given,
    offsets,
    reads,
    word,
    writes,
)
from slotmux.kernels.ops.dense.glu import gated_function
from slotmux.kernels.ops.dense.linear import (
    CHUNK_BYTES,
    UNPACKED_BYTES,
    least_pair_tiles,
    unpacking_bytes,
    working_bytes,
)
from slotmux.kernels.ops.moe.route import G_EXPERT, G_FIRST, G_N_ROWS, GROUP_WORDS
from slotmux.kernels.quantize import quantize_tile
from slotmux.kernels.tile import (
    PAIR_AHEAD,
    activation_bytes,
    can_pair,
    make_pair_tile,
    make_tile,
    must_unpack,
)

# A thread's scratch: sums of 8 rows for each tile of a chunk, of two panels a row those of gate and
# of up; 32 outputs of 8 rows; their block, where it is to be in another layout; unpacked panels.
ROW, OUT_ROW = 4 * 64, 4 * BLOCK  # bytes
TILE_SUMS, MOST_TILES = TILE_ROWS * ROW, 16
S_OUT = MOST_TILES * TILE_SUMS
S_BLOCK = S_OUT + TILE_ROWS * OUT_ROW
S_UNPACKED = S_BLOCK + 448


class ExpertGated(Op, kernel="expert_gated"):
    """tiles = act(x gate^T, x up^T) in 8 bits, or act(x up^T), each expert's rows with its own"""

    activation: str = compiled("one of GATED_ACTIVATIONS")
    w: Experts = given(
        "gate's outputs, if there is one, and up's [n_expert, (2) n_out, n_in], quantised"
    )
    has_gate: bool = given("whether w begins with a gate")
    gate_bias: Vector | None = given("float32 [n_expert, n_out], added before; None: 0")
    up_bias: Vector | None = given("float32 [n_expert, n_out], added before; None: 0")
    x: Tiles = reads("[rows of the groups, n_in], see Gather")
    counts: Table[np.int64] = reads("see Group")
    table: Table[np.int64] = reads("see Group")
    tiles: Tiles = writes("[rows of the groups, n_out], in the same layout; n_out a multiple of 32")

    @word
    def n_out(self) -> int:
        """Outputs of an expert."""
        return self.tiles.width

    @word
    def expert_bytes(self) -> int:
        """From an expert's panels to the next one's."""
        return self.w.expert_bytes

    @word
    def n_blocks(self) -> int:
        """Blocks of a panel."""
        return self.w.n_blocks

    @property
    def variant(self) -> tuple[str, str]:
        return self.w.format.name, self.activation

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_expert_gated(isa, *self.variant)

    def scratch_bytes(self, isa: Isa) -> int:
        """Sums and outputs of a chunk, and unpacked panels."""
        return S_UNPACKED + unpacking_bytes(isa, self.w.format, self.w.n_blocks)


EXPERT_GATED = offsets(ExpertGated)


def can_gate_experts(w: Experts, n_out: int) -> bool:
    """Whether there is such a kernel."""
    return w.format.is_quantised and n_out % BLOCK == 0


def build_pair_sums(isa: Isa, f: Format) -> Callable[..., None]:
    """A Numba function: a panel of gate and one of up times ``n_tiles`` tiles of 8 rows."""
    unpacks = must_unpack(f)
    pair = unpacked(f) if unpacks else f
    unpack, n_ahead = make_unpack(isa, f), PAIR_AHEAD * f.n_sub_blocks
    pair8 = make_pair_tile(isa, pair, PAIR_AHEAD * pair.n_sub_blocks)
    n_units = f.block_inputs // pair.block_inputs  # blocks of ``pair`` in a block of ``f``
    block_bytes, pair_bytes, x_bytes = f.block_bytes, pair.block_bytes, activation_bytes(f)

    @njit
    def pair_sums(gate, up, x, n_tiles, n_blocks, sums, scratch):
        panel_bytes, n = n_blocks * block_bytes, n_blocks * n_units
        first, apart = gate, up - gate
        if unpacks:
            first, apart = scratch, n * pair_bytes
            unpack(gate, n_blocks, first)
            unpack(up, n_blocks, first + apart)
        for t in range(n_tiles):
            ahead = (gate if t % 2 == 0 else up) + panel_bytes  # the next panels, in turns
            end = ahead + panel_bytes - n_ahead
            ahead += t // 2 * n_blocks * n_ahead
            to = sums + t * TILE_SUMS
            pair8(first, apart, x + t * n_blocks * x_bytes, n, ahead, end, to, ROW, 0)

    return pair_sums


@njit
def no_pair_sums(gate, up, x, n_tiles, n_blocks, sums, scratch):
    """In the place of ``build_pair_sums``, where it is never called."""


def build_panel_sums(isa: Isa, f: Format) -> Callable[..., None]:
    """A Numba function: the panel at ``w`` of up, and ``gate_at`` bytes before it that of gate if
    that is not 0, times n_rows rows; sums of gate go to ``sums``, those of up 64 bytes behind."""
    pairs, pair_tiles, unpacked_bytes = can_pair(isa), least_pair_tiles(f), working_bytes(f)
    one_panel = by_height([make_tile(isa, f, height, height) for height in HEIGHTS])
    pair_sums = build_pair_sums(isa, f) if pairs else no_pair_sums
    x_bytes = activation_bytes(f)

    @njit
    def panel_sums(w, gate_at, x, n_rows, n_blocks, sums, scratch):
        n_tiles, n_whole, first = (n_rows + 7) // 8, (n_rows + 3) // 8, 0
        fits = n_blocks * unpacked_bytes <= UNPACKED_BYTES
        if pairs and fits and gate_at != 0 and n_whole >= pair_tiles:
            pair_sums(w - gate_at, w, x, n_whole, n_blocks, sums, scratch)
            first = n_whole
        for part in range(2 if gate_at != 0 else 1):
            for t in range(first, n_tiles):
                to = sums + t * TILE_SUMS + 64 * (1 - part)
                height, x_t = tile_height(n_rows - 8 * t), x + t * n_blocks * x_bytes
                one_panel(height, (w - part * gate_at, x_t, n_blocks, 0, to, ROW, 0))

    return panel_sums


def build_activated(activation: str) -> Callable[..., None]:
    """A Numba function: from the sums of a tile to its outputs, 32 of each row."""
    combine = gated_function(activation)

    @njit(forceinline=True)
    def biased(value, bias, at):
        return value if bias == 0 else value + simd.load(bias + at)

    @njit
    def activated(sums, n_rows, has_gate, gate_bias, up_bias, out):
        for row in range(n_rows):
            for half in range(2):
                at = sums + row * ROW + 128 * half
                up = biased(simd.load(at + 64), up_bias, 64 * half)
                gate = biased(simd.load(at), gate_bias, 64 * half) if has_gate else up
                simd.store(out + row * OUT_ROW + 64 * half, combine(gate, up, has_gate))

    return activated


@njit
def quantize_outputs(out, n_rows, tile, block, scratch):
    """Quantise 32 outputs of n_rows rows, as a block's number ``block`` of a tile, which has the
    layout of its own height."""
    height = tile_height(n_rows)
    if height == TILE_ROWS:
        quantize_tile(out, OUT_ROW, BLOCK, n_rows, tile + block * BLOCK_BYTES)
    else:
        quantize_tile(out, OUT_ROW, BLOCK, n_rows, scratch)
        compact_tile(scratch, 1, height, tile + block * 4 * N_WORDS * height)


@njit
def _bias_at(bias, at):
    return bias if bias == 0 else bias + 4 * at


def build_block_of_expert(isa: Isa, f: Format, activation: str) -> Callable[..., None]:
    """A Numba function: 32 outputs of an expert, for up to MOST_TILES tiles of its rows."""
    panel_sums, activated = build_panel_sums(isa, f), build_activated(activation)
    block_bytes, x_bytes = f.block_bytes, activation_bytes(f)

    @njit
    def block_of_expert(op, expert, row, n_rows, block, scratch):
        n_out, n_blocks = load_i64(op + EXPERT_GATED.n_out), load_i64(op + EXPERT_GATED.n_blocks)
        has_gate, panel_bytes = load_i64(op + EXPERT_GATED.has_gate) != 0, n_blocks * block_bytes
        gate_at = n_out // 16 * panel_bytes if has_gate else 0
        w = load_i64(op + EXPERT_GATED.w) + expert * load_i64(op + EXPERT_GATED.expert_bytes)
        w += gate_at + 2 * block * panel_bytes
        x = load_i64(op + EXPERT_GATED.x) + row // 8 * n_blocks * x_bytes
        for half in range(2):
            at, to = w + half * panel_bytes, scratch + 128 * half
            panel_sums(at, gate_at, x, n_rows, n_blocks, to, scratch + S_UNPACKED)
        gate_bias, up_bias = (
            _bias_at(load_i64(op + EXPERT_GATED.gate_bias), expert * n_out + block * BLOCK),
            _bias_at(load_i64(op + EXPERT_GATED.up_bias), expert * n_out + block * BLOCK),
        )
        tile_bytes = n_out // BLOCK * BLOCK_BYTES
        tile = load_i64(op + EXPERT_GATED.tiles) + row // 8 * tile_bytes
        for t in range((n_rows + 7) // 8):
            n, out = min(TILE_ROWS, n_rows - 8 * t), scratch + S_OUT
            activated(scratch + t * TILE_SUMS, n, has_gate, gate_bias, up_bias, out)
            quantize_outputs(out, n, tile + t * tile_bytes, block, scratch + S_BLOCK)

    return block_of_expert


def build_expert_gated(isa: Isa, format_name: str, activation: str) -> Callable[..., None]:
    """The kernel for one weight format and activation; a chunk is some outputs of one expert."""
    f = FORMATS[format_name]
    block_of_expert, block_bytes = build_block_of_expert(isa, f, activation), f.block_bytes

    @njit
    def outputs_of_expert(op, entry, first, end, scratch):
        expert, n_rows = load_i64(entry + G_EXPERT), load_i64(entry + G_N_ROWS)
        for start in range(0, n_rows, 8 * MOST_TILES):
            row, n = load_i64(entry + G_FIRST) + start, min(8 * MOST_TILES, n_rows - start)
            for block in range(first, end):
                block_of_expert(op, expert, row, n, block, scratch)

    def expert_gated(op, step, thread):  # type: ignore[no-untyped-def]
        counts, n_outputs = load_i64(op + EXPERT_GATED.counts), load_i64(op + EXPERT_GATED.n_out)
        n_outputs //= BLOCK
        n_active, n_tiles = load_i64(counts), load_i64(counts + 8)
        tiles = n_tiles // max(1, n_active)  # of an expert, on average
        output_bytes = 2 * load_i64(op + EXPERT_GATED.n_blocks) * block_bytes
        output_bytes *= 1 + load_i64(op + EXPERT_GATED.has_gate)
        per_chunk = CHUNK_BYTES // (output_bytes * max(1, tiles // 2))
        share = n_active * n_outputs // (4 * load_i64(thread + 8 * T_N_THREADS))
        per_chunk = max(1, min(per_chunk, 1 + share, n_outputs))
        n_groups = (n_outputs + per_chunk - 1) // per_chunk
        n_chunks = n_active * n_groups
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            entry = load_i64(op + EXPERT_GATED.table) + 8 * GROUP_WORDS * (chunk // n_groups)
            first = chunk % n_groups * per_chunk
            end, scratch = min(n_outputs, first + per_chunk), load_i64(thread + 8 * T_SCRATCH)
            outputs_of_expert(op, entry, first, end, scratch)
            chunk = claim(thread, n_chunks)

    return expert_gated
