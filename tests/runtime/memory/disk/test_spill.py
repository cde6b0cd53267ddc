"""What is written, when, and in which order it goes again."""

import numpy as np
import pytest

from slotmux.runtime.memory.disk.chain import digests_of, root_digest
from slotmux.runtime.memory.disk.index import StoredBlocks
from slotmux.runtime.memory.disk.order import Order
from slotmux.runtime.memory.disk.writer import BlocksJob
from slotmux.runtime.memory.saved import erase_prefix
from tests.runtime.engine.test_core import KINDS, prompt_of


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_twice(kind, serve):
    bench = serve(kind)
    prompt = prompt_of(70).tolist()
    for _ in range(3):
        bench.computed(prompt, max_tokens=5, ignore_eos=True)
        bench.spill()
    n = bench.tier.stats().n_written_bytes
    bench.core.memory.drop_cache()
    bench.computed(prompt, max_tokens=5, ignore_eos=True)
    bench.spill()
    assert bench.tier.stats().n_written_bytes == n
    assert bench.tier.stats().n_read_bytes > 0
    bench.computed([*prompt, *prompt_of(40, 2)], max_tokens=5, ignore_eos=True)
    bench.spill()
    assert bench.tier.stats().n_written_bytes > n, "what is new is written"


def test_a_path_is_written_when_it_is_ripe(serve):
    bench = serve()
    times, spill = bench.tier.times, bench.tier._spill
    bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    (left, _), *_ = spill._waiting
    times.ripe_s, times.ripe_idle_s = 5.0, 0.5
    spill.tend(left + 0.4, is_idle=True)
    spill.tend(left + 4.9, is_idle=False)
    assert spill._waiting
    spill.tend(left + 0.6, is_idle=True)
    assert not spill._waiting
    bench.settle()
    assert bench.tier.stats().n_written_blocks == 4


def test_memory_that_runs_short_is_written_at_once(serve):
    bench = serve(n_blocks=12)
    for seed in range(4):
        bench.computed(prompt_of(70, seed), max_tokens=5, ignore_eos=True)
    assert bench.tier.stats().n_written_blocks >= 12, "before it was evicted"
    n, _ = bench.computed(prompt_of(70, 0), max_tokens=5, ignore_eos=True)
    assert n <= 70 - 64 + 5


def test_what_is_evicted_unwritten_is_copied(serve):
    bench = serve(n_blocks=12)
    bench.tier._spill.tend = lambda now, is_idle: None  # nothing is ever ripe
    for seed in range(4):
        bench.computed(prompt_of(70, seed), max_tokens=5, ignore_eos=True)
    bench.settle()
    n, _ = bench.computed(prompt_of(70, 0), max_tokens=5, ignore_eos=True)
    assert n <= 70 - 64 + 5


def test_a_block_that_was_let_go_while_it_was_copied_is_not_written(serve):
    bench = serve()
    bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    pools = bench.core.memory.pools
    node = next(iter(pools.tree.roots[""].children.values()))
    digest = digests_of("", node.key)[1]
    turns = pools.block_turns[node.block]
    assert root_digest("") != digest
    for turn, is_written in ((turns - 1, False), (turns, True)):
        stored = StoredBlocks("", 0, "x", (digest,))
        bench.tier._writer.add(BlocksJob(stored, (node.block,), (turn,)))
        bench.settle()
        assert (digest in bench.store.index.blocks) == is_written
        assert digest not in bench.tier._writer.queued
    assert bench.tier.stats().n_written_blocks == 1


def test_turns_count_whenever_the_tree_lets_go(serve):
    bench = serve("hybrid")
    bench.computed(prompt_of(70), max_tokens=5, ignore_eos=True)
    pools = bench.core.memory.pools
    blocks, rows = list(pools.tree.by_block), list(pools.rows.checkpoints)
    before = [pools.block_turns[b] for b in blocks], [pools.row_turns[r] for r in rows]
    assert blocks
    assert rows
    bench.core.memory.drop_cache()
    after = [pools.block_turns[b] for b in blocks], [pools.row_turns[r] for r in rows]
    assert after == tuple([n + 1 for n in counts] for counts in before)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_erased_is_erased_on_disk(kind, serve):
    bench = serve(kind)
    prompt = prompt_of(70).tolist()
    _, receiver = bench.computed(prompt, max_tokens=5, ignore_eos=True)
    bench.computed(prompt[:40] + prompt_of(40, 3).tolist(), max_tokens=5, ignore_eos=True)
    bench.spill()
    n_files = bench.tier.stats().n_files
    tokens = np.array(prompt + receiver.tokens[0][:4], np.int32)
    assert erase_prefix(bench.core.memory, tokens, "")
    bench.tier.forget("", tokens)
    bench.settle()
    assert bench.tier.stats().n_files < n_files
    bench.core.memory.drop_cache()
    _, receiver = bench.computed(prompt, max_tokens=1)
    assert receiver.last[0].usage.n_cached <= 48, "at most what another has, too"


def test_a_conversation_that_goes_on_gives_its_old_states_up_first(serve):
    bench = serve("recurrent")
    history = prompt_of(40).tolist()
    for seed in range(4):
        _, receiver = bench.computed(history, max_tokens=5, ignore_eos=True)
        history += receiver.tokens[0] + prompt_of(10, seed).tolist()
        bench.spill()
    states = [s.position for s in bench.store._order.all()]
    assert states[0] < states[-1] == max(states)


def stored(name, owner, n_bytes=4096):
    return StoredBlocks(name, n_bytes, owner, (name.encode(),))


def test_the_least_recently_used_goes_first_but_small_owners_are_spared():
    order = Order()
    assert order.first() is None
    small, *large = files = [stored("s", "small"), *(stored(f"l{i}", "large") for i in range(5))]
    for each in files:
        order.add(each)
    assert order.first() is large[0]
    order.touch(large[0])
    assert order.first() is large[1]
    order.demote(large[4])
    assert order.first() is large[4]
    for each in large[1:]:
        order.remove(each)
    assert order.first() is small, "they hold equally much"
    order.remove(small)
    order.remove(large[0])
    assert order.n_bytes == len(order) == 0
    assert not order._by_owner
