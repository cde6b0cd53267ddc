"""Hostile clients and well-behaved ones at once, on real kernels (RELIABILITY classes F, J, L, M,
T and the invariants I1 to I6): the well-behaved get, bit for bit, what they get alone."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from slotmux.runtime.sampling.params import NUMBERS
from tests.numbers import extremes
from tests.server.fake_model import RunningServer
from tests.server.http.sockets import connect, eventually, hang_up, request_bytes
from tests.server.tiny_model import N_CTX, N_SLOTS, serving_model
from tests.timing import judge

STORM_S = 3.0
TEXT = "The keeper of the lighthouse counted the ships that passed before the fog came in. "
CANARIES: list[dict[str, Any]] = [
    {"prompt": TEXT, "temperature": 0, "max_tokens": 24, "logprobs": 3},
    {"prompt": TEXT[:30], "temperature": 0.9, "seed": 5, "max_tokens": 30, "logprobs": 0},
    {"prompt": TEXT[20:], "temperature": 1.3, "top_k": 30, "top_p": 0.9, "seed": 6,
     "repeat_penalty": 1.2, "max_tokens": 20, "logprobs": 5},
    {"prompt": TEXT * 2, "temperature": 0, "max_tokens": 2, "logprobs": 2, "echo": True},
]  # fmt: skip
EXTREMES: dict[str, list[Any]] = {
    **{name: extremes(name) for name in NUMBERS},
    "temperature": [0, -0.0, 1e-300, 1e-38, 5e-324, 2, 100],
    "top_n_sigma": [-1, 0, 5e-324, 1000],
    "min_keep": [0, 2**31 - 1],
    "xtc_probability": [0, 1],
    "xtc_threshold": [0, 5e-324, 0.5, 1],
    "dynatemp_range": [0, 1e-300, 100],
    "dynatemp_exponent": [0, 5e-324, 100],
    "dry_multiplier": [0, 5e-324, 100],
    "dry_base": [1, 1.0000001, 100],
    "dry_allowed_length": [0, 2**31 - 1],
    "dry_penalty_last_n": [-1, 0, 1, 2**31 - 1],
    "dry_sequence_breakers": [[], ["e"], [" ", "the ", "x" * 40]],
    "mirostat": [0, 1, 2],
    "mirostat_tau": [0, 5e-324, 100],
    "mirostat_eta": [0, 100],
    "samplers": [[], "edskypmxt", "txmpykde", ["xtc"] * 15],
    "allowed_token_ids": [[5], list(range(200))],
    "bad_words": [[], ["a", " the", "e e"]],
    "top_p": [0, 5e-324, 1e-30, 1],
    "top_k": [-1, 0, 1, 2**31 - 1],
    "min_p": [0, 1, 1e-45],
    "typical_p": [5e-324, 1e-9, 1],
    "repeat_penalty": [5e-324, 1e-30, 1, 100],
    "repeat_last_n": [-1, 0, 1, 2**31 - 1],
    "frequency_penalty": [-2, 2],
    "presence_penalty": [-2, 2],
    "logit_bias": [
        {},
        {"0": -100},
        {"5": 100},
        [[3, False]],
        [["the", 5]],
        {"a": False},
        {str(i): -100.0 for i in range(500)},
    ],
    "seed": [-(2**63), 2**63 - 1, 0],
    "logprobs": [0, 20],
    "n": [1, N_SLOTS, N_SLOTS + 1],
    "min_tokens": [0, 3],
    "stop": ["a", ["a", "b", " ", "e"], "\n" * 256],
    "stop_token_ids": [[], [0], list(range(500))],
    "ignore_eos": [True],
    "id_slot": [-1, N_SLOTS - 1, N_SLOTS],
}


@pytest.fixture(scope="module", params=["llama", "qwen35"])
def server(request, tiny_model_path, kernel_cache_dir) -> Iterator[RunningServer]:
    path = tiny_model_path(request.param)
    # Memory for fewer tokens than all slots may want: victims are parked all the while.
    with serving_model(path, kernel_cache_dir, n_cells=512, engine={"max_queue": 16}) as server:
        yield server


@pytest.fixture(scope="module")
def http(server) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=server.url, timeout=60, limits=limits) as client:
        yield client


def post(http: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return http.post("/v1/completions", json=body)


def ask(http: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Choices of an answer that must come, whatever the queue says at first."""
    while (answer := post(http, body)).status_code == 429:
        time.sleep(0.02)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"]


