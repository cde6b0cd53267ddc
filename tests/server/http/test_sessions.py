"""What names a session over HTTP, and the slot that an answer tells of."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from slotmux.server.http.session import SESSION_HEADERS
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running

BODY = {"prompt": "x"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine()) as server:
        yield server


def session_of(server: RunningServer, headers: dict[str, str] | None = None, **body: str) -> str:
    url = f"{server.url}/v1/completions"
    assert httpx.post(url, json=BODY | body, headers=headers).status_code == 200
    return server.engine.submitted[-1].session


def test_every_name_of_a_session_means_the_same(server):
    said = {session_of(server, {name: "abc"}) for name in SESSION_HEADERS}
    said |= {session_of(server, session_id="abc"), session_of(server, prompt_cache_key="abc")}
    assert len(said) == 1
    assert said != {""}
    assert session_of(server) == ""


def test_the_body_is_heard_before_a_header_and_a_cache_key_last(server):
    header = {"X-Session-Id": "h"}
    by_body, by_header = session_of(server, session_id="b"), session_of(server, header)
    assert session_of(server, header, session_id="b", prompt_cache_key="c") == by_body
    assert session_of(server, header, prompt_cache_key="c") == by_header


def test_keys_do_not_share_sessions():
    with running(FakeEngine(), api_key=("k1", "k2")) as server:
        keys = ({"Authorization": f"Bearer {key}"} for key in ("k1", "k2"))
        assert len({session_of(server, key, session_id="s") for key in keys}) == 2


def test_a_session_is_hidden_from_logs_and_memory(server):
    assert "canary" not in session_of(server, {"X-Session-Id": "canary" * 100})
    assert len(session_of(server, session_id="x" * 1024)) == 32


def test_a_session_of_no_length_is_none_and_a_wrong_one_is_named(server):
    assert session_of(server, session_id="") == ""
    for wrong in (7, ["x"], "x" * 1025):
        answer = httpx.post(f"{server.url}/v1/completions", json=BODY | {"session_id": wrong})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"].startswith("session_id")


@pytest.mark.parametrize("stream", [False, True])
def test_the_slot_is_told(server, stream):
    answer = httpx.post(f"{server.url}/v1/completions", json=BODY | {"stream": stream})
    assert answer.headers["x-slot-id"] == str(server.engine.submitted[-1].progress.slot_id)


def test_no_slot_no_header(server):
    assert "x-slot-id" not in httpx.get(f"{server.url}/v1/models").headers
    refused = httpx.post(f"{server.url}/v1/completions", json={})
    assert refused.status_code == 400
    assert "x-slot-id" not in refused.headers
