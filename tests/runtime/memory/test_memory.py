"""Memory by itself: sharing, copy-on-write, forks, checkpoints, eviction, rejected drafts."""

import numpy as np
import pytest

from slotmux.runtime.memory import Memory
from slotmux.runtime.memory.eviction import FairOrder
from tests.runtime.engine.fake_model import POISON, FakeModel


class Desk:
    """A memory and helpers that write real tokens through the fake's forward."""

    def __init__(self, n_blocks=16, n_rows=0, n_slots=4, n_ctx=256, **options):
        self.model = FakeModel(n_slots, n_ctx, n_blocks, n_rows, n_ubatch=256)
        ub = self.model.ubatch
        self.memory = Memory(
            self.model.kv, self.model.rows, ub, n_ctx=n_ctx, poison=True, **options
        )

    def open(self, slot, tokens, salt="", n_known=None):
        seq = self.memory.sequences[slot]
        seq.history[: len(tokens)] = tokens
        return seq, self.memory.open(seq, n_known or len(tokens), salt)

    def compute(self, seq, tokens, n_drafts=0, n_accepted=0):
        """Append tokens; the fake's forward checks nothing was overwritten."""
        ub = self.model.ubatch
        begin, n = seq.n_computed, len(tokens)
        seq.history[begin : begin + n] = tokens
        if not seq.reserve(n, n_drafts):
            return False
        self.memory.check_integrity()
        ub.clear()
        ub.tokens[:n] = tokens
        ub.positions[:n] = range(begin, begin + n)
        ub.seq_start[:2] = 0, n
        ub.seq_slot[0], ub.seq_drafts[0] = seq.slot, n_drafts
        ub.n_seqs, ub.n_tokens = 1, n
        self.model.forward()
        seq.commit(n - n_drafts + n_accepted)
        self.memory.check_integrity()
        return True

    def read(self, seq):
        """The tokens in a sequence's cells."""
        cells = self.model.kv.tokens[seq.table].ravel()
        return cells[: seq.n_computed].tolist()

    def row(self, seq):
        return self.model.rows.state[seq.row]


def tokens_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, 64, n).tolist()


def test_fork_shares_blocks_until_one_writes():
    desk = Desk(n_rows=4)
    a = tokens_of(20)
    seq, _ = desk.open(0, a)
    desk.compute(seq, a)
    child, _ = desk.open(1, a[:1])
    child.history[:20] = a
    seq.fork(child)
    desk.memory.check_integrity()
    assert child.table == seq.table
    assert desk.model.kv.n_copies == 0
    desk.compute(child, [1, 2, 3])
    assert desk.model.kv.n_copies == 1
    desk.compute(seq, [4, 5])
    assert desk.model.kv.n_copies == 1  # the last holder writes in place
    assert desk.read(seq) == [*a, 4, 5]
    assert desk.read(child) == [*a, 1, 2, 3]
    assert child.row != seq.row
    assert child.table[0] == seq.table[0]


def test_reserve_is_all_or_nothing():
    desk = Desk(n_blocks=4)
    seq, _ = desk.open(0, [], n_known=1)
    desk.compute(seq, tokens_of(20))
    other, _ = desk.open(1, [], salt=None, n_known=1)
    desk.compute(other, tokens_of(16, 1))
    before = (list(seq.table), desk.memory.n_blocks_free, seq.n_writable)
    assert not seq.reserve(40)
    assert (list(seq.table), desk.memory.n_blocks_free, seq.n_writable) == before
    desk.memory.check_integrity()
    assert seq.reserve(12)
    seq.rollback()
    desk.memory.check_integrity()


def test_rollback_gives_reserved_blocks_back():
    desk = Desk()
    seq, _ = desk.open(0, [], n_known=1)
    desk.compute(seq, tokens_of(10))
    free = desk.memory.n_blocks_free
    assert seq.reserve(60)
    assert desk.memory.n_blocks_free == free - 4
    seq.rollback()
    assert desk.memory.n_blocks_free == free
    desk.memory.check_integrity()


