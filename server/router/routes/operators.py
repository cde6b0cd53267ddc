"""/health, /props, /slots and /metrics of all models together, or of the one that ?model= names."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.auth import BySetting
from slotmux.server.http.endpoints import Endpoint, Endpoints
from slotmux.server.http.errors import invalid, json_response, unavailable
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.exposition import merged
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.relay.forward import find_member, read_asked
from slotmux.server.router.relay.relay import Errand, Relay
from slotmux.server.router.relay.upstream import UpstreamLostError, request_bytes, whole
from slotmux.server.router.routes.told import RoutedSlot, RouterProps
from slotmux.server.router.state import RouterState, router_of
from slotmux.server.routes.health import PROBED, STATUS
from slotmux.server.version import slotmux_version

endpoints = Endpoints()
ANSWER_WITHIN_S = 3.0  # a model that does not is left out
_MODEL = {"model": {"type": "string"}}
_SLOTS = _MODEL | {"fail_on_no_slot": {"enum": ["0", "1"], "default": "0"}}


@endpoints.add(PROBED, "/health", told=STATUS, rule="public")
async def health(request: Request) -> Response:
    """The router takes requests; a model may still have to be loaded for one."""
    router_of(request).ready_fleet()
    return json_response({"status": "ok"})


@endpoints.add(PROBED, "/readyz", told=STATUS, rule="public")
async def readyz(request: Request) -> Response:
    """As /health, once those models are loaded that are loaded at the start, or have failed."""
    state = router_of(request)
    first = [m for m in state.ready_fleet().members.values() if _is_awaited(m)]
    if first:
        raise unavailable("Loading models", "model_loading", retry_after=2)
    return json_response({"status": "ok"})


@endpoints.get("/props", told=Operation(RouterProps, query=_MODEL), rule=BySetting("props"))
async def props(request: Request) -> Response:
    """What the router is; with ?model= what that model is, which is loaded for it unless
    ?autoload=false."""
    state = router_of(request)
    asked = await read_asked(request)
    if asked.model is not None:
        return await _of_one(request, state, asked.model)
    return json_response(
        {
            "role": "router",
            "max_instances": state.settings.models_max,
            "models_autoload": state.settings.models_autoload,
            "model_alias": "slotmux",
            "model_path": "none",
            "default_generation_settings": {"params": {}, "n_ctx": 0},
            "build_info": f"slotmux {slotmux_version()}",
        }
    )


@endpoints.get("/slots", told=Operation(list[RoutedSlot], query=_SLOTS), rule=BySetting("slots"))
async def slots(request: Request) -> Response:
    """Every slot of the loaded models, or of one; with ?fail_on_no_slot=1 a 503 when none is
    free."""
    wanted = request.query_params.get("fail_on_no_slot", "0")
    if wanted not in ("0", "1"):
        raise invalid("fail_on_no_slot", "Should be 0 or 1.")
    state = router_of(request)
    members = await _chosen(request, state)
    told: list[dict[str, Any]] = []
    for member, body in await _ask_all(state, members, "/slots"):
        told += [{"model": member.name} | slot for slot in orjson.loads(body)]
    if wanted == "1" and all(slot["is_processing"] for slot in told):
        raise unavailable("No slot is free.", "no_free_slot")
    return json_response(told)


@endpoints.get(
    "/metrics", told=Operation(media="text/plain", query=_MODEL), rule=BySetting("metrics")
)
async def metrics(request: Request) -> Response:
    """Prometheus text: the router's own, and that of the loaded models with a label ``model``."""
    state = router_of(request)
    answers = await _ask_all(state, await _chosen(request, state), "/metrics")
    own = b"" if "model" in request.query_params else state.metrics.render()
    pages = {member.name: body for member, body in answers}
    text = await asyncio.to_thread(merged, "model", pages, own)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _is_awaited(member: Member) -> bool:
    is_first = member.spec.is_pinned or member.spec.loads_at_start
    return is_first and not member.n_loads and member.failure is None


async def _chosen(request: Request, state: RouterState) -> list[Member]:
    """The loaded models, or the one that is named if it is loaded."""
    name = request.query_params.get("model")
    members = [*state.fleet.members.values()] if name is None else [await find_member(state, name)]
    return [member for member in members if member.status is Status.LOADED]


async def _ask_all(
    state: RouterState, members: list[Member], path: str
) -> list[tuple[Member, bytes]]:
    """What each says, if it says something in time."""
    bodies = await asyncio.gather(*(_ask(state, member, path) for member in members))
    return [pair for pair in zip(members, bodies, strict=True) if pair[1]]


async def _ask(state: RouterState, member: Member, path: str) -> bytes:
    child = member.child
    if child is None:
        return b""
    pool = state.pool_of(child)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            connection = await pool.ask(request_bytes("GET", path, (), b""))
            body = await whole(connection)
    except (TimeoutError, UpstreamLostError):
        return b""
    pool.keep(connection)
    return body if connection.status == 200 else b""


async def _of_one(request: Request, state: RouterState, name: str) -> Response:
    member = await find_member(state, name)
    said = request.query_params.get("autoload")
    may_load = state.settings.models_autoload if said is None else said in ("true", "1")
    return await Relay(request, member, Errand(_props(), may_load=may_load), state).begin()


def _props() -> Endpoint:
    return next(each for each in endpoints.all if each.path == "/props")
