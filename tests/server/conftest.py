"""Servers whose model calls a tool, or thinks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from slotmux.server.tools.style import ChatStyle
from slotmux.server.tools.thought import Thinking
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, loaded_with, running

CALL = 'I look.\n<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'
THOUGHT = "<think>Hm. 5</think>\n\nHi."


@pytest.fixture(scope="module")
def caller() -> Iterator[RunningServer]:
    with running(FakeEngine(script=CALL.encode(), n_ctx=4096)) as server:
        yield server


@pytest.fixture(scope="module")
def thinker() -> Iterator[RunningServer]:
    loaded = loaded_with(FakeEngine(script=THOUGHT.encode(), n_ctx=4096))
    style = ChatStyle(thinking=Thinking("<think>", "</think>"))
    with running(dataclasses.replace(loaded, style=style)) as server:
        yield server
