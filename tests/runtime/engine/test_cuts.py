"""Prompts that leave a known path at every place around a kept state, before it, at it, behind it:
the same bits as without the cache, for every architecture with a state, within one budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotmux.runtime.engine.admission.admission import check_request
from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import Request
from slotmux.runtime.lowered import ModelConfig
from slotmux.runtime.model import load_model
from tests.architectures import ARCHITECTURES
from tests.runtime.engine.crowd import GREEDY, Answer, IdDetokenizer
from tests.runtime.models.isolation import golden, poison

N_CTX = 160
WITH_STATE = [architecture.name for architecture in ARCHITECTURES if architecture.has_state]


def serve(core: Core, prompt: list[int], *, cache_prompt: bool = True) -> Answer:
    """One request alone, its memory checked after each step."""
    answer = Answer()

    def receive(_: Request, outputs: list) -> None:
        for output in outputs:
            answer.take(output)

    request = Request(
        prompt=prompt, sampling=GREEDY, on_output=receive, max_tokens=4, ignore_eos=True,
        boundaries=(37,), cache_prompt=cache_prompt,
    )  # fmt: skip
    request.id = core.meter.counters.n_requests + 1
    core.add(request, check_request(request, 2, core.memory.n_ctx, 1 << 30), 0.0)
    while core.has_work:
        core.step(0.0)
        core.memory.check_integrity()
    assert answer.usage is not None
    return answer


@pytest.mark.parametrize("name", WITH_STATE)
def test_every_cut_around_a_state(name: str, kernel_cache_dir: Path) -> None:
    reference = golden(name)
    config = ModelConfig(
        n_ctx=N_CTX, n_slots=2, n_ubatch=64, n_threads=1, n_checkpoints=24, n_cache_blocks=64,
        is_elastic=True, kernel_cache=kernel_cache_dir,
    )  # fmt: skip
    text = [token for prompt in reference.prompts for token in prompt] * 4
    with_model = load_model(reference.path, config)
    try:
        poison(with_model)
        engine = EngineConfig(2, N_CTX, poison_freed=True, prefix_cache_bytes=10**7)
        core = Core(with_model, engine, frozenset(), IdDetokenizer)
        known = text[:90]
        known += serve(core, known).tokens
        states = sorted({c.position for c in core.memory.pools.rows.checkpoints.values()})
        assert len(states) >= 3, "a message's beginning, the prompt's end, the answer's end"
        n_found = 0
        for cut in sorted({state + d for state in states for d in (-1, 0, 1)}):
            prompt = known[:cut] + text[150 + cut : 157 + cut]
            got = serve(core, prompt)
            assert got.bits == serve(core, prompt, cache_prompt=False).bits, f"cut at {cut}"
            n_found += got.usage.n_cached > 0
        assert n_found >= 2 * len(states), "the cache was hardly used"
    finally:
        with_model.close()
