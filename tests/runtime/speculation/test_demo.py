"""Speculation on the model that comes with the package, whose drafts are mostly right: the same
answers at any number of slots and drafts, and fewer steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.request import SamplingParams
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import Model
from slotmux.runtime.speculation.measure import measure_costs
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.files.default_model import demo_model
from slotmux.server.templates.chat_template import ChatTemplate
from tests.runtime.engine.crowd import GREEDY, alone, assert_equal, request_of, serving, together
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.models.isolation import loaded

QUESTIONS = (
    "What is slotmux?",
    "Tell me a short story about a cat.",
    "The codeword is bramble. What is the codeword?",
    "How do I start the server?",
    "Count from 1 to 10.",
    "My name is Iris. What is my name?",
    "What is a hybrid model?",
    "Tell me about owls.",
    "Which endpoints are there?",
)
DRAWN = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.05, n_logprobs=1)
N_MAX = 8


@pytest.fixture(scope="module")
def model(kernel_cache_dir: Path) -> Iterator[Model]:
    with loaded(
        demo_model(), kernel_cache_dir, max_drafts=N_MAX, use_mtp=True, n_checkpoints=16
    ) as model:
        yield model


@pytest.fixture(scope="module")
def asked(model):
    """Requests, their answers without speculation, and which tokens end one."""
    metadata = open_gguf(demo_model()).metadata
    tokenizer = Tokenizer.from_metadata(metadata)
    template = ChatTemplate.from_metadata(metadata, tokenizer)
    requests = []
    for i, text in enumerate(QUESTIONS):
        prompt = tokenizer.encode_rendered(template.render([{"role": "user", "content": text}]))
        sampling = replace(DRAWN, seed=i) if i % 2 else GREEDY
        requests.append(request_of(prompt, sampling=sampling, max_tokens=70))
    eog_ids = tuple(tokenizer.eog_ids)
    with serving(model, eog_ids=eog_ids) as engine:
        answers = alone(engine, requests)
        n_steps = engine.stats().counters.n_steps
    return requests, answers, eog_ids, n_steps


@pytest.mark.parametrize("n_max", [1, 3, N_MAX])
@pytest.mark.parametrize("types", [(MTP,), (MTP, NGRAM), (NGRAM,)])
def test_answers_are_the_same(model, asked, types, n_max):
    requests, answers, eog_ids, _ = asked
    spec = SpecConfig(types, n_max)
    with serving(model, eog_ids=eog_ids, costs=EagerCosts(), spec=spec) as engine:
        assert_equal("together", together(engine, requests), answers)
        assert_equal("alone", alone(engine, requests), answers)
        assert engine.stats().counters.n_draft_accepted > (20 if MTP in types else 4)


def test_most_drafts_are_right_and_save_steps(model, asked):
    requests, answers, eog_ids, n_steps = asked
    with serving(model, eog_ids=eog_ids, costs=EagerCosts(), spec=SpecConfig((MTP,), 3)) as engine:
        assert_equal("alone", alone(engine, requests), answers)
        counters = engine.stats().counters
    assert counters.accepted_at[0] > 0.7 * counters.drafted_at[0]
    assert counters.accepted_at[1] > 0.5 * counters.drafted_at[1]
    assert counters.n_steps < 0.6 * n_steps


def test_costs_that_were_measured_are_as_good(model, asked):
    """The budget of a served model: whatever it decides, the answers are the same."""
    requests, answers, eog_ids, _ = asked
    costs = measure_costs(model, 3)
    assert costs.step(1, 1) > 0.0
    assert costs.draft(1, False) > 0.0
    with serving(model, eog_ids=eog_ids, costs=costs, spec=SpecConfig((MTP,), 3)) as engine:
        for _ in range(2):
            assert_equal("together", together(engine, requests), answers)


def test_the_next_turn_goes_on_from_a_state_with_accepted_drafts(model, asked):
    """What a finished chat leaves in the cache may have drafts yet to be applied."""
    requests, answers, eog_ids, _ = asked
    turns = [
        request_of(request.prompt + answer.tokens + [1, *request.prompt[-12:]], max_tokens=40)
        for request, answer in zip(requests, answers, strict=True)
    ]
    with serving(model, eog_ids=eog_ids) as engine:
        want = alone(engine, turns)
    with serving(
        model, eog_ids=eog_ids, costs=EagerCosts(), spec=SpecConfig((MTP,), 3),
        checkpoint_spacing=1,
    ) as engine:  # fmt: skip
        n_cached = []
        for request, turn, answer in zip(requests, turns, want, strict=True):
            together(engine, [request])
            got = together(engine, [turn])
            assert_equal("the next turn", got, [answer])
            n_cached.append(got[0].usage.n_cached - len(request.prompt))
    assert max(n_cached) > 0
