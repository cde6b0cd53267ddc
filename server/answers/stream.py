"""A generation as the response to its HTTP request: streamed, or collected into one body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slotmux.server.answers.generation import ChoiceOutput, Generation
from slotmux.server.answers.watch import Watch
from slotmux.server.http.disconnect import DisconnectWatcher
from slotmux.server.http.errors import ApiError, json_response
from slotmux.server.http.trace import Trace, send_of_bodies, trace_of
from slotmux.server.settings import Settings

# Where the server's protocol class offers a way to drop a connection whose reader stalls.
ABORT_CONNECTION = "slotmux.abort"
# What it calls to have something sent, if it is there.
PROBE_READER = "slotmux.probe"
_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
PING = b":\n\n"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Framing:
    """What a stream is on the wire: its media type, and what may be sent in a silence (b"": nothing
    that a client would skip)."""

    media_type: bytes = b"text/event-stream; charset=utf-8"
    ping: bytes = PING


SSE = Framing()


class Writer(Protocol):
    """Words one generation in a dialect, streamed or whole. ``n_left``: choices yet to end."""

    n_left: int

    def opening(self) -> bytes:
        """What a stream begins with."""

    def events(self, choices: list[ChoiceOutput], generation: Generation) -> bytes:
        """What these Outputs add; with the last one also the end of the stream."""

    def error(self, error: ApiError) -> bytes:
        """What ends a stream that went wrong."""

    def take(self, choices: list[ChoiceOutput], generation: Generation) -> None:
        """Notes Outputs of an answer that is not streamed."""

    def whole(self, generation: Generation) -> Any:
        """The JSON body of an answer that is not streamed, once no choice is left."""


class Delivery:
    """Owns a generation until its answer is out; ``close`` may be called more than once."""

    def __init__(self, request: Request, generation: Generation, settings: Settings) -> None:
        self.generation = generation
        self.watch = Watch(generation, settings)
        self._disconnect = DisconnectWatcher(request.receive, generation)
        self._trace = trace_of(request)
        self._trace.progress = generation.sinks[0].request.progress

    def close(self) -> None:
        """Stops the watchers, gives back what still runs, and notes how it went."""
        self._disconnect.stop()
        self.watch.stop()
        self.generation.close()
        _note(self._trace, self.generation)


async def respond(
    request: Request,
    generation: Generation,
    writer: Writer,
    settings: Settings,
    *,
    stream: bool,
    framing: Framing = SSE,
) -> Response:
    """The response. A failure before the first token is raised: it gets a status of its own."""
    delivery = Delivery(request, generation, settings)
    try:
        if stream:
            # Waits for the first token, but no longer than a proxy waits for headers.
            return EventStream(delivery, writer, await generation.next(), framing)
        while writer.n_left > 0:
            writer.take(await generation.next(), generation)
        body = await _worded(generation, lambda: json_response(writer.whole(generation)))
    except BaseException:
        delivery.close()
        raise
    delivery.close()
    return body


async def _worded(generation: Generation, word: Callable[[], _T]) -> _T:
    """``word()``, beside the event loop where there are log-probabilities of prompts: those of a
    long one take a second."""
    return await asyncio.to_thread(word) if generation.scores else word()


class EventStream(Response):
    """Server-sent events straight to ASGI: one send for all that is pending, no task per chunk."""

    def __init__(
        self, delivery: Delivery, writer: Writer, first: list[ChoiceOutput], framing: Framing = SSE
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = self.headers_of_streams(framing)
        self._ping = framing.ping
        self._delivery = delivery
        self._writer = writer
        self._first = first

    @staticmethod
    def headers_of_streams(framing: Framing = SSE) -> list[tuple[bytes, bytes]]:
        """What a stream says of itself."""
        return [(b"content-type", framing.media_type), *_HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        activity = self._delivery.watch.activity
        extensions: dict[str, Any] = scope.get("extensions") or {}
        activity.on_stall = extensions.get(ABORT_CONNECTION)
        extensions[PROBE_READER] = self._delivery.generation.nudge
        try:
            await send(start)
            await self._send_events(send_of_bodies(scope, send))
        finally:
            self._delivery.close()

    async def _send_events(self, send: Send) -> None:
        generation, writer = self._delivery.generation, self._writer
        activity = self._delivery.watch.activity
        loop_time = self._delivery.watch.loop.time
        first = self._first
        body = writer.opening() + await _worded(
            generation, lambda: writer.events(first, generation)
        )
        n_left = writer.n_left
        while True:
            if body:
                activity.sending_since = activity.last_sent = loop_time()
                await send({"type": "http.response.body", "body": body, "more_body": n_left > 0})
                activity.sending_since = 0.0
            if n_left <= 0:
                return
            try:
                choices = await generation.next()
            except ApiError as error:
                body, n_left = writer.error(error), 0
                continue
            if generation.is_scored and any(out.prompt_logprobs is not None for _, out in choices):
                body = await asyncio.to_thread(writer.events, choices, generation)
            else:
                body = writer.events(choices, generation) if choices else self._ping
            n_left = writer.n_left


def _note(trace: Trace, generation: Generation) -> None:
    ordered = sorted(generation.usages)
    trace.engine_ids = [sink.request.id for sink in generation.sinks if sink.request.id]
    trace.usages = [generation.usages[index] for index in ordered]
    trace.finishes = [generation.finishes[index].value for index in ordered]
    requests = [sink.request for sink in generation.sinks]
    trace.n_prompt = sum(len(request.prompt) for request in requests)
    trace.n_computed = generation.n_computed
    if requests:
        trace.t_admitted = requests[0].progress.t_admitted
    if generation.failure is not None:
        trace.error = str(generation.failure.code)
