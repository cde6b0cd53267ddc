"""The error body of each dialect: how an ApiError is told in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from starlette.responses import Response

from slotmux.server.http.errors import ApiError
from slotmux.server.http.linger import LingerResponse

Shape = Callable[[ApiError], dict[str, Any]]

NOT_SUPPORTED = "not_supported_error"
_LLAMA_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    500: "server_error",
    501: NOT_SUPPORTED,
    503: "unavailable_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai_body(error: ApiError) -> dict[str, Any]:
    """{"error": {"message", "type", "param", "code"}}."""
    return error.body()


def llama_body(error: ApiError) -> dict[str, Any]:
    """{"error": {"code", "message", "type"}}: the code is the status, as in llama-server."""
    if error.code == "context_length_exceeded":
        kind = "exceed_context_size_error"
    else:
        usual = "server_error" if error.status >= 500 else "invalid_request_error"
        kind = _LLAMA_TYPES.get(error.status, usual)
    told = {"code": error.status, "message": error.message, "type": kind}
    return {"error": told | error.extra}


def anthropic_body(error: ApiError) -> dict[str, Any]:
    """{"type": "error", "error": {"type", "message"}}."""
    usual = "api_error" if error.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(error.status, usual)
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def ollama_body(error: ApiError) -> dict[str, Any]:
    """{"error": "..."}: a plain string."""
    return {"error": error.message}


def error_response(error: ApiError, shape: Shape) -> Response:
    """The whole HTTP response; one that closes the connection lingers."""
    kind = LingerResponse if "Connection" in error.headers else Response
    content = orjson.dumps(shape(error))
    return kind(content, error.status, error.headers, "application/json")
