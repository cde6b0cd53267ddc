"""GET and HEAD of /health, /livez, /readyz: what probes ask. No key, no lock of the engine."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.http.errors import ApiError, json_response, unavailable
from slotmux.server.process.state import ServerState, state_of

router = APIRouter()
STALL_LIMIT_S = 5.0
PROBED = ["GET", "HEAD"]


@router.api_route("/livez", methods=PROBED, response_model=None)
async def livez(request: Request) -> Response:
    """The process and its event loop live."""
    return json_response({"status": "ok"})


@router.api_route("/readyz", methods=PROBED, response_model=None)
async def readyz(request: Request) -> Response:
    """A request sent now would be served."""
    check_ready(state_of(request))
    return json_response({"status": "ok"})


@router.api_route("/health", methods=PROBED, response_model=None)
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
