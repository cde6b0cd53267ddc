"""Weights of every format for tests: random blocks of a file, packed, read back, multiplied."""

from __future__ import annotations

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from slotmux.kernels import activations as act
from slotmux.kernels.float_tile import rounds_rows, takes_bf16
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.operands import STEP, fill
from slotmux.kernels.ops.dense.linear import LINEAR, build_linear
from slotmux.kernels.ops.dense.lookup import (
    LOOKUP,
    LOOKUP_IDS,
    build_lookup,
    build_lookup_ids,
)
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.dense.repack import EMBED, REPACK, build_embed, build_repack
from slotmux.kernels.team import Program, aligned_zeros
from tests.reference.linear import bf16_rows, bf16_values

# Where a type's blocks have float16: random bits would be Inf or NaN there too often.
HALVES = {
    "q4_0": (0,), "q4_1": (0, 2), "q5_0": (0,), "q5_1": (0, 2), "q8_0": (0,),
    "q2_k": (80, 82), "q3_k": (108,), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,),
    "iq4_nl": (0,), "iq4_xs": (0,), "tq1_0": (52,), "tq2_0": (64,), "iq2_xxs": (0,),
    "iq2_xs": (0,), "iq2_s": (0,), "iq3_xxs": (0,), "iq3_s": (0,), "iq1_s": (0,),
}  # fmt: skip
EXTREMES = np.array([0.0, -0.0, 6e-8, -6e-8, 6e-5, 65504.0, -65504.0, 1.0], np.float16)
QUANTISED = [name for name, f in FORMATS.items() if f.is_quantised]


def ggml_type(name: str) -> GGMLQuantizationType:
    """The gguf package's enum."""
    return GGMLQuantizationType[name.upper()]


