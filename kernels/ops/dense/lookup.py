"""Rows of a large table, for the step's tokens or by ids, read from the file's own blocks.

A table of which a step needs a few rows is not repacked (that would read all of it, and keep it): a
block of the row is packed as a row of a panel's block, and read by the panels' reader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from slotmux.kernels.address import load_f32, load_i32, load_i64, store_i64
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.formats import FORMATS, Format
from slotmux.kernels.formats.panels import FileRows
from slotmux.kernels.operands import (
    STEP,
    Op,
    Rows,
    Table,
    given,
    offsets,
    reads,
    round_up,
    word,
    writes,
)
from slotmux.kernels.ops.dense.repack import reader_scratch_bytes, row_reader


class Lookup(Op, kernel="lookup"):
    """out = source[token] * scale, for each token of the step"""

    source: FileRows = given("[n_vocab, n_inputs]; their format is compiled in")
    scale: float = given("float32")
    out: Rows = writes("float32 [n_tokens, n_inputs]")

    @word
    def row_bytes(self) -> int:
        """From a row of the file to the next."""
        return self.source.row_bytes

    @word
    def n_inputs(self) -> int:
        """Width."""
        return self.source.n_in

    @property
    def variant(self) -> tuple[str]:
        return (self.source.format.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_lookup(self.source.format.name)

    def scratch_bytes(self, isa: Isa) -> int:
        """A block of a panel, and what its reader needs."""
        f = self.source.format
        return _block_room(f) + reader_scratch_bytes(f)


class LookupIds(Op, kernel="lookup_ids"):
    """out = rows of source side by side, those that each token's ids name"""

    source: FileRows = given("[rows, n_inputs]; their format is compiled in")
    ids: Table[np.int32] = reads("[n_tokens, n_ids], every one a row of source")
    n_ids: int = given("rows that a token takes")
    out: Rows = writes("float32 [n_tokens, n_ids * n_inputs]")

    @word
    def row_bytes(self) -> int:
        """From a row of the file to the next."""
        return self.source.row_bytes

    @word
    def n_inputs(self) -> int:
        """Width of a row."""
        return self.source.n_in

    @property
    def variant(self) -> tuple[str]:
        return (self.source.format.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_lookup_ids(self.source.format.name)

    def scratch_bytes(self, isa: Isa) -> int:
        """As of Lookup."""
        f = self.source.format
        return _block_room(f) + reader_scratch_bytes(f)


LOOKUP, LOOKUP_IDS = offsets(Lookup), offsets(LookupIds)


def _block_room(f: Format) -> int:
    return round_up(f.block_bytes, 64)


def _file_row_reader(format_name: str) -> Any:
    """read(source, n_inputs, scale, out, scratch): a row of the file as floats."""
    f = FORMATS[format_name]
    read_row, pack = row_reader(f), f.pack
    block_bytes, block_inputs, room = f.block_bytes, f.block_inputs, _block_room(f)
    file_bytes = f.file_block_bytes * (block_inputs // f.file_block)  # of a panel's block

    @njit
    def read(source, n_inputs, scale, out, scratch):
        for k in range(n_inputs // block_inputs):
            for i in range(0, block_bytes, 8):
                store_i64(scratch + i, 0)
            pack(source + k * file_bytes, scratch, 0)
            to = out + 4 * k * block_inputs
            read_row(scratch, 0, block_inputs, scale, to, scratch + room)

    return read


def build_lookup(format_name: str) -> Callable[..., None]:
    """The kernel for one format; a chunk is a token."""
    read = _file_row_reader(format_name)

    def lookup(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            token_id = load_i32(load_i64(step + STEP.tokens) + 4 * token)
            source = load_i64(op + LOOKUP.source) + token_id * load_i64(op + LOOKUP.row_bytes)
            out = load_i64(op + LOOKUP.out) + token * load_i64(op + LOOKUP.out_stride)
            scale, scratch = load_f32(load_i64(op + LOOKUP.scale)), load_i64(thread + 8 * T_SCRATCH)
            read(source, load_i64(op + LOOKUP.n_inputs), scale, out, scratch)
            token = claim(thread, n_tokens)

    return lookup


def build_lookup_ids(format_name: str) -> Callable[..., None]:
    """The kernel for one format; a chunk is a token."""
    read = _file_row_reader(format_name)

    def lookup_ids(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n_ids, n_inputs = load_i64(op + LOOKUP_IDS.n_ids), load_i64(op + LOOKUP_IDS.n_inputs)
            out = load_i64(op + LOOKUP_IDS.out) + token * load_i64(op + LOOKUP_IDS.out_stride)
            ids, scratch = load_i64(op + LOOKUP_IDS.ids), load_i64(thread + 8 * T_SCRATCH)
            for i in range(n_ids):
                row = load_i32(ids + 4 * (token * n_ids + i))
                source = load_i64(op + LOOKUP_IDS.source)
                source += row * load_i64(op + LOOKUP_IDS.row_bytes)
                read(source, n_inputs, np.float32(1.0), out + 4 * i * n_inputs, scratch)
            token = claim(thread, n_tokens)

    return lookup_ids
