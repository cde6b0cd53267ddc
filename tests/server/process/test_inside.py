"""A server inside a program: reached with its key alone, gone with its block, never a hang."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from slotmux.server.process.inside import serving_inside
from slotmux.server.settings import Settings
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with

BODY = {"prompt": "x", "max_tokens": 100}


def test_only_its_key_opens_it_and_it_is_gone_with_its_block() -> None:
    engine = FakeEngine()
    with serving_inside(Settings(api_key=("another",)), loaded_with(engine)) as door:
        assert door.url.startswith("http://127.0.0.1:")
        path = f"{door.url}/v1/completions"
        assert httpx.post(path, json=BODY).status_code == 401
        other = {"Authorization": "Bearer another"}
        assert httpx.post(path, json=BODY, headers=other).status_code == 401
        own = {"Authorization": f"Bearer {door.api_key}"}
        assert httpx.post(path, json=BODY, headers=own).status_code == 200
    assert not engine.is_alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(door.url)
    assert not [t for t in threading.enumerate() if t.name == "slotmux-http"]


def test_an_engine_that_does_not_start_is_raised() -> None:
    class Broken(FakeEngine):
        def start(self) -> None:
            raise RuntimeError("no")

    with (
        pytest.raises(RuntimeError, match="no"),
        serving_inside(Settings(), loaded_with(Broken())),
    ):
        pass


def test_an_engine_that_dies_leaves_nobody_waiting() -> None:
    engine = FakeEngine(step_s=0.05, script=b"x" * 1000)
    with serving_inside(Settings(), loaded_with(engine)) as door:
        headers = {"Authorization": f"Bearer {door.api_key}"}
        timer = threading.Timer(0.3, engine.die)
        timer.start()
        answer = httpx.post(f"{door.url}/v1/completions", json=BODY, headers=headers, timeout=60)
        assert answer.status_code == 503
        timer.join()
        port = int(door.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            later = httpx.post(f"{door.url}/v1/completions", json=BODY, headers=headers)
        assert later.status_code == 503
