"""Samplers with a state, where memory is too small for all: who was parked goes on as if it had
not been."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.request import SamplingParams
from tests.runtime.engine.crowd import alone, assert_equal, request_of, serving, together
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.models.isolation import golden, loaded

PARAMS = (
    SamplingParams(mirostat=1, mirostat_tau=3.0, mirostat_eta=0.4, n_logprobs=2),
    SamplingParams(mirostat=2, mirostat_tau=2.0, mirostat_eta=0.4, temperature=0.8),
    SamplingParams(xtc_probability=0.5, xtc_threshold=0.01, dry_multiplier=1.0),
)


@pytest.mark.parametrize(("name", "types"), [("llama", ()), ("qwen35", (MTP,))])
def test_parking_changes_nothing(name, types, kernel_cache_dir):
    reference = golden(name)
    requests = [
        request_of(
            reference.prompts[i % 2][: 20 + i], sampling=replace(PARAMS[i % 3], seed=i),
            max_tokens=60, n=1 + i % 2, ignore_eos=True,
        )
        for i in range(6)
    ]  # fmt: skip
    sizes = {"n_ctx": 128, "n_slots": 4, "max_drafts": 3, "use_mtp": MTP in types}
    with loaded(reference.path, kernel_cache_dir, **sizes) as model:
        with serving(model) as engine:
            want = alone(engine, requests)
        spec = SpecConfig(types, 3) if types else SpecConfig()
        with serving(model, spec=spec, costs=EagerCosts()) as engine:
            assert_equal("together", together(engine, requests), want)
            counters = engine.stats().counters
    assert counters.n_parked > 0
    assert (counters.n_draft_accepted > 0) == bool(types)
