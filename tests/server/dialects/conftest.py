"""A server with the fake engine, for what needs no engine of its own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import running


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[FakeEngine, httpx.Client]]:
    engine = FakeEngine()
    with running(engine) as running_server, httpx.Client(base_url=running_server.url) as client:
        yield engine, client


@pytest.fixture
def http(server) -> httpx.Client:
    return server[1]
