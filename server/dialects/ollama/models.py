"""/api/tags, /api/show, /api/ps and /api/version, and refusals of what manages models."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import served_name
from slotmux.server.dialects.blocks import only
from slotmux.server.dialects.chat_path import read_body
from slotmux.server.dialects.ollama.options import model_name
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response, not_supported
from slotmux.server.http.shapes import ollama_body
from slotmux.server.openapi.ollama import OllamaModels, OllamaShow, OllamaVersion
from slotmux.server.openapi.operation import REFUSED, Body, Json, Operation
from slotmux.server.process.state import ModelInfo, state_of
from slotmux.server.version import slotmux_version

endpoints = Endpoints(ollama_body)

# The version of Ollama whose API this is: clients refuse to talk to older ones.
API_VERSION = "0.12.6"
FOREVER = "9999-12-31T23:59:59Z"
_NAME: Json = {"type": ["string", "null"]}
_IGNORED: Json = {"description": "Known, and of no use here."}
SHOW = Body(
    "ShowRequest",
    (),
    {
        "model": _NAME,
        "name": _NAME,
        **dict.fromkeys(("verbose", "system", "template", "options"), _IGNORED),
    },
    (),
)


@endpoints.get("/api/version", told=Operation(OllamaVersion))
async def version(request: Request) -> Response:
    """The API's version, and ours."""
    return json_response({"version": API_VERSION, "server": f"slotmux {slotmux_version()}"})


@endpoints.get("/api/tags", told=Operation(OllamaModels))
async def tags(request: Request) -> Response:
    """The served model under each of its names."""
    state = state_of(request)
    info = state.ready().loaded.info
    at = time_told(state.started)
    models = [model_told(info, name) | {"modified_at": at} for name in info.names]
    return json_response({"models": models})


@endpoints.get("/api/ps", told=Operation(OllamaModels))
async def running(request: Request) -> Response:
    """What is loaded: it stays so."""
    loaded = state_of(request).ready().loaded
    info, budget = loaded.info, loaded.budget
    told = {"expires_at": FOREVER, "size_vram": 0, "context_length": info.n_ctx}
    if budget is not None:
        told["size"] = budget.total_bytes  # in memory, not the file's
    return json_response({"models": [model_told(info, info.name) | told]})


@endpoints.post("/api/show", told=Operation(OllamaShow, SHOW))
async def show(request: Request) -> Response:
    """About one model."""
    body = await read_body(request)
    state = state_of(request)
    info = state.ready().loaded.info
    param = "name" if "model" not in body and "name" in body else "model"
    served_name(model_name(body, param), info)
    only(body, ("model", "name", "verbose", "system", "template", "options"), "body")
    return json_response(show_told(info, state.started))


def show_told(info: ModelInfo, modified: float) -> dict[str, Any]:
    """What /api/show says of a model; ``modified``: seconds since the epoch."""
    return {
        "modelfile": "",
        "parameters": "",
        "template": info.chat_template,
        "details": _details(info),
        "model_info": {
            "general.architecture": info.architecture,
            "general.parameter_count": info.n_params,
            f"{info.architecture}.context_length": info.n_ctx,
            f"{info.architecture}.embedding_length": info.n_embd,
        },
        "capabilities": capabilities(info),
        "modified_at": time_told(modified),
    }


def capabilities(info: ModelInfo) -> list[str]:
    """What a model, and its template, can be asked for. Of one that generates Ollama tells no
    vectors, though there are."""
    if not info.can_generate:
        return info.abilities
    found = ["completion"]
    if "tools" in info.chat_template:
        found.append("tools")
    if "<think>" in info.chat_template or "reasoning_content" in info.chat_template:
        found.append("thinking")
    return found


@endpoints.post("/api/pull", "/api/push", "/api/create", "/api/copy", told=REFUSED)
@endpoints.add(["DELETE"], "/api/delete", told=REFUSED)
async def not_managed(request: Request) -> Response:
    """Refused."""
    raise not_supported("Models are chosen when the server is started (slotmux serve MODEL).")


def model_told(info: ModelInfo, name: str) -> dict[str, Any]:
    """The digest tells models apart by name and size; no file was read for it."""
    known = f"{info.file_name}/{info.n_bytes}/{info.n_params}"
    return {
        "name": name,
        "model": name,
        "size": info.n_bytes,
        "digest": hashlib.sha256(known.encode()).hexdigest(),
        "details": _details(info),
    }


def _details(info: ModelInfo) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": _size(info.n_params),
        "quantization_level": _quantization(info.file_name),
    }


def _size(n_params: int) -> str:
    return f"{n_params / 1e9:.1f}B" if n_params >= 1e9 else f"{n_params / 1e6:.2f}M"


def _quantization(file_name: str) -> str:
    """As it stands in the names of files: model-Q4_K_M.gguf."""
    stem = file_name.removesuffix(".gguf").upper()
    last = stem.replace(".", "-").rpartition("-")[2]
    return last if last[:1] in "QIFBM" and any(c.isdigit() for c in last) else "unknown"


def time_told(seconds: float) -> str:
    """A moment, in seconds since the epoch, as Ollama writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
