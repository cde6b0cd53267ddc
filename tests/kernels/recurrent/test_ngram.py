"""Ids of n-grams against whole numbers of any size: cut anywhere, with drafts, across ends of
text."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.recurrent.ngram import NGRAM_IDS, build_ngram_ids
from tests.kernels.recurrent.harness import MAX_DRAFTS, Bench
from tests.reference.ngrams import ngram_ids

N_TOKENS, N_VOCAB, EOS = 60, 300_000, 2
# Products of a token and a multiplier need more than 63 bits.
MULTIPLIERS = np.array([(1 << 61) + 7, 15794409264324553, 3, (1 << 62) + 1], np.uint64)


class Hash:
    """The op with orders up to ``n``; ``tokens``: of each slot."""

    def __init__(self, team, n, per_order=3):
        rng = np.random.default_rng(n)
        self.n_heads, self.per_order = (n - 1) * per_order, per_order
        self.multipliers = MULTIPLIERS[:n]
        self.sizes = rng.integers(50, 20_000_000, self.n_heads).astype(np.uint64)
        self.starts = np.cumsum([0, *self.sizes[:-1].astype(np.int64)])
        self.bench = Bench(team, n - 1, 1)
        self.tokens = rng.integers(3, N_VOCAB, (8, N_TOKENS)).astype(np.int32)
        self.tokens[:, [9, 10, 24, 40, 42]] = EOS
        self.tokens[1, 0] = EOS

    def run(self, parts):
        """Ids of parts [(slot, first, number)], one after the other."""
        tokens = np.concatenate([self.tokens[s, first : first + n] for s, first, n in parts])
        ids = np.full((len(tokens) + 1, self.n_heads), -7, np.int32)
        self.bench.run(
            "ngram_ids", build_ngram_ids, NGRAM_IDS, [(slot, n) for slot, _, n in parts],
            tokens=tokens, multipliers=self.multipliers, sizes=self.sizes, starts=self.starts,
            per_order=self.per_order, eos=EOS, ids=ids, n_past=len(self.multipliers) - 1,
        )  # fmt: skip
        assert (ids[-1] == -7).all()
        return ids[:-1]

    def expected(self, slot):
        return ngram_ids(self.tokens[slot], self.multipliers, self.sizes, self.starts, EOS)


@pytest.fixture(params=[(2, 1), (3, 3), (4, 1)], ids=str)
def hashed(request, team_of):
    n, n_threads = request.param
    return Hash(team_of("auto", n_threads), n)


def test_cut_at_any_token(hashed):
    for slot in (0, 1):
        want = hashed.expected(slot)
        for cut in range(1, N_TOKENS):
            hashed.bench.fresh[slot] = 1
            hashed.bench.pool[hashed.bench.state_row[slot]] = np.nan
            first = hashed.run([(slot, 0, cut)])
            rest = hashed.run([(4, 0, 3), (slot, cut, N_TOKENS - cut)])[3:]
            assert np.array_equal(np.concatenate([first, rest]), want), cut


def test_token_by_token_in_a_crowd(hashed):
    want = {slot: hashed.expected(slot) for slot in (3, 0, 1)}
    for t in range(N_TOKENS):
        got = hashed.run([(slot, t, 1) for slot in want])
        assert np.array_equal(got, [ids[t] for ids in want.values()]), t


@pytest.mark.parametrize("n_drafts", [1, 2, MAX_DRAFTS])
def test_any_number_of_drafts_is_right(hashed, n_drafts):
    want, bench = hashed.expected(0), hashed.bench
    for n_right in range(n_drafts + 1):
        bench.fresh[0], bench.pending[0] = 1, 0
        bench.pool[bench.state_row[0]] = np.nan
        out = [hashed.run([(0, 0, 6)])]
        bench.drafts, right = {0: n_drafts}, hashed.tokens.copy()
        hashed.tokens[0, 7 + n_right :] = 5
        out.append(hashed.run([(0, 6, 1 + n_drafts)])[: 1 + n_right])
        hashed.tokens, bench.drafts, bench.pending[0] = right, {}, n_right
        out.append(hashed.run([(0, 7 + n_right, N_TOKENS - 7 - n_right)]))
        assert np.array_equal(np.concatenate(out), want), n_right
