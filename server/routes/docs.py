"""GET /openapi.json and /docs: what the API is, made from the schemas that requests meet."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.http.paths import Paths
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import state_of

endpoints = Endpoints()
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


@endpoints.get("/openapi.json", told=Operation(dict[str, Any]))
async def openapi_json(request: Request) -> Response:
    """The OpenAPI document."""
    return json_response(await _document(request))


@endpoints.get("/docs", told=Operation(media="text/html"))
async def docs(request: Request) -> Response:
    """The same as a page."""
    from slotmux.server.openapi.page import docs_page

    return HTMLResponse(docs_page(await _document(request)), headers=_POLICY)


async def _document(request: Request) -> dict[str, Any]:
    """Made when it is first asked for, off the event loop; most servers are never asked."""
    state = state_of(request)
    paths: Paths = request.app.state.paths
    if paths.document is None:
        paths.document = await state.off_loop(_make, paths, needs_key=state.keys.is_required)
    return paths.document


def _make(paths: Paths, *, needs_key: bool) -> dict[str, Any]:
    from slotmux.server.openapi.document import openapi_document

    return openapi_document(paths.endpoints, needs_key=needs_key)
