"""POST /api/chat and /api/generate."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import served_name
from slotmux.server.answers.stream import respond
from slotmux.server.dialects.chat_path import (
    Turn,
    begin_completion,
    begin_turn,
    chat_params,
    read_body,
)
from slotmux.server.dialects.ollama.options import NAMES
from slotmux.server.dialects.ollama.schema import OllamaChat, OllamaGenerate, OllamaRequest
from slotmux.server.dialects.ollama.writer import FRAMING, LineWriter, now
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.http.shapes import ollama_body
from slotmux.server.openapi.ollama import ChatLine, GenerateLine
from slotmux.server.openapi.operation import LINES, Operation
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate

endpoints = Endpoints(ollama_body)


@endpoints.post("/api/chat", told=Operation(ChatLine, OllamaChat, ChatLine, streamed_as=LINES))
async def chat(request: Request) -> Response:
    """Answers a conversation; without one it only tells that the model is loaded."""
    params = validate(OllamaChat, await read_body(request))
    if params.messages in (None, []):
        return _loaded(request, params, {"message": {"role": "assistant", "content": ""}})
    turn = await begin_turn(request, chat_params(params.chat_body(), NAMES), NAMES)
    return await _answer(request, params, turn, is_chat=True)


@endpoints.post(
    "/api/generate",
    told=Operation(GenerateLine, OllamaGenerate, GenerateLine, streamed_as=LINES),
)
async def generate(request: Request) -> Response:
    """Answers one prompt, through the chat template unless it is raw."""
    params = validate(OllamaGenerate, await read_body(request))
    params.check()
    if not params.prompt and not params.suffix:
        return _loaded(request, params, {"response": ""})
    if params.is_raw:
        turn = await begin_completion(request, params.completion_body(), NAMES)
    else:
        turn = await begin_turn(request, chat_params(params.chat_body(), NAMES), NAMES)
    return await _answer(request, params, turn, is_chat=False)


async def _answer(
    request: Request, params: OllamaRequest, turn: Turn, *, is_chat: bool
) -> Response:
    return await respond(
        request,
        turn.generation,
        LineWriter(turn, is_chat=is_chat),
        state_of(request).settings,
        stream=params.is_streamed,
        framing=FRAMING,
    )


def _loaded(request: Request, params: OllamaRequest, said: dict[str, Any]) -> Response:
    """What a request without a prompt is for: it loads the model, and it is loaded."""
    info = state_of(request).ready().loaded.info
    name = served_name(params.model.removesuffix(":latest"), info)
    told = {"model": name, "created_at": now(), **said, "done": True, "done_reason": "load"}
    return json_response(told)
