"""The one shape of every error a client sees: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


class ApiError(Exception):
    """A refusal with its HTTP status. ``message`` may be shown: it never holds a client's text."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | int | None = None,
        param: str | None = None,
        type: str | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.type = type or _type_of(status)
        self.headers = headers or {}
        self.extra = extra or {}

    def body(self) -> dict[str, Any]:
        """The JSON body, as OpenAI writes it."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error | self.extra}

    def __str__(self) -> str:
        return f"{self.status} {self.code}"


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return Response(orjson.dumps(body), status, headers, "application/json")


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """400: a parameter with a value that cannot be used."""
    return ApiError(400, message, param=param, code=code)


def unauthorized() -> ApiError:
    """401 for a missing and for a wrong key alike."""
    return ApiError(
        401,
        "Incorrect or missing API key. Send it as 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def not_supported(message: str, param: str | None = None) -> ApiError:
    """501: an endpoint that there is, but not on this server as it was started."""
    return ApiError(501, message, code="not_supported", param=param, type="not_supported_error")


# Why a request was dropped, in words that gateways know (llm-d's): "rejected-*" cost nothing and
# may be tried elsewhere at once, "evicted" was being computed.
DROPPED_REASON = "x-llm-d-request-dropped-reason"


def queue_full(retry_after: int, *, is_share: bool = False) -> ApiError:
    """429: every slot is busy and the waiting queue, or this client's share of it, is full."""
    whose = "your share of its queue" if is_share else "its queue"
    return ApiError(
        429,
        f"The server is busy and {whose} is full (--max-queue). Try again later.",
        code="queue_full",
        headers={"Retry-After": str(retry_after), DROPPED_REASON: "rejected-saturated"},
    )


def unavailable(message: str, code: str, retry_after: int = 1, dropped: str = "") -> ApiError:
    """503: loading, draining, or the engine is gone. ``dropped``: in gateways' words."""
    headers = {"Retry-After": str(retry_after)} | ({DROPPED_REASON: dropped} if dropped else {})
    return ApiError(503, message, code=code, headers=headers)


def shutting_down(*, is_running: bool = False) -> ApiError:
    """503 while the server drains; ``is_running``: the request was being computed."""
    message, dropped = "The server is shutting down.", "rejected-shutting-down"
    return unavailable(message, "server_shutdown", 5, "evicted" if is_running else dropped)


def model_loading() -> ApiError:
    """503 until the model can be used."""
    return unavailable("Loading model", "model_loading", retry_after=2)


def engine_dead() -> ApiError:
    """503 once the engine thread has ended."""
    return unavailable("The engine has stopped.", "engine_dead", retry_after=5)


def waited_too_long(seconds: float) -> ApiError:
    """503: no slot became free within --queue-timeout."""
    message = f"No slot became free within {seconds:g} s (--queue-timeout). Try again later."
    return unavailable(message, "queue_timeout", 5, "rejected-ttl-expired")


def timed_out(what: str) -> ApiError:
    """504: a limit on time was reached; ``what`` names its flag."""
    message = f"The request was ended: {what}."
    return ApiError(504, message, code="request_timeout", headers={"Retry-After": "5"})


def internal() -> ApiError:
    """500: only ever our own bug."""
    return ApiError(500, "The server had an error. It has been logged.", code="internal_error")


def _type_of(status: int) -> str:
    types = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
        503: "service_unavailable_error",
        504: "timeout_error",
    }
    return types.get(status, "server_error" if status >= 500 else "invalid_request_error")
