"""llama-server's smaller routes: counting a chat's tokens, and what this server does not do."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import chat_prompt, check_model
from slotmux.server.http.auth import BySetting
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response, not_supported
from slotmux.server.http.json_body import read_json
from slotmux.server.http.shapes import llama_body
from slotmux.server.openapi.llama import InputTokens
from slotmux.server.openapi.operation import REFUSED, Operation
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.chat import ChatRequest

endpoints = Endpoints()


@endpoints.post(
    "/v1/chat/completions/input_tokens",
    "/chat/completions/input_tokens",
    told=Operation(InputTokens, ChatRequest),
)
async def count_chat_tokens(request: Request) -> Response:
    """How many tokens a conversation's prompt has; nothing is generated."""
    state = state_of(request)
    loaded = state.ready().loaded
    params = validate(ChatRequest, await read_json(request, state.settings.body_timeout))
    check_model(params, loaded.info)
    prompt = await chat_prompt(state, loaded, params)
    return json_response({"object": "response.input_tokens", "input_tokens": len(prompt.ids)})


@endpoints.get("/lora-adapters", told=Operation(list[dict[str, Any]]), shape=llama_body)
async def lora_adapters(request: Request) -> Response:
    """None are loaded, ever."""
    state_of(request).ready()
    return json_response([])


@endpoints.post("/lora-adapters", told=REFUSED, shape=llama_body)
async def set_lora_adapters(request: Request) -> Response:
    """Refused."""
    raise not_supported("LoRA adapters are not supported.")


@endpoints.post("/props", told=REFUSED, rule=BySetting("props"))
async def set_props(request: Request) -> Response:
    """Refused: what a server is was decided when it was started."""
    raise not_supported("Global properties cannot be changed while the server runs.")


@endpoints.post(
    "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/audio/speech", told=REFUSED
)
async def no_audio(request: Request) -> Response:
    """Refused."""
    raise not_supported("This server does not take or make audio.")