def random_file(name: str, n_rows: int, n_in: int, rng, *, extreme: bool = False) -> np.ndarray:
    """Rows of random blocks, uint8 [n_rows, row bytes], with scales that products can take."""
    n_block, n_bytes = GGML_QUANT_SIZES[ggml_type(name)]
    if name in ("f32", "f16", "bf16"):
        values = rng.normal(size=(n_rows, n_in)).astype(np.float32)
        if name == "bf16":
            return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        return values.astype(np.float16 if name == "f16" else np.float32).view(np.uint8)
    blocks = rng.integers(0, 256, (n_rows * n_in // n_block, n_bytes), dtype=np.uint8)
    scales = rng.normal(size=(len(blocks), 2)).astype(np.float16) * np.float16(0.02)
    if extreme:
        scales = EXTREMES[rng.integers(0, len(EXTREMES), scales.shape)]
    for i, at in enumerate(HALVES.get(name, ())):
        blocks[:, at : at + 2] = scales[:, i : i + 1].view(np.uint8)
    if name == "iq1_m":  # its float16 is spread over the top 4 bits of 4 words
        words, bits = blocks[:, 48:56].view(np.uint16), scales[:, 0].view(np.uint16)
        for i in range(4):
            words[:, i] = (words[:, i] & 0x0FFF) | ((bits >> (4 * i)) & 15) << 12
    if name == "mxfp4" and not extreme:
        blocks[:, 0] = rng.integers(118, 124, len(blocks))
    if name == "nvfp4" and not extreme:
        blocks[:, :4] = rng.integers(20, 70, (len(blocks), 4))
    return blocks.reshape(n_rows, -1)


def run(team, ops, *keep, step=None) -> None:
    """Run (kernel name, build, operands) one after the other. ``keep``: what operands point to;
    it lives as long as the team, because a thread that lags behind reads sizes again."""
    step = np.zeros(len(STEP._fields), np.int64) if step is None else step
    kernels = team.kernels
    entries = [(kernels.address(name, build), operands, 0) for name, build, operands in ops]
    program = Program(team, step, entries)
    program.kept = keep
    team.run(program)


def pack(team, name: str, rows: np.ndarray, n_in: int) -> np.ndarray:
    """Panels of a file's rows."""
    f, n_rows = FORMATS[name], len(rows)
    n_panels = -(-n_rows // 16)
    panels = aligned_zeros(n_panels * f.panel_bytes(n_in))
    panels[:] = 0xA5
    rows = np.ascontiguousarray(rows)
    operands = fill(
        REPACK, source=rows, row_bytes=rows.shape[1], panels=panels, n_rows=n_rows,
        n_panels=n_panels, n_blocks=n_in // f.block_inputs,
    )  # fmt: skip
    run(team, [(f"repack.{name}", lambda: build_repack(name), operands)], rows, panels)
    return panels


def read_rows(team, name: str, panels: np.ndarray, ids: np.ndarray, n_in: int) -> np.ndarray:
    """Rows as float32, through the embedding's kernel."""
    tokens, out = ids.astype(np.int32), np.full((len(ids), n_in), np.nan, np.float32)
    step = np.zeros(len(STEP._fields), np.int64)
    step[STEP.n_tokens // 8], step[STEP.tokens // 8] = len(tokens), tokens.ctypes.data
    one = np.ones(1, np.float32)
    operands = fill(
        EMBED, panels=panels, n_inputs=n_in, scale=one, instead=0, out=out, out_stride=4 * n_in
    )
    ops = [(f"embed.{name}", lambda: build_embed(name), operands)]
    run(team, ops, tokens, one, panels, out, step=step)
    return out


def look_up(team, name: str, rows: np.ndarray, ids: np.ndarray, n_in: int) -> np.ndarray:
    """Rows as float32, read from the file's blocks."""
    tokens, out = ids.astype(np.int32), np.full((len(ids), n_in), np.nan, np.float32)
    step = np.zeros(len(STEP._fields), np.int64)
    step[STEP.n_tokens // 8], step[STEP.tokens // 8] = len(tokens), tokens.ctypes.data
    one, rows = np.ones(1, np.float32), np.ascontiguousarray(rows)
    operands = fill(
        LOOKUP, source=rows, row_bytes=rows.shape[1], n_inputs=n_in, scale=one, out=out,
        out_stride=4 * n_in,
    )  # fmt: skip
    ops = [(f"lookup.{name}", lambda: build_lookup(name), operands)]
    run(team, ops, tokens, one, rows, out, step=step)
    return out


def look_up_ids(team, name: str, rows: np.ndarray, ids: np.ndarray, n_in: int) -> np.ndarray:
    """Rows that ids [n_tokens, n_ids] name, side by side as float32."""
    ids, out = ids.astype(np.int32), np.full((len(ids), ids.shape[1] * n_in), np.nan, np.float32)
    step, rows = np.zeros(len(STEP._fields), np.int64), np.ascontiguousarray(rows)
    step[STEP.n_tokens // 8] = len(ids)
    operands = fill(
        LOOKUP_IDS, source=rows, row_bytes=rows.shape[1], n_inputs=n_in, ids=ids,
        n_ids=ids.shape[1], out=out, out_stride=4 * out.shape[1],
    )  # fmt: skip
    ops = [(f"lookup_ids.{name}", lambda: build_lookup_ids(name), operands)]
    run(team, ops, ids, rows, out, step=step)
    return out


def quantise(team, x: np.ndarray) -> np.ndarray:
    """Tiles of 8-bit activations of float32 rows."""
    n_rows, n = x.shape
    tiles = aligned_zeros(-(-n_rows // act.TILE_ROWS) * act.tile_bytes(n))
    count = np.array([n_rows])
    operands = fill(QUANTIZE, x=x, x_stride=4 * n, n=n, n_rows=count, tiles=tiles)
    run(team, [("quantize", build_quantize, operands)], x, tiles, count)
    return tiles


def product(team, name: str, panels: np.ndarray, x: np.ndarray, n_out: int) -> np.ndarray:
    """x W^T as the linear kernel computes it, x quantised first where the format asks for it."""
    f, (n_rows, n_in) = FORMATS[name], x.shape
    n_panels, padded = -(-n_out // 16), -(-n_rows // 8) * 8
    rows = np.zeros((padded, n_in), np.float32)
    rows[:n_rows] = x
    isa, source, x_stride = team.kernels.cpu.isa, rows, 4 * n_in
    if f.is_quantised:
        source = quantise(team, np.ascontiguousarray(x))
    elif takes_bf16(isa, f):
        source, x_stride = bf16_rows(rows), 2 * n_in
    elif rounds_rows(f):
        source = bf16_values(rows)
    out, count = np.zeros((padded, 16 * n_panels), np.float32), np.array([n_rows])
    operands = fill(
        LINEAR, w=panels, x=source, out=out, n_rows=count, n_panels=n_panels,
        n_blocks=n_in // f.block_inputs, x_stride=x_stride, out_stride=64 * n_panels,
        add=0, most_rows=n_rows,
    )  # fmt: skip
    ops = [(f"linear.{name}", lambda: build_linear(isa, name), operands)]
    run(team, ops, panels, source, out, count)
    return out[:n_rows, :n_out]
