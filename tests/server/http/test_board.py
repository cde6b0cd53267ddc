"""GET /board, and the history that its plots begin with."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from slotmux.runtime.engine.stats import TIMES, Histogram, HistogramStats
from slotmux.runtime.memory.prefix_tree import NODE_BYTES
from slotmux.runtime.sizes import ModelSizes
from slotmux.server.loading.budget import Budget
from slotmux.server.process.history import N_KEPT, History, quantile
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with, running


def test_a_running_choice_is_told_and_its_names_are_not() -> None:
    engine = FakeEngine(script=b"x" * 400, step_s=0.01)
    with running(engine, api_key=("key-one", "key-two")) as server:
        headers = {"x-api-key": "key-one", "x-session-id": "my-session"}
        body = {"prompt": "hello", "stream": True, "max_tokens": 400}
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json=body, headers=headers
        ) as stream:
            lines = stream.iter_lines()
            next(lines)
            answer = httpx.get(f"{server.url}/board", headers=headers)
    told = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert [slot["state"] for slot in told["slots"]].count("generating") == 1
    assert told["queue"] == {"n_waiting": 0, "n_max": 64}
    for secret in ("key-one", "my-session", "hello"):
        assert secret not in answer.text


def test_whose_slots_are_is_told_by_short_digests(monkeypatch) -> None:
    engine = FakeEngine()
    stats = engine.stats()
    busy = replace(stats.slots[0], state="generating", client="gateway-user", session="s" * 32,
                   n_generated=11, generating_s=2.0, n_limit=99, has_row=True)  # fmt: skip
    with running(engine) as server:
        monkeypatch.setattr(engine, "stats", lambda: replace(stats, slots=(busy, *stats.slots[1:])))
        answer = httpx.get(f"{server.url}/board")
        monkeypatch.undo()
    slot = answer.json()["slots"][0]
    assert "gateway-user" not in answer.text
    assert len(slot["client"]) == len(slot["session"]) == 6
    assert slot["client"] != slot["session"]
    assert (slot["tokens_per_second"], slot["n_limit"], slot["n_states"]) == (5.0, 99, 1)
    assert answer.json()["slots"][1]["client"] == ""


@pytest.mark.parametrize("since", ["-1", "x", "", "1.5", "9" * 16, "²"])
def test_a_number_that_is_none_is_refused(since) -> None:
    with running(FakeEngine()) as server:
        answer = httpx.get(f"{server.url}/board", params={"since": since})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "since"


def test_operators_decide_who_sees_it() -> None:
    with running(FakeEngine(), slots="off") as server:
        assert httpx.get(f"{server.url}/board").status_code == 501
    with running(FakeEngine(), slots="public", api_key=("k",)) as server:
        assert httpx.get(f"{server.url}/board").status_code == 200
    with running(FakeEngine(), api_key=("k",)) as server:
        assert httpx.get(f"{server.url}/board").status_code == 401


def test_memory_is_told_in_its_parts() -> None:
    sizes = ModelSizes(weights=100, cell=2.0, row=30, buffers=7)
    budget = Budget(n_slots=2, n_ctx=16, n_cells=32, cache_bytes=1000, sizes=sizes)
    loaded = replace(loaded_with(FakeEngine()), budget=budget)
    with running(loaded) as server:
        told = httpx.get(f"{server.url}/board").json()
    cache = 1000 + 2 * NODE_BYTES  # the index of two blocks
    parts = {"weights": 100, "cells": 64, "states": 60, "buffers": 7, "prefix_cache": cache}
    assert told["memory"] == parts | {"total": budget.total_bytes}
    assert told["resident_bytes"] > 1_000_000


def test_samples_come_once() -> None:
    with running(FakeEngine()) as server:
        assert httpx.get(f"{server.url}/board").json()["samples"] == []
        time.sleep(1.05)
        first = httpx.get(f"{server.url}/board").json()["samples"]
        assert [sample["number"] for sample in first] == [1]
        again = httpx.get(f"{server.url}/board", params={"since": 1}).json()["samples"]
        assert again == []


class _Scripted:
    """An engine of which a test says what it has done."""

    def __init__(self) -> None:
        self.now = FakeEngine().stats()
        self.n_asked = 0

    def stats(self) -> Any:
        self.n_asked += 1
        return self.now

    def do(self, **changes: Any) -> None:
        self.now = replace(self.now, counters=replace(self.now.counters, **changes))


def test_history_tells_what_happened_between_two_looks() -> None:
    engine = _Scripted()
    history = History(engine)
    history.observe(10.0)
    engine.do(n_generated_tokens=50, n_prompt_tokens=200, n_prompt_tokens_cached=7)
    history.observe(10.5)
    assert history.since(0) == [], "it is not time yet"
    assert engine.n_asked == 1, "and nobody was asked"
    history.observe(12.0)
    (sample,) = history.since(0)
    assert (sample.number, sample.at, sample.seconds) == (1, 12.0, 2.0)
    assert (sample.n_generated, sample.n_prompt, sample.n_cached) == (50, 200, 7)
    history.observe(13.0)
    assert [s.n_generated for s in history.since(0)] == [50, 0]
    assert [s.number for s in history.since(1)] == [2]


def test_history_has_an_end() -> None:
    history = History(_Scripted())
    for second in range(N_KEPT + 100):
        history.observe(float(second))
    kept = history.since(0)
    assert len(kept) == N_KEPT
    assert kept[-1].number == N_KEPT + 99


def _observed(*seconds: float) -> HistogramStats:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    return histogram.snapshot()


def test_quantiles_are_of_what_came_since() -> None:
    old, new = _observed(5.0), _observed(5.0, 0.006, 0.007, 0.008, 0.02)
    assert quantile(old, old, 0.5) is None
    assert quantile(old, new, 0.5) == pytest.approx(0.005 + 0.005 * 2 / 3)
    assert quantile(old, new, 1.0) == 0.025
    assert quantile(old, _observed(5.0, 100.0), 0.5) == TIMES[-1]


def test_quantiles_are_of_the_last_minute() -> None:
    engine = _Scripted()
    history = History(engine)
    for second in range(200):
        slow = _observed(*[10.0] * min(second, 100))
        engine.now = replace(engine.now, itl=slow)
        history.observe(float(second))
    assert history.quantiles(engine.now, 0.5) == (None, None)
    engine.now = replace(engine.now, itl=_observed(*[10.0] * 100, 0.004))
    token, first = history.quantiles(engine.now, 0.95)
    assert token is not None
    assert token < 0.005
    assert first is None
