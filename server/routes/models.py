"""GET /v1/models, /v1/models/{id} and /version."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import served_name
from slotmux.server.dialects.anthropic.models import model_entry, model_list, speaks_anthropic
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.openapi import answers
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import ModelInfo, state_of
from slotmux.server.version import slotmux_version

endpoints = Endpoints()


@endpoints.get("/version", told=Operation(answers.Version))
async def version(request: Request) -> Response:
    """As vLLM tells it."""
    return json_response({"version": slotmux_version()})


@endpoints.get("/v1/models", "/models", told=Operation(answers.ModelList))
async def list_models(request: Request) -> Response:
    """Every name the served model answers to."""
    state = state_of(request)
    info = state.ready().loaded.info
    if speaks_anthropic(request):
        return json_response(model_list(info, state.started))
    return json_response(
        {"object": "list", "data": [model_told(info, name, state.started) for name in info.names]}
    )


@endpoints.get("/v1/models/{model_id:path}", told=Operation(answers.ModelEntry))
async def get_model(request: Request, model_id: str) -> Response:
    """One of them."""
    state = state_of(request)
    info = state.ready().loaded.info
    name = served_name(model_id, info)
    if speaks_anthropic(request):
        return json_response(model_entry(info, name, state.started))
    return json_response(model_told(info, name, state.started))


def model_told(info: ModelInfo, name: str, started: int) -> dict[str, Any]:
    """One name of a model, as OpenAI lists it; ``started``: when the server did."""
    return {
        "id": name,
        "object": "model",
        "created": started,
        "owned_by": "slotmux",
        "max_model_len": info.n_ctx,
        "capabilities": info.abilities,
        "meta": {
            "architecture": info.architecture,
            "vocab_type": info.vocab_type,
            "n_ctx_train": info.n_ctx_train,
            "n_embd": info.n_embd,
            "n_params": info.n_params,
            "size": info.n_bytes,
        },
    }
