"""Mixture of experts: which experts a token takes, tokens grouped by expert, and the sum.

    y = sum over the chosen e of w_e * expert_e(x)        (Shazeer et al. 2017, section 2)

A (token, rank) pair is one of a token's chosen experts. Pairs are sorted by expert into groups that
start at a tile of 8 rows, so that each expert's weights are read once a step; a pair's row in that
order is its place. A token's contributions are summed by rank: the result does not depend on
which other tokens are in the step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.activations import copy_row
from slotmux.kernels.address import (
    load_f32,
    load_i32,
    load_i64,
    store_f32,
    store_i32,
    store_i64,
)
from slotmux.kernels.bits import bits_at_least, lowest_bit
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.operands import STEP, words

# logits: float32 rows [n_tokens, n_expert] of stride bytes; bias: float32 [n_expert] added for
# the selection only (0: none); n_used: experts a token takes; renormalise: 1 divides the weights
# by their sum; scale: address of a float32 factor on the weights; ids: int32 [n_tokens, n_used]
# and weights: float32 [n_tokens, n_used], to fill.
ROUTE = words("Route", "logits stride n_expert bias n_used renormalise scale ids weights")
# ids as above; place: int32 [n_tokens, n_used] to fill; starts: int64 [n_expert + 1], working
# memory; table: int64 [n_expert, 3] to fill, for each expert in use its number, first row and
# number of rows; counts: int64 [3] to fill, experts in use, tiles and rows. counts belongs to one
# layer (a late thread may look at it when others are at the next layer), the rest may be shared.
GROUP = words("Group", "ids n_used n_expert place starts table counts")
COUNT_ROWS, COUNT_WORDS = 16, 3  # of counts
G_EXPERT, G_FIRST, G_N_ROWS, GROUP_WORDS = 0, 8, 16, 3
# x: float32 rows of stride bytes, n wide, copied to out (0: not), rows of out_stride bytes;
# tiles: 8-bit activations, copied to out_tiles (0: not).
GATHER = words("Gather", "place n_used x stride n out out_stride tiles out_tiles")
# y: the experts' results by place, float32 rows of y_stride bytes; out: rows n wide to add to;
# shared: rows of a shared expert, added as well (0: none), times sigmoid(shared_gate), one
# number a token (0: none).
COMBINE = words(
    "Combine",
    "place weights n_used y y_stride n out out_stride shared shared_stride shared_gate gate_stride",
)
SCORES = ("softmax", "sigmoid")
SEGMENT = 512  # columns of a token that a chunk of combine covers
# Least sum of weights to divide by: float16's smallest normal number, as llama.cpp has it.
LEAST_SUM = 6.103515625e-5
NEVER = -np.inf


@njit(forceinline=True)
def _padded(x, i, n):
    """Floats i .. i + 15 of a row of n, minus infinity past its end."""
    value = simd.load(x + 4 * i)
    if i + 16 > n:
        value = simd.first_lanes(value, n - i, simd.splat(np.float32(NEVER)))
    return value


@njit(forceinline=True)
def _softmax(logits, n, out):
    """Softmax of n floats into out, padded with zeros."""
    top = simd.splat(np.float32(NEVER))
    for i in range(0, n, 16):
        top = simd.maximum(_padded(logits, i, n), top)
    top = simd.splat(simd.max_lanes(top))
    total = simd.splat(np.float32(0.0))
    for i in range(0, n, 16):
        value = simd.exp(_padded(logits, i, n) - top)
        total = total + value
        simd.store(out + 4 * i, value)
    total = simd.splat(simd.sum_lanes(total))
    for i in range(0, n, 16):
        simd.store(out + 4 * i, simd.load(out + 4 * i) / total)


@njit(forceinline=True)
def _sigmoid(logits, n, out):
    """1 / (1 + e^-x) of n floats into out."""
    zero, one = simd.splat(np.float32(0.0)), simd.splat(np.float32(1.0))
    for i in range(0, n, 16):
        simd.store(out + 4 * i, one / (one + simd.exp(zero - _padded(logits, i, n))))


@njit
def _take_best(ranking, n):
    """Number of the largest of n floats (the first of equals; 0 when all are NaN), then struck
    off."""
    top = simd.splat(np.float32(NEVER))
    for i in range(0, n, 16):
        top = simd.maximum(simd.load(ranking + 4 * i), top)
    best = simd.splat(simd.max_lanes(top))
    for i in range(0, n, 16):
        bits = bits_at_least(simd.load(ranking + 4 * i), best)
        if bits != 0:
            found = i + lowest_bit(bits)
            store_f32(ranking + 4 * found, np.float32(NEVER))
            return min(found, n - 1)
    return np.int64(0)


@njit
def _choose(op, scores, ranking, ids, weights):
    """A token's experts, best first, and their weights."""
    n, n_used = load_i64(op + ROUTE.n_expert), load_i64(op + ROUTE.n_used)
    bias = load_i64(op + ROUTE.bias)
    for i in range(0, n, 16):
        value = simd.load(scores + 4 * i)
        if bias != 0:
            value = value + simd.load(bias + 4 * i)
        if i + 16 > n:
            value = simd.first_lanes(value, n - i, simd.splat(np.float32(NEVER)))
        simd.store(ranking + 4 * i, value)
    total = np.float32(0.0)
    for rank in range(n_used):
        expert = _take_best(ranking, n)
        store_i32(ids + 4 * rank, expert)
        weight = load_f32(scores + 4 * expert)
        store_f32(weights + 4 * rank, weight)
        total += weight
    factor = load_f32(load_i64(op + ROUTE.scale))
    if load_i64(op + ROUTE.renormalise) != 0:
        total = np.float32(LEAST_SUM) if total < np.float32(LEAST_SUM) else total
        for rank in range(n_used):
            store_f32(weights + 4 * rank, load_f32(weights + 4 * rank) / total)
    for rank in range(n_used):
        store_f32(weights + 4 * rank, load_f32(weights + 4 * rank) * factor)