def test_freed_memory_is_poisoned_unless_cached():
    desk = Desk(n_rows=4)
    seq, _ = desk.open(0, [], salt=None, n_known=1)
    desk.compute(seq, tokens_of(20))
    blocks, row = list(seq.table), seq.row
    seq.release()
    assert (desk.model.kv.tokens[blocks] == POISON).all()
    assert desk.model.rows.state[row] == POISON
    seq, _ = desk.open(0, [], n_known=1)
    desk.compute(seq, tokens_of(20))
    seq.release()
    assert desk.memory.n_blocks_cached == 2
    desk.memory.drop_cache()
    desk.memory.check_integrity()
    assert desk.memory.n_blocks_free == 16
    assert desk.memory.n_rows_free == 4
    assert (desk.model.kv.tokens == POISON).all()


def test_a_partly_filled_last_block_is_reused_by_copy():
    desk = Desk()
    a = tokens_of(23)
    seq, _ = desk.open(0, a)
    desk.compute(seq, a)
    source = seq.table[1]
    seq.release()
    desk.memory.check_integrity()
    b = [*a[:20], 60, 61]
    seq, n = desk.open(1, b)
    assert n == 20
    assert seq.table[1] != source
    assert desk.read(seq) == a[:20]
    desk.compute(seq, b[20:])
    again, n = desk.open(2, [*a, 5])
    assert n == 23
    assert desk.read(again) == a


def test_equal_blocks_computed_twice_are_kept_once():
    desk = Desk()
    a = tokens_of(40)
    first, _ = desk.open(0, a)
    second, _ = desk.open(1, a)
    desk.compute(first, a)
    desk.compute(second, a)
    assert first.table[:2] == second.table[:2]
    assert desk.memory.n_blocks_free == 16 - 4


def test_eviction_takes_the_least_recently_used_leaf_first():
    desk = Desk(n_blocks=8)
    a, b = tokens_of(48, 1), tokens_of(48, 2)
    for tokens in (a, b, a):
        seq, _ = desk.open(0, [*tokens, 1])
        desk.compute(seq, [*tokens, 1][seq.n_computed :])
        seq.release()
    seq, _ = desk.open(1, [], salt="z", n_known=1)
    desk.compute(seq, tokens_of(32, 3))
    seq.release()
    seq, n = desk.open(2, [*b, 1])
    assert n == 32  # its end went first
    seq.release()
    assert desk.open(3, [*a, 1])[1] == 48


def test_a_flood_of_one_salt_does_not_evict_the_share_of_another():
    desk = Desk(n_blocks=16)
    mine = tokens_of(64, 1)
    seq, _ = desk.open(0, mine, salt="me")
    desk.compute(seq, mine)
    seq.release()
    for seed in range(2, 12):
        flood = tokens_of(96, seed)
        seq, _ = desk.open(0, flood, salt="flood")
        desk.compute(seq, flood[seq.n_computed :])
        seq.release()
        desk.memory.check_integrity()
    assert desk.open(1, [*mine, 1], salt="me")[1] == 64


def test_who_holds_less_than_the_average_loses_nothing():
    order = FairOrder()
    for key in (1, 2):
        order.put("small", key, 0.0)
        order.weigh("small", 10)
    for key in (3, 4, 5, 6):
        order.put("large", key, 1.0)
        order.weigh("large", 10)
    assert order.first()[2] == 3
    order.put("large", 3, 1.0)  # used again
    assert order.first()[2] == 4
    for key in (3, 4, 5):
        order.remove("large", key)
        order.weigh("large", -10)
    assert order.first()[2] == 1


