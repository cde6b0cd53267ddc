"""A generation as the answer of a dialect: the one way from engine requests to a response."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.generation import Choice, Generation
from slotmux.server.answers.stream import SSE, Delivery, EventStream, Framing, Writer
from slotmux.server.http.errors import json_response
from slotmux.server.settings import Settings


class DialectWriter(Writer, Protocol):
    """A Writer that also words whole answers."""

    def take(self, choices: list[Choice], generation: Generation) -> None:
        """Notes Outputs of an answer that is not streamed."""

    def whole(self, generation: Generation) -> Any:
        """The JSON body, once no choice is left."""


async def deliver(
    request: Request,
    generation: Generation,
    writer: DialectWriter,
    settings: Settings,
    *,
    stream: bool,
    framing: Framing = SSE,
) -> Response:
    """The response. A failure before the first token is raised: it gets a status of its own."""
    delivery = Delivery(request, generation, settings)
    try:
        if stream:
            return EventStream(delivery, writer, await generation.next(), framing)
        while writer.n_left > 0:
            writer.take(await generation.next(), generation)
        body = writer.whole(generation)
    except BaseException:
        delivery.close()
        raise
    delivery.close()
    return json_response(body)
