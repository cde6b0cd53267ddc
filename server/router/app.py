"""The router's app: its own endpoints, and those of a server of one model, which models answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.app import all_endpoints, app_of
from slotmux.server.http.endpoints import Endpoint, Endpoints
from slotmux.server.router.relay.forward import forwarded_by_owner, forwarding
from slotmux.server.router.routes import models, ollama, operators
from slotmux.server.router.routes.metrics import RouterMetrics
from slotmux.server.router.state import RouterState

OWN = (models, operators, ollama)
# Nothing in these answers depends on a model.
_ANY = frozenset(["/version", "/api/version", "/openapi.json", "/docs"])
_MADE_BY_ONE = "/v1/responses/{"


def create_router_app(state: RouterState) -> FastAPI:
    """The app; ``state.serve`` must have been called before its first request."""
    state.metrics = RouterMetrics(state)
    own = [module.endpoints for module in OWN]
    taken = {(method, each.path) for table in own for each in table.all for method in each.methods}
    return app_of([*own, *(_routed(table, taken) for table in all_endpoints())], state)


def _routed(table: Endpoints, taken: set[tuple[str, str]]) -> Endpoints:
    """The same endpoints with other handlers, but for those that are the router's own."""
    routed = Endpoints(table.shape, under=table.under)
    for each in table.all:
        methods = [method for method in each.methods if (method, each.path) not in taken]
        if methods:
            add = routed.add(methods, each.path, told=each.told, rule=each.rule, shape=each.shape)
            add(_handler(each))
    return routed


def _handler(endpoint: Endpoint) -> Callable[..., Awaitable[Response]]:
    if endpoint.path.startswith(_MADE_BY_ONE):

        async def of_owner(request: Request) -> Response:
            return await forwarded_by_owner(request, endpoint)

        of_owner.__doc__ = endpoint.route.endpoint.__doc__
        return of_owner
    is_any = endpoint.path in _ANY or endpoint.rule == "public" or endpoint.told.is_refused
    return endpoint.route.endpoint if is_any else forwarding(endpoint)
