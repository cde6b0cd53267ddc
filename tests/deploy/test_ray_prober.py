"""What a replica says of a request that it does not run, on a real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest

from slotmux.deploy.ray.asked import Found, Probe
from slotmux.deploy.ray.prober import Prober
from tests.server.fake_model import RunningServer
from tests.server.tiny_model import N_SLOTS, serving_model

TEXT = "A prefix that is long enough to fill several blocks of cells, again and again. " * 2


@pytest.fixture(scope="module", params=["llama", "qwen35"])
def served(
    request: pytest.FixtureRequest,
    tiny_model_path: Callable[..., Path],
    kernel_cache_dir: Path,
) -> Iterator[RunningServer]:
    with serving_model(tiny_model_path(request.param), kernel_cache_dir) as server:
        yield server


def found(server: RunningServer, path: str, body: Any, **headers: str) -> Found:
    """On the server's loop, where a replica's prober lives."""

    async def ask() -> Found:
        prober = Prober(server.state)
        told = {"Host": "localhost"} | headers
        sent = tuple((k.lower().encode(), v.encode()) for k, v in told.items())
        try:
            return await prober.found(Probe(path, sent, json.dumps(body).encode()))
        finally:
            prober.close()

    answer: Future[Found] = asyncio.run_coroutine_threadsafe(ask(), server.loop)
    return answer.result(60)


def test_it_tells_what_a_request_would_reuse_in_any_api(served: RunningServer) -> None:
    body = {"prompt": TEXT, "max_tokens": 2}
    before = found(served, "/v1/completions", body)
    assert (before.n_cached, before.n_slots) == (0, N_SLOTS)
    first = httpx.post(f"{served.url}/v1/completions", json=body).json()
    told = found(served, "/v1/completions", body)
    again = httpx.post(f"{served.url}/v1/completions", json=body).json()
    assert told.n_prompt == before.n_prompt == first["usage"]["prompt_tokens"]
    assert told.n_cached == again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert found(served, "/completion", {"prompt": TEXT}).n_cached == told.n_cached
    other = found(served, "/v1/completions", {"prompt": "Z" + TEXT})
    assert (other.n_cached, other.n_prompt > 0) == (0, True)
    salted = found(served, "/v1/completions", body | {"cache_salt": "mine"})
    assert salted.n_cached == 0


def test_what_is_wrong_or_no_prompt_has_nothing(served: RunningServer) -> None:
    for path, body in (("/v1/completions", {"prompt": 1.5}), ("/nowhere", {}), ("/slots", {})):
        assert found(served, path, body).n_prompt == 0


def test_nothing_runs_and_nothing_is_counted(served: RunningServer) -> None:
    engine = served.state.service.loaded.engine
    before = engine.stats().counters.n_requests
    found(served, "/v1/completions", {"prompt": TEXT})
    assert engine.stats().counters.n_requests == before
    assert not served.state.service.intake.running
