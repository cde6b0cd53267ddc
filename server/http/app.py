"""Puts the HTTP app together: routes, the gate before them, and one shape for every error."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from slotmux.server.dialects import DIALECTS
from slotmux.server.http.disconnect import client_gone
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import ApiError, internal, invalid
from slotmux.server.http.gate import Gate
from slotmux.server.http.paths import Paths
from slotmux.server.http.shapes import error_response
from slotmux.server.http.trace import trace_of
from slotmux.server.process.metrics import Metrics
from slotmux.server.process.state import ServerState
from slotmux.server.routes import ROUTES

UNKNOWN_URL = "unknown_url"


def all_endpoints() -> list[Endpoints]:
    """Of every module."""
    return [module.endpoints for module in (*ROUTES, *DIALECTS)]


def create_app(state: ServerState) -> FastAPI:
    """The app. It serves 503 until ``state.become_ready``; it neither loads nor stops anything."""
    state.metrics = Metrics(state)
    return app_of(all_endpoints(), state)


def app_of(tables: Sequence[Endpoints], state: ServerState) -> FastAPI:
    """An app of these endpoints, with the gate before them and one shape for each error."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.server = state
    for table in tables:
        app.include_router(table.router)
    paths = app.state.paths = Paths(tables)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_exception)
    app.add_middleware(Gate, state=state, paths=paths)
    return app


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _tell(request, error)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return _tell(request, client_gone())


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: an unknown path, or a known one with another method."""
    assert isinstance(error, HTTPException)
    paths: Paths = request.app.state.paths
    path = request.scope["path"]
    if error.status_code == 404:
        meant = paths.meant_by(path)
        hint = f"Did you mean {meant}?" if meant else "GET /docs lists what there is."
        return _tell(request, ApiError(404, f"There is no such endpoint. {hint}", code=UNKNOWN_URL))
    if error.status_code == 405:
        allowed = ", ".join(paths.methods(path))
        message = f"This endpoint takes {allowed}."
        headers = {"Allow": allowed}
        return _tell(request, ApiError(405, message, code="method_not_allowed", headers=headers))
    return _tell(request, ApiError(error.status_code, "The request failed.", code="http_error"))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """Path and query parameters only: bodies are validated by our own schemas."""
    return _tell(request, invalid(None, "A parameter in the URL is not valid."))


async def _on_exception(request: Request, error: Exception) -> Response:
    """A bug of ours; the gate logs it when Starlette raises it again."""
    return _tell(request, internal())


def _tell(request: Request, error: ApiError) -> Response:
    trace_of(request).error = str(error.code)
    paths: Paths = request.app.state.paths
    return error_response(error, paths.shape_of(request.scope["path"]))
