"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.stream import respond
from slotmux.server.dialects.anthropic.schema import (
    CountRequest,
    MessagesRequest,
    chat_body,
    names_of,
)
from slotmux.server.dialects.anthropic.writer import FRAMING, MessageWriter
from slotmux.server.dialects.chat_path import begin_turn, chat_params, count_tokens, read_body
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.http.shapes import anthropic_body
from slotmux.server.openapi.anthropic import AnthropicEvent, AnthropicMessage, InputCount
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate

endpoints = Endpoints(anthropic_body, under="/v1/messages/")


@endpoints.post("/v1/messages", told=Operation(AnthropicMessage, MessagesRequest, AnthropicEvent))
async def create_message(request: Request) -> Response:
    """Answers a conversation."""
    params = validate(MessagesRequest, await read_body(request))
    body = chat_body(params)
    names = names_of(params)
    turn = await begin_turn(request, chat_params(body, names), names)
    return await respond(
        request,
        turn.generation,
        MessageWriter(turn, hides_thoughts=params.hides_thoughts),
        state_of(request).settings,
        stream=bool(params.stream),
        framing=FRAMING,
    )


@endpoints.post("/v1/messages/count_tokens", told=Operation(InputCount, CountRequest))
async def count_message_tokens(request: Request) -> Response:
    """How many tokens a conversation's prompt has; nothing is generated."""
    params = validate(CountRequest, await read_body(request))
    body = chat_body(params)
    names = names_of(params)
    n_tokens = await count_tokens(request, chat_params(body, names), names)
    return json_response({"input_tokens": n_tokens})
