"""RELIABILITY classes E, F, G: no body may give a 5xx, and every refusal names its parameter."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slotmux.server.schemas.numbers import request_numbers
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running
from tests.timing import judge

CANARY = "xyzzycanary"
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
TEXT = {"prompt": "hi"}
DEEP = 100_000


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with (
        running(FakeEngine(script=b"ok", step_s=0.0)) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        yield client
        assert server.engine.n_busy == 0
        assert server.state.service.intake.running == set()


def check_error(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, answer.text[:200]
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    assert answer.headers["x-request-id"]
    return error


def post(http: httpx.Client, path: str, content: bytes | str, **headers: str) -> httpx.Response:
    return http.post(path, content=content, headers={"content-type": "application/json"} | headers)


# -- what is not the JSON we want

NOT_JSON = {
    "empty": b"",
    "truncated": b'{"prompt": "x',
    "trailing": b'{"prompt": "x"} x',
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "nan": b'{"prompt": "x", "temperature": NaN}',
    "infinity": b'{"prompt": "x", "temperature": -Infinity}',
    "1e999": b'{"prompt": "x", "temperature": 1e999}',
    "5000 digits": b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"prompt": "\\ud800"}',
    "lone surrogate key": b'{"\\udfff": 1}',
    "surrogate bytes": b'{"prompt": "\xed\xa0\x80"}',
    "bad utf-8": b'{"prompt": "\xff"}',
    "bom": b'\xef\xbb\xbf{"prompt": "x"}',
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "control character": b'{"prompt": "\n"}',
    "single quotes": b"{'prompt': 'x'}",
    "depth 65": b'{"metadata": ' + b"[" * 65 + b"]" * 65 + b"}",
    "depth 1000": b'{"metadata": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
    "depth 100000": b'{"metadata": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "never closed": b"[" * DEEP,
    "depth behind quotes": b'{"a": "\\\\", "b": "\\"[", "c": ' + b"[" * 70 + b"]" * 70 + b"}",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_object(http, name):
    error = check_error(post(http, "/v1/completions", NOT_JSON[name]), 400)
    assert error["code"] in ("invalid_json", "json_too_deep")


def test_brackets_inside_strings_are_not_depth(http):
    for text in ("[" * 500, '\\"' + "{" * 500, "\\\\" + "[" * 100):
        assert post(http, "/v1/completions", json.dumps({"prompt": text[:500]})).status_code == 200


def test_many_brackets_in_a_text_are_no_structure(http):
    error = check_error(http.post("/v1/completions", json={"prompt": "[{" * 200_000}), 400)
    assert error["code"] == "context_length_exceeded"


def test_duplicate_keys_take_the_last(http):
    body = '{"prompt": "a", "prompt": "b", "echo": true}'
    assert post(http, "/v1/completions", body).json()["choices"][0]["text"] == "bok"


def test_a_nul_character_is_text(http):
    answer = post(http, "/v1/completions", '{"prompt": "a\\u0000b", "echo": true}')
    assert answer.json()["choices"][0]["text"] == "a\0bok"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "", "sec-fetch-site": "cross-site"}, 415),
        ({"content-type": "application/x-www-form-urlencoded", "origin": "http://x.y"}, 403),
        ({"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "none"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "br"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": ""}, 200),  # litellm's Ollama
        ({"content-type": "application/x-www-form-urlencoded"}, 200),  # curl -d
    ],
)
def test_content_headers(http, headers, status):
    answer = post(http, "/v1/completions", b'{"prompt": "x"}', **headers)
    if status == 200:
        assert answer.status_code == 200
    else:
        check_error(answer, status)


def test_a_body_over_the_cap_is_refused_before_it_is_sent(http):
    answer = post(http, "/v1/completions", b"x" * (9 << 20))
    assert check_error(answer, 413)["code"] == "body_too_large"


def test_a_chunked_body_over_the_cap_is_refused(http):
    answer = http.post(
        "/v1/completions",
        content=(b" " * 65536 for _ in range(200)),
        headers={"content-type": "application/json"},
    )
    check_error(answer, 413)


HEAVY = {
    "a million keys": b"{" + b",".join(b'"%d":0' % i for i in range(600_000)) + b"}",
    "million keys in a message": (
        b'{"messages":[{' + b",".join(b'"%d":0' % i for i in range(600_000)) + b"}]}"
    ),
    "empty lists": b'{"prompt":[' + b"[]," * 1_000_000 + b"[]]}",
    "long token array": b'{"prompt":[' + b"1," * 2_000_000 + b"1]}",
    "many messages": b'{"messages":[' + b'{"x":1},' * 200_000 + b"{}]}",
    "long text": b'{"prompt":"' + b"a" * 8_000_000 + b'"}',
    "stop list": b'{"prompt":"x","stop":[' + b"1," * 2_000_000 + b"1]}",
    "quotes": b'{"prompt":"x","stop":[' + b'"",' * 2_000_000 + b'""]}',
}


@pytest.mark.timed
@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_body_costs_little(http, name):
    path = "/v1/chat/completions" if b"messages" in HEAVY[name][:12] else "/v1/completions"
    began = time.perf_counter()
    check_error(post(http, path, HEAVY[name]), 400)
    judge(time.perf_counter() - began < 3)


# -- numbers and types at their extremes

VALUES = [
    -1, 0, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 1.5, -0.0, 1e300, "1", "",
    CANARY, True, False, None, [], {}, [CANARY], {f"{CANARY} ": 1}, [[]], [None],
]  # fmt: skip


def words(text: str) -> list[str]:
    return text.split()


COMMON = [
    *request_numbers(),
    *words(
        "model max_tokens min_tokens n stop stop_token_ids include_stop_str_in_output ignore_eos"
        " dry_sequence_breakers samplers allowed_token_ids bad_words logit_bias seed"
        " stream stream_options return_token_ids"
        " cache_prompt cache_salt id_slot user safety_identifier prompt_cache_key logprobs"
        " response_format grammar json_schema guided_json guided_regex guided_choice guided_grammar"
        " guided_json_object structured_outputs"
    ),
]
CHAT_ONLY = words(
    "messages max_completion_tokens top_logprobs metadata chat_template_kwargs tools tool_choice"
    " store service_tier modalities functions parallel_tool_calls"
)
TEXT_ONLY = words("prompt echo best_of suffix")


@pytest.mark.parametrize("field", COMMON + CHAT_ONLY)
def test_every_value_in_chat(http, field):
    check_values(http, "/v1/chat/completions", CHAT, field)


@pytest.mark.parametrize("field", COMMON + TEXT_ONLY)
def test_every_value_in_completions(http, field):
    check_values(http, "/v1/completions", TEXT, field)


def check_values(http: httpx.Client, path: str, body: dict[str, Any], field: str) -> None:
    statuses = set()
    for value in VALUES:
        answer = http.post(path, json=body | {field: value})
        statuses.add(answer.status_code)
        if answer.status_code != 200:
            error = check_error(answer, 400, 404)
            is_number_too_big = error["code"] == "invalid_json"
            assert is_number_too_big or (error["param"] or "").startswith(field), (value, error)
    assert statuses != {200}, "nothing was refused"


PAIRED = {
    "n": [1, 4, 5], "logprobs": [True, 0, 21], "top_logprobs": [0, 20], "seed": [-1, 2**63 - 1],
    "frequency_penalty": [2, 2.1], "logit_bias": [{"0": 100}, {"999": 1}],
    "stop": ["a", ["a"] * 65],
    "max_tokens": [1, 2**31 - 1], "min_tokens": [1, 600], "max_completion_tokens": [1, 2],
    "stream": [True], "stream_options": [{"include_usage": True}, {"x": 1}],
}  # fmt: skip


@pytest.mark.parametrize("first", PAIRED)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_pairs(http, path, first):
    body = CHAT if "chat" in path else TEXT
    for second in PAIRED:
        for a, b in itertools.product(PAIRED[first], PAIRED[second]):
            answer = http.post(path, json=body | {first: a, second: b})
            if answer.status_code != 200:
                assert check_error(answer, 400)["param"]


# -- refused by name

UNSUPPORTED = {
    "tool_choice": "required",
    "modalities": ["text", "audio"],
    "chat_template": "{{ messages }}",
    "Chat_Template": "x",
    "best_of": 2,
    "extra_body": {"chat_template": "x"},
    "response_format.type": {"type": "structural_tag"},
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(http, name):
    member = name.partition(".")[0]
    answer = http.post("/v1/chat/completions", json=CHAT | {member: UNSUPPORTED[name]})
    error = check_error(answer, 400)
    assert error["param"] == name
    assert name in error["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", None),
        ("tool_choice", "none"),
        ("store", False),
        ("service_tier", "auto"),
        ("response_format", {"type": "text"}),
        ("modalities", ["text"]),
        ("best_of", 1),
    ],
)
def test_asking_for_nothing_is_no_fault(http, name, value):
    assert http.post("/v1/chat/completions", json=CHAT | {name: value}).status_code == 200


MESSAGES = {
    "messages[0].tool_calls[0].function": {
        "role": "assistant",
        "content": "x",
        "tool_calls": [{"id": "1"}],
    },
    "messages[0].role": {"role": "critic", "content": "x"},
    "messages[0].content": {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
    "messages[0].content_": {"role": "user", "content_": "x"},
    "messages[0]": "x",
}


@pytest.mark.parametrize("param", MESSAGES)
def test_a_bad_message_is_named_by_its_place(http, param):
    answer = http.post("/v1/chat/completions", json={"messages": [MESSAGES[param]]})
    assert check_error(answer, 400)["param"] == param


@pytest.mark.parametrize(
    "kwargs",
    [
        {"messages": "x"}, {"tokenize": True}, {"tools": None}, {"add_generation_prompt": False},
        {"chat_template": "x"}, {"Chat_Template": "x"}, {"__class__": "x"}, {"a.b": 1},
        {"a": [1]}, {"a": {"b": 1}}, {"a": "x" * 2000}, {f"a{i}": 1 for i in range(33)},
    ],
)  # fmt: skip
def test_template_variables_are_a_list_of_harmless_scalars(http, kwargs):
    answer = http.post("/v1/chat/completions", json=CHAT | {"chat_template_kwargs": kwargs})
    assert check_error(answer, 400)["param"] == "chat_template_kwargs"


def test_a_template_may_refuse_a_conversation(http):
    for path in ("/v1/chat/completions", "/apply-template"):
        messages = [{"role": "user", "content": "refuse me"}]
        error = check_error(http.post(path, json={"messages": messages}), 400)
        assert error["code"] == "template_error"
        assert error["param"] == "messages[0]"


def test_an_unknown_name_is_not_quoted_when_it_could_be_anything(http):
    answer = http.post("/v1/completions", json=TEXT | {f"{CANARY} <b>\n": 1})
    assert check_error(answer, 400)["param"] == "?"


def test_a_prompt_that_does_not_fit(http):
    for body in ({"prompt": "x" * 512}, {"prompt": [1, 2] * 256}, {"prompt": ["a", "y" * 5000]}):
        error = check_error(http.post("/v1/completions", json=body), 400)
        assert error["code"] == "context_length_exceeded"
        assert error["n_ctx"] == 512
    assert http.post("/v1/completions", json={"prompt": "x" * 511}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": [1, 257]}, "prompt"),
        ("/v1/completions", {"prompt": [1]}, "prompt"),  # the engine refuses this one
        ("/v1/completions", {"prompt": ["x", [1.0]]}, "prompt"),
        ("/v1/completions", TEXT | {"logit_bias": {"257": 1}}, "logit_bias"),
        ("/v1/completions", TEXT | {"stop_token_ids": [257]}, "stop_token_ids"),
        ("/v1/completions", TEXT | {"suffix": "x"}, "suffix"),  # the model cannot fill in
        ("/v1/completions", {"prompt": [1], "suffix": "x"}, "suffix"),
        ("/v1/completions", TEXT | {"suffix": "x", "echo": True, "logprobs": 1}, "suffix"),
        ("/v1/completions", TEXT | {"n": 3, "best_of": 2}, "best_of"),
        ("/v1/completions", TEXT | {"best_of": 2, "stream": True}, "best_of"),
        ("/v1/completions", TEXT | {"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ("/v1/completions", TEXT | {"prompt_logprobs": -1}, "prompt_logprobs"),
        ("/v1/completions", TEXT | {"max_tokens": -2}, "max_tokens"),
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": "x", "with_pieces": 1}, "with_pieces"),
        ("/detokenize", {"tokens": [257]}, "tokens"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/apply-template", {"messages": [], "x": 1}, "x"),
    ],
)
def test_other_faults_name_their_parameter(http, path, body, param):
    assert check_error(http.post(path, json=body), 400)["param"] == param


def test_text_endpoints(http):
    assert http.post("/tokenize", json={"content": "aß"}).json() == {"tokens": [97, 195, 159]}
    pieces = http.post("/tokenize", json={"content": "aß", "with_pieces": True}).json()["tokens"]
    assert pieces == [
        {"id": 97, "piece": "a"},
        {"id": 195, "piece": [195]},
        {"id": 159, "piece": [159]},
    ]
    assert http.post("/detokenize", json={"tokens": [97, 195, 159]}).json() == {"content": "aß"}
    prompt = http.post("/apply-template", json=CHAT).json()
    assert prompt == {"prompt": "<user>hi"}
