"""Move a weight from the file's order into panels, and read a row back out of panels.

Exact: codes and scales are the file's, only their places change (see kernels/formats.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from kernels.address import (
    load_f16,
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    store_f32,
    store_i8,
    store_i16,
    store_i32,
)
from kernels.formats import FORMATS, PANEL_ROWS, Format
from kernels.operands import STEP, words
from kernels.team import claim

# source: the file's rows, row_bytes apart; panels: where to; n_rows: rows of the source (a last
# panel is filled up with zero weights); n_panels; n_blocks: panel blocks along the inputs.
REPACK = words("Repack", "source row_bytes panels n_rows n_panels n_blocks")
# panels of the embedding; n_inputs; scale: address of a float32 factor; out: float32 rows of
# out_stride bytes, one for each token of the step.
EMBED = words("Embed", "panels n_inputs scale out out_stride")


@njit(forceinline=True)
def _q4_code(values, i):
    """Code i of 32: low halves of 16 bytes, then their high halves."""
    byte = load_u8(values + i % 16)
    return byte & 15 if i < 16 else byte >> 4


@njit(forceinline=True)
def _q8_code(values, i):
    """Signed byte i, shifted by 128."""
    return load_u8(values + i) ^ 128


def _quantised_packer(f: Format) -> Any:
    code = _q4_code if f.bits == 4 else _q8_code
    header = 4 if f.has_minimum else 2
    bits, file_bytes, offset = f.bits, f.file_block_bytes, f.offset

    @njit
    def pack_block(source, is_row, block, row):
        """One row's 32 weights into row ``row`` (0..15) of a panel block."""
        for j in range(8):
            for i in range(4):
                value = code(source + header, 4 * j + i) if is_row else np.int64(offset)
                if bits == 8:
                    store_i8(block + 64 * j + 4 * row + i, value)
                else:
                    at = block + 64 * (j // 2) + 4 * row + i
                    if j % 2 == 0:
                        store_i8(at, value)
                    else:
                        store_i8(at, load_u8(at) | (value << 4))
        at = block + 64 * bits + 2 * row
        store_i16(at, load_u16(source) if is_row else np.int64(0))
        if header == 4:
            store_i16(at + 32, load_u16(source + 2) if is_row else np.int64(0))

    @njit
    def pack_row(source, is_row, panel, row, n_blocks):
        for k in range(n_blocks):
            pack_block(source + k * file_bytes, is_row, panel + k * (64 * bits + 16 * header), row)

    return pack_row


def _float_packer(f: Format) -> Any:
    size = f.file_block_bytes

    @njit
    def pack_row(source, is_row, panel, row, n_blocks):
        for k in range(n_blocks):
            at = panel + (k * PANEL_ROWS + row) * size
            if size == 4:
                store_i32(at, load_i32(source + 4 * k) if is_row else np.int64(0))
            else:
                store_i16(at, load_u16(source + 2 * k) if is_row else np.int64(0))

    return pack_row


def build_repack(format_name: str) -> Callable[..., None]:
    """The kernel for one format; a chunk is a panel."""
    f = FORMATS[format_name]
    pack_row = _quantised_packer(f) if f.is_quantised else _float_packer(f)
    block_bytes = f.block_bytes

    def repack(op, step, thread):  # type: ignore[no-untyped-def]
        n_panels = load_i64(op + REPACK.n_panels)
        panel = claim(thread, n_panels)
        while panel >= 0:
            n_blocks, n_rows = load_i64(op + REPACK.n_blocks), load_i64(op + REPACK.n_rows)
            target = load_i64(op + REPACK.panels) + panel * n_blocks * block_bytes
            for row in range(PANEL_ROWS):
                source_row = panel * PANEL_ROWS + row
                source = load_i64(op + REPACK.source)
                source += source_row * load_i64(op + REPACK.row_bytes)
                pack_row(source, source_row < n_rows, target, row, n_blocks)
            panel = claim(thread, n_panels)

    return repack


def _quantised_reader(f: Format) -> Any:
    bits, offset, has_minimum, block_bytes = f.bits, f.offset, f.has_minimum, f.block_bytes

    @njit
    def read_row(panel, row, n_inputs, scale, out):
        for k in range(n_inputs // 32):
            block = panel + k * block_bytes
            d = load_f16(block + 64 * bits + 2 * row)
            m = np.float32(0.0)
            if has_minimum:
                m = load_f16(block + 64 * bits + 32 + 2 * row)
            for i in range(32):
                j = i // 4
                if bits == 8:
                    value = load_u8(block + 64 * j + 4 * row + i % 4)
                else:
                    value = load_u8(block + 64 * (j // 2) + 4 * row + i % 4)
                    value = value >> 4 if j % 2 else value & 15
                weight = d * np.float32(value - offset)
                if has_minimum:
                    weight = weight + m
                store_f32(out + 4 * (32 * k + i), weight * scale)

    return read_row


def _float_reader(f: Format) -> Any:
    name = f.name

    @njit
    def read_row(panel, row, n_inputs, scale, out):
        for k in range(n_inputs):
            if name == "bf16":
                at = out + 4 * k
                store_i32(at, load_u16(panel + (k * PANEL_ROWS + row) * 2) << 16)
                store_f32(at, load_f32(at) * scale)
            elif name == "f16":
                store_f32(out + 4 * k, load_f16(panel + (k * PANEL_ROWS + row) * 2) * scale)
            else:
                store_f32(out + 4 * k, load_f32(panel + (k * PANEL_ROWS + row) * 4) * scale)

    return read_row


def build_embed(format_name: str) -> Callable[..., None]:
    """Rows of the embedding for the step's tokens; a chunk is a token."""
    f = FORMATS[format_name]
    read_row = _quantised_reader(f) if f.is_quantised else _float_reader(f)
    block_bytes, block_inputs = f.block_bytes, f.block_inputs

    def embed(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n_inputs = load_i64(op + EMBED.n_inputs)
            token_id = load_i32(load_i64(step + STEP.tokens) + 4 * token)
            panel = load_i64(op + EMBED.panels)
            panel += token_id // PANEL_ROWS * (n_inputs // block_inputs) * block_bytes
            out = load_i64(op + EMBED.out) + token * load_i64(op + EMBED.out_stride)
            scale = load_f32(load_i64(op + EMBED.scale))
            read_row(panel, token_id % PANEL_ROWS, n_inputs, scale, out)
            token = claim(thread, n_tokens)

    return embed