def test_rejected_drafts_leave_nothing_behind():
    desk, plain = Desk(n_rows=6), Desk(n_rows=6)
    a = tokens_of(34)
    seq, _ = desk.open(0, a)
    other, _ = plain.open(0, a)
    desk.compute(seq, a[:30])
    plain.compute(other, a[:30])
    for n_accepted in (0, 2, 3, 1):
        drafts = [7, 8, 9]
        desk.compute(seq, [5, *drafts], n_drafts=3, n_accepted=n_accepted)
        plain.compute(other, [5, *drafts[:n_accepted]])
        assert desk.read(seq) == plain.read(other)
        assert len(seq.table) == len(other.table)
    desk.compute(seq, [1])
    plain.compute(other, [1])
    assert desk.row(seq) == plain.row(other)


def test_accepted_drafts_go_with_the_row():
    """A copy of a row, for a fork or as a checkpoint, knows what its state has not seen yet."""
    desk = Desk(n_rows=6)
    a = tokens_of(30)
    seq, _ = desk.open(0, a)
    desk.compute(seq, a)
    desk.compute(seq, [1, 2, 3], n_drafts=2, n_accepted=1)
    child, _ = desk.open(1, a, salt=None)
    seq.fork(child)
    for each in (seq, child):
        desk.compute(each, [4])
    assert desk.row(seq) == desk.row(child)
    desk.compute(seq, [5, 6], n_drafts=1, n_accepted=1)
    seq.release()
    again, n = desk.open(0, [*a, 1, 2, 4, 5, 6, 7])
    assert n == 35
    desk.compute(again, [7])
    desk.compute(child, [5, 6, 7])
    assert desk.row(again) == desk.row(child)


@pytest.mark.parametrize("n_blocks", [16, 0])
def test_checkpoints_are_bounded_by_the_rows_and_evicted_lru(n_blocks):
    desk = Desk(n_rows=6, n_blocks=n_blocks, n_slots=4)
    for seed in range(12):
        tokens = tokens_of(40, seed)
        seq, n = desk.open(0, [*tokens, 1])
        assert n == 0
        desk.compute(seq, tokens)
        seq.release()
        desk.memory.check_integrity()
    assert 0 < desk.memory.n_checkpoints <= 6
    assert desk.open(0, [*tokens, 1])[1] == 40
    for slot in (1, 2, 3):  # every slot gets its row
        _, n = desk.open(slot, tokens_of(10, 99 + slot))
        assert n == 0
        desk.memory.check_integrity()
    assert desk.memory.n_checkpoints <= 2


def test_a_checkpoint_whose_row_is_the_last_is_consumed():
    desk = Desk(n_rows=1, n_slots=1)
    a = tokens_of(40)
    seq, _ = desk.open(0, a)
    desk.compute(seq, a)
    state = desk.row(seq)
    seq.release()
    seq, n = desk.open(0, [*a, 1])
    assert n == 40
    assert desk.row(seq) == state
    assert desk.memory.n_checkpoints == 0
    desk.memory.check_integrity()


def test_a_copied_tail_takes_over_the_last_block_there_is():
    desk = Desk(n_blocks=2, n_slots=1, n_ctx=32)
    a = tokens_of(20)
    seq, _ = desk.open(0, a)
    desk.compute(seq, a)
    seq.release()
    assert desk.memory.n_blocks_free == 0
    seq, n = desk.open(0, [*a, 1])
    assert n == 20
    assert desk.read(seq) == a
    assert desk.model.kv.n_copies == 0
    desk.memory.check_integrity()


def test_admission_counts_what_running_sequences_were_promised():
    desk = Desk(n_blocks=10)
    seq, n = desk.open(0, tokens_of(80))
    assert n == 0
    assert desk.open(1, tokens_of(80, 1))[1] is None
    assert not desk.memory.sequences[1].is_open
    assert desk.open(1, tokens_of(20, 1))[1] == 0
    seq.release()
    desk.memory.check_integrity()


def test_too_few_rows_for_the_slots_is_refused():
    with pytest.raises(ValueError, match="rows"):
        Desk(n_rows=3, n_slots=4)
