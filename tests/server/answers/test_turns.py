"""Many prompts in one body, many choices of one, the best of them, running usage, suffixes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from slotmux.runtime.tokenizer import FimIds
from tests.server.answers.test_real_engine import N_SLOTS, expected, load
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import ByteTokenizer, RunningServer, loaded_with, running
from tests.server.http.sockets import connect, eventually, hang_up, request_bytes

MAX_QUEUE = 8


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[RunningServer, Any]]:
    loaded, model = load(7)
    loaded.engine.config = loaded.engine.config.__class__(
        N_SLOTS, loaded.engine.config.n_ctx, max_queue=MAX_QUEUE, poison_freed=True
    )
    with running(loaded) as server:
        yield server, model


def ask(server: RunningServer, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


def test_many_more_prompts_than_places_in_one_body(served):
    server, model = served
    prompts = [[i % 60, 1 + i % 7, 2 + i % 11] for i in range(10 * (N_SLOTS + MAX_QUEUE))]
    answer = ask(server, prompt=prompts, max_tokens=5, temperature=0, return_token_ids=True)
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(prompts)))
    for prompt, choice in zip(prompts, answer["choices"], strict=True):
        assert choice["prompt_token_ids"] == prompt
        assert choice["token_ids"] == expected(prompt, model, max_tokens=5)
    assert answer["usage"]["prompt_tokens"] == 3 * len(prompts)
    with httpx.stream(
        "POST",
        f"{server.url}/v1/completions",
        json={"prompt": prompts, "max_tokens": 5, "temperature": 0, "stream": True},
        timeout=60,
    ) as raw:
        texts = [""] * len(prompts)
        for line in raw.iter_lines():
            for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else ():
                texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in answer["choices"]]


def test_others_come_in_beside_a_body_of_many_prompts(served):
    server, _ = served
    sock = connect(server)
    many = [[i % 60, 5, 6] for i in range(600)]
    sock.sendall(request_bytes(prompt=many, max_tokens=40, temperature=0, ignore_eos=True))
    eventually(lambda: server.engine.stats().n_queued > 0)
    assert server.engine.stats().n_queued <= 2 * N_SLOTS, "the queue is there for others too"
    assert ask(server, prompt=[1, 2], max_tokens=3)["choices"]
    hang_up(sock, reset=True)
    eventually(lambda: server.engine.stats().n_slots_busy == 0)
    assert server.engine.stats().n_queued == 0, "all of it ends when its client goes"
    assert ask(server, prompt=[1, 2], max_tokens=3)["choices"]


def test_prompts_wait_while_others_fill_the_queue():
    engine = FakeEngine(n_slots=1, max_queue=1, step_s=0.02)
    with running(engine, max_queue=1) as server:
        socks = []
        for _ in range(2):
            sock = connect(server)
            sock.sendall(request_bytes(prompt="xy"))
            socks.append(sock)
        eventually(lambda: len(engine.submitted) == 2)
        refused = httpx.post(f"{server.url}/v1/completions", json={"prompt": ["a", "b"]})
        assert refused.status_code == 429, "the first prompt has no place"
        eventually(lambda: engine.n_busy == 0, within_s=5)
        answer = ask(server, prompt=[chr(97 + i) for i in range(9)], max_tokens=2)
        assert [choice["text"] for choice in answer["choices"]] == ["He"] * 9
        assert b"".join(bytes(r.prompt) for r in engine.submitted[-9:]) == b"abcdefghi"
        for sock in socks:
            hang_up(sock, reset=False)


def test_a_refusal_in_the_middle_ends_all():
    engine = FakeEngine()
    with running(engine) as server:
        prompts = [[2], *([[3]] * 20), [1]]  # the engine dislikes the last
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": prompts})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "prompt"
        eventually(lambda: engine.n_busy == 0)


def test_more_choices_than_slots(served):
    server, _ = served
    n = 3 * N_SLOTS + 1
    body = {"prompt": [4, 5, 6], "max_tokens": 6, "seed": 11, "return_token_ids": True}
    answer = ask(server, n=n, **body)
    assert [choice["index"] for choice in answer["choices"]] == list(range(n))
    for i in (0, 5, n - 1):
        single = ask(server, **(body | {"seed": 11 + i}))
        assert single["choices"][0]["token_ids"] == answer["choices"][i]["token_ids"]
    assert answer["usage"]["prompt_tokens"] == 3


def test_the_best_of_many(served):
    server, _ = served
    body = {"prompt": [[4, 5, 6], [7, 8]], "max_tokens": 6, "seed": 2, "return_token_ids": True}
    every = ask(server, n=7, logprobs=0, **body)
    best = ask(server, n=2, best_of=7, **body)
    assert len(best["choices"]) == 4
    for prompt in range(2):
        own = every["choices"][7 * prompt : 7 * prompt + 7]
        own.sort(key=lambda c: -statistics.fmean(c["logprobs"]["token_logprobs"]))
        got = best["choices"][2 * prompt : 2 * prompt + 2]
        assert [c["token_ids"] for c in got] == [c["token_ids"] for c in own[:2]]
        assert all(choice["logprobs"] is None for choice in got)
    assert [choice["index"] for choice in best["choices"]] == [0, 1, 2, 3]
    assert best["usage"] == every["usage"] | {
        "prompt_tokens_details": best["usage"]["prompt_tokens_details"]
    }


def test_usage_in_every_chunk_through_the_real_client(served):
    server, _ = served
    options = {"include_usage": True, "continuous_usage_stats": True}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        chunks = list(
            client.completions.create(
                model="fake", prompt=[[1, 2, 3], [4]], max_tokens=6, stream=True,
                temperature=0, stream_options=options, extra_body={"ignore_eos": True},
            )
        )  # fmt: skip
    seen = {0: [0], 1: [0]}
    for chunk in chunks[:-1]:
        index = chunk.choices[0].index
        usage = chunk.usage
        assert usage.prompt_tokens == (3, 1)[index]
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        seen[index].append(usage.completion_tokens)
    for counts in seen.values():
        assert counts == sorted(counts)
        assert counts[-1] == 6
        assert len(set(counts)) > 3
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12


class FimTokenizer(ByteTokenizer):
    n_vocab = 300
    fim = FimIds(prefix=257, suffix=258, middle=259)


def test_a_suffix_goes_behind_its_token():
    engine = FakeEngine()
    loaded = loaded_with(engine)
    object.__setattr__(loaded, "tokenizer", FimTokenizer())
    with running(loaded) as server:
        answer = ask(server, prompt=["ab", "c"], suffix="de", echo=True, max_tokens=2)
        assert [request.prompt for request in engine.submitted] == [
            [257, 97, 98, 258, 100, 101, 259],
            [257, 99, 258, 100, 101, 259],
        ]
        assert [choice["text"] for choice in answer["choices"]] == ["abHe", "cHe"]
        assert ask(server, prompt="ab", suffix="", max_tokens=2)
        assert engine.submitted[-1].prompt == [97, 98]
        long = httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", "suffix": "b" * 511})
        assert long.status_code == 400
        assert long.json()["error"]["code"] == "context_length_exceeded"
