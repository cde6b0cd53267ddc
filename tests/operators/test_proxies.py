"""nginx and HAProxy, as deploy/ configures them, before two servers."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.operators.servers import PROXIES, Replica, nginx, two_replicas


@pytest.fixture(params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@contextlib.contextmanager
def proxied(proxy: str, folder: Path, *flags: str, **more: Any) -> Iterator[tuple[Any, str]]:
    """The replicas, and the URL before them."""
    with two_replicas(*flags) as replicas, PROXIES[proxy](replicas, folder, **more) as url:
        yield replicas, url


def body_of(n_tokens: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Tell me a story."}]
    return {"messages": messages, "max_tokens": n_tokens, "ignore_eos": True, "seed": 1} | more


def ask(url: str, session: str = "", n_tokens: int = 2, **headers: str) -> httpx.Response:
    named = {"X-Session-Id": session} if session else {}
    return httpx.post(
        f"{url}/v1/chat/completions", json=body_of(n_tokens), headers=named | headers, timeout=120
    )


def session_of(url: str, name: str) -> str:
    """A session that the proxy sends to the replica of this name."""
    for i in range(64):
        if ask(url, f"session-{i}").json()["model"] == name:
            return f"session-{i}"
    raise AssertionError(f"nothing goes to {name}")


@dataclass
class Followed:
    """Who answered, and whether the stream ended well."""

    model: str = ""
    is_done: bool = False


def follow(url: str, session: str, n_tokens: int, begun: threading.Event, n: int = 1) -> Followed:
    """Reads a stream to its end."""
    seen = Followed()
    try:
        with httpx.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=body_of(n_tokens, n=n, stream=True),
            headers={"X-Session-Id": session},
            timeout=120,
        ) as response:
            for line in response.iter_lines():
                begun.set()
                seen.is_done |= line == "data: [DONE]"
                if line.startswith("data: {") and not seen.model:
                    seen.model = json.loads(line.removeprefix("data: "))["model"]
    except httpx.HTTPError:
        assert not seen.is_done
    finally:
        begun.set()
    return seen


HEADERS = ["X-Session-Id", "X-Claude-Code-Session-Id", "Session-Id", "X-Session-Affinity"]


def test_a_session_stays_and_sessions_spread(proxy: str, tmp_path: Path) -> None:
    with proxied(proxy, tmp_path) as (_, url):
        for header in (*HEADERS, "X-Opencode-Session"):
            found = {}
            for i in range(12):
                models = {ask(url, **{header: f"name-{i}"}).json()["model"] for _ in range(3)}
                assert len(models) == 1, header
                found[i] = models.pop()
            assert set(found.values()) == {"one", "two"}, header
        # Without one it is the key and the address that stay.
        assert len({ask(url).json()["model"] for _ in range(6)}) == 1
        keys = {ask(url, Authorization=f"Bearer {i}").json()["model"] for i in range(24)}
        assert keys == {"one", "two"}


def test_tokens_come_as_they_are_made(proxy: str, tmp_path: Path) -> None:
    with (
        proxied(proxy, tmp_path) as (replicas, url),
        httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=body_of(1900, n=4, stream=True), timeout=120
        ) as response,
    ):
        lines = response.iter_lines()  # kept: a dropped one hangs up
        assert next(lines).startswith("data: ")
        assert sum(replica.n_running() for replica in replicas) > 0


def test_a_full_server_is_passed_over(proxy: str, tmp_path: Path) -> None:
    more = {"n_places": 1} if proxy == "haproxy" else {}
    flags = ("--parallel", "1", "--max-queue", "0")
    with proxied(proxy, tmp_path, *flags, **more) as (_, url), ThreadPoolExecutor(1) as pool:
        session, begun = session_of(url, "one"), threading.Event()
        running = pool.submit(follow, url, session, 1900, begun)
        begun.wait()
        other = ask(url, session)
        assert other.status_code == 200
        assert other.json()["model"] == "two"
        assert running.result() == Followed("one", True)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_when_all_are_full_the_client_is_told_when_to_come_back(tmp_path: Path) -> None:
    with (
        two_replicas("--parallel", "1", "--max-queue", "0") as replicas,
        nginx(replicas, tmp_path) as url,
        ThreadPoolExecutor(2) as pool,
    ):
        events = [threading.Event() for _ in replicas]
        sessions = [session_of(url, replica.name) for replica in replicas]
        running = [
            pool.submit(follow, url, session, 1900, event)
            for session, event in zip(sessions, events, strict=True)
        ]
        for event in events:
            event.wait()
        refused = ask(url, sessions[0])
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["code"] == "queue_full"
        assert [each.result().is_done for each in running] == [True, True]


def _streams_while(url: str, replicas: list[Replica], end: Any) -> list[Followed]:
    """Streams to both replicas, during which ``end`` makes the first unfit for more."""
    sessions = [session_of(url, replica.name) for replica in replicas]
    with ThreadPoolExecutor(8) as pool:
        events = [(session, threading.Event()) for session in sessions * 4]
        running = [pool.submit(follow, url, session, 1900, event, 2) for session, event in events]
        for _, event in events:
            event.wait()
        end()
        after = [ask(url, session, n_tokens=4) for session in sessions for _ in range(5)]
        assert {answer.status_code for answer in after} == {200}
        assert {answer.json()["model"] for answer in after} == {replicas[1].name}
        return [each.result() for each in running]


def test_a_killed_server_costs_its_own_streams_alone(proxy: str, tmp_path: Path) -> None:
    with proxied(proxy, tmp_path, "--parallel", "8") as (replicas, url):
        seen = _streams_while(url, replicas, replicas[0].kill)
        assert {(each.model, each.is_done) for each in seen} == {("one", False), ("two", True)}


def test_a_server_that_drains_costs_nothing(proxy: str, tmp_path: Path) -> None:
    with proxied(proxy, tmp_path, "--parallel", "8") as (replicas, url):
        seen = _streams_while(url, replicas, replicas[0].drain)
        assert {(each.model, each.is_done) for each in seen} == {("one", True), ("two", True)}
        assert replicas[0].process.wait(60) == 0


def test_without_any_server_the_proxy_speaks_as_the_api_does(proxy: str, tmp_path: Path) -> None:
    with proxied(proxy, tmp_path) as (replicas, url):
        for replica in replicas:
            replica.kill()
        answer = ask(url)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] in ("no_replica", "replica_lost")
        assert int(answer.headers["retry-after"]) > 0
