"""HTTP over the real engine: answers, reuse, crowds, clients that leave; the model is a fake that
reads its memory back, so a mixed-up slot or block shows as a wrong answer."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from slotmux.runtime.engine.request import Request, SamplingParams
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.server.process.state import Loaded, ModelInfo
from tests.runtime.engine.fake_model import (
    EOG,
    GREEDY,
    N_VOCAB,
    PIECES,
    FakeDetokenizer,
    FakeModel,
    oracle,
)
from tests.server.fake_model import ByteTokenizer, RunningServer, running
from tests.server.http.endpoints import check_as_told
from tests.server.http.sockets import connect, eventually, hang_up, request_bytes

N_SLOTS = 4
N_CTX = 128
MESSAGE = 61  # the token that begins a message


class PieceTokenizer(ByteTokenizer):
    """The letters that the fake model's tokens stand for; texts are cut into single tokens."""

    n_vocab = N_VOCAB
    eos_id = EOG
    eog_ids = frozenset({EOG})

    def encode(self, text, *, add_special=True, parse_special=False, max_tokens=None):
        return [byte % EOG for byte in text.encode()]

    def is_control(self, token_id):
        return token_id in (MESSAGE, EOG)

    def token_bytes(self, token_id, *, skip_special=False):
        return PIECES[token_id].encode()


def load(n_rows: int = 0) -> tuple[Loaded, FakeModel]:
    model = FakeModel(N_SLOTS, N_CTX, n_blocks=40, n_rows=n_rows, n_ubatch=16)
    model.before_forward = lambda: time.sleep(0.001)
    tokenizer = PieceTokenizer()
    config = EngineConfig(N_SLOTS, N_CTX, max_queue=100, poison_freed=True)
    engine = Engine(model, tokenizer, config, new_detokenizer=FakeDetokenizer)
    info = ModelInfo("fake", N_CTX, N_CTX, N_SLOTS)
    return Loaded(engine, tokenizer, None, info, 1, keeps_states=n_rows > 0), model


@pytest.fixture(scope="module", params=[0, 7], ids=["attention", "hybrid"])
def served(request) -> Iterator[tuple[RunningServer, FakeModel]]:
    loaded, model = load(request.param)
    with running(loaded) as server:
        yield server, model


def expected(prompt: list[int], model: FakeModel, **options) -> list[int]:
    request = Request(prompt, options.pop("sampling", GREEDY), lambda r, o: None, **options)
    return oracle(request, N_CTX, model)


def prompt_of(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(EOG) for _ in range(n)]


def ask(server: RunningServer, prompt: list[int], **body) -> dict:
    body = {"prompt": prompt, "temperature": 0, "return_token_ids": True} | body
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_answer_is_the_models(served):
    server, model = served
    prompt = prompt_of(random.Random(1), 20)
    answer = ask(server, prompt, max_tokens=12)
    ids = answer["choices"][0]["token_ids"]
    assert ids == expected(prompt, model, max_tokens=12)
    assert answer["usage"]["prompt_tokens"] == 20
    assert answer["usage"]["completion_tokens"] == len(ids)
    assert answer["timings"]["predicted_n"] == len(ids)