def check_error(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    if answer.status_code == 400:
        assert error["type"] == "invalid_request_error"


def metrics_of(http: httpx.Client) -> dict[str, float]:
    lines = http.get("/metrics").text.splitlines()
    return {k: float(v) for k, v in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}


def assert_clean(http: httpx.Client) -> None:
    """I1 and I2, as /metrics tells it."""
    assert http.get("/readyz").status_code == 200
    eventually(lambda: metrics_of(http)["slotmux_slots_free"] == N_SLOTS)
    values = metrics_of(http)
    assert values["slotmux_queue_length"] == values["slotmux_http_generations"] == 0
    free, cached = values["slotmux_kv_blocks_free"], values["slotmux_kv_blocks_cached"]
    assert free + cached == values["slotmux_kv_blocks"]
    rows = values["slotmux_state_rows_free"] + values["slotmux_checkpoints"]
    assert rows == values["slotmux_state_rows"]
    broken = [k for k in values if k.startswith("slotmux_http_requests") and 'status="500"' in k]
    assert not broken, "a hostile input was answered with 500"


def test_extremes_go_through_the_sampler(http):
    rng = random.Random(0)
    singles = [{name: value} for name, values in EXTREMES.items() for value in values]
    pairs = [
        {a: rng.choice(EXTREMES[a]), b: rng.choice(EXTREMES[b])}
        for a, b in itertools.combinations(EXTREMES, 2)
    ]
    seen: Counter[int] = Counter()
    with ThreadPoolExecutor(6) as pool:
        bodies = [{"prompt": TEXT[:40], "max_tokens": 3} | fields for fields in singles + pairs]
        for body, answer in zip(bodies, pool.map(lambda b: post(http, b), bodies), strict=True):
            seen[answer.status_code] += 1
            assert answer.status_code in (200, 400), (body, answer.text)
            if answer.status_code == 400:
                check_error(answer)
                assert answer.json()["error"]["param"] in body
    assert seen[200] > 150
    assert seen[400] > 5
    assert_clean(http)


def test_identical_prompts_get_one_answer(http):
    body = {"prompt": TEXT, "temperature": 0, "max_tokens": 16}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(http, body)[0]["text"], range(12)))
    assert len(set(answers)) == 1


