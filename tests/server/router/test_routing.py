"""A router with real processes of fake models, asked over HTTP in every dialect."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from tests.server.http import endpoints as single
from tests.server.http.sockets import eventually, request_bytes
from tests.server.router.fakes import RunningRouter, routing

SLOW = {"engine": {"step_s": 0.02}, "script": "slow " * 40}
MODELS = {
    "ada": {"script": "I am ada."},
    "bob": {"script": "I am bob."},
    "slow": SLOW,
    "broken": {"load_error": "it is no GGUF file"},
    "huge": {"bytes": 10**12},
    "late": {"load_s": 0.7, "script": "better late"},
    "flood": {"engine": {"n_ctx": 200_000, "step_s": 0.0}, "script": "x" * 100_000},
}
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRouter]:
    folder = tmp_path_factory.mktemp("models")
    config = folder / "models.ini"
    config.write_text("[ada]\nalias = first, gpt-4o\n[slow]\nparallel = 2\n")
    with routing(
        folder, MODELS, models_config=config, sse_ping_interval=0.2, write_timeout=2
    ) as running:
        yield running


@pytest.fixture(scope="module")
def http(router: RunningRouter) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=router.url, timeout=30) as client:
        yield client


def chat(http: httpx.Client, model: str | None, **more: Any) -> httpx.Response:
    named = {} if model is None else {"model": model}
    return http.post("/v1/chat/completions", json=named | {"messages": MESSAGES} | more)


def status_of(http: httpx.Client, model: str) -> dict[str, Any]:
    return http.get(f"/v1/models/{model}").json()["status"]


def wait_until(http: httpx.Client, model: str, status: str) -> None:
    eventually(lambda: status_of(http, model)["value"] == status, within_s=30)


@pytest.mark.parametrize("name", ["ada", "first", "gpt-4o", "ADA", "ada.gguf", "ada:latest"])
def test_a_request_chooses_the_model_by_any_of_its_names(http, name):
    answer = chat(http, name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "I am ada."
    assert answer.json()["model"] == (name if name in ("first", "gpt-4o") else "ada")


def test_what_comes_with_an_answer_passes_through(http):
    answer = http.post(
        "/v1/completions", json={"model": "bob", "prompt": "x"}, headers={"X-Request-Id": "mine"}
    )
    assert answer.json()["choices"][0]["text"] == "I am bob."
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-slot-id"].isdecimal()
    assert len(answer.headers.get_list("x-request-id")) == len(answer.headers.get_list("date")) == 1


def test_a_refusal_of_the_model_passes_through(http):
    answer = chat(http, "ada", temperature="hot")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temperature"


@pytest.mark.parametrize(
    ("model", "status", "code", "words"),
    [
        ("nobody", 404, "model_not_found", "'ada', 'bob', 'broken'"),
        (None, 400, "missing_required_parameter", "'model'"),
        ("broken", 500, "model_load_failed", "it is no GGUF file"),
        ("huge", 400, "model_too_large", "--mem-limit"),
    ],
)
def test_what_cannot_be_served_is_told(http, model, status, code, words):
    answer = chat(http, model)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, "model")
    assert words in error["message"]


def test_other_dialects_are_told_in_their_own_shapes(http):
    body = {"model": "nobody", "messages": MESSAGES, "max_tokens": 3}
    assert http.post("/v1/messages", json=body).json()["error"]["type"] == "not_found_error"
    assert "does not exist" in http.post("/api/chat", json=body).json()["error"]
    body = {"model": "nobody", "prompt": "x"}
    assert http.post("/completion", json=body).json()["error"]["code"] == 404


def test_bad_bodies_are_refused_before_a_model_is_looked_for(http):
    wrong = {"content-type": "application/json"}
    for content, code in ((b"{", "invalid_json"), (b'{"model": 1}', "invalid_type")):
        answer = http.post("/v1/chat/completions", content=content, headers=wrong)
        assert answer.json()["error"]["code"] == code
    answer = http.post("/v1/chat/completions", content=b"[" * 10**5, headers=wrong)
    assert answer.json()["error"]["code"] == "json_too_deep"
    assert http.get("/v1/chat/completions").status_code == 405
    assert "Did you mean /v1/models" in http.get("/v1/model").json()["error"]["message"]


def test_streams_are_the_same_bytes_as_those_of_the_model(http):
    with http.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "ada", "messages": MESSAGES, "stream": True},
    ) as answer:
        # While the model loads, a slow machine sends comments.
        lines = [line for line in answer.iter_lines() if line and not line.startswith(":")]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert lines[-1] == "data: [DONE]"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "I am ada."


def test_the_real_client(router):
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key="any", max_retries=0) as client:
        names = {model.id for model in client.models.list()}
        assert names == set(MODELS)
        for name in ("ada", "bob"):
            stream = client.chat.completions.create(model=name, messages=MESSAGES, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            assert text == f"I am {name}."
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody")
        response = client.responses.create(model="bob", input="hi")
        assert client.responses.retrieve(response.id).output_text == "I am bob."
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_nobody")


def test_many_first_requests_start_one_process(http):
    http.post("/models/unload", json={"model": "late"})
    wait_until(http, "late", "unloaded")
    before = loads_of(http, "late")
    with ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda _: chat(http, "late"), range(6))]
    assert {a.json()["choices"][0]["message"]["content"] for a in answers} == {"better late"}
    assert loads_of(http, "late") == before + 1


def loads_of(http: httpx.Client, model: str) -> float:
    return sample(http.get("/metrics").text, "slotmux_model_loads_total", model=model)


def sample(text: str, name: str, **labels: str) -> float:
    found = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
        ("/v1/messages", {"messages": MESSAGES, "stream": True, "max_tokens": 99}),
        ("/v1/responses", {"input": "hi", "stream": True}),
        ("/completion", {"prompt": "hi", "stream": True}),
    ],
)
def test_a_stream_gets_comments_while_its_model_loads(http, path, body):
    http.post("/models/unload", json={"model": "late"})
    wait_until(http, "late", "unloaded")
    with http.stream("POST", path, json={"model": "late"} | body) as answer:
        lines = [*answer.iter_lines()]
    assert answer.status_code == 200
    assert lines.count(":") >= 2
    assert lines.index(":") == 0
    assert "late" in "".join(lines)
    if path.startswith("/v1/chat"):
        assert lines[-2] == "data: [DONE]"


def test_ollamas_streams_wait_for_their_headers(http):
    http.post("/models/unload", json={"model": "late"})
    wait_until(http, "late", "unloaded")
    answer = http.post("/api/generate", json={"model": "late", "prompt": "x"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["response"] for line in lines) == "better late"
    assert lines[-1]["done"] is True


def test_an_error_after_comments_is_one_of_the_stream(http):
    http.post("/models/unload", json={"model": "late"})
    wait_until(http, "late", "unloaded")
    body = {"model": "late", "messages": MESSAGES, "stream": True, "temperature": "hot"}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200
    assert lines[0] == ":"
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert error["param"] == "temperature"


ENDINGS = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "!"}]}, "data: "),
    ("/v1/completions", {"prompt": "!"}, "data: "),
    ("/completion", {"prompt": "!"}, "data: "),
    ("/v1/messages", {"messages": [{"role": "user", "content": "!"}], "max_tokens": 500}, "data: "),
    ("/v1/responses", {"input": "!"}, "data: "),
    ("/api/chat", {"messages": [{"role": "user", "content": "!"}]}, ""),
    ("/api/generate", {"prompt": "!"}, ""),
]


@pytest.mark.parametrize(("path", "body", "prefix"), ENDINGS)
def test_a_crash_ends_streams_with_an_error_and_costs_one_model(http, path, body, prefix):
    chat(http, "bob")
    loads = loads_of(http, "bob")
    _after_crashes(http)
    body = {"model": "slow", "stream": True, "max_tokens": 190} | body
    if path.startswith("/api"):
        del body["max_tokens"]
    if path == "/v1/responses":
        body["max_output_tokens"] = body.pop("max_tokens")
    with http.stream("POST", path, json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200
    assert len(lines) > 2
    told = json.loads(lines[-1].removeprefix(prefix))
    assert "has ended" in json.dumps(told)
    if path == "/v1/messages":
        assert lines[-2] == "event: error"
        assert told["error"]["type"] == "overloaded_error"
    if path == "/v1/responses":
        assert (told["type"], told["code"]) == ("error", "model_crashed")
    assert loads_of(http, "bob") == loads
    assert chat(http, "bob").status_code == 200


def _after_crashes(http: httpx.Client) -> None:
    """Loads it by order, which counts more than the pause after crashes."""
    eventually(lambda: status_of(http, "slow")["value"] in ("unloaded", "loaded"), within_s=30)
    http.post("/models/load", json={"model": "slow"})
    wait_until(http, "slow", "loaded")


def test_a_crash_before_the_headers_is_a_503(http):
    _after_crashes(http)
    answer = http.post("/v1/completions", json={"model": "slow", "prompt": "!", "max_tokens": 190})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_crashed")
    assert answer.headers["retry-after"]
    # The connection breaks a moment before the system tells that the process has ended.
    eventually(lambda: status_of(http, "slow")["value"] == "unloaded")
    status = status_of(http, "slow")
    assert (status["value"], status["failed"], status["exit_code"]) == ("unloaded", True, -9)


def test_clients_that_go_free_their_slot(http, router):
    _after_crashes(http)
    body = {"model": "slow", "prompt": "x", "max_tokens": 190, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        next(answer.iter_lines())
        assert any(slot["is_processing"] for slot in http.get("/slots?model=slow").json())
    eventually(
        lambda: not any(slot["is_processing"] for slot in http.get("/slots?model=slow").json())
    )
    eventually(lambda: router.state.fleet.members["slow"].n_running == 0)


def test_clients_that_do_not_read_are_dropped(http, router):
    chat(http, "flood", max_tokens=1)
    port = int(router.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(request_bytes(model="flood", stream=True))
        eventually(lambda: router.state.fleet.members["flood"].n_running == 1)
        eventually(lambda: router.state.fleet.members["flood"].n_running == 0, within_s=20)
    eventually(
        lambda: not any(slot["is_processing"] for slot in http.get("/slots?model=flood").json()),
        within_s=10,
    )


def test_clients_that_go_while_a_model_loads_wait_no_more(http, router):
    http.post("/models/unload", json={"model": "late"})
    wait_until(http, "late", "unloaded")
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/completions", json={"model": "late", "prompt": "x"}, timeout=0.3)
    eventually(lambda: router.state.fleet.members["late"].n_waiting == 0)
    wait_until(http, "late", "loaded")


def test_models_are_loaded_and_unloaded_by_order(http):
    chat(http, "ada")
    answer = http.post("/models/load", json={"model": "ada"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_running")
    assert http.post("/models/unload", json={"model": "first"}).json() == {"success": True}
    wait_until(http, "ada", "unloaded")
    answer = http.post("/models/unload", json={"model": "ada"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_running")
    assert http.post("/models/load", json={"model": "ada"}).json() == {"success": True}
    wait_until(http, "ada", "loaded")
    answer = http.post("/models/load", json={"model": "nobody"})
    assert answer.status_code == 404
    answer = http.post("/models/load", json={})
    assert answer.json()["error"]["param"] == "model"


def test_unloading_lets_what_runs_finish(http):
    _after_crashes(http)
    body = {"model": "slow", "prompt": "x", "max_tokens": 100, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert http.post("/models/unload", json={"model": "slow"}).status_code == 200
        assert status_of(http, "slow")["value"] == "unloading"
        told = [line for line in lines if line]
    assert told[-1] == "data: [DONE]"
    wait_until(http, "slow", "unloaded")
    assert "failed" not in status_of(http, "slow")


def test_events_tell_of_every_change(http, router):
    seen: list[dict[str, Any]] = []
    is_open = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"{router.url}/models/sse", timeout=30) as answer:
            is_open.set()
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:]))
                if len(seen) >= 4:
                    return

    chat(http, "ada")
    thread = threading.Thread(target=listen)
    thread.start()
    assert is_open.wait(10)
    eventually(lambda: bool(router.state.fleet.listeners - {router.state._on_status}))
    http.post("/models/unload", json={"model": "ada"})
    wait_until(http, "ada", "unloaded")
    http.post("/models/load", json={"model": "ada"})
    thread.join(30)
    told = [event["data"]["status"] for event in seen if event["model"] == "ada"]
    assert told == ["unloading", "unloaded", "loading", "loaded"]


def test_metrics_of_all_models_are_one_exposition(http):
    chat(http, "ada")
    chat(http, "bob")
    text = http.get("/metrics").text
    families = [*text_string_to_metric_families(text)]
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for model in ("ada", "bob"):
        assert sample(text, "llamacpp:n_tokens_max", model=model) >= 0
        assert sample(text, "slotmux_model_state", model=model, state="loaded") == 1
        assert sample(text, "slotmux_model_memory_bytes", model=model) == 1_000_000
    assert sample(text, "slotmux_models_memory_limit_bytes") == 1e9
    label = {"route": "/v1/chat/completions", "status": "200"}
    assert sample(text, "slotmux_router_http_requests_total", **label) >= 2
    one = http.get("/metrics?model=ada").text
    labels = [s.labels for f in text_string_to_metric_families(one) for s in f.samples]
    assert {each["model"] for each in labels} == {"ada"}
    assert http.get("/metrics?model=nobody").status_code == 404


def test_slots_and_props_say_of_which_model(http):
    chat(http, "ada")
    chat(http, "bob")
    slots = http.get("/slots").json()
    assert {"ada", "bob"} <= {slot["model"] for slot in slots}
    assert {slot["model"] for slot in http.get("/slots?model=first").json()} == {"ada"}
    assert http.get("/slots?fail_on_no_slot=1").status_code == 200
    props = http.get("/props").json()
    assert (props["role"], props["models_autoload"]) == ("router", True)
    assert http.get("/props?model=first").json()["model_alias"] == "ada"
    http.post("/models/unload", json={"model": "bob"})
    wait_until(http, "bob", "unloaded")
    answer = http.get("/props?model=bob&autoload=false")
    assert answer.json()["error"]["code"] == "model_not_loaded"
    assert http.get("/props?model=bob").json()["model_alias"] == "bob"


def test_smaller_endpoints_need_a_model_too(http):
    body = {"content": "abc"}
    assert http.post("/tokenize", json=body | {"model": "ada"}).json() == {"tokens": [97, 98, 99]}
    assert http.post("/tokenize?model=ada", json=body).json() == {"tokens": [97, 98, 99]}
    assert http.post("/tokenize", json=body).json()["error"]["param"] == "model"
    assert http.post("/detokenize", json={"model": "ada", "tokens": [97]}).json() == {
        "content": "a"
    }
    template = http.post("/apply-template", json={"model": "ada", "messages": MESSAGES})
    assert template.json() == {"prompt": "<user>hi"}
    assert http.get("/lora-adapters?model=ada").json() == []
    assert http.post("/v1/embeddings", json={"model": "ada", "input": "x"}).status_code == 200
    assert http.get("/version").status_code == 200
    assert http.get("/openapi.json").json()["paths"]["/models/load"]


def test_ollamas_keep_alive(http, router):
    client = ollama.Client(host=router.url)
    assert {model.model for model in client.list().models} == set(MODELS)
    loaded = client.generate(model="ada", keep_alive="10m")
    assert (loaded.done, loaded.done_reason) == (True, "load")
    assert 590 < _left(client, "ada") < 602
    assert client.chat(model="ada", messages=MESSAGES).message.content == "I am ada."
    assert _left(client, "ada") > 590
    client.chat(model="ada", messages=MESSAGES, keep_alive=-1)
    assert _left(client, "ada") > 10**9
    told = client.generate(model="ada", keep_alive=0)
    assert told.done_reason == "unload"
    wait_until(http, "ada", "unloaded")
    assert "ada" not in {model.model for model in client.ps().models}
    client.chat(model="ada", messages=MESSAGES, keep_alive=0)
    wait_until(http, "ada", "unloaded")
    with pytest.raises(ollama.ResponseError, match="keep_alive"):
        client.chat(model="ada", messages=MESSAGES, keep_alive="soon")
    shown = client.show("ada")
    assert shown.details is not None
    assert shown.details.format == "gguf"


def _left(client: ollama.Client, name: str) -> float:
    model = next(each for each in client.ps().models if each.model == name)
    assert model.expires_at is not None
    return model.expires_at.timestamp() - time.time()


def test_a_new_file_is_a_new_model(http, router, tmp_path):
    folder: Path = router.state.settings.models_dir
    (folder / "newcomer.gguf").write_text(json.dumps({"script": "I am new."}))
    assert chat(http, "newcomer").json()["choices"][0]["message"]["content"] == "I am new."
    (folder / "newcomer.gguf").unlink()
    assert http.get("/v1/models?reload=1").status_code == 200
    assert chat(http, "newcomer").status_code == 404
    eventually(lambda: "newcomer" not in router.state.fleet.members, within_s=30)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("GET", "/models", None),
        ("GET", "/v1/models/ada", None),
        ("POST", "/models/load", {"model": "bob"}),
        ("POST", "/models/unload", {"model": "ada"}),
        ("GET", "/props", None),
        ("GET", "/slots", None),
        ("GET", "/health", None),
        ("GET", "/readyz", None),
        ("GET", "/api/tags", None),
        ("GET", "/api/ps", None),
        ("POST", "/api/show", {"model": "ada"}),
        ("POST", "/api/chat", {"model": "ada", "messages": MESSAGES, "stream": False}),
        ("POST", "/v1/chat/completions", {"model": "ada", "messages": MESSAGES}),
    ],
)
def test_answers_are_what_the_description_says(http, router, method, path, body):
    if path == "/models/load":
        http.post("/models/unload", json=body)
        wait_until(http, body["model"], "unloaded")
    else:
        assert chat(http, "ada").status_code == 200
    answer = http.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    paths = router.app.state.paths
    found = next(
        each
        for each in paths.endpoints
        if each.route.path_regex.match(path) and method in each.methods
    )
    told = TypeAdapter(found.told.answer).validate_python(answer.json(), strict=True)
    assert told == answer.json(), "an answer has what its description lacks"


def test_every_endpoint_of_one_model_is_there(router):
    known = {(method, each.path) for each in single.paths().endpoints for method in each.methods}
    paths = router.app.state.paths
    here = [(method, each.path) for each in paths.endpoints for method in each.methods]
    assert known < set(here)
    assert len(here) == len(set(here))
    for each in single.paths().endpoints:
        assert paths.rule(each.path) == each.rule
        assert paths.shape_of(each.path) is each.shape


def test_anthropics_clients_see_their_own_list(http):
    told = http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    assert {entry["id"] for entry in told["data"]} == set(MODELS)
    assert told["has_more"] is False


def test_a_folder_that_cannot_be_used_any_more_changes_nothing(http, router):
    folder: Path = router.state.settings.models_dir
    (folder / "gpt-4o.gguf").write_text("{}")  # the alias of another
    try:
        assert chat(http, "nobody").status_code == 404
        assert chat(http, "ada").status_code == 200
        answer = http.get("/v1/models?reload=1")
        assert answer.status_code == 500
        assert "gpt-4o names two models" in answer.json()["error"]["message"]
    finally:
        (folder / "gpt-4o.gguf").unlink()
    assert http.get("/v1/models?reload=1").status_code == 200
