"""What bench, logits and perplexity compute, on a model that really uses its memory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from slotmux.server.commands.bandwidth import measure_bandwidth
from slotmux.server.commands.bench import _as_json
from slotmux.server.commands.logits import write_logits
from slotmux.server.commands.measure import BenchPlan, Measurement, measure
from slotmux.server.commands.perplexity import score
from slotmux.server.loading.cores import n_usable_cores
from tests.runtime.engine.fake_model import GREEDY, N_VOCAB, FakeModel, digest_of, draw


def _model_for(plan: BenchPlan, **kinds: int) -> FakeModel:
    n_blocks = plan.n_slots * -(-plan.n_ctx // 16)
    return FakeModel(plan.n_slots, plan.n_ctx, **{"n_blocks": n_blocks, **kinds})


@pytest.mark.parametrize("kinds", [{}, {"n_rows": 6}, {"n_rows": 6, "n_blocks": 0}])
def test_every_test_of_a_plan_is_measured_in_order(kinds: dict[str, int]) -> None:
    plan = BenchPlan(n_prompt=21, n_gen=5, depths=[0, 37], parallels=[1, 3], n_repeats=2)
    model = _model_for(plan, **kinds)
    had_nan = []
    model.before_forward = lambda: had_nan.append(np.isnan(model.logits).any())
    results = list(measure(model, plan))
    assert [(r.test, r.n_parallel, r.depth) for r in results] == [
        ("pp21", 1, 0),
        ("tg5", 1, 0),
        ("pp21", 3, 0),
        ("tg5", 3, 0),
        ("pp21", 1, 37),
        ("tg5", 1, 37),
        ("pp21", 3, 37),
        ("tg5", 3, 37),
    ]
    assert all(r.tokens_per_second > 0 for r in results)
    # 63 prompt tokens fill two ubatches of 32; five steps generate for all sequences at once.
    assert results[2].tokens_per_second / results[2].forwards_per_second == pytest.approx(63 / 2)
    assert results[3].tokens_per_second / results[3].forwards_per_second == pytest.approx(3)
    # Both depths, each test three times (once unmeasured), and the depth of three lanes.
    assert model.n_tokens_computed == 2 * 3 * (21 + 5 + 63 + 15) + 3 * 37
    assert not any(had_nan)  # no forward read a cell or a row that was not its own


def test_json_has_exactly_the_promised_keys() -> None:
    line = json.loads(json.dumps(_as_json(Measurement("tg5", 8, 0, 80.0, 10.0), 2, 5 * 10**8)))
    assert line == {
        "test": "tg5",
        "n_threads": 2,
        "n_parallel": 8,
        "depth": 0,
        "tokens_per_second": 80.0,
        "gb_per_second": 5.0,
    }


def test_bandwidth_is_that_of_a_memory() -> None:
    n_bytes = measure_bandwidth(1, 32 * 2**20)
    assert 10**8 < n_bytes < 10**13


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    assert n_usable_cores(tmp_path) >= 1  # no topology at all: every CPU counts
    n_cpus = n_usable_cores(tmp_path)
    for cpu in range(256):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text("0-255\n")
    assert n_usable_cores(tmp_path) == 1 <= n_cpus


@pytest.mark.parametrize("n_ubatch", [1, 7, 64])
def test_logits_of_every_position_are_written(tmp_path: Path, n_ubatch: int) -> None:
    tokens = [3 * i % N_VOCAB for i in range(50)]
    out = tmp_path / "logits.npy"
    write_logits(FakeModel(1, 64, n_blocks=4, n_ubatch=n_ubatch), tokens, out)
    table = np.load(out)
    assert table.dtype == np.float32
    expected = [draw(digest_of(tokens[: i + 1], True, False), GREEDY, (), 0)[1] for i in range(50)]
    assert np.array_equal(table, np.stack(expected))


def _scores(chunks: list[list[int]], n_seqs: int, n_ubatch: int) -> list[float]:
    model = FakeModel(n_seqs, 32, n_blocks=2 * n_seqs, n_rows=n_seqs, n_ubatch=n_ubatch)
    return [float(x) for part in score(model, chunks, n_seqs, lambda n: None) for x in part]


def test_perplexity_is_equal_however_sequences_are_packed() -> None:
    rng = np.random.default_rng(5)
    chunks = [rng.integers(0, N_VOCAB, n).tolist() for n in (32, 32, 32, 32, 32, 9)]
    alone = _scores(chunks, n_seqs=1, n_ubatch=32)
    assert len(alone) == 5 * 31 + 8
    for n_seqs, n_ubatch in [(1, 5), (2, 32), (4, 32), (6, 3), (6, 64)]:
        assert _scores(chunks, n_seqs, n_ubatch) == alone
    logits = draw(digest_of(chunks[0][:5], True, True), GREEDY, (), 0)[1].astype(np.float64)
    expected = logits[chunks[0][5]] - math.log(np.exp(logits).sum())
    assert alone[4] == pytest.approx(expected, rel=1e-9)
