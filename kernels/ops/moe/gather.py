"""Rows of tokens brought together by expert, as kernels/ops/moe/route.py sorted them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import BLOCK, BLOCK_BYTES, TILE_ROWS, gather_tile
from slotmux.kernels.address import load_i32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Activations,
    Form,
    Narrowed,
    Op,
    Rows,
    Table,
    Tiles,
    given,
    offsets,
    reads,
    word,
    writes,
)


class Gather(Op, kernel="gather"):
    """out[place] = x[token], as floats (or what is as wide) or as 8-bit activations"""

    place: Table[np.int32] = reads("see Group")
    sources: Table[np.int32] = reads("see Group")
    counts: Table[np.int64] = reads("see Group")
    n_used: int = given("experts a token takes")
    x: Activations = reads("[n_tokens, n] in the form of out")
    out: Rows | Narrowed | None = writes("[rows of the groups, n]; None: as tiles")
    out_tiles: Tiles | None = writes(
        "[rows of the groups, n], a group's last tile in the layout of its own height", default=None
    )

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    @property
    def form(self) -> Form:
        if self.out_tiles is not None:
            return "tiles"
        return "bf16" if isinstance(self.out, Narrowed) else "floats"

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_gather()


GATHER = offsets(Gather)


@njit
def _gather_pairs(op, step, thread):
    """Floats, or what is as wide; a chunk is a pair."""
    n_used, n = load_i64(op + GATHER.n_used), load_i64(op + GATHER.n)
    n_pairs = load_i64(step + STEP.n_tokens) * n_used
    pair = claim(thread, n_pairs)
    while pair >= 0:
        place = load_i32(load_i64(op + GATHER.place) + 4 * pair)
        x = load_i64(op + GATHER.x) + pair // n_used * load_i64(op + GATHER.x_stride)
        out = load_i64(op + GATHER.out) + place * load_i64(op + GATHER.out_stride)
        for i in range(0, n, 16):
            simd.store(out + 4 * i, simd.load(x + 4 * i))
        pair = claim(thread, n_pairs)


@njit
def _gather_tiles(op, thread):
    """8-bit activations; a chunk is a tile."""
    n, n_tiles = load_i64(op + GATHER.n), load_i64(load_i64(op + GATHER.counts) + 8)
    tile = claim(thread, n_tiles)
    while tile >= 0:
        rows = load_i64(op + GATHER.sources) + 4 * TILE_ROWS * tile
        n_rows = np.int64(1)
        while n_rows < TILE_ROWS and load_i32(rows + 4 * n_rows) >= 0:
            n_rows += 1
        target = load_i64(op + GATHER.out_tiles) + tile * (n // BLOCK) * BLOCK_BYTES
        gather_tile(load_i64(op + GATHER.x), rows, n_rows, n, target)
        tile = claim(thread, n_tiles)


def build_gather() -> Callable[..., None]:
    """The kernel."""

    def gather(op, step, thread):  # type: ignore[no-untyped-def]
        if load_i64(op + GATHER.out_tiles) != 0:
            _gather_tiles(op, thread)
        else:
            _gather_pairs(op, step, thread)

    return gather
