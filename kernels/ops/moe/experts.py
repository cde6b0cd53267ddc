"""The experts' own work: products with each expert's panels, and the activation in between.

Rows are (token, rank) pairs grouped by expert, see kernels/ops/moe/route.py. The tiles are those of
kernels/tile.py, so an output is reduced in the same order however many rows a group has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import TILE_ROWS, blocks_at
from slotmux.kernels.address import load_i32, load_i64
from slotmux.kernels.claims import T_N_THREADS, T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.float_tile import form_of
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.formats.panels import Experts
from slotmux.kernels.operands import (
    STEP,
    Activations,
    Form,
    Op,
    Rows,
    Table,
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
from slotmux.kernels.ops.dense.glu import SEGMENT, gated_function
from slotmux.kernels.ops.dense.linear import (
    CHUNK_BYTES,
    PAIR_TILES,
    build_panels_times_rows,
    token_block_bytes,
    unpacking_bytes,
)
from slotmux.kernels.ops.dense.norm import load_row_vector
from slotmux.kernels.ops.moe.route import G_EXPERT, G_FIRST, G_N_ROWS, GROUP_WORDS
from slotmux.kernels.quantize import quantize_block
from slotmux.kernels.tile import activation_bytes, can_pair


class ExpertProducts(Op, kernel="experts"):
    """out = x w^T, each expert's rows with its own matrix"""

    w: Experts = given("weights [n_expert, n_out, n_in]; their format is compiled in")
    compact: bool = compiled("whether a group's last tile of x has the layout of its own height")
    x: Activations = reads("[rows of the groups, n_in], in the form that the format takes")
    counts: Table[np.int64] = reads("see Group")
    table: Table[np.int64] = reads("see Group")
    out: Rows = writes("float32 [rows of the groups, n_out in whole panels]")

    @word
    def expert_bytes(self) -> int:
        """From an expert's panels to the next one's."""
        return self.w.expert_bytes

    @word
    def n_panels(self) -> int:
        """Panels of an expert."""
        return self.w.n_panels

    @word
    def n_blocks(self) -> int:
        """Blocks of a panel."""
        return self.w.n_blocks

    @property
    def form(self) -> Form:
        return form_of(self.w.format)

    @property
    def variant(self) -> tuple[str] | tuple[str, str]:
        f = self.w.format
        return (f.name, "compact") if self.compact and f.is_quantised else (f.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_experts(isa, self.w.format.name, compact=self.compact)

    def scratch_bytes(self, isa: Isa) -> int:
        """Unpacked panels."""
        return unpacking_bytes(isa, self.w.format, self.w.n_blocks)


class ExpertGlu(Op, kernel="expert_glu"):
    """out = act(gate, up), or act(up) without a gate, for rows by place"""

    activation: str = compiled("one of GATED_ACTIVATIONS")
    ids: Table[np.int32] = reads("see Route")
    place: Table[np.int32] = reads("see Group")
    n_used: int = given("experts a token takes")
    gate: Rows | None = reads("float32 [rows of the groups, n]", stride_of="up")
    up: Rows = reads("float32 [rows of the groups, n]")
    gate_bias: Vector | None = given("float32 [n_expert, n], added before; None: 0", default=None)
    up_bias: Vector | None = given("float32 [n_expert, n], added before; None: 0", default=None)
    out: Rows | None = writes("float32 [rows of the groups, n]")
    tiles: Tiles | None = tiles_of("out")

    @word
    def n(self) -> int:
        """Width."""
        return self.up.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_expert_glu(self.activation)


EXPERTS, EXPERT_GLU = offsets(ExpertProducts), offsets(ExpertGlu)


def build_experts(isa: Isa, format_name: str, *, compact: bool) -> Callable[..., None]:
    """Every expert's panels times its rows; a chunk is some panels of one expert."""
    f = FORMATS[format_name]
    panels_times_rows = build_panels_times_rows(isa, format_name, compact=compact)
    block_bytes, quantised, x_bytes = f.block_bytes, f.is_quantised, activation_bytes(f)
    pairs, token_block = can_pair(isa), token_block_bytes(isa, f)

    @njit
    def rows_of_expert(op, expert, first_row, n_rows, first_panel, n_panels, scratch):
        n_blocks, x_stride = load_i64(op + EXPERTS.n_blocks), load_i64(op + EXPERTS.x_stride)
        out_stride = load_i64(op + EXPERTS.out_stride)
        tile_stride = n_blocks * x_bytes if quantised else 8 * x_stride
        w = load_i64(op + EXPERTS.w) + expert * load_i64(op + EXPERTS.expert_bytes)
        w += first_panel * n_blocks * block_bytes
        block_rows = 8 * max(1, token_block // tile_stride)
        for first in range(0, n_rows, block_rows):
            n, row = min(block_rows, n_rows - first), first_row + first
            x = load_i64(op + EXPERTS.x) + row // 8 * tile_stride
            last = x + (n - 1) // 8 * tile_stride
            out = load_i64(op + EXPERTS.out) + first_panel * 64 + row * out_stride
            panels_times_rows(
                w, n_panels, x, n, last, n_blocks, x_stride, out, out_stride, 0, scratch
            )

    def experts(op, step, thread):  # type: ignore[no-untyped-def]
        counts, n_panels = load_i64(op + EXPERTS.counts), load_i64(op + EXPERTS.n_panels)
        n_active, n_tiles = load_i64(counts), load_i64(counts + 8)
        panel_bytes = load_i64(op + EXPERTS.n_blocks) * block_bytes
        tiles = n_tiles // max(1, n_active)  # of an expert, on average
        least = 2 if pairs and tiles >= PAIR_TILES else 1
        per_chunk = max(least, CHUNK_BYTES // (panel_bytes * max(1, tiles // 2)))
        share = n_active * n_panels // (4 * load_i64(thread + 8 * T_N_THREADS))
        per_chunk = max(1, min(per_chunk, 1 + share, n_panels) // least * least)
        n_groups = (n_panels + per_chunk - 1) // per_chunk
        n_chunks = n_active * n_groups
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            entry = load_i64(op + EXPERTS.table) + 8 * GROUP_WORDS * (chunk // n_groups)
            first_panel = chunk % n_groups * per_chunk
            rows_of_expert(
                op,
                load_i64(entry + G_EXPERT),
                load_i64(entry + G_FIRST),
                load_i64(entry + G_N_ROWS),
                first_panel,
                min(per_chunk, n_panels - first_panel),
                load_i64(thread + 8 * T_SCRATCH),
            )
            chunk = claim(thread, n_chunks)

    return experts


def build_expert_glu(activation: str) -> Callable[..., None]:
    """act(gate, up), or act(up) without a gate; a chunk is a segment of a pair."""
    combine = gated_function(activation)

    @njit(forceinline=True)
    def biased(rows, bias, i, n):
        value = simd.load(rows + 4 * i)
        return value if bias == 0 else value + load_row_vector(bias, i, n)

    @njit(forceinline=True)
    def value_at(gate, up, gate_bias, up_bias, i, n):
        u = biased(up, up_bias, i, n)
        return combine(u if gate == 0 else biased(gate, gate_bias, i, n), u, gate != 0)

    @njit
    def segment(op, expert, row, first, end):
        n, offset = load_i64(op + EXPERT_GLU.n), row * load_i64(op + EXPERT_GLU.up_stride)
        gate, up = load_i64(op + EXPERT_GLU.gate), load_i64(op + EXPERT_GLU.up) + offset
        out, tiles = load_i64(op + EXPERT_GLU.out), load_i64(op + EXPERT_GLU.tiles)
        gate_bias, up_bias = load_i64(op + EXPERT_GLU.gate_bias), load_i64(op + EXPERT_GLU.up_bias)
        if gate != 0:
            gate += offset
        if gate_bias != 0:
            gate_bias += 4 * expert * n
        if up_bias != 0:
            up_bias += 4 * expert * n
        out_row = out + row * load_i64(op + EXPERT_GLU.out_stride)
        for i in range(first, end, 32):
            low = value_at(gate, up, gate_bias, up_bias, i, n)
            high = low
            if i + 16 < n:
                high = value_at(gate, up, gate_bias, up_bias, i + 16, n)
            if out != 0:
                simd.store(out_row + 4 * i, low)
                if i + 16 < n:
                    simd.store(out_row + 4 * i + 64, high)
            if tiles != 0:
                quantize_block(low, high, blocks_at(tiles, n, row, i), row % TILE_ROWS)

    def expert_glu(op, step, thread):  # type: ignore[no-untyped-def]
        n = load_i64(op + EXPERT_GLU.n)
        n_segments = (n + SEGMENT - 1) // SEGMENT
        n_chunks = load_i64(step + STEP.n_tokens) * load_i64(op + EXPERT_GLU.n_used) * n_segments
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            first, pair = chunk % n_segments * SEGMENT, chunk // n_segments
            expert = load_i32(load_i64(op + EXPERT_GLU.ids) + 4 * pair)
            row = load_i32(load_i64(op + EXPERT_GLU.place) + 4 * pair)
            segment(op, expert, row, first, min(n, first + SEGMENT))
            chunk = claim(thread, n_chunks)

    return expert_glu
