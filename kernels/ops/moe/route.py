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
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.operands import STEP, words
from slotmux.kernels.ops.dense.norm import load_row_vector
from slotmux.kernels.ops.moe.scores import (
    LEAST_SUM,
    NEVER,
    keep_best_groups,
    score_function,
    softmax_in_place,
    take_best,
)

# logits: float32 rows [n_tokens, n_expert] of stride bytes; bias: float32 [n_expert] added for
# the selection only (0: none); n_groups: groups of neighbouring experts, of which the best
# n_groups_used are chosen from (equal: from all); n_used: experts a token takes; renormalise: 1
# divides the weights by their sum; scale: address of a float32 factor on the weights; expert_scale:
# float32 [n_expert], a factor on an expert's weight (0: none); ids: int32 [n_tokens, n_used] and
# weights: float32 [n_tokens, n_used], to fill.
ROUTE = words(
    "Route",
    "logits stride n_expert bias n_groups n_groups_used n_used renormalise scale expert_scale "
    "ids weights",
)
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
# y: the experts' results by place, float32 rows of y_stride bytes; bias: float32 [n_expert, n],
# added to an expert's result (0: none); out: rows n wide, to add to or (add 0) to overwrite;
# shared: rows of a shared expert, added as well (0: none), times sigmoid(shared_gate), one
# number a token (0: none).
COMBINE = words(
    "Combine",
    "ids place weights n_used y y_stride n bias out out_stride add shared shared_stride "
    "shared_gate gate_stride",
)
SEGMENT = 512  # columns of a token that a chunk of combine covers


@njit
def _rank(op, scores, ranking, group_scores):
    """What a token's experts are chosen by: scores and their bias, below all others in groups that
    are not chosen from."""
    n, bias = load_i64(op + ROUTE.n_expert), load_i64(op + ROUTE.bias)
    for i in range(0, n, 16):
        value = simd.load(scores + 4 * i)
        if bias != 0:
            value = value + simd.load(bias + 4 * i)
        if i + 16 > n:
            value = simd.first_lanes(value, n - i, simd.splat(np.float32(NEVER)))
        simd.store(ranking + 4 * i, value)
    n_groups, n_chosen = load_i64(op + ROUTE.n_groups), load_i64(op + ROUTE.n_groups_used)
    if n_chosen < n_groups:
        keep_best_groups(ranking, n, n_groups, n_chosen, group_scores)


@njit
def _weigh(op, ids, weights):
    """Weights of a token's experts, from their scores to what their results are multiplied by."""
    n_used = load_i64(op + ROUTE.n_used)
    factor, of_expert = load_f32(load_i64(op + ROUTE.scale)), load_i64(op + ROUTE.expert_scale)
    if load_i64(op + ROUTE.renormalise) != 0:
        total = np.float32(0.0)
        for rank in range(n_used):
            total += load_f32(weights + 4 * rank)
        total = np.float32(LEAST_SUM) if total < np.float32(LEAST_SUM) else total
        for rank in range(n_used):
            store_f32(weights + 4 * rank, load_f32(weights + 4 * rank) / total)
    for rank in range(n_used):
        weight = load_f32(weights + 4 * rank) * factor
        if of_expert != 0:
            weight = weight * load_f32(of_expert + 4 * load_i32(ids + 4 * rank))
        store_f32(weights + 4 * rank, weight)


def route_scratch_bytes(n_expert: int) -> int:
    """What a thread needs: scores, a ranking of them, and scores of groups."""
    return 3 * 64 * ((n_expert + 15) // 16)


def build_route(scores: str) -> Callable[..., None]:
    """Scores (one of SCORES) and the choice of experts; a chunk is a token."""
    score, among_chosen = score_function(scores), scores == "chosen"

    @njit
    def choose(op, logits, ids, weights, scratch):
        """A token's experts, best first, and their weights."""
        n, n_used = load_i64(op + ROUTE.n_expert), load_i64(op + ROUTE.n_used)
        padded = (n + 15) // 16 * 64
        ranking = scratch + padded
        score(logits, n, scratch)
        _rank(op, scratch, ranking, ranking + padded)
        for rank in range(n_used):
            expert = take_best(ranking, n)
            store_i32(ids + 4 * rank, expert)
            store_f32(weights + 4 * rank, load_f32(scratch + 4 * expert))
        if among_chosen:
            softmax_in_place(weights, n_used)
        _weigh(op, ids, weights)

    def route(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            logits = load_i64(op + ROUTE.logits) + token * load_i64(op + ROUTE.stride)
            offset = 4 * token * load_i64(op + ROUTE.n_used)
            ids, weights = load_i64(op + ROUTE.ids) + offset, load_i64(op + ROUTE.weights) + offset
            choose(op, logits, ids, weights, load_i64(thread + 8 * T_SCRATCH))
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
def _sum_of_ranks(op, token, i):
    """Floats i .. i + 15 of a token's results, ranks in ascending order."""
    n_used, n, bias = (
        load_i64(op + COMBINE.n_used),
        load_i64(op + COMBINE.n),
        load_i64(op + COMBINE.bias),
    )
    y, y_stride = load_i64(op + COMBINE.y), load_i64(op + COMBINE.y_stride)
    pairs = 4 * token * n_used
    ids, places = load_i64(op + COMBINE.ids) + pairs, load_i64(op + COMBINE.place) + pairs
    weights = load_i64(op + COMBINE.weights) + pairs
    total = simd.splat(np.float32(0.0))
    for rank in range(n_used):
        value = simd.load(y + load_i32(places + 4 * rank) * y_stride + 4 * i)
        if bias != 0:
            at = bias + 4 * load_i32(ids + 4 * rank) * n
            value = value + load_row_vector(at, i, n)
        total = simd.fma(simd.splat(load_f32(weights + 4 * rank)), value, total)
    return total


@njit
def _combine_segment(op, token, first, end):
    """Columns first .. end of a token: the experts' sum, the shared expert, what is there."""
    out = load_i64(op + COMBINE.out) + token * load_i64(op + COMBINE.out_stride)
    shared, factor = load_i64(op + COMBINE.shared), _shared_factor(op, token)
    adds = load_i64(op + COMBINE.add) != 0
    if shared != 0:
        shared += token * load_i64(op + COMBINE.shared_stride)
    for i in range(first, end, 16):
        total = _sum_of_ranks(op, token, i)
        if shared != 0:
            total = simd.fma(factor, simd.load(shared + 4 * i), total)
        simd.store(out + 4 * i, simd.load(out + 4 * i) + total if adds else total)


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
