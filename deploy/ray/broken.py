"""The end of a stream whose replica has gone, in the API that the client speaks."""

from __future__ import annotations

from typing import Any

import orjson

from slotmux.server.http.errors import ApiError
from slotmux.server.http.shapes import Shape, anthropic_body, ollama_body


def broken_off(error: ApiError, shape: Shape, path: str, n_events: int, last: bytes) -> bytes:
    """What ends a stream whose replica has gone; ``last``: the byte that it broke off after."""
    body = orjson.dumps(shape(error))
    if shape is ollama_body:
        return (b"" if last == b"\n" else b"\n") + body + b"\n"
    if path.startswith("/v1/responses"):
        told: dict[str, Any] = {
            "type": "error",
            "sequence_number": n_events,
            "code": error.code,
            "message": error.message,
            "param": None,
        }
        return b"\n\nevent: error\ndata: " + orjson.dumps(told) + b"\n\n"
    named = b"event: error\n" if shape is anthropic_body else b""
    return b"\n\n" + named + b"data: " + body + b"\n\n"
