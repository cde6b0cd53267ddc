"""A generation as the response to its HTTP request: streamed, or collected into one body."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slotmux.runtime.engine.request import Output
from slotmux.server.answers.answer import Answer, whole_answer
from slotmux.server.answers.chunks import PING, ChunkWriter
from slotmux.server.answers.generation import ChoiceOutput, Generation
from slotmux.server.answers.watch import Watch
from slotmux.server.http.disconnect import DisconnectWatcher
from slotmux.server.http.errors import ApiError, json_response
from slotmux.server.http.trace import Trace, trace_of
from slotmux.server.settings import Settings

# Where the server's protocol class offers a way to drop a connection whose reader stalls.
ABORT_CONNECTION = "slotmux.abort"
# What it calls to have something sent, if it is there.
PROBE_READER = "slotmux.probe"
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Delivery:
    """Owns a generation until its answer is out; ``close`` may be called more than once."""

    def __init__(self, request: Request, generation: Generation, settings: Settings) -> None:
        self.generation = generation
        self.watch = Watch(generation, settings)
        self._disconnect = DisconnectWatcher(request.receive, generation)
        self._trace = trace_of(request)
        self._trace.engine_ids = [sink.request.id for sink in generation.sinks]

    def close(self) -> None:
        """Stops the watchers, gives back what still runs, and notes how it went."""
        self._disconnect.stop()
        self.watch.stop()
        self.generation.close()
        _note(self._trace, self.generation)


async def respond(
    request: Request, generation: Generation, answer: Answer, settings: Settings, *, stream: bool
) -> Response:
    """The response. A failure before the first token is raised: it gets a status of its own."""
    delivery = Delivery(request, generation, settings)
    try:
        if stream:
            # Waits for the first token, but no longer than a proxy waits for headers.
            return EventStream(delivery, ChunkWriter(answer), await generation.next())
        outputs = await _collect(generation, answer.n_choices)
        body = whole_answer(answer, generation, outputs)
    except BaseException:
        delivery.close()
        raise
    delivery.close()
    return json_response(body)


async def _collect(generation: Generation, n_choices: int) -> list[list[Output]]:
    """All Outputs of each choice."""
    outputs: list[list[Output]] = [[] for _ in range(n_choices)]
    n_left = n_choices
    while n_left:
        for index, output in await generation.next():
            outputs[index].append(output)
            n_left -= output.finish_reason is not None
    return outputs


class EventStream(Response):
    """Server-sent events straight to ASGI: one send for all that is pending, no task per chunk."""

    def __init__(self, delivery: Delivery, writer: ChunkWriter, first: list[ChoiceOutput]) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = list(_HEADERS)
        self._delivery = delivery
        self._writer = writer
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        activity = self._delivery.watch.activity
        extensions: dict[str, Any] = scope.get("extensions") or {}
        activity.on_stall = extensions.get(ABORT_CONNECTION)
        extensions[PROBE_READER] = self._delivery.generation.nudge
        try:
            await send(start)
            await self._send_events(send)
        finally:
            self._delivery.close()

    async def _send_events(self, send: Send) -> None:
        generation, writer = self._delivery.generation, self._writer
        activity = self._delivery.watch.activity
        loop_time = self._delivery.watch.loop.time
        body = writer.opening() + writer.events(self._first, generation)
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
            body = writer.events(choices, generation) if choices else PING
            n_left = writer.n_left


def _note(trace: Trace, generation: Generation) -> None:
    ordered = sorted(generation.usages)
    trace.usages = [generation.usages[index] for index in ordered]
    trace.finishes = [generation.finishes[index].value for index in ordered]
    requests = [sink.request for sink in generation.sinks]
    trace.n_prompt = sum(len(request.prompt) for request in requests)
    trace.n_computed = generation.n_computed
    if requests:
        trace.t_admitted = requests[0].progress.t_admitted
    if generation.failure is not None:
        trace.error = str(generation.failure.code)
