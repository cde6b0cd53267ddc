"""Which models there are, and their loading and unloading, as llama-server's router has it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from slotmux.server.dialects.anthropic.models import model_entry, model_page, speaks_anthropic
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import ApiError, invalid, json_response
from slotmux.server.http.json_body import read_json
from slotmux.server.openapi.operation import REFUSED, Operation
from slotmux.server.process.state import ModelInfo
from slotmux.server.router.fleet import refusals
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.relay.forward import find_member
from slotmux.server.router.routes.told import ModelRequest, RoutedModel, RoutedModels, Success
from slotmux.server.router.state import RouterState, router_of
from slotmux.server.routes.models import model_told
from slotmux.server.schemas.base import validate
from slotmux.server.settings import SettingsError

endpoints = Endpoints()
_RELOAD = {"reload": {"enum": ["0", "1"], "default": "0"}}
_MAX_EVENTS = 1000  # of a listener that does not read


@endpoints.get("/v1/models", "/models", told=Operation(RoutedModels, query=_RELOAD))
async def list_models(request: Request) -> Response:
    """Every model, loaded or not; with ?reload=1 folder and configuration are read anew."""
    state = router_of(request)
    if request.query_params.get("reload", "0") not in ("", "0"):
        try:
            await state.reread_now()
        except SettingsError as error:
            raise ApiError(500, f"{error}", code="models_not_read") from None
    else:
        await state.reread_if_changed()
    members = [*state.ready_fleet().members.values()]
    infos = [await state.facts.of(member) for member in members]
    if speaks_anthropic(request):
        page = [model_entry(info, info.name, state.started) for info in infos]
        return json_response(model_page(page))
    pairs = zip(members, infos, strict=True)
    data = [entry(state, member, info) for member, info in pairs]
    return json_response({"object": "list", "data": data})


@endpoints.get("/v1/models/{model_id:path}", told=Operation(RoutedModel))
async def get_model(request: Request, model_id: str) -> Response:
    """One of them."""
    state = router_of(request)
    member = await find_member(state, model_id)
    info = await state.facts.of(member)
    if speaks_anthropic(request):
        return json_response(model_entry(info, info.name, state.started))
    return json_response(entry(state, member, info))


@endpoints.post("/models/load", told=Operation(Success, ModelRequest))
async def load_model(request: Request) -> Response:
    """Begins to load a model; GET /models tells how far it is."""
    state, member = await _named(request)
    if member.is_active and member.status is not Status.UNLOADING:
        raise invalid("model", f"The model '{member.name}' is already running.", "model_running")
    state.ready_fleet().load(member)
    return json_response({"success": True})


@endpoints.post("/models/unload", told=Operation(Success, ModelRequest))
async def unload_model(request: Request) -> Response:
    """Begins to unload a model: requests that run finish (--drain-timeout), new ones load it again.
    What is being loaded is ended at once."""
    state, member = await _named(request)
    if not member.is_active:
        raise invalid("model", f"The model '{member.name}' is not running.", "model_not_running")
    if member.spec.is_pinned:
        raise refusals.is_pinned(member)
    state.fleet.unload(member, "request")
    return json_response({"success": True})


@endpoints.get("/models/sse", told=Operation(media="text/event-stream"))
async def model_events(request: Request) -> Response:
    """An event whenever a model is in another state."""
    state = router_of(request)
    queue: asyncio.Queue[bytes] = asyncio.Queue(_MAX_EVENTS)

    def tell(member: Member) -> None:
        if not queue.full():
            queue.put_nowait(_event(member))

    async def events() -> Any:
        state.fleet.listeners.add(tell)
        try:
            while not state.fleet.is_draining:
                try:
                    async with asyncio.timeout(state.settings.sse_ping_interval):
                        event = await queue.get()
                except TimeoutError:
                    event = b":\n\n"
                yield event
        finally:
            state.fleet.listeners.discard(tell)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


@endpoints.post("/models", told=REFUSED)
@endpoints.add(["DELETE"], "/models", told=REFUSED)
async def not_managed(request: Request) -> Response:
    """Refused: files come and go in --models-dir, and in --models-config."""
    raise ApiError(501, "Put files into --models-dir instead.", code="not_supported")


def entry(state: RouterState, member: Member, info: ModelInfo) -> dict[str, Any]:
    """A model in llama-server's words and OpenAI's."""
    spec = member.spec
    return model_told(info, member.name, state.started) | {
        "aliases": list(spec.aliases),
        "status": _status(member),
        "source": spec.source,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "pinned": spec.is_pinned,
        "n_running": member.n_running,
        "n_waiting": member.n_queued,
        "memory": member.n_bytes,
    }


def expires_in(member: Member, now: float) -> float:
    """Seconds until an idle model is unloaded, or one in use if it became idle now; math.inf:
    never."""
    if member.spec.is_pinned:
        return math.inf
    since = 0.0 if member.n_running else now - member.last_used
    return max(0.0, member.keep_alive_s - since)


def _status(member: Member) -> dict[str, Any]:
    told: dict[str, Any] = {"value": member.status.value, "args": _arguments(member)}
    failure = member.failure
    if failure is not None and member.status is Status.UNLOADED:
        told |= {"failed": True, "exit_code": failure.exit_code, "error": failure.message}
    return told


def _arguments(member: Member) -> list[str]:
    """The command that would serve it alone."""
    settings = member.spec.settings
    return [
        *("slotmux", "serve", member.spec.model.rpartition("/")[2]),
        *("--parallel", str(settings.parallel), "--ctx-size", str(settings.ctx_size)),
    ]


def _event(member: Member) -> bytes:
    data: dict[str, Any] = {"status": member.status.value}
    if member.failure is not None and member.status is Status.UNLOADED:
        data["exit_code"] = member.failure.exit_code
    told = {"model": member.name, "event": "status_change", "data": data}
    return b"data: " + orjson.dumps(told) + b"\n\n"


async def _named(request: Request) -> tuple[RouterState, Member]:
    state = router_of(request)
    params = validate(ModelRequest, await read_json(request, state.settings.body_timeout))
    return state, await find_member(state, params.model)
