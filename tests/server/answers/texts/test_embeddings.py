"""/v1/embeddings, /v1/rerank and /v1/score on a fake engine: shapes, what is refused, clients."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from slotmux.server.answers.texts.vectors import normalised
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, loaded_with, running


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine()) as made:
        yield made


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


def fake_vector(text: str) -> np.ndarray:
    """What the fake engine makes of it, of length 1."""
    ids = text.encode()
    vector = np.array([len(ids), ids[0], ids[-1], 1], np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_the_openai_client(server: RunningServer) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="k")
    found = client.embeddings.create(model="fake", input=["abc", "de"])
    assert [each.index for each in found.data] == [0, 1]
    for each, text in zip(found.data, ("abc", "de"), strict=True):
        np.testing.assert_array_equal(np.float32(each.embedding), fake_vector(text))
    assert found.usage.prompt_tokens == found.usage.total_tokens == 5
    one = client.embeddings.create(model="fake", input=[97, 98, 99], encoding_format="float")
    np.testing.assert_array_equal(np.float32(one.data[0].embedding), fake_vector("abc"))
    short = client.embeddings.create(model="fake", input="abc", dimensions=2)
    np.testing.assert_allclose(short.data[0].embedding, np.array([3, 97]) / np.hypot(3, 97), 1e-6)
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="fake", input="abc", dimensions=5)
    assert caught.value.param == "dimensions"


def test_base64_is_float32_lowest_byte_first(http: httpx.Client) -> None:
    answer = http.post("/v1/embeddings", json={"input": "abc", "encoding_format": "base64"}).json()
    raw = base64.b64decode(answer["data"][0]["embedding"])
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4"), fake_vector("abc"))


def test_a_thousand_texts_come_back_in_order(http: httpx.Client) -> None:
    texts = [f"{i}" * (1 + i % 7) for i in range(1000)]
    data = http.post("/v1/embeddings", json={"input": texts}, timeout=60).json()["data"]
    assert len(data) == 1000
    for text, each in zip(texts, data, strict=True):
        np.testing.assert_array_equal(np.float32(each["embedding"]), fake_vector(text))


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": ""}, "input"),
        ("/v1/embeddings", {"input": ["a", ""]}, "input[1]"),
        ("/v1/embeddings", {"input": ["a", 1]}, "input[1]"),
        ("/v1/embeddings", {"input": [1, "a"]}, "input"),
        ("/v1/embeddings", {"input": [[1], []]}, "input[1]"),
        ("/v1/embeddings", {"input": [[1], [999]]}, "input[1]"),
        ("/v1/embeddings", {"input": ["a", "x" * 600]}, "input[1]"),
        ("/v1/embeddings", {"input": ["a"] * 8193}, "input"),
        ("/v1/embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ("/v1/embeddings", {"input": "a", "temperature": 1}, "temperature"),
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ("/v1/rerank", {"query": "a", "documents": ["b", "x" * 600]}, "documents[1]"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "text_2"),
        ("/v1/score", {"text_1": [], "text_2": ["c"]}, "text_1"),
    ],
)
def test_what_is_refused_is_named(http: httpx.Client, path: str, body: dict, param: str) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param or (error["param"] or "").startswith(f"{param}[")


def test_scores_of_vectors_are_their_cosines(http: httpx.Client) -> None:
    def cosine(a: str, b: str) -> float:
        return float(fake_vector(a).astype(float) @ fake_vector(b).astype(float))

    body = {"text_1": "ab", "text_2": ["zz", "ab", "q"]}
    answer = http.post("/v1/score", json=body).json()
    scores = [each["score"] for each in answer["data"]]
    np.testing.assert_allclose(scores, [cosine("ab", b) for b in body["text_2"]], atol=1e-6)
    ranked = http.post("/v1/rerank", json={"query": "ab", "documents": body["text_2"], "top_n": 2})
    results = ranked.json()["results"]
    best = sorted(range(3), key=lambda i: -scores[i])[:2]
    assert [each["index"] for each in results] == best
    assert "document" not in results[0]


def test_native_and_ollama_shapes(http: httpx.Client) -> None:
    native = http.post("/embeddings", json={"content": ["abc"], "embd_normalize": -1}).json()
    assert native == [{"index": 0, "embedding": [[3.0, 97.0, 99.0, 1.0]]}]
    cut = http.post("/api/embed", json={"model": "fake", "input": "x" * 600 + "y"}).json()
    assert cut["prompt_eval_count"] == 512
    whole = {"model": "fake", "input": "x" * 600, "truncate": False}
    assert http.post("/api/embed", json=whole).status_code == 400
    raw = http.post("/api/embeddings", json={"model": "fake", "prompt": "abc"}).json()
    assert raw == {"embedding": [3.0, 97.0, 99.0, 1.0]}


def test_a_model_says_what_it_can_do() -> None:
    loaded = loaded_with(FakeEngine(), can_generate=False, pooling="rank", n_vector=1)
    with running(loaded) as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/v1/models").json()["data"][0]["capabilities"] == ["rerank"]
        assert http.get("/props").json()["capabilities"] == ["rerank"]
        chat = {"messages": [{"role": "user", "content": "x"}]}
        for path, body in (
            ("/v1/chat/completions", chat), ("/v1/completions", {"prompt": "x"}),
            ("/completion", {"prompt": "x"}), ("/v1/responses", {"input": "x"}),
            ("/v1/messages", chat | {"model": "fake", "max_tokens": 3}),
            ("/api/chat", chat | {"model": "fake"}), ("/v1/embeddings", {"input": "x"}),
        ):  # fmt: skip
            assert http.post(path, json=body).status_code == 501, path
        ranked = http.post("/v1/rerank", json={"query": "a", "documents": ["b", "cc"]}).json()
        assert [each["index"] for each in ranked["results"]] == [1, 0]  # by length, as it is
    with running(loaded_with(FakeEngine(), pooling="")) as server:
        for path in ("/v1/embeddings", "/v1/rerank", "/score", "/api/embed", "/embeddings"):
            assert httpx.post(server.url + path, json={}).status_code == 501


@pytest.mark.parametrize("how", [-1, 0, 1, 2, 3])
def test_norms(how: int) -> None:
    vector = np.array([3.0, -4.0, 0.5], np.float32)
    found = normalised(vector, how)
    want = {
        -1: vector, 0: vector / 4 * 32760, 1: vector / 7.5, 2: vector / np.sqrt(25.25),
        3: vector / (27 + 64 + 0.125) ** (1 / 3),
    }[how]  # fmt: skip
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert not normalised(np.zeros(3, np.float32), how).any()
