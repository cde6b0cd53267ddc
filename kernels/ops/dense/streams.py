"""Hyper-connections (Zhu et al. 2024) as Qwen 3.8 has them: several residual streams side by side.

With h_s the RMS norm of stream s, a layer reads a gated mean of the streams, and its result y goes
to each of them by a weight of the token's own:

    x = mean over s of sigmoid(g_s) h_s            stream_s += 2 sigmoid(w_s / n_streams) y

What n-grams add to every stream is one value with a gate a stream, from that stream's own key:

    out_s = value sigmoid(sign(a_s) sqrt(|a_s|)),  a_s = key_s . query_s / sqrt(n)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import blocks_at, n_tile_parts, tile_part
from slotmux.kernels.address import load_f32, load_i32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Address,
    Count,
    Op,
    Rows,
    Tiles,
    Vector,
    given,
    offsets,
    reads,
    tiles_of,
    updates,
    word,
    writes,
)
from slotmux.kernels.ops.dense.elementwise import sigmoid
from slotmux.kernels.ops.dense.norm import rms_norm_row
from slotmux.kernels.quantize import quantize_tile

SEGMENT = 256  # columns of a tile of rows that a chunk of MixStreams covers
LEAST_SCORE = 1e-6  # that a root is taken of


class StreamNorm(Op, kernel="stream_norm"):
    """out = every stream of x / rms(stream), times weight"""

    x: Rows = reads("float32 [.., n_streams * n], n a multiple of 16")
    index: Address = given("int32 [n_rows], the rows to take; 0: all", default=Address(0))
    n_rows: Count = given("rows of out")
    n_streams: int = given("streams of a row")
    weight: Vector = given("float32 [n_streams * n]")
    eps: float = given("float32")
    out: Rows = writes("float32 [n_rows, n_streams * n], not the rows of x")
    tiles: Tiles | None = tiles_of("out")

    @word
    def n(self) -> int:
        """Width of a stream."""
        return self.x.width // self.n_streams

    @property
    def can_quantise(self) -> bool:
        return self.n % 32 == 0

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_stream_norm()


class MixStreams(Op, kernel="mix_streams"):
    """out = the mean over streams of sigmoid(gate) * x"""

    x: Rows = reads("float32 [n_rows, n_streams * n], n a multiple of 16")
    gate: Rows = reads("float32 [n_rows, n_streams * n]")
    n_streams: int = given("streams of a row")
    out: Rows = writes("float32 [n_rows, n]")
    tiles: Tiles | None = tiles_of("out")

    @word
    def n(self) -> int:
        """Width of a stream."""
        return self.out.width

    @word
    def n_rows(self) -> Count:
        """How many rows."""
        return self.x.n_rows

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_mix_streams()


class SpreadStreams(Op, kernel="spread_streams"):
    """x[s] += y * 2 sigmoid(weight[s] / n_streams), for each stream s"""

    x: Rows = updates("float32 [n_tokens, n_streams * n], n a multiple of 16")
    y: Rows = reads("float32 [n_tokens, n]")
    weight: Rows = reads("float32 [n_tokens, n_streams]")
    n_streams: int = given("streams of a row")

    @word
    def n(self) -> int:
        """Width of a stream."""
        return self.y.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_spread_streams()


class GateStreams(Op, kernel="gate_streams"):
    """out[s] = value * sigmoid(signed root of key[s] . query[s] / sqrt(n)), for each stream s"""

    key: Rows = reads("float32 [n_tokens, n_streams * n], n a multiple of 16")
    query: Rows = reads("float32 [n_tokens, n_streams * n]")
    value: Rows = reads("float32 [n_tokens, n]")
    n_streams: int = given("streams of a row")
    out: Rows = writes("float32 [n_tokens, n_streams * n]")

    @word
    def n(self) -> int:
        """Width of a stream."""
        return self.value.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_gate_streams()


STREAM_NORM, MIX_STREAMS, SPREAD_STREAMS, GATE_STREAMS = (
    offsets(op) for op in (StreamNorm, MixStreams, SpreadStreams, GateStreams)
)


@njit
def _norm_stream(op, row, column):
    """The stream of a row that begins at ``column``."""
    index, source = load_i64(op + STREAM_NORM.index), np.int64(row)
    if index != 0:
        source = load_i32(index + 4 * row)
    x = load_i64(op + STREAM_NORM.x) + source * load_i64(op + STREAM_NORM.x_stride)
    out = load_i64(op + STREAM_NORM.out) + row * load_i64(op + STREAM_NORM.out_stride)
    weight, eps = load_i64(op + STREAM_NORM.weight), load_f32(load_i64(op + STREAM_NORM.eps))
    n, at = load_i64(op + STREAM_NORM.n), 4 * column
    rms_norm_row(x + at, n, weight + at, eps, out + at)


def build_stream_norm() -> Callable[..., None]:
    """The kernel; a chunk is a stream of a tile of rows, whose 8-bit form shares cache lines."""

    def stream_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + STREAM_NORM.n_rows)), load_i64(op + STREAM_NORM.n)
        n_all = n * load_i64(op + STREAM_NORM.n_streams)
        n_chunks = n_tile_parts(n_rows, n_all, n)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, _ = tile_part(chunk, n_rows, n_all, n)
            for i in range(n_of_tile):
                _norm_stream(op, row + i, first)
            tiles, stride = load_i64(op + STREAM_NORM.tiles), load_i64(op + STREAM_NORM.out_stride)
            if tiles != 0:
                x = load_i64(op + STREAM_NORM.out) + row * stride + 4 * first
                quantize_tile(x, stride, n, n_of_tile, blocks_at(tiles, n_all, row, first))
            chunk = claim(thread, n_chunks)

    return stream_norm


@njit
def _mix_row(op, row, first, end):
    """Columns ``first`` to ``end`` of a row of out."""
    n_streams, width = load_i64(op + MIX_STREAMS.n_streams), 4 * load_i64(op + MIX_STREAMS.n)
    x = load_i64(op + MIX_STREAMS.x) + row * load_i64(op + MIX_STREAMS.x_stride)
    gate = load_i64(op + MIX_STREAMS.gate) + row * load_i64(op + MIX_STREAMS.gate_stride)
    out = load_i64(op + MIX_STREAMS.out) + row * load_i64(op + MIX_STREAMS.out_stride)
    share = simd.splat(np.float32(1.0) / np.float32(n_streams))
    for i in range(4 * first, 4 * end, 64):
        total = simd.splat(np.float32(0.0))
        for s in range(n_streams):
            at = s * width + i
            total = simd.fma(simd.load(x + at), sigmoid(simd.load(gate + at)), total)
        simd.store(out + i, total * share)


def build_mix_streams() -> Callable[..., None]:
    """The kernel; a chunk is a segment of a tile of rows."""

    def mix_streams(op, step, thread):  # type: ignore[no-untyped-def]
        n_rows, n = load_i64(load_i64(op + MIX_STREAMS.n_rows)), load_i64(op + MIX_STREAMS.n)
        n_chunks = n_tile_parts(n_rows, n, SEGMENT)
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            row, n_of_tile, first, end = tile_part(chunk, n_rows, n, SEGMENT)
            for i in range(n_of_tile):
                _mix_row(op, row + i, first, end)
            tiles, stride = load_i64(op + MIX_STREAMS.tiles), load_i64(op + MIX_STREAMS.out_stride)
            if tiles != 0:
                x = load_i64(op + MIX_STREAMS.out) + row * stride + 4 * first
                quantize_tile(x, stride, end - first, n_of_tile, blocks_at(tiles, n, row, first))
            chunk = claim(thread, n_chunks)

    return mix_streams


@njit
def _spread_row(op, token, stream):
    """One stream of a token."""
    n_streams, n = load_i64(op + SPREAD_STREAMS.n_streams), load_i64(op + SPREAD_STREAMS.n)
    x = load_i64(op + SPREAD_STREAMS.x) + token * load_i64(op + SPREAD_STREAMS.x_stride)
    y = load_i64(op + SPREAD_STREAMS.y) + token * load_i64(op + SPREAD_STREAMS.y_stride)
    weight = load_i64(op + SPREAD_STREAMS.weight)
    weight += token * load_i64(op + SPREAD_STREAMS.weight_stride) + 4 * stream
    share = simd.splat(load_f32(weight) / np.float32(n_streams))
    factor = sigmoid(share) * simd.splat(np.float32(2.0))
    x += 4 * n * stream
    for i in range(0, 4 * n, 64):
        simd.store(x + i, simd.fma(simd.load(y + i), factor, simd.load(x + i)))


def build_spread_streams() -> Callable[..., None]:
    """The kernel; a chunk is a stream of a token."""

    def spread_streams(op, step, thread):  # type: ignore[no-untyped-def]
        n_streams = load_i64(op + SPREAD_STREAMS.n_streams)
        n_chunks = load_i64(step + STEP.n_tokens) * n_streams
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            _spread_row(op, chunk // n_streams, chunk % n_streams)
            chunk = claim(thread, n_chunks)

    return spread_streams


@njit(forceinline=True)
def _signed_root(a):
    """sign(a) sqrt(|a|), of no less than LEAST_SCORE; NaN stays NaN."""
    size = abs(a)
    if size < np.float32(LEAST_SCORE):
        size = np.float32(LEAST_SCORE)
    root = np.sqrt(size)
    if a == np.float32(0.0):
        root = np.float32(0.0)
    return -root if a < np.float32(0.0) else root


@njit
def _gate_row(op, token, stream):
    """One stream of a token."""
    n = load_i64(op + GATE_STREAMS.n)
    at = 4 * n * stream
    key = load_i64(op + GATE_STREAMS.key) + token * load_i64(op + GATE_STREAMS.key_stride) + at
    query = load_i64(op + GATE_STREAMS.query) + at
    query += token * load_i64(op + GATE_STREAMS.query_stride)
    value = load_i64(op + GATE_STREAMS.value) + token * load_i64(op + GATE_STREAMS.value_stride)
    out = load_i64(op + GATE_STREAMS.out) + token * load_i64(op + GATE_STREAMS.out_stride) + at
    total = simd.splat(np.float32(0.0))
    for i in range(0, 4 * n, 64):
        total = simd.fma(simd.load(key + i), simd.load(query + i), total)
    score = simd.sum_lanes(total) / np.sqrt(np.float32(n))
    factor = sigmoid(simd.splat(_signed_root(score)))
    for i in range(0, 4 * n, 64):
        simd.store(out + i, simd.load(value + i) * factor)


def build_gate_streams() -> Callable[..., None]:
    """The kernel; a chunk is a stream of a token."""

    def gate_streams(op, step, thread):  # type: ignore[no-untyped-def]
        n_streams = load_i64(op + GATE_STREAMS.n_streams)
        n_chunks = load_i64(step + STEP.n_tokens) * n_streams
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            _gate_row(op, chunk // n_streams, chunk % n_streams)
            chunk = claim(thread, n_chunks)

    return gate_streams
