"""From an endpoint of a server of one model to the same endpoint of the router."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.endpoints import Endpoint
from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.http.json_body import parse_object, read_body_bytes
from slotmux.server.openapi.operation import EVENTS
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.relay.relay import Errand, Relay
from slotmux.server.router.state import RouterState, router_of
from slotmux.server.schemas.durations import seconds_of

_BIG_BODY = 256 * 1024  # is parsed beside the event loop
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as the router reads it. ``fields``: its body, parsed."""

    body: bytes
    fields: dict[str, Any]
    model: str | None

    @property
    def keep_alive_s(self) -> float | None:
        """Ollama's keep_alive, if it is said. Raises ApiError 400."""
        value = self.fields.get("keep_alive")
        if value is None:
            return None
        try:
            if not isinstance(value, str | int | float):
                raise ValueError("should be a duration")
            return seconds_of(value)
        except ValueError as error:
            raise invalid("keep_alive", f"Invalid 'keep_alive': {error}.") from None


def forwarding(endpoint: Endpoint) -> Handler:
    """A handler that has the model of a request answer it."""

    async def forward(request: Request) -> Response:
        return await forwarded(request, endpoint, await read_asked(request))

    forward.__doc__ = endpoint.route.description or endpoint.route.endpoint.__doc__
    return forward


async def forwarded(request: Request, endpoint: Endpoint, asked: Asked) -> Response:
    """The answer of the model that is asked for. Raises ApiError."""
    state = router_of(request)
    member = await find_member(state, asked.model)
    errand = Errand(
        endpoint,
        asked.body,
        may_load=_may_load(request, state),
        is_streamed=_is_streamed(endpoint, asked),
        keep_alive_s=asked.keep_alive_s,
    )
    return await Relay(request, member, errand, state).begin()


async def read_asked(request: Request) -> Asked:
    """Body and model of a request; a query's ``model`` counts where the body says none. Raises
    ApiError (400, 408, 413, 415) or ClientDisconnect."""
    in_query = request.query_params.get("model")
    has_body = "transfer-encoding" in request.headers or request.headers.get(
        "content-length", "0"
    ) not in ("", "0")
    if request.method != "POST" or not has_body:
        return Asked(b"", {}, in_query)
    body = await read_body_bytes(request, router_of(request).settings.body_timeout)
    if len(body) > _BIG_BODY:
        fields = await asyncio.to_thread(parse_object, body)
    else:
        fields = parse_object(body)
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        raise invalid("model", "Invalid 'model': should be a string.", "invalid_type")
    return Asked(body, fields, model or in_query)


async def find_member(state: RouterState, asked: str | None) -> Member:
    """The model that is asked for; a new file of the folder is found, too. Raises ApiError 400 or
    404."""
    try:
        return state.fleet.find(asked)
    except ApiError:
        if not await state.reread_if_changed():
            raise
        return state.fleet.find(asked)


def _may_load(request: Request, state: RouterState) -> bool:
    """As llama-server: ?autoload= counts more than --models-autoload."""
    said = request.query_params.get("autoload")
    return state.settings.models_autoload if said is None else said in ("true", "1")


def _is_streamed(endpoint: Endpoint, asked: Asked) -> bool:
    return (
        endpoint.told.chunk is not None
        and endpoint.told.streamed_as == EVENTS
        and asked.fields.get("stream") is True
    )


async def forwarded_by_owner(request: Request, endpoint: Endpoint) -> Response:
    """What names something that one of the models has made is asked of each that is loaded, the
    one used last first."""
    state = router_of(request)
    loaded = [m for m in state.fleet.members.values() if m.status is Status.LOADED]
    answer: Relay | None = None
    for member in sorted(loaded, key=lambda m: m.last_used, reverse=True):
        if answer is not None:
            answer.discard()
        answer = await Relay(request, member, Errand(endpoint), state).begin()
        if answer.upstream_status != 404:
            break
    if answer is None:
        raise ApiError(404, "No loaded model has made it.", code="not_found")
    return answer
