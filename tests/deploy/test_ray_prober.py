"""What a replica says of a request that it does not run, on a real engine."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from slotmux.deploy.ray.asked import Found, Probe
from slotmux.deploy.ray.prober import Prober, WithoutProbes
from slotmux.server.process.logs import LOGGER
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


@pytest.fixture(scope="module")
def prober(served: RunningServer) -> Iterator[Prober]:
    """On the server's loop, where a replica's lives."""

    async def make() -> Prober:
        return Prober(served.state)

    made: Prober = asyncio.run_coroutine_threadsafe(make(), served.loop).result(60)
    yield made
    made.close()


@pytest.fixture
def found(served: RunningServer, prober: Prober) -> Callable[..., Found]:
    """What is found of a request with this path and body."""

    def ask(path: str, body: Any) -> Found:
        probe = Probe(path, ((b"host", b"localhost"),), json.dumps(body).encode())
        answer = asyncio.run_coroutine_threadsafe(prober.found(probe), served.loop)
        told: Found = answer.result(60)
        return told

    return ask


def test_it_tells_what_a_request_would_reuse_in_any_api(
    served: RunningServer, found: Callable[..., Found]
) -> None:
    body = {"prompt": TEXT, "max_tokens": 2}
    before = found("/v1/completions", body)
    assert (before.n_cached, before.n_slots) == (0, N_SLOTS)
    first = httpx.post(f"{served.url}/v1/completions", json=body).json()
    told = found("/v1/completions", body)
    again = httpx.post(f"{served.url}/v1/completions", json=body).json()
    assert told.n_prompt == before.n_prompt == first["usage"]["prompt_tokens"]
    assert told.n_cached == again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert found("/completion", {"prompt": TEXT}).n_cached == told.n_cached
    other = found("/v1/completions", {"prompt": "Z" + TEXT})
    assert (other.n_cached, other.n_prompt > 0) == (0, True)
    salted = found("/v1/completions", body | {"cache_salt": "mine"})
    assert salted.n_cached == 0


def test_what_is_wrong_or_no_prompt_has_nothing(
    served: RunningServer, found: Callable[..., Found]
) -> None:
    for path, body in (("/v1/completions", {"prompt": 1.5}), ("/nowhere", {}), ("/slots", {})):
        assert found(path, body).n_prompt == 0


def test_nothing_runs_and_nothing_is_counted(
    served: RunningServer, found: Callable[..., Found]
) -> None:
    engine = served.state.service.loaded.engine
    before = engine.stats().counters.n_requests
    found("/v1/completions", {"prompt": TEXT})
    assert engine.stats().counters.n_requests == before
    assert not served.state.service.intake.running


def test_a_probe_is_no_line_of_the_log(
    found: Callable[..., Found], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(LOGGER)
    caplog.set_level(logging.INFO, LOGGER)
    quiet = WithoutProbes()
    try:
        found("/v1/completions", {"prompt": TEXT})
        assert [record.msg for record in caplog.records].count("request") == 1
        logger.addFilter(quiet)
        found("/v1/completions", {"prompt": TEXT})
        assert [record.msg for record in caplog.records].count("request") == 1
    finally:
        logger.removeFilter(quiet)
