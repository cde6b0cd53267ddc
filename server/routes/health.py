"""GET and HEAD of /health, /livez, /readyz: what probes ask. No key, no lock of the engine."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import ApiError, json_response, unavailable
from slotmux.server.openapi import answers
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import ServerState, state_of

endpoints = Endpoints()
STALL_LIMIT_S = 5.0
PROBED = ["GET", "HEAD"]
STATUS = Operation(answers.Status)


@endpoints.add(PROBED, "/livez", told=STATUS, rule="public")
async def livez(request: Request) -> Response:
    """The process and its event loop live."""
    return json_response({"status": "ok"})


@endpoints.add(PROBED, "/readyz", told=STATUS, rule="public")
async def readyz(request: Request) -> Response:
    """A request sent now would be served."""
    check_ready(state_of(request))
    return json_response({"status": "ok"})


@endpoints.add(PROBED, "/health", told=STATUS, rule="public")
async def health(request: Request) -> Response:
    """/readyz for clients of llama-server."""
    check_ready(state_of(request))
    return json_response({"status": "ok"})


def check_ready(state: ServerState) -> None:
    """Raises ApiError 503 unless loaded, alive, getting ahead and not draining."""
    if state.ready().pulse.stalled_s > STALL_LIMIT_S:
        raise stalled()


def stalled() -> ApiError:
    """503: nothing has moved in the engine for too long."""
    return unavailable("The engine does not respond.", "engine_stalled", retry_after=5)
