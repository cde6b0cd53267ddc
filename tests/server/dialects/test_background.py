"""Responses in the background: asked for again, followed from any event on, cancelled, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from slotmux.server.dialects.responses import background, store
from tests.server.dialects.reading import events
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.http.sockets import eventually

TEXT = "Hello wörld."
BASE: dict[str, Any] = {"model": "fake", "input": "x", "background": True}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine()) as server:
        yield server


@pytest.fixture
def http(server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/v1") as client:
        yield client


@pytest.fixture
def slow() -> Iterator[tuple[FakeEngine, httpx.Client]]:
    engine = FakeEngine(script=b"word " * 2000, step_s=0.01, n_slots=1, n_ctx=20_000)
    with running(engine) as server, httpx.Client(base_url=f"{server.url}/v1") as client:
        yield engine, client


def begin(http: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = http.post("/responses", json=BASE | body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_one_is_asked_for_until_it_has_ended(http):
    made = begin(http)
    assert (made["status"], made["background"], made["output"]) == ("queued", True, [])
    eventually(lambda: http.get(f"/responses/{made['id']}").json()["status"] == "completed")
    ended = http.get(f"/responses/{made['id']}").json()
    assert ended["output"][0]["content"][0]["text"] == TEXT
    assert ended["usage"]["output_tokens"] == len(TEXT.encode())
    after = http.post("/responses", json={"input": "y", "previous_response_id": made["id"]})
    assert after.status_code == 200


def test_the_python_client(server):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
    made = client.responses.create(model="fake", input="x", background=True)
    assert made.status == "queued"
    eventually(lambda: client.responses.retrieve(made.id).status == "completed")
    assert client.responses.retrieve(made.id).output_text == TEXT
    assert client.responses.cancel(made.id).status == "completed"  # it stays what it is
    stream = client.responses.create(model="fake", input="x", background=True, stream=True)
    got = [event.type for event in stream]
    assert got[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert got[-1] == "response.completed"


def test_a_stream_is_taken_up_again_from_any_event_on(http):
    whole = events(http.post("/responses", json=BASE | {"stream": True}).text)
    assert [data["sequence_number"] for _, data in whole] == list(range(len(whole)))
    response_id = whole[-1][1]["response"]["id"]
    for after in (None, 0, 4, len(whole) - 1, len(whole) + 5):
        query = {"stream": "true"} | ({} if after is None else {"starting_after": after})
        answer = http.get(f"/responses/{response_id}", params=query)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert events(answer.text) == whole[0 if after is None else after + 1 :]


def test_who_goes_away_leaves_it_running(slow):
    engine, http = slow
    with http.stream("POST", "/responses", json=BASE | {"stream": True}) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("data: "))
    response_id = first.split('"id":"')[1].split('"')[0]
    assert http.get(f"/responses/{response_id}").json()["status"] in ("queued", "in_progress")
    assert not engine.aborted
    with http.stream("GET", f"/responses/{response_id}", params={"stream": "true"}) as stream:
        names = (line for line in stream.iter_lines() if line.startswith("event: "))
        assert next(names) == "event: response.created"
        assert http.post(f"/responses/{response_id}/cancel").json()["status"] == "cancelled"
        assert list(names)[-1] == "event: response.cancelled"
    assert len(engine.aborted) == 1


def test_one_is_cancelled_with_what_it_has(slow):
    engine, http = slow
    made, waiting = begin(http), begin(http)
    eventually(lambda: http.get(f"/responses/{made['id']}").json()["status"] == "in_progress")
    assert http.get(f"/responses/{waiting['id']}").json()["status"] == "queued"
    for each in (waiting, made):
        told = http.post(f"/responses/{each['id']}/cancel").json()
        assert (told["status"], told["id"]) == ("cancelled", each["id"])
        assert http.post(f"/responses/{each['id']}/cancel").json() == told
        assert http.get(f"/responses/{each['id']}").json() == told
    assert engine.n_busy == 0


def test_a_running_one_is_ended_when_it_is_deleted(slow):
    engine, http = slow
    made = begin(http)
    assert http.delete(f"/responses/{made['id']}").json()["deleted"]
    assert http.get(f"/responses/{made['id']}").status_code == 404
    assert engine.n_busy == 0


def test_one_that_fails_says_so():
    engine = FakeEngine(fail_at=3)
    with running(engine) as server, httpx.Client(base_url=f"{server.url}/v1") as http:
        made = begin(http)
        eventually(lambda: http.get(f"/responses/{made['id']}").json()["status"] == "failed")
        assert http.get(f"/responses/{made['id']}").json()["error"]["code"] == "server_error"


def test_there_are_not_too_many(slow, monkeypatch):
    _, http = slow
    monkeypatch.setattr(store, "MAX_RUNNING", 2)
    kept = [begin(http), begin(http)]
    answer = http.post("/responses", json=BASE)
    assert answer.status_code == 429
    assert answer.headers["retry-after"]
    assert http.post(f"/responses/{kept[0]['id']}/cancel").status_code == 200
    begin(http)


def test_events_are_kept_as_far_as_there_is_room(http, monkeypatch):
    monkeypatch.setattr(background, "MAX_EVENT_BYTES", 3000)
    told = events(http.post("/responses", json=BASE | {"stream": True}).text)
    assert 0 < len(told) < 10
    ended = http.get(f"/responses/{told[0][1]['response']['id']}").json()
    assert ended["status"] == "completed"  # the response itself is whole


@pytest.mark.parametrize(
    ("method", "path", "param"),
    [
        ("POST", "/responses/resp_none/cancel", "response_id"),
        ("GET", "/responses/{plain}?stream=true", "stream"),
        ("GET", "/responses/{plain}?stream=perhaps", "stream"),
        ("GET", "/responses/{plain}?stream=true&starting_after=x", "starting_after"),
        ("POST", "/responses/{plain}/cancel", "response_id"),
    ],
)
def test_what_cannot_be_had_is_told_by_name(http, method, path, param):
    plain = http.post("/responses", json={"input": "x"}).json()["id"]
    answer = http.request(method, path.format(plain=plain))
    assert answer.status_code == (404 if "none" in path else 400)
    assert answer.json()["error"]["param"] == param


def test_it_has_to_be_stored(http):
    answer = http.post("/responses", json=BASE | {"store": False})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "store"
