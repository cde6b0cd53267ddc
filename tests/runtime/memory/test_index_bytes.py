"""What CPython takes for the index is within what the budget counts for it."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from slotmux.runtime.memory import Memory
from slotmux.runtime.memory.prefix_tree import NODE_BYTES, ROOT_BYTES, STATE_BYTES
from slotmux.runtime.ubatch import BLOCK_CELLS
from tests.runtime.engine.fake_model import FakeModel

N_BLOCKS = 3000


@pytest.mark.parametrize(
    ("n_path", "salts", "n_rows"),
    [
        pytest.param(40, False, 0, id="long paths"),
        pytest.param(1, False, 0, id="one block each"),
        pytest.param(1, True, 0, id="a salt each"),
        pytest.param(4, True, 0, id="short paths of salts"),
        pytest.param(1, False, N_BLOCKS, id="states"),
        pytest.param(4, True, N_BLOCKS, id="states of salts"),
    ],
)
def test_the_index_takes_no_more_than_is_counted(n_path, salts, n_rows):
    n_tokens = n_path * BLOCK_CELLS
    model = FakeModel(1, n_tokens + 16, N_BLOCKS, n_rows, n_ubatch=n_tokens)
    rng = np.random.default_rng(0)
    gc.collect()
    tracemalloc.start()
    try:
        memory = Memory(model.kv, model.rows, model.ubatch, n_ctx=n_tokens + 16)
        seq = memory.sequences[0]
        for number in range(N_BLOCKS // n_path - 4):
            seq.history[:n_tokens] = rng.integers(0, 1000, n_tokens)
            salt = f"{number:064d}/{number:032d}" if salts else ""
            n_found = memory.open(seq, n_tokens + 1, salt)
            assert n_found <= 1  # of a tail that begins alike
            assert seq.reserve(n_tokens - n_found)
            seq.commit(n_tokens - n_found)
            seq.release()
        gc.collect()
        n_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    tree, n_states = memory.pools.tree, memory.n_checkpoints
    assert len(tree.roots) == (N_BLOCKS // n_path - 4 if salts else 1)
    counted = tree.n_nodes * NODE_BYTES + len(tree.roots) * ROOT_BYTES + n_states * STATE_BYTES
    assert n_bytes <= counted + 300_000  # ghosts: a table of fixed size
    assert counted <= 2 * n_bytes, "far too much is counted"
