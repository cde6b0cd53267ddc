"""llama-server's own routes, with its names, shapes and errors."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from slotmux.runtime.tokenizer import FimIds
from tests.server.dialects.reading import events
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import ByteTokenizer, loaded_with, running
from tests.server.http.endpoints import check_as_told
from tests.server.http.sockets import eventually
from tests.timing import judge

TEXT = "Hello wörld."
FIM = FimIds(1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with running(FakeEngine()) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_a_whole_answer(http, path):
    answer = http.post(path, json={"prompt": "abc", "seed": 5, "temperature": 0})
    assert answer.status_code == 200
    body = answer.json()
    assert body["content"] == TEXT
    assert body["tokens"] == []
    assert (body["stop"], body["stop_type"], body["stopping_word"]) == (True, "eos", "")
    assert (body["tokens_evaluated"], body["tokens_predicted"]) == (3, len(TEXT.encode()))
    assert body["tokens_cached"] == 3 + len(TEXT.encode()) - 1
    assert (body["prompt"], body["model"], body["index"]) == ("abc", "fake", 0)
    assert (body["truncated"], body["has_new_line"]) == (False, False)
    settings = body["generation_settings"]
    assert (settings["seed"], settings["temperature"], settings["n_predict"]) == (5, 0, -1)
    assert body["timings"]["cache_n"] == 3
    assert "completion_probabilities" not in body


def test_a_stream_has_short_lines_and_a_long_one_and_no_done(http):
    answer = http.post("/completion", json={"prompt": "abc", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = [data for _, data in events(answer.text)]
    assert "".join(part["content"] for part in parts) == TEXT
    assert [i for part in parts for i in part["tokens"]] == list(TEXT.encode())
    assert [part["stop"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[0]["tokens_predicted"] == 1
    assert "generation_settings" not in parts[0]
    assert parts[-1]["stop_type"] == "eos"
    assert "[DONE]" not in answer.text


def test_n_predict_and_its_names(http):
    for body in ({"n_predict": 2}, {"max_tokens": 2}, {"n_predict": 2, "max_tokens": 2}):
        answer = http.post("/completion", json={"prompt": "x"} | body).json()
        assert (answer["content"], answer["stop_type"]) == ("He", "limit")
        assert answer["generation_settings"]["n_predict"] == 2
    for unlimited in (-1, -2):
        answer = http.post("/completion", json={"prompt": "x", "n_predict": unlimited}).json()
        assert answer["content"] == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_n_predict_zero_computes_the_prompt_and_tells_nothing(http, stream):
    name = "max_tokens" if stream else "n_predict"
    answer = http.post("/completion", json={"prompt": "x", name: 0, "stream": stream})
    body = events(answer.text)[0][1] if stream else answer.json()
    assert (body["content"], body["tokens"], body["tokens_predicted"]) == ("", [], 0)
    assert (body["stop_type"], body["tokens_cached"]) == ("limit", 1)


def test_tokens_and_probabilities(http):
    body = {"prompt": "x", "n_predict": 2, "n_probs": 2, "return_tokens": True}
    answer = http.post("/completion", json=body).json()
    assert answer["tokens"] == list(b"He")
    first = answer["completion_probabilities"][0]
    assert (first["id"], first["token"], first["bytes"], first["logprob"]) == (72, "H", [72], -0.25)
    assert [top["token"] for top in first["top_logprobs"]] == ["a", "b"]
    streamed = http.post("/completion", json=body | {"stream": True})
    assert events(streamed.text)[0][1]["completion_probabilities"] == [first]


def test_response_fields(http):
    fields = ["content", "generation_settings/n_predict", "nothing", "content/x"]
    body = {"prompt": "x", "n_predict": 1, "response_fields": fields}
    assert http.post("/completion", json=body).json() == {"content": "H", "n_predict": 1}


def test_timings_per_token(http):
    body = {"prompt": "abcd", "stream": True, "timings_per_token": True}
    parts = [data for _, data in events(http.post("/completion", json=body).text)]
    counts = [part["timings"]["predicted_n"] for part in parts]
    assert counts == [*range(1, len(parts)), len(TEXT.encode())]


@pytest.mark.parametrize("prompt", ["a", [97], ["a"], [97, "b"], {"prompt_string": "ab"}])
def test_forms_of_prompts(http, prompt):
    answer = http.post("/completion", json={"prompt": prompt, "n_predict": 1})
    body = answer.json()
    is_array = isinstance(prompt, list) and not any(isinstance(p, int) for p in prompt)
    assert isinstance(body, list) == is_array


def test_many_prompts_and_choices_are_an_array(http):
    body = {"prompt": ["a", [98, "c"]], "n_cmpl": 2, "n_predict": 1}
    answers = http.post("/completion", json=body).json()
    assert [answer["index"] for answer in answers] == [0, 1, 2, 3]
    assert [answer["prompt"] for answer in answers] == ["a", "a", "bc", "bc"]


@pytest.mark.timed
def test_a_time_limit_counts_once_a_line_is_complete():
    engine = FakeEngine(script=b"ab\n" + b"c" * 400, step_s=0.005)
    with running(engine) as server:
        begin = time.monotonic()
        body = {"prompt": "x", "t_max_predict_ms": 100}
        answer = httpx.post(f"{server.url}/completion", json=body).json()
        judge(time.monotonic() - begin < 1.9)  # all of it would take 2 s
        assert len(answer["content"]) < len(engine.script), "it was not cut"
        assert answer["stop_type"] == "limit"
        assert answer["content"].startswith("ab\nc")
    endless = FakeEngine(script=b"c" * 60, step_s=0.005)
    with running(endless) as server:
        answer = httpx.post(f"{server.url}/completion", json=body).json()
        assert answer["content"] == "c" * 60


def error_of(answer: httpx.Response) -> dict[str, object]:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return error


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "'prompt'"), ({"prompt": 5}, "'prompt'"), ({"prompt": []}, "'prompt'"),
        ({"prompt": [[]]}, "'prompt'"), ({"prompt": [1.5]}, "'prompt'"),
        ({"prompt": [300]}, "vocabulary"), ({"prompt": "x", "n_predict": "5"}, "'n_predict'"),
        ({"prompt": "x", "n_predict": 1, "max_tokens": 2}, "'max_tokens'"),
        ({"prompt": "x", "n_probs": 21}, "'n_probs'"), ({"prompt": "x", "nope": 1}, "'nope'"),
        ({"prompt": "x", "temperature": "hot"}, "'temperature'"),
        ({"prompt": "x", "response_fields": [1]}, "'response_fields[0]'"),
        ({"prompt": "x", "logprobs": 1}, "n_probs"), ({"prompt": "x", "echo": True}, "'echo'"),
        ({"prompt": "x", "suffix": "y"}, "'suffix'"), ({"prompt": "x", "best_of": 2}, "'best_of'"),
        ({"prompt": {"prompt_string": "x", "multimodal_data": ["eA=="]}}, "multimodal_data"),
    ],
)  # fmt: skip
def test_bad_bodies_are_told_by_name_in_its_shape(http, body, names):
    answer = http.post("/completion", json=body)
    assert answer.status_code == 400
    error = error_of(answer)
    assert set(error) == {"code", "message", "type"}
    assert error["type"] == "invalid_request_error"
    assert names in str(error["message"])


def test_a_prompt_that_is_too_long(http):
    answer = http.post("/completion", json={"prompt": "x" * 600})
    assert answer.status_code == 400
    error = error_of(answer)
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (600, 512)


def test_another_model(http):
    answer = http.post("/completion", json={"prompt": "x", "model": "gpt-4"})
    assert answer.status_code == 404
    assert error_of(answer)["type"] == "not_found_error"


def test_failures_before_and_in_a_stream():
    with running(FakeEngine(fail_at=0)) as server:
        answer = httpx.post(f"{server.url}/completion", json={"prompt": "x", "stream": True})
        assert answer.status_code == 500
        assert error_of(answer)["type"] == "server_error"
    with running(FakeEngine(fail_at=3, step_s=0.02)) as server:
        answer = httpx.post(f"{server.url}/completion", json={"prompt": "x", "stream": True})
        parts = [data for _, data in events(answer.text)]
        assert "".join(part.get("content", "") for part in parts) == "Hel"
        assert parts[-1]["error"] == {
            "code": 500,
            "message": "The server had an error. It has been logged.",
            "type": "server_error",
        }


def test_a_full_queue():
    engine = FakeEngine(n_slots=1, max_queue=0, step_s=0.2, script=b"x" * 99)
    with running(engine) as server, httpx.Client(base_url=server.url) as client:
        with client.stream("POST", "/completion", json={"prompt": "x", "stream": True}) as first:
            chunks = first.iter_bytes()
            next(chunks)
            answer = httpx.post(f"{server.url}/completion", json={"prompt": "y"})
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "7"
            error_of(answer)
        eventually(lambda: not engine.n_busy, 5.0)
        assert set(engine.aborted) == {1}, "who goes away frees the slot"


class FimTokenizer(ByteTokenizer):
    fim = FIM


@pytest.fixture(scope="module")
def filling() -> Iterator[tuple[FakeEngine, httpx.Client]]:
    engine = FakeEngine(n_ctx=256)
    loaded = loaded_with(engine)
    loaded = type(loaded)(
        engine, FimTokenizer(), loaded.template, loaded.info, loaded.n_max_token_bytes
    )
    with running(loaded) as server, httpx.Client(base_url=server.url) as client:
        yield engine, client


def test_infill(filling):
    engine, client = filling
    body = {"input_prefix": "ab", "input_suffix": "yz", "prompt": "c", "n_predict": 2}
    answer = client.post("/infill", json=body)
    check_as_told("POST", "/infill", answer.json())
    assert answer.json()["content"] == "He"
    assert engine.submitted[-1].prompt == [1, *b"abc", 2, *b"yz", 3]


def test_infill_with_other_files(filling):
    engine, client = filling
    extra = [{"filename": "f", "text": "T", "time": 1}, {"text": "U"}]
    body = {"input_prefix": "a", "input_suffix": "z", "input_extra": extra}
    assert client.post("/infill", json=body).status_code == 200
    assert engine.submitted[-1].prompt == [
        4, *b"myproject\n", 5, *b"f\nT", 5, *b"tmp\nU", 5, *b"filename\n", 1, *b"a", 2, *b"z", 3,
    ]  # fmt: skip


def test_infill_keeps_what_is_near_the_gap(filling):
    engine, client = filling
    body = {"input_prefix": "p" * 200 + "q", "input_suffix": "r" + "s" * 200}
    assert client.post("/infill", json=body).status_code == 200
    prompt = bytes(engine.submitted[-1].prompt)
    assert 90 <= len(prompt) < 256
    assert b"q\x02r" in prompt
    assert prompt.count(b"p") > prompt.count(b"s") > 3


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"input_suffix": ""}, "'input_prefix'"), ({"input_prefix": "x"}, "'input_suffix'"),
        ({"input_prefix": 1, "input_suffix": ""}, "'input_prefix'"),
        ({"input_prefix": "", "input_suffix": "", "input_extra": [{"filename": "f"}]},
         "'input_extra[0].text'"),
        ({"input_prefix": "", "input_suffix": "", "prompt": ["a", "b"]}, "'prompt'"),
    ],
)  # fmt: skip
def test_bad_infills(filling, body, names):
    answer = filling[1].post("/infill", json=body)
    assert answer.status_code == 400
    assert names in str(error_of(answer)["message"])


def test_infill_needs_a_model_that_fills(http):
    answer = http.post("/infill", json={"input_prefix": "a", "input_suffix": "b"})
    assert answer.status_code == 501
    assert error_of(answer)["type"] == "not_supported_error"


def test_what_is_not_done_is_501(http):
    answer = http.post("/lora-adapters", json={})
    assert answer.status_code == 501
    assert error_of(answer)["type"] == "not_supported_error"


def test_what_is_not_done_here_is_told_as_openai_does(http):
    answer = http.post("/props", json={})
    assert answer.status_code == 501
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("not_supported_error", "not_supported")


def test_a_whole_chat_body_can_be_seen_as_a_prompt(http):
    body = {"messages": [{"role": "user", "content": "x"}], "model": "fake", "temperature": 0.5,
            "chat_template_kwargs": {"a": True}, "max_tokens": 5, "stream": True}  # fmt: skip
    assert http.post("/apply-template", json=body).json() == {"prompt": "<user>x[a=True]"}


def test_routes_without_a_prefix(http):
    chat = {"messages": [{"role": "user", "content": "x"}]}
    assert http.post("/chat/completions", json=chat).json()["object"] == "chat.completion"
    assert http.get("/models").json()["data"][0]["id"] == "fake"
    for path in ("/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"):
        answer = http.post(path, json=chat).json()
        assert answer == {"object": "response.input_tokens", "input_tokens": len("<user>x")}
