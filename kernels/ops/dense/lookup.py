"""Rows of a large table for the step's tokens, read from the file's own blocks.

A table of which a step needs a few rows is not repacked (that would read all of it, and keep it): a
block of the row is packed as the first row of a panel's block, and read by the panels' reader.
"""

from __future__ import annotations

from collections.abc import Callable

from slotmux.kernels.address import load_f32, load_i32, load_i64, store_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.formats import FORMATS, Format
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.dense.repack import embed_scratch_bytes, row_reader

# source: the file's rows, row_bytes apart; n_inputs; scale: address of a float32 factor; out:
# float32 rows of out_stride bytes, one for each token of the step.
LOOKUP = words("Lookup", "source row_bytes n_inputs scale out out_stride")


def lookup_scratch_bytes(f: Format) -> int:
    """What a thread needs: a block of a panel, and what its reader needs."""
    return _block_room(f) + embed_scratch_bytes(f)


def _block_room(f: Format) -> int:
    return (f.block_bytes + 63) // 64 * 64


def build_lookup(format_name: str) -> Callable[..., None]:
    """The kernel for one format; a chunk is a token."""
    f = FORMATS[format_name]
    read_row, pack = row_reader(f), f.pack
    block_bytes, block_inputs, room = f.block_bytes, f.block_inputs, _block_room(f)
    file_bytes = f.file_block_bytes * (block_inputs // f.file_block)  # of a panel's block

    def lookup(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            token_id = load_i32(load_i64(step + STEP.tokens) + 4 * token)
            source = load_i64(op + LOOKUP.source) + token_id * load_i64(op + LOOKUP.row_bytes)
            out = load_i64(op + LOOKUP.out) + token * load_i64(op + LOOKUP.out_stride)
            scale, block = load_f32(load_i64(op + LOOKUP.scale)), load_i64(thread + 8 * T_SCRATCH)
            for k in range(load_i64(op + LOOKUP.n_inputs) // block_inputs):
                for i in range(0, block_bytes, 8):
                    store_i64(block + i, 0)
                pack(source + k * file_bytes, block, 0)
                to = out + 4 * k * block_inputs
                read_row(block, 0, block_inputs, scale, to, block + room)
            token = claim(thread, n_tokens)

    return lookup
