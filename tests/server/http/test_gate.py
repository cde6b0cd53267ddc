"""Who may come in: keys, hosts, origins; and what every answer carries."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from slotmux.server.http.errors import unauthorized
from slotmux.server.process.logs import LOGGER, JsonFormatter
from slotmux.server.version import slotmux_version
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running
from tests.server.http.endpoints import EXAMPLES, paths, routes

PAGE = {"/", "/page/app.js", "/page/style.css", "/page/icon.svg"}
PUBLIC = {*PAGE, "/health", "/livez", "/readyz"}
KEY = "sk-right-kéy"


@pytest.fixture(scope="module")
def keyed():
    with (
        running(FakeEngine(), api_key=("sk-other", KEY)) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        yield client


@pytest.mark.parametrize(("method", "path"), routes())
@pytest.mark.parametrize("sent", ["none", "wrong", "empty", "right", "x-api-key", "basic"])
def test_keys(keyed, method, path, sent):
    headers = {
        "none": {},
        "wrong": {"authorization": b"Bearer sk-wrong"},
        "empty": {"authorization": b"Bearer", "x-api-key": b""},
        "right": {"authorization": f"Bearer {KEY}".encode()},
        "x-api-key": {"x-api-key": b"sk-other"},
        "basic": {"authorization": f"Basic {KEY}".encode()},
    }[sent]
    answer = keyed.request(method, EXAMPLES.get(path, path), headers=headers)
    may_enter = path in PUBLIC or sent in ("right", "x-api-key")
    if may_enter:
        unknown = (404,) if "{response_id}" in path else ()
        assert answer.status_code in (200, 400, 501, *unknown)
    else:
        assert answer.status_code == 401
        assert answer.json() == paths().shape_of(path)(unauthorized())
        assert answer.headers["www-authenticate"] == "Bearer"


def test_an_unknown_path_tells_strangers_nothing(keyed):
    assert keyed.get("/nope").status_code == 401
    answer = keyed.get("/nope", headers={"x-api-key": "sk-other"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


def test_keys_do_not_share_prefixes():
    engine = FakeEngine()
    with running(engine, api_key=("a", "b")) as server:
        for key in ("a", "b", "a"):
            headers = {"x-api-key": key}
            httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"}, headers=headers)
    salts = [request.cache_salt for request in engine.submitted]
    assert salts[0] == salts[2] != salts[1]


def test_operators_decide_on_their_endpoints():
    access = {"metrics": "public", "slots": "off", "props": "key"}
    with running(FakeEngine(), api_key=("k",), **access) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 200
        assert httpx.get(f"{server.url}/props").status_code == 401
        headers = {"x-api-key": "k"}
        assert httpx.get(f"{server.url}/props", headers=headers).status_code == 200
        answer = httpx.get(f"{server.url}/slots", headers=headers)
        assert answer.status_code == 501
        assert answer.json()["error"]["code"] == "endpoint_off"


@pytest.fixture(scope="module")
def plain():
    with running(FakeEngine()) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("LOCALHOST", 200),
        ("evil.com", 403), ("localhost.evil.com", 403), ("127.0.0.1.evil.com", 403),
        ("", 403), ("[::1", 403), ("evil.com@localhost@evil.com", 403),
    ],
)  # fmt: skip
def test_only_local_names_on_loopback(plain, host, status):
    assert plain.get("/health", headers={"host": host}).status_code == status


def test_further_hosts_can_be_named():
    with running(FakeEngine(), allowed_hosts=("llm.lan",)) as server:
        assert httpx.get(f"{server.url}/health", headers={"host": "llm.lan"}).status_code == 200
        assert httpx.get(f"{server.url}/health", headers={"host": "x.lan"}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com", "null", "http://localhost.evil.com", "http://[", "localhost",
        "file://localhost", "chrome-extension://localhost", "http://evil.com/localhost",
        "http://evil.com@localhost", "http://localhost:80@evil.com", "http://128.0.0.1",
    ],
)  # fmt: skip
def test_foreign_pages_get_nothing(plain, origin):
    answer = plain.get("/v1/models", headers={"origin": origin})
    assert answer.status_code == 403
    assert "--cors-origins" in answer.json()["error"]["message"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_page_of_this_server_may_call_it(plain):
    origin = str(plain.base_url).rstrip("/")
    assert plain.get("/v1/models", headers={"origin": origin}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:5173"]
)
def test_a_page_of_this_machine_may_call_it_from_any_port(plain, origin):
    answer = plain.get("/v1/models", headers={"origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    asking = {"origin": origin, "access-control-request-method": "POST"}
    assert plain.options("/v1/completions", headers=asking).status_code == 204


def test_a_local_page_is_no_friend_of_a_server_elsewhere():
    with running(FakeEngine(), allowed_hosts=("llm.lan",)) as server:
        headers = {"host": "llm.lan", "origin": "http://localhost:3000"}
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 403


def test_rebinding_is_refused_by_both_names(plain):
    answer = plain.get("/v1/models", headers={"host": "evil.com", "origin": "http://evil.com"})
    assert answer.status_code == 403
    assert "--allowed-hosts" in answer.json()["error"]["message"]


def test_cors_only_for_named_origins():
    with running(FakeEngine(), cors_origins=("https://app.test",), api_key=("k",)) as server:
        asked = {"origin": "https://app.test", "access-control-request-method": "POST"}
        answer = httpx.options(f"{server.url}/v1/completions", headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        assert "authorization" in answer.headers["access-control-allow-headers"]
        wanted = "authorization,content-type,x-stainless-lang"
        asking = asked | {"access-control-request-headers": wanted}
        answer = httpx.options(f"{server.url}/v1/completions", headers=asking)
        assert answer.headers["access-control-allow-headers"] == wanted
        asking["access-control-request-headers"] = "a b, <x>"
        answer = httpx.options(f"{server.url}/v1/completions", headers=asking)
        assert answer.headers["access-control-allow-headers"].startswith("authorization,")
        assert "access-control-allow-credentials" not in answer.headers
        answer = httpx.get(f"{server.url}/health", headers={"origin": "https://app.test"})
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        assert answer.headers["vary"] == "Origin"
        assert "x-slot-id" in answer.headers["access-control-expose-headers"]
        asked["origin"] = "https://other.test"
        assert httpx.options(f"{server.url}/v1/completions", headers=asked).status_code == 403


def test_wrong_methods_and_paths(plain):
    answer = plain.get("/v1/completions")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert plain.delete("/health").headers["allow"] == "GET, HEAD"
    for path in ("/redoc", "/v1/models/", "/v1//models", "/v1%2Fmodelz"):
        answer = plain.get(path)
        assert answer.status_code == 404
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/completions", "/v1/completions"),
        ("/v1/completions/", "/v1/completions"),
        ("/v1//completions", "/v1/completions"),
        ("/api/v1/completions", "/v1/completions"),
        ("/v1/health", "/health"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/complitions", "/v1/completions"),
        ("/openai/v1/models/x", "/v1/models/{model_id}"),
    ],
)
def test_an_unknown_path_gets_a_hint(plain, path, meant):
    error = plain.post(path, json={}).json()["error"]
    assert error["code"] == "unknown_url"
    assert f"Did you mean {meant}?" in error["message"]


def test_a_hint_quotes_nothing(plain):
    error = plain.get("/canary/" + "x" * 5000).json()["error"]
    assert error["message"] == "There is no such endpoint. GET /docs lists what there is."


@pytest.mark.parametrize("sent", ["abc-123", "a" * 128])
def test_a_harmless_request_id_is_echoed(plain, sent):
    assert plain.get("/health", headers={"x-request-id": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["a" * 129, "a b", "<x>", "", "ä".encode()])
def test_any_other_is_replaced(plain, sent):
    answer = plain.get("/health", headers=[(b"x-request-id", sent)] if sent else {})
    assert answer.headers["x-request-id"].startswith("req_")


def test_logs_hold_numbers_and_no_text(plain):
    lines: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(JsonFormatter())
    handler.emit = lambda record: lines.append(handler.format(record))
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    canary = "xyzzy"
    bodies = [
        {"prompt": canary, "user": canary},
        {"prompt": canary, "stop": [canary]},
        {"prompt": 1.5, canary: 1},
        {"prompt": canary, "temperature": canary},
        {"prompt": canary, "model": canary},
    ]
    try:
        for body in bodies:
            plain.post("/v1/completions", json=body, headers={"x-request-id": f"{canary} !"})
        odd = {"x-api-key": canary, "content-type": f"text/{canary}"}
        plain.post("/v1/completions", content=f'{{"{canary}', headers=odd)
        plain.get(f"/{canary}", headers={"user-agent": canary}, params={canary: canary})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    records = [json.loads(line) for line in lines]
    assert len(records) == 7
    assert records[0]["n_prompt"] == 5
    assert records[0]["finish"] == ["stop"]
    assert {record["status"] for record in records} == {200, 400, 404, 415}
    assert canary not in "".join(lines)
    metrics = plain.get("/metrics").text
    assert canary not in metrics


def test_metrics_have_the_names_that_dashboards_know(plain):
    text = plain.get("/metrics").text
    for name in (
        "llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total",
        "llamacpp:requests_processing", "llamacpp:requests_deferred", "llamacpp:n_decode_total",
        "llamacpp:n_busy_slots_per_decode", "vllm:num_requests_running",
        "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "slotmux_slots_free",
        "slotmux_time_to_first_token_seconds_bucket", "slotmux_step_seconds_bucket",
        "slotmux_inter_token_latency_seconds_bucket", "process_resident_memory_bytes",
    ):  # fmt: skip
        assert f"\n{name}" in text, name


def test_slots_and_props(plain):
    slots = plain.get("/slots").json()
    assert [slot["id"] for slot in slots] == [0, 1, 2, 3]
    assert plain.get("/slots?fail_on_no_slot=1").status_code == 200
    assert plain.get("/slots?fail_on_no_slot=x").status_code == 400
    assert plain.get("/props").json()["total_slots"] == 4


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_probes_may_ask_for_the_head_only(path):
    with running(FakeEngine()) as server:
        answer = httpx.head(f"{server.url}{path}")
        assert answer.status_code == 200
        assert not answer.content


def test_version_over_http():
    with running(FakeEngine()) as server:
        answer = httpx.get(f"{server.url}/version")
        assert answer.json() == {"version": slotmux_version()}
