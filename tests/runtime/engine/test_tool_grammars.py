"""Grammars that wait for a trigger, and budgets of thought, on real kernels: what a choice gets in
a crowd, with and without drafts, is what it gets alone, to the bit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from random import Random

import pytest

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.request import FinishReason, Request, SamplingParams
from slotmux.runtime.speculation import speculator
from tests.runtime.engine.crowd import alone, assert_equal, request_of, serving, together
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.engine.tool_grammars import ToolGrammar, tool_grammars
from tests.runtime.models.isolation import golden, loaded

EOG = (7, 99)
GRAMMARS = tool_grammars(frozenset(EOG))
LED = 7.0  # a bias that leads words at random to a trigger soon
SPECS = {
    "off": SpecConfig(),
    "n-grams": SpecConfig((NGRAM,), 3),
    "own": SpecConfig((MTP,), 3),
    "both": SpecConfig((MTP, NGRAM), 5),
}


def requests_for(prompts: list[list[int]]) -> list[Request]:
    """Each grammar greedy, drawn, and with log-probabilities, among free ones."""
    rng, requests = Random(3), []
    drawn = SamplingParams(temperature=1.0, top_p=0.9)
    for i, grammar in enumerate(GRAMMARS):
        for kind in range(3):
            sampling = drawn if kind else SamplingParams(temperature=0.0, repeat_penalty=1.3)
            bias = tuple((token, LED) for token in grammar.triggers)
            n_logprobs = 2 if kind == 2 else -1
            sampling = replace(sampling, seed=i, logit_bias=bias, n_logprobs=n_logprobs)
            prompt = prompts[i % len(prompts)][: rng.randint(3, 40)] * rng.randint(1, 2)
            requests.append(
                request_of(prompt, sampling=sampling, max_tokens=150, constraint=grammar)
            )
    free = replace(drawn, seed=9, n_logprobs=1)
    requests += [request_of(p[:20], sampling=free, max_tokens=40) for p in prompts[:3]]
    rng.shuffle(requests)
    return requests


@pytest.fixture(scope="module", params=["qwen35", "llama"])
def served(request, kernel_cache_dir):
    reference = golden(request.param)
    requests = requests_for(reference.prompts)
    has_mtp = request.param == "qwen35"
    with loaded(reference.path, kernel_cache_dir, max_drafts=5, use_mtp=has_mtp) as model:
        with serving(model, eog_ids=EOG) as engine:
            answers = alone(engine, requests)
        yield model, requests, answers, has_mtp


@pytest.mark.parametrize("guided", [-1.0, speculator.GUIDED])
@pytest.mark.parametrize("name", SPECS)
def test_calls_and_thoughts_are_those_of_each_alone(served, name, guided, monkeypatch):
    model, requests, answers, has_mtp = served
    if MTP in SPECS[name].types and not has_mtp:
        pytest.skip("this model has no block for multi-token prediction")
    monkeypatch.setattr(speculator, "GUIDED", guided)
    with serving(model, eog_ids=EOG, costs=EagerCosts(), spec=SPECS[name]) as engine:
        assert_equal("together", together(engine, requests), answers)
        assert_equal("at intervals", together(engine, requests, [0.002] * len(requests)), answers)
        counters = engine.stats().counters
    assert counters.n_forced_tokens > 100
    if SPECS[name].types:
        assert counters.n_draft_accepted > 50


def test_what_is_compared_are_calls_and_thoughts(served):
    """Else the tests above would say nothing."""
    _, requests, answers, _ = served
    n_calls = n_thoughts = 0
    for request, answer in zip(requests, answers, strict=True):
        grammar = request.constraint
        if not isinstance(grammar, ToolGrammar):
            continue
        text = grammar.text(answer.tokens)
        thoughts = ("<think>" if grammar.is_open else "") + text
        for thought in re.findall("<think>(.*?)</think>", thoughts, re.DOTALL):
            n_thoughts += 1
            if grammar.n_thinking is not None and grammar.n_thinking >= 0:
                assert len(thought) <= grammar.n_thinking + 3  # bytes of a character are ended
        if grammar.format == "hermes":
            for call in re.findall("<tool_call>(.*?)</tool_call>", text, re.DOTALL):
                n_calls += 1
                arguments = json.loads(call)["arguments"]
                assert not arguments or arguments["how"] in ("near", "far away")
        if grammar.must_call and answer.reason is FinishReason.STOP:
            assert "</tool_call>" in text
    assert n_calls > 10
    assert n_thoughts > 6
