"""A router that hears the events knows what the memory knows: which blocks a prompt would find."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from slotmux.runtime.memory.events import AllCleared, BlocksRemoved, BlocksStored
from slotmux.runtime.memory.match import find
from slotmux.runtime.ubatch import BLOCK_CELLS
from tests.runtime.engine.fake_model import EOG
from tests.runtime.engine.test_core import Bench

SIZES = {
    "attention": {"n_blocks": 24},
    "hybrid": {"n_blocks": 24, "n_rows": 8},
    "recurrent": {"n_rows": 8},
    "budget": {"n_blocks": 40, "n_rows": 20, "n_ready": 9, "prefix_cache_bytes": 20_000},
    "blocks lead": {"n_blocks": 24, "n_rows": 8, "block_bytes": 4096},
}


class Router:
    """Keeps what it is told. ``is_full``: has room for nothing."""

    def __init__(self):
        self.blocks = {}  # by name: parent, salt, tokens
        self.is_full, self.is_idle, self.n_batches = False, True, 0

    def publish(self, events):
        if self.is_full:
            return False
        self.n_batches += 1
        for event in events:
            if isinstance(event, AllCleared):
                self.blocks.clear()
            elif isinstance(event, BlocksRemoved):
                for name in event.names:
                    del self.blocks[name]
            else:
                assert isinstance(event, BlocksStored)
                parent = event.parent
                assert parent is None or parent in self.blocks
                for name, tokens in zip(event.names, event.tokens, strict=True):
                    assert name not in self.blocks
                    self.blocks[name] = parent, event.salt, tokens
                    parent = name
        return True

    def n_blocks(self, salt, tokens):
        """How many blocks of a prompt are here."""
        at = {(parent, salt, key): name for name, (parent, salt, key) in self.blocks.items()}
        raw, parent, n = np.array(tokens, np.int32).tobytes(), None, 0
        size = 4 * BLOCK_CELLS
        while (name := at.get((parent, salt, raw[n * size : (n + 1) * size]))) is not None:
            parent, n = name, n + 1
        return n


def check(bench, router, prompts):
    pools = bench.core.memory.pools
    for salt in ("", "x"):
        for prompt in prompts:
            tokens = np.array(prompt, np.int32)
            match = find(pools.tree, salt, tokens, len(tokens), needs_row=pools.has_rows)
            n = router.n_blocks(salt, prompt)
            if not pools.has_rows:
                assert n == match.n_tokens // BLOCK_CELLS
            else:  # up to a state, and those of the path beyond it that lead to another
                assert match.n_tokens // BLOCK_CELLS <= n
                nodes = [node for node in pools.tree.walk() if node.is_full and node.n_needs]
                assert len(router.blocks) == len(nodes)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("loses", [False, True])
def test_a_router_knows_what_the_memory_knows(kind, loses):
    router, rng = Router(), Random(kind)
    engine_kind = kind if kind in ("attention", "recurrent") else "hybrid"
    bench = Bench(engine_kind, n_slots=3, n_ctx=112, events=router, **SIZES[kind])
    stems = [[rng.randrange(EOG) for _ in range(100)] for _ in range(4)]
    stems += [stems[0][:40] + stems[1][40:]]
    n_checked = n_most = 0
    for _ in range(60):
        if bench.core.admission.n_waiting < 3:
            prompt = rng.choice(stems)[: rng.randint(1, 100)]
            bench.add(
                prompt, max_tokens=rng.randint(0, 10), cache_salt=rng.choice(["", "", "x"]),
                boundaries=(rng.randint(1, 60),),
            )  # fmt: skip
        if rng.random() < 0.05:
            bench.core.memory.drop_cache()
        router.is_full = loses and rng.random() < 0.3
        for _ in range(rng.randint(1, 12)):
            bench.step()
        router.is_full = False
        bench.step()
        bench.step()  # one to come to rest, one to tell everything
        check(bench, router, stems)
        n_checked += 1
        n_most = max(n_most, len(router.blocks))
    assert n_checked == 60
    assert n_most > 6
    if loses:
        assert bench.core._events is not None
