"""How a stream that is relayed ends when who made it is gone, in each dialect's words."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from slotmux.server.answers.stream import PING
from slotmux.server.http.errors import ApiError
from slotmux.server.http.shapes import Shape, anthropic_body

_RESPONSES = "/v1/responses"


class StreamEnd:
    """Follows the bytes of a stream as far as that is needed to end it well, or to put something
    harmless into it. ``shape``, ``path``: of the endpoint; ``is_lines``: no events, but a JSON
    object a line."""

    def __init__(self, shape: Shape, path: str, *, is_lines: bool) -> None:
        self.is_lines = is_lines
        self._shape = shape
        self._is_responses = path.startswith(_RESPONSES)
        self._border = b"\n" if self.is_lines else b"\n\n"
        self._is_at_border = True
        self._n_events = 0

    def follow(self, data: bytes) -> None:
        """What was just sent."""
        self._is_at_border = data.endswith(self._border)
        if self._is_responses:
            self._n_events += data.count(self._border)

    @property
    def ping(self) -> bytes:
        """What may be sent now in a silence; nothing in the midst of an event, or between lines."""
        return PING if self._is_at_border and not self.is_lines else b""

    def error(self, error: ApiError) -> bytes:
        """What ends the stream."""
        told = self._worded()(error)
        return told if self._is_at_border else self._border + told

    def _worded(self) -> Callable[[ApiError], bytes]:
        if self.is_lines:
            return lambda error: orjson.dumps(self._shape(error)) + b"\n"
        if self._is_responses:
            return self._responses_error
        if self._shape is anthropic_body:
            return lambda error: _event(b"error", orjson.dumps(self._shape(error)))
        return lambda error: b"data: " + orjson.dumps(self._shape(error)) + b"\n\n"

    def _responses_error(self, error: ApiError) -> bytes:
        """OpenAI's event for an error of the stream itself."""
        told = {"type": "error", "sequence_number": self._n_events}
        more = {"code": str(error.code), "message": error.message, "param": error.param}
        return _event(b"error", orjson.dumps(told | more))


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
