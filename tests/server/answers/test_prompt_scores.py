"""Log-probabilities of prompts over HTTP on the demo model: echo, prompt_logprobs, lm-eval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from slotmux.runtime.driver import logits_of
from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.model import ModelConfig, load_model
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.files.default_model import demo_model
from tests.reference.sampling import logprobs
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import N_SLOTS, serving_model

CONTEXT = "The keeper of the lighthouse counted the ships. He said that"
# Twenty items as a multiple-choice task has them: a context and what may follow it.
ITEMS = [
    (f"{CONTEXT} the {thing} is", f" {word}")
    for thing in ("codeword", "weather", "ship", "answer", "café")
    for word in ("good", "bad", "red apples and more", "42.")
]


@pytest.fixture(scope="module")
def server(kernel_cache_dir: Path) -> Iterator[RunningServer]:
    with serving_model(demo_model(), kernel_cache_dir, n_cells=2048) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_metadata(open_gguf(demo_model()).metadata)


@pytest.fixture(scope="module")
def rows(kernel_cache_dir: Path, tokenizer: Tokenizer) -> dict[tuple[int, ...], Any]:
    """Log-softmax of `slotmux logits` for every item, by its token ids."""
    model = load_model(
        demo_model(),
        ModelConfig(
            n_threads=2, n_ctx=512, n_ubatch=64, n_outputs=64, kernel_cache=kernel_cache_dir
        ),
    )
    try:
        found = {}
        for context, more in ITEMS:
            ids = tokenizer.encode(context + more, parse_special=True)
            found[tuple(ids)] = np.array([logprobs(row) for row in logits_of(model, ids)])
        return found
    finally:
        model.close()


def ask(server: RunningServer, path: str = "/v1/completions", **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


def loglikelihoods(answer: dict[str, Any], ctxlens: list[int]) -> list[tuple[float, bool]]:
    """As lm-eval's local-completions reads an answer to echo, logprobs 1 and max_tokens 1."""
    results = []
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    for choice, ctxlen in zip(choices, ctxlens, strict=True):
        values = choice["logprobs"]["token_logprobs"][ctxlen:-1]
        tops = choice["logprobs"]["top_logprobs"][ctxlen:-1]
        is_greedy = all(v == max(top.values()) for v, top in zip(values, tops, strict=True))
        results.append((sum(values), is_greedy))
    return results


@pytest.mark.parametrize("as_ids", [True, False])
def test_loglikelihood_of_a_task(server, tokenizer, rows, as_ids):
    """All twenty prompts in one body, which has more of them than the server has slots."""
    contexts = [tokenizer.encode(context, parse_special=True) for context, _ in ITEMS]
    whole = [tokenizer.encode(context + more, parse_special=True) for context, more in ITEMS]
    texts = [context + more for context, more in ITEMS]
    body = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0, "seed": 1234}
    answer = ask(server, model="tiny", prompt=whole if as_ids else texts, **body)
    got = loglikelihoods(answer, [len(ids) for ids in contexts])
    greedy = []
    for (value, is_greedy), context, ids in zip(got, contexts, whole, strict=True):
        table = rows[tuple(ids)]
        places = range(len(context), len(ids))
        want = sum(table[i - 1, ids[i]] for i in places)
        assert value == pytest.approx(want, abs=1e-4)
        assert is_greedy == all(table[i - 1].argmax() == ids[i] for i in places)
        greedy.append(is_greedy)
    again = ask(server, prompt=whole if as_ids else texts, **body)
    assert again["choices"] == answer["choices"], "now that all of them are in the prefix cache"


def test_echo_with_logprobs_through_the_real_client(client, tokenizer):
    text = "The café 🙂 says that"
    answer = client.completions.create(
        model="tiny", prompt=text, echo=True, logprobs=3, max_tokens=5, temperature=0, n=2
    )
    ids = tokenizer.encode(text, parse_special=True)
    for choice in answer.choices:
        told = choice.logprobs
        assert choice.text.startswith(text)
        assert len(told.tokens) == len(ids) + 5
        assert told.token_logprobs[0] is None
        assert told.top_logprobs[0] is None
        assert all(value <= 0 for value in told.token_logprobs[1:])
        for i in range(1, len(ids)):
            top = told.top_logprobs[i]
            assert top[told.tokens[i]] == told.token_logprobs[i]
            assert 3 <= len(top) <= 4
        ends = [*told.text_offset[1:], len(choice.text)]
        for token, begin, end in zip(told.tokens, told.text_offset, ends, strict=True):
            if not token.startswith("bytes:"):
                assert choice.text[begin:end] == token
    alone = client.completions.create(model="tiny", prompt=text, max_tokens=5, temperature=0)
    assert answer.choices[0].text == text + alone.choices[0].text
    assert answer.usage.completion_tokens == 10


