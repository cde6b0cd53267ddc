"""Speculation on real kernels: what comes out is what comes out without it, bit for bit.

Tiny models with random weights, memory poisoned; requests come and go, and are cancelled.
"""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.request import SamplingParams
from tests.architectures import CROWDED, WITH_MTP
from tests.runtime.engine.crowd import (
    GREEDY,
    LOOSE,
    Call,
    alone,
    assert_equal,
    copy_of,
    mixed_requests,
    request_of,
    together,
)
from tests.runtime.engine.crowd import serving as plain_serving
from tests.runtime.engine.fake_model import EagerCosts
from tests.runtime.engine.sampling_choices import unusual
from tests.runtime.models.isolation import golden, loaded

EOG = (7, 99)


def serving(model, types, n_max, **config):
    spec = SpecConfig(types, n_max)
    return plain_serving(model, eog_ids=EOG, costs=EagerCosts(), spec=spec, **config)


def requests_for(prompts: Any) -> list[Any]:
    """Mixed ones, one with every penalty and a bias, one that repeats itself."""
    requests = mixed_requests(prompts, 12)
    bias = ((5, 2.0), (11, -4.0))
    heavy = replace(LOOSE, presence_penalty=0.7, frequency_penalty=0.3, logit_bias=bias, seed=3)
    # Few tokens to choose from: what was said comes again, now and then.
    narrow = replace(LOOSE, logit_bias=((5, 60.0), (6, 60.0), (8, 60.0)), repeat_penalty=1.0)
    looping = list(prompts[1][:6]) * 5
    rng = Random(5)
    return [
        *requests,
        *(
            request_of(looping, sampling=unusual(rng, replace(narrow, seed=i), 300), max_tokens=40)
            for i in range(10)
        ),
        request_of(prompts[1], sampling=heavy, max_tokens=30),
        *(request_of(looping, sampling=replace(narrow, seed=i), max_tokens=60) for i in range(3)),
        request_of(looping, sampling=SamplingParams(seed=4, temperature=0.3), max_tokens=30),
    ]


def expected(model, requests):
    with plain_serving(model, eog_ids=EOG) as engine:
        return alone(engine, requests)


@pytest.mark.parametrize("n_max", [1, 3, 8])
@pytest.mark.parametrize("name", WITH_MTP)
def test_the_models_own_guesses_change_nothing(name, n_max, kernel_cache_dir):
    reference = golden(name)
    requests = requests_for(reference.prompts)
    with loaded(reference.path, kernel_cache_dir, max_drafts=n_max, use_mtp=True) as model:
        want = expected(model, requests)
        for types in ((MTP,), (MTP, NGRAM)):
            with serving(model, types, n_max) as engine:
                assert_equal(f"{types} together", together(engine, requests), want)
                assert_equal(f"{types} alone", alone(engine, requests), want)
                assert engine.stats().counters.n_draft_tokens > 100


@pytest.mark.parametrize("name", CROWDED)
def test_ngrams_change_nothing(name, kernel_cache_dir):
    reference = golden(name)
    requests = requests_for(reference.prompts)
    with loaded(reference.path, kernel_cache_dir, max_drafts=4) as model:
        want = expected(model, requests)
        with serving(model, (NGRAM,), 4) as engine:
            assert_equal("together", together(engine, requests), want)
            assert engine.stats().counters.n_draft_tokens > 20


class Scripted:
    """In place of a model's own guesses: the known answers, or anything but those."""

    short_vocab, has_short = 1 << 30, False

    def __init__(self, model, requests, answers, is_right) -> None:
        self.model, self.is_right = model, is_right
        self.texts = [
            request.prompt + answer.tokens
            for request, answer in zip(requests, answers, strict=True)
        ]
        self.histories: dict[int, Any] = {}

    def run(self, wanted, *, is_short=False, guide=None):
        self.model.inner.run(wanted, is_short=is_short, guide=guide)  # its cells get written
        tokens = np.full((wanted[0][1], len(wanted)), -1, np.int32)
        for i, (slot, n, _, position) in enumerate(wanted):
            known = self.model.history_of(slot)[: position + 1].tolist()
            text = next((t for t in self.texts if t[: len(known)] == known), known)
            for j in range(n):
                at = position + 1 + j
                right = text[at] if at < len(text) else 0
                tokens[j, i] = right if self.is_right(at) else (right + 1) % 300
                self.model.history_of(slot)[at] = tokens[j, i]
        return tokens, np.zeros(tokens.shape, np.float32)


class Shell:
    """A model whose drafter is replaced."""

    def __init__(self, model) -> None:
        self._model, self.inner, self.drafter = model, model.drafter, None

    def __getattr__(self, name):
        return getattr(self._model, name)

    def history_of(self, slot):
        return self._model.sampling._kept[slot][0]


@pytest.mark.parametrize("n_max", [2, 5])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_forced_right_and_wrong(share, n_max, kernel_cache_dir):
    """0 %, half and 100 % accepted; several slots reject in the same step."""
    reference = golden("qwen35")
    requests = [
        request_of(prompt[:n], sampling=sampling, max_tokens=40, ignore_eos=True)
        for prompt, n in zip(reference.prompts[1:] * 4, (5, 30, 9, 61, 22, 100, 37, 2), strict=True)
        for sampling in (GREEDY, replace(LOOSE, seed=n))
    ]
    with loaded(reference.path, kernel_cache_dir, max_drafts=n_max, use_mtp=True) as model:
        want = expected(model, requests)
        shell = Shell(model)
        shell.drafter = Scripted(shell, requests, want, lambda at: at * 0.37 % 1.0 < share)
        with serving(shell, (MTP,), n_max) as engine:
            assert_equal("together", together(engine, requests), want)
            counters = engine.stats().counters
        rate = counters.n_draft_accepted / counters.n_draft_tokens
        assert (
            (rate < 0.02) if share == 0.0 else (rate > 0.95 if share == 1.0 else 0.1 < rate < 0.7)
        )


def test_clients_come_and_go_while_others_are_verified(kernel_cache_dir):
    reference = golden("qwen35")
    requests = requests_for(reference.prompts)
    with loaded(
        reference.path, kernel_cache_dir, max_drafts=4, use_mtp=True, n_checkpoints=8
    ) as model:
        want = expected(model, requests)
        with serving(model, (MTP, NGRAM), 4, max_prompt_checkpoints=2) as engine:
            rng = np.random.default_rng(5)
            for _ in range(3):
                victims = [Call(engine, copy_of(r, max_tokens=60)) for r in requests[:6]]
                calls = []
                for i, request in enumerate(requests):
                    calls.append(Call(engine, copy_of(request)))
                    if i < len(victims):
                        time.sleep(float(rng.random()) * 0.01)
                        victims[i].abort()
                got = [answer for call in calls for answer in call.wait()]
                assert_equal("beside those that leave", got, want)
                for victim in victims:
                    victim.wait()


def test_memory_runs_out_while_drafts_are_verified(kernel_cache_dir):
    reference = golden("qwen35")
    requests = [
        request_of(reference.prompts[1][: 3 + i], sampling=replace(LOOSE, seed=i), max_tokens=50)
        for i in range(10)
    ]
    with loaded(
        reference.path, kernel_cache_dir, max_drafts=4, use_mtp=True, n_ctx=160, n_slots=6
    ) as model:
        want = expected(model, requests)
        with serving(model, (MTP,), 4) as engine:
            assert_equal("in little memory", together(engine, requests), want)
            assert engine.stats().counters.n_parked > 0
