"""Raw sockets: clients that leave, stall, lie or flood (RELIABILITY classes L, M, Q)."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.http.endpoints import routes
from tests.server.http.sockets import connect, eventually, hang_up, read_all, request_bytes
from tests.timing import judge

LONG = b"abcdefgh" * 4000


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    engine = FakeEngine(script=LONG, n_ctx=100_000, step_s=0.002)
    with running(engine, header_timeout=0.4, body_timeout=0.4) as server:
        yield server


def is_idle(server: RunningServer) -> bool:
    return server.engine.n_busy == 0 and not server.state.service.intake.running


# -- clients that leave


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 4])
def test_a_client_that_leaves_frees_its_slots(server, reset, stream, n):
    sock = connect(server)
    sock.sendall(request_bytes(stream=stream, n=n))
    eventually(lambda: server.engine.n_busy == n)
    if stream:
        assert b"200 OK" in sock.recv(65536)
    hang_up(sock, reset=reset)
    eventually(lambda: is_idle(server))


def test_a_client_that_leaves_while_queued_frees_its_place(server):
    busy = [connect(server) for _ in range(5)]
    for sock in busy:
        sock.sendall(request_bytes())
    eventually(lambda: server.engine.stats().n_queued == 1)
    for sock in reversed(busy):  # the queued one first
        hang_up(sock, reset=False)
    eventually(lambda: is_idle(server))


def test_leaving_at_any_moment_leaks_nothing(server):
    rng = random.Random(0)
    whole = request_bytes(stream=True)
    for i in range(120):
        sock = connect(server)
        sock.sendall(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.4 else whole)
        time.sleep(rng.random() * 0.02)
        hang_up(sock, reset=i % 2 == 0)
    eventually(lambda: is_idle(server), 1.0)
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_requests_with_the_same_id_do_not_abort_each_other(server):
    stays = connect(server)
    leaves = connect(server)
    for sock in (stays, leaves):
        data = request_bytes(stream=True)
        sock.sendall(data.replace(b"host:", b"x-request-id: same\r\nhost:", 1))
    eventually(lambda: server.engine.n_busy == 2)
    hang_up(leaves, reset=True)
    eventually(lambda: server.engine.n_busy == 1)
    n_before = len(stays.recv(1 << 20))
    time.sleep(0.05)
    assert stays.recv(1 << 20)
    assert n_before > 0
    hang_up(stays, reset=True)
    eventually(lambda: is_idle(server))


def test_a_reader_that_stalls_is_dropped():
    engine = FakeEngine(script=LONG * 10, n_ctx=10**6, step_s=0.0)
    with running(engine, write_timeout=0.3) as server:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(request_bytes(stream=True, logprobs=20))
        eventually(lambda: engine.n_busy == 1)
        eventually(lambda: is_idle(server), 8.0)
        aborts = server.state.service.intake.n_aborted
        assert aborts["request_timeout"] == 1
        assert b"[DONE]" not in read_all(sock)
        sock.close()


def test_a_prompt_without_progress_is_ended():
    with running(FakeEngine(prompt_s=1.0), first_token_timeout=0.1) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", "max_tokens": -1})
        assert answer.status_code == 504
        error = answer.json()["error"]
        assert error["code"] == "request_timeout"
        assert "--first-token-timeout" in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
        eventually(lambda: is_idle(server), 3.0)


def test_a_prompt_that_gets_ahead_may_take_longer_than_the_limit():
    class Slow(FakeEngine):
        def _fill(self):
            for lane in self._queue:
                lane.request.progress.t_admitted = time.monotonic()
                for _ in range(10):
                    lane.request.progress.n_computed += 1
                    time.sleep(0.05)
            super()._fill()

    with running(Slow(), first_token_timeout=0.3) as server:
        answer = httpx.post(
            f"{server.url}/v1/completions", json={"prompt": "x", "max_tokens": -1}, timeout=30
        )
        assert answer.status_code == 200


def test_a_parked_prompt_is_not_ended_for_making_no_progress():
    class Parking(FakeEngine):
        def _fill(self):
            for lane in self._queue:
                progress = lane.request.progress
                progress.t_admitted, progress.is_parked = time.monotonic(), True
                time.sleep(1.0)
                progress.is_parked = False
            super()._fill()

    with running(Parking(), first_token_timeout=0.3) as server:
        answer = httpx.post(
            f"{server.url}/v1/completions", json={"prompt": "x", "max_tokens": -1}, timeout=30
        )
        assert answer.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_the_total_limit_gives_back_what_there_is(stream):
    engine = FakeEngine(script=LONG, step_s=0.01)
    with running(engine, request_timeout=0.3) as server:
        body = {"prompt": "x", "max_tokens": -1, "stream": stream}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=30)
        assert answer.status_code == 200
        if stream:
            assert answer.text.endswith("data: [DONE]\n\n")
            assert '"finish_reason":"length"' in answer.text
        else:
            (choice,) = answer.json()["choices"]
            assert choice["finish_reason"] == "length"
            assert LONG.decode().startswith(choice["text"])
            assert choice["text"]
        eventually(lambda: is_idle(server), 3.0)


@pytest.mark.parametrize("stream", [False, True])
def test_the_wait_for_a_slot_has_a_limit_of_its_own(stream):
    """With a status of its own for streams too: theirs waits for the first token, or for the time
    after which a silence is filled."""
    engine = FakeEngine(n_slots=1, script=LONG, step_s=0.01)
    with running(engine, queue_timeout=0.2, first_token_timeout=60.0) as server:
        first = connect(server)
        first.sendall(request_bytes(stream=True))
        eventually(lambda: engine.n_busy == 1)
        body = {"prompt": "x", "max_tokens": -1, "stream": stream}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=30)
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "queue_timeout"
        assert answer.headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"
        assert "--queue-timeout" in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
        hang_up(first, reset=True)
        eventually(lambda: is_idle(server), 5.0)


# -- more clients than places


@pytest.mark.timed
def test_a_full_queue_is_told_with_a_time_to_wait():
    engine = FakeEngine(n_slots=1, max_queue=1, script=LONG, n_ctx=10**6)
    with running(engine) as server:
        socks = [connect(server) for _ in range(2)]
        for sock in socks:
            sock.sendall(request_bytes())
        eventually(lambda: engine.stats().n_queued == 1)
        began = time.monotonic()
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", "max_tokens": -1})
        judge(time.monotonic() - began < 0.5)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        # a batch is taken whole or not at all
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": ["x", "y"]})
        assert answer.status_code == 429
        for sock in socks:
            hang_up(sock, reset=True)
        eventually(lambda: is_idle(server))


def test_too_many_connections_are_told():
    with running(FakeEngine(), max_connections=2) as server:
        socks = [connect(server) for _ in range(3)]
        answer = read_all(socks[2])
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"too_many_connections"' in answer
        for sock in socks:
            sock.close()


# -- what is hardly HTTP


def exchange(server: RunningServer, data: bytes) -> bytes:
    with connect(server) as sock:
        sock.sendall(data)
        return read_all(sock)


GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
REFUSED = {
    "a long URL": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"414"),
    "a long header": (GET + b"a: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
    "a header without end": (GET + b"a: " + b"x" * 200_000, b"431"),
    "many headers": (GET + b"a: b\r\n" * 1000 + b"\r\n", b"431"),
    "many large headers": (GET + b"".join(b"a%d: " % i + b"x" * 8000 + b"\r\n" for i in range(60))
                           + b"\r\n", b"431"),
    "both lengths": (GET + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                     b"400"),
    "two lengths": (GET + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx", b"400"),
    "bad length": (GET + b"content-length: -1\r\n\r\n", b"400"),
    "bad chunk": (GET + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "folded header": (GET + b"a: b\r\n c\r\n\r\n", b"400"),
    "control character": (GET + b"a: \x1b[31m\r\n\r\n", b"400"),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_proper_http_is_refused_once(server, name):
    data, status = REFUSED[name]
    answer = exchange(server, data)
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_headers_must_arrive_in_time(server):
    with connect(server) as sock:
        sock.sendall(b"GET /health HT")
        assert read_all(sock).startswith(b"HTTP/1.1 408 ")
    with connect(server) as sock:  # a connection that says nothing is just closed
        assert read_all(sock) == b""


def test_a_body_must_arrive_in_time(server):
    with connect(server) as sock:
        sock.sendall(request_bytes()[:-3])
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"body_timeout"' in answer


@pytest.mark.timed
def test_slow_connections_do_not_hold_up_others(server):
    slow = [connect(server) for _ in range(100)]
    for sock in slow:
        sock.sendall(b"GET /health HTTP/1.1\r\nx: ")
    began = time.monotonic()
    assert httpx.get(f"{server.url}/health").status_code == 200
    judge(time.monotonic() - began < 0.3)
    for sock in slow:
        sock.close()


def test_a_length_that_lies_is_refused_at_once(server):
    data = re.sub(rb"content-length: \d+", b"content-length: 99999999", request_bytes())
    answer = exchange(server, data)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.timed
def test_the_rest_of_an_unread_body_must_come_to_an_end(server):
    """A 415 is sent at once; a client that trickles its body afterwards is cut off."""
    data = request_bytes().replace(b"application/json", b"text/plain")
    with connect(server) as sock:
        sock.sendall(data[:-3])
        assert sock.recv(65536).startswith(b"HTTP/1.1 415 ")
        began = time.monotonic()
        assert read_all(sock) == b""
        judge(time.monotonic() - began < 3)


def test_no_endpoint_breaks_on_any_method(server):
    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    known = {path for _, path in routes()}
    with httpx.Client(base_url=server.url) as client:
        for path, method in itertools.product(known, methods):
            answer = client.request(method, path.replace("{model_id:path}", "x"))
            # 501: an endpoint that is switched off, as llama-server says it
            assert answer.status_code < 500 or answer.status_code == 501


# -- clients that have asked and shut their sending side


def half_close(server: RunningServer, **body: Any) -> socket.socket:
    sock = connect(server)
    sock.sendall(request_bytes(**body))
    sock.shutdown(socket.SHUT_WR)
    return sock


@pytest.mark.parametrize("prompt_s", [0.0, 1.2])
@pytest.mark.parametrize("stream", [False, True])
def test_a_half_closed_client_gets_its_answer(stream, prompt_s):
    with running(FakeEngine(prompt_s=prompt_s, script=b"abc" * 20)) as server:
        sock = half_close(server, stream=stream)
        sock.settimeout(20)
        data = read_all(sock)
        while data.startswith(b"HTTP/1.1 100 "):
            data = data.partition(b"\r\n\r\n")[2]
        assert data.startswith(b"HTTP/1.1 200 ")
        end = b"data: [DONE]" if stream else b'"finish_reason":"stop"'
        assert end in data
        eventually(lambda: is_idle(server))


def test_python_skips_what_probes_a_half_closed_client():
    with running(FakeEngine(prompt_s=1.2)) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        headers = {"Content-Type": "application/json"}
        client.request("POST", "/v1/completions", '{"prompt": "x"}', headers)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.getresponse().status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_shut_its_side_and_then_left_gives_its_slot_back(stream):
    engine = FakeEngine(script=LONG, step_s=0.01, n_ctx=10**6)
    with running(engine) as server:
        sock = half_close(server, stream=stream)
        eventually(lambda: engine.n_busy == 1)
        hang_up(sock, reset=False)
        eventually(lambda: is_idle(server), 5.0)
