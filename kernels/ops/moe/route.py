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
from slotmux.kernels.address import (
    load_f32,
    load_i32,
    load_i64,
    store_f32,
    store_i32,
    store_i64,
)
from slotmux.kernels.claims import T_SCRATCH, claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    STEP,
    Op,
    Rows,
    Table,
    Vector,
    compiled,
    given,
    offsets,
    reads,
    round_up,
    updates,
    word,
    writes,
)
from slotmux.kernels.ops.dense.norm import load_row_vector
from slotmux.kernels.ops.moe.scores import (
    LEAST_SUM,
    NEVER,
    keep_best_groups,
    score_function,
    share_of_best,
    softmax_in_place,
    take_best,
)

COUNT_ROWS, COUNT_WORDS = 16, 3  # of counts
G_EXPERT, G_FIRST, G_N_ROWS, GROUP_WORDS = 0, 8, 16, 3


class Route(Op, kernel="route"):
    """ids, weights = the n_used experts with the best scores, and their scores"""

    scores: str = compiled("one of SCORES")
    logits: Rows = reads("float32 [n_tokens, n_expert]")
    bias: Vector | None = given("float32 [n_expert], added for the selection only; None: 0")
    n_groups: int = given("groups of neighbouring experts", default=1)
    n_groups_used: int = given("the best of them that are chosen from", default=1)
    n_used: int = given("experts a token takes")
    renormalise: bool = given("divides the weights by their sum")
    scale: float = given("float32, a factor on the weights")
    expert_scale: Vector | None = given("float32 [n_expert], a factor too; None: 1", default=None)
    ids: Table[np.int32] = writes("[n_tokens, n_used]")
    weights: Table[np.float32] = writes("[n_tokens, n_used]")

    @word
    def n_expert(self) -> int:
        """Experts to choose from."""
        return self.logits.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_route(self.scores)

    def scratch_bytes(self, isa: Isa) -> int:
        """Scores, a ranking of them, and scores of groups."""
        return 3 * 4 * round_up(self.n_expert, 16)


class Group(Op, kernel="group"):
    """place = the (token, rank) pairs sorted by expert"""

    ids: Table[np.int32] = reads("see Route")
    n_used: int = given("experts a token takes")
    n_expert: int = given("experts to choose from")
    place: Table[np.int32] = writes("[n_tokens, n_used], a pair's row")
    sources: Table[np.int32] = writes(
        "[rows of the groups], a row's token; -1 behind a group's end"
    )
    starts: Table[np.int64] = updates("[n_expert + 1], working memory")
    table: Table[np.int64] = writes(
        "[n_expert, 3], for each expert in use its number, first row and number of rows"
    )
    # It belongs to one layer: a late thread may look at it when others are at the next layer.
    counts: Table[np.int64] = writes("[3], experts in use, tiles and rows")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_group()


class Combine(Op, kernel="combine"):
    """out = the sum over a token's experts of weight * (y + bias), + sigmoid(shared_gate) * shared,
    or out += that"""

    ids: Table[np.int32] = reads("see Route")
    place: Table[np.int32] = reads("see Group")
    weights: Table[np.float32] = reads("see Route")
    n_used: int = given("experts a token takes")
    y: Rows = reads("float32 [rows of the groups, n], the experts' results by place")
    bias: Vector | None = given("float32 [n_expert, n]; None: 0", default=None)
    out: Rows = writes("float32 [n_tokens, n]", reads_if="add")
    add: bool = given("adds to out", default=True)
    shared: Rows | None = reads("float32 [n_tokens, n], of a shared expert")
    shared_gate: Rows | None = reads("float32 [n_tokens, 1]; None: the factor is 1")

    @word
    def n(self) -> int:
        """Width."""
        return self.out.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_combine()


ROUTE, GROUP, COMBINE = (offsets(op) for op in (Route, Group, Combine))
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


def build_route(scores: str) -> Callable[..., None]:
    """Scores (one of SCORES) and the choice of experts; a chunk is a token."""
    score, among_chosen = score_function(scores), scores == "chosen"
    among_near = scores == "sparsemixer"

    @njit
    def choose(op, logits, ids, weights, scratch):
        """A token's experts, best first, and their weights."""
        n, n_used = load_i64(op + ROUTE.n_expert), load_i64(op + ROUTE.n_used)
        padded = (n + 15) // 16 * 64
        ranking = scratch + padded
        score(logits, n, scratch)
        _rank(op, scratch, ranking, ranking + padded)
        for rank in range(n_used):
            share = share_of_best(ranking, n) if among_near else np.float32(0.0)
            expert = take_best(ranking, n)
            store_i32(ids + 4 * rank, expert)
            weight = share if among_near else load_f32(scratch + 4 * expert)
            store_f32(weights + 4 * rank, weight)
        if among_chosen:
            softmax_in_place(weights, n_used)
        _weigh(op, ids, weights)

    def route(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            logits = load_i64(op + ROUTE.logits) + token * load_i64(op + ROUTE.logits_stride)
            offset = 4 * token * load_i64(op + ROUTE.n_used)
            ids, weights = load_i64(op + ROUTE.ids) + offset, load_i64(op + ROUTE.weights) + offset
            choose(op, logits, ids, weights, load_i64(thread + 8 * T_SCRATCH))
            token = claim(thread, n_tokens)

    return route


@njit
def _fill_table(op, starts):
    """Turn counts of pairs into first rows, and list the experts that have any."""
    table, counts = load_i64(op + GROUP.table), load_i64(op + GROUP.counts)
    sources = load_i64(op + GROUP.sources)
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
            end = row + n_rows
            row += (n_rows + 7) // 8 * 8
            for i in range(end, row):
                store_i32(sources + 4 * i, -1)
    store_i64(counts, n_active)
    store_i64(counts + 8, row // 8)
    store_i64(counts + COUNT_ROWS, row)


def build_group() -> Callable[..., None]:
    """Counting sort of the step's pairs by expert; one chunk."""

    def group(op, step, thread):  # type: ignore[no-untyped-def]
        n_used = load_i64(op + GROUP.n_used)
        n_pairs = load_i64(step + STEP.n_tokens) * n_used
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
                row = load_i64(at)
                store_i32(load_i64(op + GROUP.place) + 4 * pair, row)
                store_i32(load_i64(op + GROUP.sources) + 4 * row, pair // n_used)
                store_i64(at, row + 1)

    return group


@njit(forceinline=True)
def _shared_factor(op, token):
    """sigmoid of the shared expert's gate, or 1."""
    gate = load_i64(op + COMBINE.shared_gate)
    one = simd.splat(np.float32(1.0))
    if gate == 0:
        return one
    gate += token * load_i64(op + COMBINE.shared_gate_stride)
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