class Storm:
    """Threads that misbehave until told to stop."""

    def __init__(self, server: RunningServer, http: httpx.Client) -> None:
        self.server, self.http = server, http
        self.statuses: Counter[int] = Counter()
        self.is_over = False
        self.failures: list[BaseException] = []

    def run(self, seed: int) -> None:
        rng = random.Random(seed)
        deeds: list[Callable[[random.Random], None]] = [self.leave, self.refused, self.extreme]
        try:
            while not self.is_over:
                rng.choice(deeds)(rng)
        except BaseException as error:
            self.failures.append(error)
            raise

    def leave(self, rng: random.Random) -> None:
        """A client that goes away at any moment; all of them use the same request id."""
        whole = request_bytes(
            prompt=TEXT * rng.randrange(1, 3), max_tokens=100, ignore_eos=True,
            stream=rng.random() < 0.5, n=rng.choice((1, 1, N_SLOTS)),
        )  # fmt: skip
        whole = whole.replace(b"\r\nhost", b"\r\nx-request-id: same\r\nhost", 1)
        sock = connect(self.server)
        sock.sendall(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        time.sleep(rng.random() * 0.05)
        hang_up(sock, reset=rng.random() < 0.5)

    def refused(self, rng: random.Random) -> None:
        too_long = json.dumps({"prompt": TEXT * 99}).encode()
        bodies = [b"{", b"[]", b"\xff", b'{"prompt":"\\ud800"}', b'{"prompt":' + b"[" * 5000,
                  b'{"prompt":"x","n":1e999}', too_long]  # fmt: skip
        answer = self.http.post(
            "/v1/completions",
            content=rng.choice(bodies),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 400, answer.text
        check_error(answer)

    def extreme(self, rng: random.Random) -> None:
        fields = {name: rng.choice(EXTREMES[name]) for name in rng.sample(sorted(EXTREMES), 3)}
        answer = post(self.http, {"prompt": TEXT, "max_tokens": 9} | fields)
        self.statuses[answer.status_code] += 1
        assert answer.status_code in (200, 400, 429), answer.text
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            check_error(answer)


@pytest.mark.timed
def test_a_storm_changes_no_answer(server, http):
    alone = [ask(http, body | {"cache_prompt": False}) for body in CANARIES]
    n_compiled = metrics_of(http)["slotmux_kernels_compiled_total"]
    storm = Storm(server, http)
    threads = [threading.Thread(target=storm.run, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + STORM_S
    n_rounds, slowest = 0, 0.0
    try:
        while time.monotonic() < end or n_rounds < 2:
            with ThreadPoolExecutor(3) as pool:
                got = list(pool.map(lambda body: ask(http, body), CANARIES))
            assert got == alone
            began = time.monotonic()
            assert http.get("/livez").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            n_rounds += 1
    finally:
        storm.is_over = True
        for thread in threads:
            thread.join(60)
    assert not storm.failures
    assert storm.statuses[200] > 0
    judge(slowest < 2.0, "the event loop was held up")
    assert_clean(http)
    values = metrics_of(http)
    assert values['slotmux_finished_total{reason="abort"}'] > 0
    assert values['slotmux_finished_total{reason="error"}'] == 0
    assert values["slotmux_kernels_compiled_total"] == n_compiled
    assert [ask(http, body) for body in CANARIES] == alone


@pytest.mark.timed
def test_overload_is_refused_at_once_and_what_is_taken_is_answered(http):
    """Ten times what slots and queue can hold, and a short request among long prompts."""
    statuses: Counter[int] = Counter()
    refusal_s: list[float] = []
    n_clients, n_each = 40, 3

    def client(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(n_each):
            began = time.monotonic()
            body = {"prompt": TEXT, "seed": rng.randrange(99), "max_tokens": 120}
            answer = post(http, body | {"ignore_eos": True})
            statuses[answer.status_code] += 1
            if answer.status_code == 429:
                refusal_s.append(time.monotonic() - began)
                assert 1 <= int(answer.headers["retry-after"]) <= 60

    with ThreadPoolExecutor(n_clients) as pool:
        for done in [pool.submit(client, seed) for seed in range(n_clients)]:
            done.result(60)
    assert sum(statuses.values()) == n_clients * n_each
    assert set(statuses) == {200, 429}
    assert statuses[200] >= N_SLOTS + 16
    judge(sorted(refusal_s)[len(refusal_s) // 2] < 1.0)
    assert_clean(http)


def test_a_short_request_is_served_beside_long_prompts(http):
    """With a slot free it does not wait for the others' prompts to end."""
    long = {"prompt": list(range(3, N_CTX - 30)), "max_tokens": 20, "ignore_eos": True}
    with ThreadPoolExecutor(N_SLOTS) as pool:
        others = [
            pool.submit(ask, http, long | {"seed": i, "cache_salt": str(i)})
            for i in range(N_SLOTS - 1)
        ]
        assert ask(http, {"prompt": "x", "max_tokens": 1})[0]["finish_reason"] == "length"
        for other in others:
            assert other.result(60)
    assert_clean(http)
