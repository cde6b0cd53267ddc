"""llama-server's smaller routes: counting a chat's tokens, and what this server does not do."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import chat_prompt, check_model
from slotmux.server.http.errors import json_response, not_supported
from slotmux.server.http.json_body import read_json
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.chat import ChatRequest

router = APIRouter()

_EMBEDDINGS = ("/embedding", "/embeddings", "/v1/embeddings")
_RERANKING = ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")
_AUDIO = ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/audio/speech")


@router.post("/chat/completions/input_tokens", response_model=None)
@router.post("/v1/chat/completions/input_tokens", response_model=None)
async def count_chat_tokens(request: Request) -> Response:
    """How many tokens a conversation's prompt has; nothing is generated."""
    state = state_of(request)
    loaded = state.ready().loaded
    params = validate(ChatRequest, await read_json(request, state.settings.body_timeout))
    check_model(params, loaded.info)
    prompt = await chat_prompt(state, loaded, params)
    return json_response({"object": "response.input_tokens", "input_tokens": len(prompt.ids)})


@router.get("/lora-adapters", response_model=None)
async def lora_adapters(request: Request) -> Response:
    """None are loaded, ever."""
    state_of(request).ready()
    return json_response([])


@router.post("/lora-adapters", response_model=None)
async def set_lora_adapters(request: Request) -> Response:
    """Refused."""
    raise not_supported("LoRA adapters are not supported.")


@router.post("/props", response_model=None)
async def set_props(request: Request) -> Response:
    """Refused: what a server is was decided when it was started."""
    raise not_supported("Global properties cannot be changed while the server runs.")


async def _no_embeddings(request: Request) -> Response:
    raise not_supported("This server does not compute embeddings.")


async def _no_reranking(request: Request) -> Response:
    raise not_supported("This server does not rank documents.")


async def _no_audio(request: Request) -> Response:
    raise not_supported("This server does not take or make audio.")


for _paths, _refuse in (
    (_EMBEDDINGS, _no_embeddings),
    (_RERANKING, _no_reranking),
    (_AUDIO, _no_audio),
):
    for _path in _paths:
        router.add_api_route(_path, _refuse, methods=["POST"], response_model=None)
