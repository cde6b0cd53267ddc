"""Cells and states under one budget so small that room for the one is made of the other."""

from itertools import product

import pytest

from tests.runtime.engine.fake_model import EOG, oracle
from tests.runtime.engine.test_core import Bench
from tests.runtime.engine.test_state_machine import STEMS, one_budget


def talk(bench: Bench, n_first: int, n_second: int, boundary: int, n_kept: int) -> None:
    """Two prompts that begin alike, then a next turn of each at once; what is under way of the
    second is cut off when it has generated ``n_kept`` tokens."""
    jobs = [
        bench.add(STEMS[0][:n_first], max_tokens=5, ignore_eos=True),
        bench.add(STEMS[0][:n_second], max_tokens=9, boundaries=(boundary,), ignore_eos=True),
    ]
    for _ in range(16):
        bench.step()
        bench.core.memory.check_integrity()
    turns = [r.prompt + a.tokens.get(0, [])[:n_kept] + [2, 3] for r, a in jobs]
    jobs += [bench.add([t % EOG for t in turn], max_tokens=9) for turn in turns]
    for _ in range(40):
        bench.step()
        bench.core.memory.check_integrity()
    bench.run()
    for request, receiver in jobs:
        expected = oracle(request, bench.core.memory.n_ctx, bench.model, 0)
        assert receiver.tokens[0] == expected


@pytest.mark.parametrize("n_bytes", [0, 5_000, 20_000])
@pytest.mark.parametrize("block_bytes", [512, 4096])
def test_a_next_turn_finds_its_state_while_room_is_made(n_bytes: int, block_bytes: int) -> None:
    for n_first, n_second in product((17, 47, 81, 88), (40, 66, 80, 96)):
        for boundary, n_kept in product((16, 30, 64), (0, 5)):
            sizes = {**one_budget(9, n_bytes), "block_bytes": block_bytes}
            bench = Bench("hybrid", n_slots=3, n_ctx=112, n_ubatch=11, **sizes)
            talk(bench, n_first, n_second, boundary, n_kept)
