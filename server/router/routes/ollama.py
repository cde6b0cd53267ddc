"""Ollama's view of several models: /api/tags, /api/ps, /api/show, and unloading by keep_alive."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.dialects.blocks import only
from slotmux.server.dialects.ollama import routes
from slotmux.server.dialects.ollama.models import FOREVER, SHOW, model_told, show_told, time_told
from slotmux.server.dialects.ollama.options import model_name
from slotmux.server.dialects.ollama.writer import now
from slotmux.server.http.endpoints import Endpoint, Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.http.json_body import read_json
from slotmux.server.http.shapes import ollama_body
from slotmux.server.openapi.ollama import OllamaModels, OllamaShow
from slotmux.server.openapi.operation import Operation
from slotmux.server.router.fleet import refusals
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.relay.forward import Asked, find_member, forwarded, read_asked
from slotmux.server.router.routes.models import expires_in
from slotmux.server.router.state import RouterState, router_of

endpoints = Endpoints(ollama_body)
_SAID: dict[str, dict[str, Any]] = {
    "/api/chat": {"message": {"role": "assistant", "content": ""}},
    "/api/generate": {"response": ""},
}


@endpoints.get("/api/tags", told=Operation(OllamaModels))
async def tags(request: Request) -> Response:
    """Every model."""
    state = router_of(request)
    await state.reread_if_changed()
    models = []
    for member in state.ready_fleet().members.values():
        info = await state.facts.of(member)
        models.append(model_told(info, member.name) | {"modified_at": _modified(state, member)})
    return json_response({"models": models})


@endpoints.get("/api/ps", told=Operation(OllamaModels))
async def running(request: Request) -> Response:
    """What is loaded, and until when if nobody asks for it."""
    state = router_of(request)
    models = []
    for member in state.ready_fleet().members.values():
        if member.status is Status.LOADED:
            info = await state.facts.of(member)
            told = {
                "size": member.n_bytes,
                "expires_at": _expires(state, member),
                "size_vram": 0,
                "context_length": info.n_ctx,
            }
            models.append(model_told(info, member.name) | told)
    return json_response({"models": models})


@endpoints.post("/api/show", told=Operation(OllamaShow, SHOW))
async def show(request: Request) -> Response:
    """About one model, loaded or not."""
    state = router_of(request)
    body = await read_json(request, state.settings.body_timeout)
    param = "name" if "model" not in body and "name" in body else "model"
    member = await find_member(state, model_name(body, param))
    only(body, ("model", "name", "verbose", "system", "template", "options"), "body")
    return json_response(show_told(await state.facts.of(member), _modified_s(state, member)))


def _answering(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        asked = await read_asked(request)
        if _asks_for_nothing(asked) and asked.keep_alive_s == 0:
            return await _unload(request, endpoint.path, asked)
        return await forwarded(request, endpoint, asked)

    answer.__doc__ = endpoint.route.endpoint.__doc__
    return answer


def _asks_for_nothing(asked: Asked) -> bool:
    """Whether it is only about loading."""
    return not any(asked.fields.get(name) for name in ("messages", "prompt", "suffix"))


async def _unload(request: Request, path: str, asked: Asked) -> Response:
    state = router_of(request)
    member = await find_member(state, asked.model)
    if member.spec.is_pinned:
        raise refusals.is_pinned(member)
    state.ready_fleet().unload(member, "request")
    told = {"model": asked.model, "created_at": now(), **_SAID[path]}
    return json_response(told | {"done": True, "done_reason": "unload"})


for _endpoint in routes.endpoints.all:
    endpoints.add(_endpoint.methods, _endpoint.path, told=_endpoint.told)(_answering(_endpoint))


def _expires(state: RouterState, member: Member) -> str:
    left = expires_in(member, state.fleet.clock())
    return FOREVER if left == math.inf else time_told(round(time.time() + left))


def _modified(state: RouterState, member: Member) -> str:
    return time_told(_modified_s(state, member))


def _modified_s(state: RouterState, member: Member) -> float:
    try:
        return member.spec.path.stat().st_mtime if member.spec.path else state.started
    except OSError:
        return state.started
