"""Carries Outputs from the engine thread to the event loop: one wake-up a step for all requests."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from slotmux.runtime.engine.request import Output, Request


class OutputSink(Protocol):
    """Request.context: where a request's Outputs go, on the event loop."""

    def receive(self, outputs: list[Output], now: float) -> None:
        """Takes the Outputs of one step. Must not raise."""


class Bridge:
    """``on_output`` runs on the engine thread, sinks run on the loop.

    The engine calls on_output for all requests of a step without releasing the GIL for long, so
    the first call wakes the loop and the others find it already woken.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: deque[tuple[OutputSink, list[Output]]] = deque()
        self._is_scheduled = False

    def on_output(self, request: Request, outputs: list[Output]) -> None:
        """Request.on_output of every request. Drops the Outputs once the loop is closed."""
        self._pending.append((request.context, outputs))
        # Order matters: append then look, while _deliver clears the flag and then drains.
        if self._is_scheduled:
            return
        self._is_scheduled = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False
        now = self._loop.time()
        pending = self._pending
        while pending:
            sink, outputs = pending.popleft()
            sink.receive(outputs, now)