def test_no_token_but_the_prompts(client, tokenizer):
    ids = tokenizer.encode(CONTEXT, parse_special=True)
    answer = client.completions.create(
        model="tiny", prompt=ids, echo=True, logprobs=0, max_tokens=0
    )
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == tokenizer.decode(ids, skip_special=False)
    assert len(told.token_logprobs) == len(ids)
    assert told.top_logprobs is None
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 0)
    silent = client.completions.create(model="tiny", prompt=ids, max_tokens=0)
    assert silent.choices[0].text == ""


def test_a_stream_tells_the_same(server):
    body = {
        "prompt": [CONTEXT, "one two"], "echo": True, "logprobs": 2, "max_tokens": 6, "n": 2,
        "seed": 3, "return_token_ids": True,
    }  # fmt: skip
    whole = ask(server, **body)
    parts: dict[int, dict[str, Any]] = {}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body | {"stream": True}) as raw:
        for line in raw.iter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line[6:])["choices"]:
                told = parts.setdefault(choice["index"], {"text": "", "prompt_token_ids": None})
                told["text"] += choice["text"]
                told["prompt_token_ids"] = choice.get("prompt_token_ids", told["prompt_token_ids"])
                for name, values in (choice["logprobs"] or {}).items():
                    told[name] = told.get(name, []) + values
    for choice in whole["choices"]:
        told = parts[choice["index"]]
        assert told["text"] == choice["text"]
        assert told["prompt_token_ids"] == choice["prompt_token_ids"]
        for name, values in choice["logprobs"].items():
            assert told[name] == values


def test_prompt_logprobs_as_vllm_tells_them(server, tokenizer, rows):
    context, more = ITEMS[2]
    ids = tokenizer.encode(context + more, parse_special=True)
    answer = ask(server, prompt=[ids, ids[:5]], prompt_logprobs=2, max_tokens=1)
    assert answer["choices"][0]["logprobs"] is None
    assert len(answer["choices"][1]["prompt_logprobs"]) == 5
    told = answer["choices"][0]["prompt_logprobs"]
    assert told[0] is None
    for i in range(1, len(ids)):
        row = rows[tuple(ids)][i - 1]
        own = told[i][str(ids[i])]
        assert own["logprob"] == pytest.approx(row[ids[i]], abs=1e-4)
        assert own["decoded_token"] == tokenizer.token_bytes(ids[i]).decode("utf-8", "replace")
        assert abs(own["rank"] - 1 - (row > row[ids[i]]).sum()) <= 1  # rounding in float64
        ranks = sorted(entry["rank"] for entry in told[i].values())
        assert ranks[:2] == [1, 2]
    chat = ask(
        server,
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "hi"}],
        prompt_logprobs=0,
        max_tokens=2,
        return_token_ids=True,
    )
    assert len(chat["prompt_logprobs"]) == len(chat["prompt_token_ids"])
    assert [list(entry) for entry in chat["prompt_logprobs"][1:]] == [
        [str(token_id)] for token_id in chat["prompt_token_ids"][1:]
    ]


def test_in_a_crowd_as_alone(server):
    """To the last bit, beside requests that generate, whose answers do not change either."""
    bodies: list[dict[str, Any]] = [
        {"prompt": context + more, "echo": True, "logprobs": i % 6, "max_tokens": i % 3, "seed": i}
        for i, (context, more) in enumerate(ITEMS)
    ]
    bodies += [{"prompt": "one two three", "max_tokens": 40, "seed": i} for i in range(6)]
    want = [ask(server, **body, cache_prompt=False)["choices"] for body in bodies]
    with ThreadPoolExecutor(10) as pool:
        got = list(pool.map(lambda body: ask(server, **body)["choices"], bodies))
    assert got == want


def test_other_requests_are_scored_beside_one_with_drafts(kernel_cache_dir, server):
    bodies: list[dict[str, Any]] = [
        {"prompt": context, "echo": True, "logprobs": 2, "max_tokens": 30, "seed": i}
        for i, (context, _) in enumerate(ITEMS[:: len(ITEMS) // 5])
    ]
    want = [ask(server, **body)["choices"] for body in bodies]
    spec = SpecConfig((MTP,), 3)
    with (
        serving_model(demo_model(), kernel_cache_dir, n_cells=512, spec=spec) as drafting,
        ThreadPoolExecutor(N_SLOTS) as pool,
    ):
        got = list(pool.map(lambda body: ask(drafting, **body)["choices"], bodies))
    assert got == want
