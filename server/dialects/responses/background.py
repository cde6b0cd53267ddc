"""Responses that are made whether or not anybody waits for them: asked for, followed, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slotmux.server.answers.stream import PING, EventStream
from slotmux.server.answers.watch import Watch
from slotmux.server.dialects.responses.writer import ResponseWriter
from slotmux.server.http.errors import ApiError
from slotmux.server.settings import Settings

MAX_EVENT_BYTES = 8 << 20  # of one response; a stream that began later than that ends there


class BackgroundRun:
    """One response in the making. Belongs to the event loop.

    ``keeps_events``: somebody may follow it. What it ends with, its writer keeps.
    """

    def __init__(
        self, writer: ResponseWriter, settings: Settings, key: str, *, keeps_events: bool
    ) -> None:
        self.key, self.keeps_events = key, keeps_events
        self.events: list[bytes] = []
        self.is_over = False
        self.id = writer.id
        self._n_bytes = 0
        self._writer, self._generation = writer, writer.turn.generation
        self._watch = Watch(self._generation, settings)
        self._has_news = asyncio.Event()
        self._is_cancelled = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._add(self._writer.opening())
        self._task = asyncio.get_running_loop().create_task(self._run())

    def drop(self) -> None:
        """Give back what was never started."""
        self._watch.stop()
        self._generation.close()

    def told(self) -> dict[str, Any]:
        """The response as it is now."""
        status = "in_progress" if self._generation.is_admitted else "queued"
        return self._writer.so_far(status)

    async def cancel(self) -> None:
        """End it with what it has; returns when it has ended."""
        self._is_cancelled = True
        self._generation.nudge()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def wait(self, n_seen: int, seconds: float) -> None:
        """Until there are more events than so many, it is over, or some time has passed."""
        if len(self.events) > n_seen or self.is_over:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_news.wait(), seconds)

    async def _run(self) -> None:
        writer, generation = self._writer, self._generation
        try:
            while writer.n_left > 0 and not self._is_cancelled:
                choices = await generation.next()
                if choices:
                    self._add(writer.begun() + writer.events(choices, generation))
            if writer.n_left > 0:
                self._add(writer.cancelled())
        except ApiError as error:
            self._add(writer.error(error))
        finally:
            self.drop()
            self.is_over = True
            self._tell()

    def _add(self, body: bytes) -> None:
        """Keep events, where they are asked for, as far as there is room."""
        if not self.keeps_events:
            return
        for event in body.split(b"\n\n"):
            self._n_bytes += len(event)
            if event and self._n_bytes <= MAX_EVENT_BYTES:
                self.events.append(event + b"\n\n")
        self._tell()

    def _tell(self) -> None:
        """Wake those that wait."""
        self._has_news.set()
        self._has_news = asyncio.Event()


class Followed(Response):
    """The events of a run from one on, as they come. Who goes away leaves it running."""

    def __init__(self, run: BackgroundRun, first: int, ping_s: float) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = EventStream.headers_of_streams()
        self._run, self._next, self._ping_s = run, first, ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        gone = asyncio.create_task(_until_gone(receive))
        try:
            while not gone.done():
                events = self._run.events[self._next :]
                self._next += len(events)
                is_over = self._run.is_over and self._next >= len(self._run.events)
                body = b"".join(events) or (b"" if is_over else PING)
                await send({"type": "http.response.body", "body": body, "more_body": not is_over})
                if is_over:
                    return
                await self._run.wait(self._next, self._ping_s)
        finally:
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