def test_a_prefix_is_reused_and_told(served):
    server, _ = served
    prompt = prompt_of(random.Random(2), 70)
    cold = ask(server, prompt, max_tokens=8)
    warm = ask(server, prompt, max_tokens=8)
    assert cold["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert warm["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert warm["choices"] == cold["choices"]
    salted = ask(server, prompt, max_tokens=8, cache_salt="other")
    assert salted["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert salted["choices"] == cold["choices"]


def test_a_beginning_that_others_share_is_reused_up_to_a_message(served):
    """Of a recurrent model only where its state was kept: where a message begins."""
    server, model = served
    rng = random.Random(6)
    shared = [token % MESSAGE for token in prompt_of(rng, 40)] + [MESSAGE]
    for i in range(3):
        prompt = shared + prompt_of(rng, 30)
        answer = ask(server, prompt, max_tokens=4)
        assert answer["choices"][0]["token_ids"] == expected(prompt, model, max_tokens=4)
        n_cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert n_cached >= 32 if i else n_cached == 0


async def test_a_crowd_gets_what_each_would_get_alone(served):
    server, model = served
    rng = random.Random(3)
    prompts = [prompt_of(rng, rng.randrange(1, 60)) for _ in range(24)]
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x") as client:

        async def one(i: int) -> list[int]:
            stream = await client.completions.create(
                model="fake", prompt=prompts[i], temperature=0.7, seed=i, max_tokens=20,
                stream=True, extra_body={"return_token_ids": True},
            )  # fmt: skip
            choices = [choice async for chunk in stream for choice in chunk.choices]
            return [t for c in choices for t in c.model_extra.get("token_ids", ())]

        got = await asyncio.gather(*(one(i) for i in range(len(prompts))))
    for i, prompt in enumerate(prompts):
        sampling = SamplingParams(temperature=0.7, seed=i)
        assert got[i] == expected(prompt, model, sampling=sampling, max_tokens=20)


def test_a_stop_string_ends_the_text_but_not_in_it(served):
    server, _ = served
    prompt = prompt_of(random.Random(4), 5)
    text = ask(server, prompt, max_tokens=20, ignore_eos=True)["choices"][0]["text"]
    stop = text[9:12]
    choice = ask(server, prompt, max_tokens=20, ignore_eos=True, stop=stop)["choices"][0]
    assert choice["text"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"
    choice = ask(
        server, prompt, max_tokens=20, ignore_eos=True, stop=stop, include_stop_str_in_output=True
    )["choices"][0]
    assert choice["text"] == text[: text.index(stop) + len(stop)]


def test_logprobs_are_those_of_the_answer(served):
    server, _ = served
    answer = ask(server, [1, 2, 3], max_tokens=5, logprobs=3)
    choice = answer["choices"][0]
    assert choice["logprobs"]["tokens"] == [PIECES[i] for i in choice["token_ids"]]
    assert all(len(top) in (3, 4) for top in choice["logprobs"]["top_logprobs"])


def test_clients_that_leave_give_back_slots_and_memory(served):
    server, _ = served
    engine = server.engine
    rng = random.Random(5)
    for _ in range(40):
        sock = connect(server)
        sock.sendall(
            request_bytes(
                prompt=prompt_of(rng, 40), ignore_eos=True, n=rng.choice([1, 4]),
                stream=rng.random() < 0.5,
            )
        )  # fmt: skip
        time.sleep(rng.random() * 0.03)
        hang_up(sock, reset=rng.random() < 0.5)
    eventually(lambda: not (engine.stats().n_slots_busy or engine.stats().n_queued), 1.0)
    stats = engine.stats()
    assert stats.n_blocks_free + stats.n_blocks_cached == stats.n_blocks
    eventually(lambda: not server.state.service.intake.running, 5.0)
    assert stats.counters.finished["abort"] >= 10


def test_metrics_of_a_served_model(served):
    server, _ = served
    ask(server, [1, 2, 3], max_tokens=5, ignore_eos=True)
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["llamacpp:tokens_predicted_total"]) >= 5
    assert float(values["llamacpp:n_decode_total"]) >= 5
    assert float(values["slotmux_time_to_first_token_seconds_count"]) >= 1
    assert float(values["slotmux_step_seconds_count"]) >= 5
    assert float(values["slotmux_slots_free"]) == N_SLOTS
    assert 0 <= float(values["vllm:kv_cache_usage_perc"]) <= 1
    assert float(values["vllm:request_decode_time_seconds_count"]) >= 1
    assert float(values["slotmux_kernels_compiled_total"]) == 0
    assert float(values["process_resident_memory_bytes"]) > 0


def test_logits_that_are_no_numbers_end_one_request_only():
    loaded, model = load()
    model.nan_token = 7
    with running(loaded) as server:
        body = {"prompt": [1, 7], "temperature": 0}
        answer = httpx.post(f"{server.url}/v1/completions", json=body)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert ask(server, [1, 2], max_tokens=1)["choices"]


def test_what_the_cache_holds_is_told_without_a_token(served):
    server, model = served
    prompt = prompt_of(random.Random(8), 60)
    ask(server, prompt, max_tokens=4, cache_salt="a secret")
    misses = [
        ask(server, p, max_tokens=2, **options)["timings"].get("cache_miss", "")
        for p, options in [
            (prompt, {"cache_salt": "a secret"}),
            ([*prompt[:40], *prompt_of(random.Random(9), 30)], {"cache_salt": "a secret"}),
            (prompt, {"cache_salt": "another"}),
            (prompt, {"cache_prompt": False}),
        ]
    ]
    diverged = "no_state" if model.rows.n_rows else "diverged"
    assert misses == ["", diverged, "cold", "off"]
    answer = httpx.get(f"{server.url}/debug/prefix")
    assert answer.status_code == 200
    assert "a secret" not in answer.text
    told = answer.json()
    check_as_told("GET", "/debug/prefix", told)
    assert told["is_all"]
    stretches = told["stretches"]
    by_id = {stretch["id"]: stretch for stretch in stretches}
    for stretch in stretches:
        begin = by_id[stretch["parent"]]["end"] if stretch["parent"] >= 0 else 0
        assert stretch["begin"] == begin < stretch["end"]
    assert sum(stretch["n_blocks"] for stretch in stretches) > 4
    assert bool(model.rows.n_rows) == any(stretch["states"] for stretch in stretches)
    metrics = httpx.get(f"{server.url}/metrics").text
    for reason in (diverged, "other_salt", "off"):
        counted = re.search(rf'prefix_cache_misses_total{{reason="{reason}"}} (.*)', metrics)
        assert counted is not None
        assert float(counted[1]) >= 1
