"""Which rows of a table of n-grams a token takes, by hashing it with the tokens before it.

For orders 2 to n, with t the token, t_1, t_2, .. those before it, and m the file's multipliers:

    mixed = t m_0 xor t_1 m_1 xor .. xor t_(order-1) m_(order-1)       (64 bits without a sign)
    id    = mixed mod size + offset                  for each of the order's ``per_order`` heads

An end of text among those before cuts off what is before it: it and all before it count as ends
of text, as does what is before a sequence's first token. So the ids depend on the last n tokens
alone; n - 1 of them are kept in the state row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slotmux.kernels.address import load_i32, load_i64, store_i32
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import (
    Address,
    Op,
    State,
    Table,
    given,
    keeps,
    offsets,
    word,
    writes,
)
from slotmux.kernels.ops.recurrent.frame import build_recurrent


class NgramIds(Op, kernel="ngram_ids"):
    """ids = rows of a table for every token's n-grams, head after head of each order"""

    tokens: Address = given("int32 [n_tokens], the step's")
    multipliers: NDArray[np.uint64] = given("[n], of a token and of those before it")
    sizes: NDArray[np.uint64] = given("[(n - 1) * per_order], above 0")
    starts: NDArray[np.int64] = given("[(n - 1) * per_order], a head's first row")
    per_order: int = given("heads of each order")
    eos: int = given("the end of text")
    ids: Table[np.int32] = writes("[n_tokens, (n - 1) * per_order]")
    state: State | None = keeps(
        "int32 in place of float32 [n - 1], the sequence's last tokens, oldest first; of each "
        "draft its token"
    )

    @word
    def n_past(self) -> int:
        """Tokens before a token that its n-grams have: n - 1."""
        return self.multipliers.size - 1

    @property
    def state_floats(self) -> int:
        return self.n_past

    @property
    def pending_floats(self) -> int:
        return 1

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_ngram_ids()


NGRAM_IDS = offsets(NgramIds)


@njit(forceinline=True)
def _token(op, run, i):
    """Token i of those that are kept, accepted drafts and the run's own."""
    n_past = load_i64(op + NGRAM_IDS.n_past)
    if i >= n_past + run.n_pending:
        at = run.first + i - n_past - run.n_pending
        return load_i32(load_i64(op + NGRAM_IDS.tokens) + 4 * at)
    if i >= n_past:
        return load_i32(run.pending + 4 * (i - n_past))
    if run.fresh == 0:
        return load_i32(run.state + 4 * i)
    return load_i64(op + NGRAM_IDS.eos)


@njit
def _take_rows(op, mixed, first, end, ids):
    """Heads ``first`` to ``end``, of one order."""
    sizes, starts = load_i64(op + NGRAM_IDS.sizes), load_i64(op + NGRAM_IDS.starts)
    for head in range(first, end):
        size = np.uint64(load_i64(sizes + 8 * head))
        store_i32(ids + 4 * head, np.int64(mixed % size) + load_i64(starts + 8 * head))


@njit
def _hash_token(op, run, t):
    """Ids of token t of the run."""
    n_past, eos = load_i64(op + NGRAM_IDS.n_past), load_i64(op + NGRAM_IDS.eos)
    per_order, multipliers = (
        load_i64(op + NGRAM_IDS.per_order),
        load_i64(op + NGRAM_IDS.multipliers),
    )
    ids = load_i64(op + NGRAM_IDS.ids) + 4 * (run.first + t) * n_past * per_order
    own = n_past + run.n_pending + t
    mixed = np.uint64(_token(op, run, own)) * np.uint64(load_i64(multipliers))
    is_cut = False
    for s in range(1, n_past + 1):
        token = eos
        if not is_cut:
            token = _token(op, run, own - s)
            is_cut = token == eos
        mixed = mixed ^ (np.uint64(token) * np.uint64(load_i64(multipliers + 8 * s)))
        _take_rows(op, mixed, (s - 1) * per_order, s * per_order, ids)


@njit
def _visit(op, scratch, run, first_part, end_part):
    """Ids of all tokens; then the window before the drafts (ascending: token i moves down)."""
    n_past = load_i64(op + NGRAM_IDS.n_past)
    for t in range(run.n_kept + run.n_drafts):
        _hash_token(op, run, t)
    for i in range(n_past):
        store_i32(run.state + 4 * i, _token(op, run, i + run.n_pending + run.n_kept))
    for i in range(run.n_drafts):
        token = _token(op, run, n_past + run.n_pending + run.n_kept + i)
        store_i32(run.pending + 4 * i, token)


@njit
def _one(op):
    return np.int64(1)


def build_ngram_ids() -> Callable[..., None]:
    """The kernel; a chunk is a sequence's run."""
    return build_recurrent(NGRAM_IDS, _one, _visit)
