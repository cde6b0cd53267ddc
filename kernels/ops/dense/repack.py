"""Move a weight from the file's order into panels, and read a row back out of panels.

Exact: codes and scales are the file's, only their places change (see kernels/formats). Rows are
read with the same decoders that products use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from slotmux.kernels.address import (
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    pointer,
    store_f32,
    store_i64,
)
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.formats import FORMATS, PANEL_ROWS, QUANT_BLOCK, Format, float_vectors
from slotmux.kernels.formats.panels import Panels
from slotmux.kernels.operands import STEP, Address, Op, Rows, given, offsets, word, writes
from slotmux.kernels.simd import const_ir

# A decoded sub-block in scratch: 8 code vectors, then for each half 16 scales and 16 minima.
_SCALES, _MINIMA = 512, 512 + 128


class Repack(Op, kernel="repack"):
    """panels = the file's rows"""

    source: Address = given("rows of the file")
    row_bytes: int = given("from one of them to the next")
    panels: Panels = given("[n_rows, n_in], to fill; a last panel is filled up with zero weights")

    @word
    def n_rows(self) -> int:
        """Rows of the source."""
        return self.panels.n_out

    @word
    def n_panels(self) -> int:
        """Panels to fill."""
        return self.panels.n_panels

    @word
    def n_blocks(self) -> int:
        """Blocks of a panel."""
        return self.panels.n_blocks

    @property
    def variant(self) -> tuple[str]:
        return (self.panels.format.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_repack(self.panels.format.name)


class Embed(Op, kernel="embed"):
    """out = panels[token] * scale, for each token of the step"""

    panels: Panels = given("[n_vocab, n_inputs]; their format is compiled in")
    scale: float = given("float32")
    instead: NDArray[np.int32] | None = given("int32 [n_vocab], the token that a token is read as")
    out: Rows = writes("float32 [n_tokens, n_inputs]")

    @word
    def n_inputs(self) -> int:
        """Width."""
        return self.panels.n_in

    @property
    def variant(self) -> tuple[str]:
        return (self.panels.format.name,)

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_embed(self.panels.format.name)

    def scratch_bytes(self, isa: Isa) -> int:
        """See reader_scratch_bytes."""
        return reader_scratch_bytes(self.panels.format)


REPACK, EMBED = offsets(Repack), offsets(Embed)


def reader_scratch_bytes(f: Format) -> int:
    """What a thread needs to read rows: a decoded sub-block, or vectors of one."""
    return _MINIMA + 128 if f.is_quantised else 64 * f.block_inputs


def build_repack(format_name: str) -> Callable[..., None]:
    """The kernel for one format; a chunk is a panel."""
    f = FORMATS[format_name]
    pack, block_bytes = f.pack, f.block_bytes
    file_bytes = f.file_block_bytes * (f.block_inputs // f.file_block)  # of a panel's block

    def repack(op, step, thread):  # type: ignore[no-untyped-def]
        n_panels = load_i64(op + REPACK.n_panels)
        panel = claim(thread, n_panels)
        while panel >= 0:
            n_blocks, row_bytes = load_i64(op + REPACK.n_blocks), load_i64(op + REPACK.row_bytes)
            n_rows = min(PANEL_ROWS, load_i64(op + REPACK.n_rows) - panel * PANEL_ROWS)
            target = load_i64(op + REPACK.panels) + panel * n_blocks * block_bytes
            source = load_i64(op + REPACK.source) + panel * PANEL_ROWS * row_bytes
            for k in range(n_blocks):  # zero bytes are zero weights in every format
                block = target + k * block_bytes
                for i in range(0, block_bytes, 8):
                    store_i64(block + i, 0)
                for row in range(n_rows):
                    pack(source + row * row_bytes + k * file_bytes, block, row)
            panel = claim(thread, n_panels)

    return repack


def _unpacker(f: Format) -> Any:
    """An intrinsic (block, sub-block, scratch): decode all 16 rows of a sub-block."""

    @intrinsic
    def unpack(ctx, block, index, scratch):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            block, index, scratch = args
            head = f.decoder.head(b, block)
            sub = f.decoder.sub_block(b, Isa.PORTABLE, block, head, index)
            for j, codes in enumerate(sub.codes):
                b.store(codes, pointer(b, scratch, 64 * j)).align = 1
            scales, minima = sub.scales()
            for vectors, start in ((scales, _SCALES), (minima or [const_ir(0.0)], _MINIMA)):
                for half in range(2):
                    value = vectors[half % len(vectors)]
                    b.store(value, pointer(b, scratch, start + 64 * half)).align = 4
            return c.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    return unpack


def _quantised_reader(f: Format) -> Any:
    unpack, n_subs, block_bytes = _unpacker(f), f.n_sub_blocks, f.block_bytes
    offset, has_minimum = f.offset, f.has_minimum

    @njit
    def read_row(panel, row, n_inputs, scale, out, scratch):
        for k in range(n_inputs // QUANT_BLOCK):
            unpack(panel + k // n_subs * block_bytes, k % n_subs, scratch)
            for i in range(QUANT_BLOCK):
                code = load_u8(scratch + 64 * (i // 4) + 4 * row + i % 4)
                at = scratch + 64 * (i // 16) + 4 * row
                weight = load_f32(at + _SCALES) * np.float32(code - offset)
                if has_minimum:
                    weight = weight + load_f32(at + _MINIMA)
                store_f32(out + 4 * (QUANT_BLOCK * k + i), weight * scale)

    return read_row


def _float_reader(f: Format) -> Any:
    block_bytes, block_inputs = f.block_bytes, f.block_inputs

    @intrinsic
    def unpack(ctx, at, scratch):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            for i, vector in enumerate(float_vectors(b, f, args[0])):
                b.store(vector, pointer(b, args[1], 64 * i)).align = 4
            return c.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    @njit
    def read_row(panel, row, n_inputs, scale, out, scratch):
        for k in range(n_inputs // block_inputs):
            unpack(panel + k * block_bytes, scratch)
            for i in range(block_inputs):
                value = load_f32(scratch + 64 * i + 4 * row) * scale
                store_f32(out + 4 * (k * block_inputs + i), value)

    return read_row


def row_reader(f: Format) -> Any:
    """A Numba function (panel, row, n_inputs, scale, out, scratch): a row's weights, as floats."""
    return _quantised_reader(f) if f.is_quantised else _float_reader(f)


def build_embed(format_name: str) -> Callable[..., None]:
    """Rows of the embedding for the step's tokens; a chunk is a token."""
    f = FORMATS[format_name]
    read_row, block_bytes, block_inputs = row_reader(f), f.block_bytes, f.block_inputs

    def embed(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n_inputs = load_i64(op + EMBED.n_inputs)
            token_id = load_i32(load_i64(step + STEP.tokens) + 4 * token)
            instead, panel = load_i64(op + EMBED.instead), load_i64(op + EMBED.panels)
            if instead != 0:
                token_id = load_i32(instead + 4 * token_id)
            panel += token_id // PANEL_ROWS * (n_inputs // block_inputs) * block_bytes
            out = load_i64(op + EMBED.out) + token * load_i64(op + EMBED.out_stride)
            scale, scratch = load_f32(load_i64(op + EMBED.scale)), load_i64(thread + 8 * T_SCRATCH)
            read_row(panel, token_id % PANEL_ROWS, n_inputs, scale, out, scratch)
            token = claim(thread, n_tokens)

    return embed