def route_scratch_bytes(n_expert: int) -> int:
    """What a thread needs: scores, and a ranking of them."""
    return 2 * 64 * ((n_expert + 15) // 16)


def build_route(scores: str) -> Callable[..., None]:
    """Scores (softmax or sigmoid) and the choice of experts; a chunk is a token."""
    score = {"softmax": _softmax, "sigmoid": _sigmoid}[scores]

    def route(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            n, n_used = load_i64(op + ROUTE.n_expert), load_i64(op + ROUTE.n_used)
            scratch = load_i64(thread + 8 * T_SCRATCH)
            ranking = scratch + (n + 15) // 16 * 64
            score(load_i64(op + ROUTE.logits) + token * load_i64(op + ROUTE.stride), n, scratch)
            offset = 4 * token * n_used
            ids, weights = load_i64(op + ROUTE.ids), load_i64(op + ROUTE.weights)
            _choose(op, scratch, ranking, ids + offset, weights + offset)
            token = claim(thread, n_tokens)

    return route


@njit
def _fill_table(op, starts):
    """Turn counts of pairs into first rows, and list the experts that have any."""
    table, counts = load_i64(op + GROUP.table), load_i64(op + GROUP.counts)
    n_active, row = np.int64(0), np.int64(0)
    for expert in range(load_i64(op + GROUP.n_expert)):
        n_rows = load_i64(starts + 8 * expert)
        store_i64(starts + 8 * expert, row)
        if n_rows > 0:
            entry = table + 8 * GROUP_WORDS * n_active
            store_i64(entry + G_EXPERT, expert)
            store_i64(entry + G_FIRST, row)
            store_i64(entry + G_N_ROWS, n_rows)
            n_active += 1
            row += (n_rows + 7) // 8 * 8
    store_i64(counts, n_active)
    store_i64(counts + 8, row // 8)
    store_i64(counts + COUNT_ROWS, row)


def build_group() -> Callable[..., None]:
    """Counting sort of the step's pairs by expert; one chunk."""

    def group(op, step, thread):  # type: ignore[no-untyped-def]
        n_pairs = load_i64(step + STEP.n_tokens) * load_i64(op + GROUP.n_used)
        while claim(thread, 1) >= 0:
            ids, starts = load_i64(op + GROUP.ids), load_i64(op + GROUP.starts)
            for expert in range(load_i64(op + GROUP.n_expert)):
                store_i64(starts + 8 * expert, 0)
            for pair in range(n_pairs):
                at = starts + 8 * load_i32(ids + 4 * pair)
                store_i64(at, load_i64(at) + 1)
            _fill_table(op, starts)
            for pair in range(n_pairs):
                at = starts + 8 * load_i32(ids + 4 * pair)
                store_i32(load_i64(op + GROUP.place) + 4 * pair, load_i64(at))
                store_i64(at, load_i64(at) + 1)

    return group


def build_gather() -> Callable[..., None]:
    """Copy each pair's activations to its place; a chunk is a pair."""

    def gather(op, step, thread):  # type: ignore[no-untyped-def]
        n_used = load_i64(op + GATHER.n_used)
        n_pairs = load_i64(step + STEP.n_tokens) * n_used
        pair = claim(thread, n_pairs)
        while pair >= 0:
            n, row = load_i64(op + GATHER.n), pair // n_used
            place = load_i32(load_i64(op + GATHER.place) + 4 * pair)
            out, out_tiles = load_i64(op + GATHER.out), load_i64(op + GATHER.out_tiles)
            if out != 0:
                x = load_i64(op + GATHER.x) + row * load_i64(op + GATHER.stride)
                out += place * load_i64(op + GATHER.out_stride)
                for i in range(0, n, 16):
                    simd.store(out + 4 * i, simd.load(x + 4 * i))
            if out_tiles != 0:
                copy_row(load_i64(op + GATHER.tiles), row, out_tiles, place, n)
            pair = claim(thread, n_pairs)

    return gather


@njit(forceinline=True)
def _shared_factor(op, token):
    """sigmoid of the shared expert's gate, or 1."""
    gate = load_i64(op + COMBINE.shared_gate)
    one = simd.splat(np.float32(1.0))
    if gate == 0:
        return one
    gate += token * load_i64(op + COMBINE.gate_stride)
    return one / (one + simd.exp(simd.splat(-load_f32(gate))))


@njit
def _combine_segment(op, token, first, end):
    """Columns first .. end of a token: ranks in ascending order, the shared expert, the sum."""
    n_used = load_i64(op + COMBINE.n_used)
    places = load_i64(op + COMBINE.place) + 4 * token * n_used
    weights = load_i64(op + COMBINE.weights) + 4 * token * n_used
    y, y_stride = load_i64(op + COMBINE.y), load_i64(op + COMBINE.y_stride)
    out = load_i64(op + COMBINE.out) + token * load_i64(op + COMBINE.out_stride)
    shared, factor = load_i64(op + COMBINE.shared), _shared_factor(op, token)
    if shared != 0:
        shared += token * load_i64(op + COMBINE.shared_stride)
    for i in range(first, end, 16):
        total = simd.splat(np.float32(0.0))
        for rank in range(n_used):
            row = y + load_i32(places + 4 * rank) * y_stride
            weight = simd.splat(load_f32(weights + 4 * rank))
            total = simd.fma(weight, simd.load(row + 4 * i), total)
        if shared != 0:
            total = simd.fma(factor, simd.load(shared + 4 * i), total)
        simd.store(out + 4 * i, simd.load(out + 4 * i) + total)


def build_combine() -> Callable[..., None]:
    """out += what the experts found; a chunk is a segment of a token."""

    def combine(op, step, thread):  # type: ignore[no-untyped-def]
        n = load_i64(op + COMBINE.n)
        n_segments = (n + SEGMENT - 1) // SEGMENT
        n_chunks = load_i64(step + STEP.n_tokens) * n_segments
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            first = chunk % n_segments * SEGMENT
            _combine_segment(op, chunk // n_segments, first, min(n, first + SEGMENT))
            chunk = claim(thread, n_chunks)

    return combine
