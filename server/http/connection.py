"""uvicorn's HTTP/1.1 protocol with the limits it lacks: header size, header time, dead readers.

A client may shut its sending side once it has asked, and still gets its answer. TCP does not tell
that from a client that is gone: only what we send does, as the other end then answers with a reset.
So from that moment on something harmless is sent now and then until the answer begins: 100
Continue, which every HTTP/1.1 client skips (RFC 9110, 15.2), or a comment where a stream is open.
The first one draws the reset, the second one meets it: one that is gone loses its slot within a
tenth of a second. HTTP/1.0 has no such answer: there a client that shuts its side counts as gone.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from slotmux.server.answers.stream import ABORT_CONNECTION, PROBE_READER
from slotmux.server.http.errors import ApiError, invalid, unavailable
from slotmux.server.settings import Settings

MAX_HEADERS = 64
MAX_HEADER_BYTES = 8 * 1024  # of one header, and of the URL
MAX_HEADERS_BYTES = 64 * 1024  # of all headers together
LINGER_S = 1.0
PROBE_S, MAX_PROBE_S = 0.05, 0.5  # between two probes: the first time, and at most
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Every refusal has an OpenAI error body and closes the connection."""

    header_timeout_s = 10.0  # both overridden by ``bounded_by``
    max_connections = 1024

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_headers = False
        self._is_in_message = False
        self._is_refused = False
        self._is_half_closed = False  # the client has asked, and will not send any more
        self._probe: asyncio.TimerHandle | None = None
        self._n_header_bytes = 0
        self._refusal: ApiError | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()
        if len(self.connections) > self.max_connections:
            self._refuse(unavailable("Too many connections.", "too_many_connections"))

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps our side open: a whole request has come and is not answered yet."""
        cycle = self.cycle
        is_asked = cycle is not None and not cycle.response_complete and not self._is_in_message
        if self._is_refused or not is_asked or self.scope["http_version"] != "1.1":
            return None
        self._is_half_closed = True
        self._probe_reader(PROBE_S)
        return True

    def _probe_reader(self, pause_s: float) -> None:
        """Send what only a client that is gone objects to."""
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        if not self.cycle.response_started:
            self.transport.write(_CONTINUE)
        else:
            extensions = cast("dict[str, Any]", self.scope["extensions"])
            if (probe := extensions.get(PROBE_READER)) is not None:
                probe()
        next_s = min(2 * pause_s, MAX_PROBE_S)
        self._probe = self.loop.call_later(pause_s, self._probe_reader, next_s)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._probe is not None:
            self._probe.cancel()
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_in_headers:
            # the parser keeps an unfinished header to itself, so it is counted here as well
            self._n_header_bytes += len(data)
            if self._n_header_bytes > MAX_HEADERS_BYTES and not self._is_refused:
                self._refuse(_headers_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers = self._is_in_message = True
        self._n_header_bytes = 0
        extensions: dict[str, Any] = {ABORT_CONNECTION: self.transport.abort}
        self.scope["extensions"] = extensions
        self._start_timer()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_HEADER_BYTES:
            self._reject(ApiError(414, "The URL is too long.", code="url_too_long"))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(name) + len(value) > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._reject(_headers_too_large())

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_message = False
        super().on_message_complete()
        if self.cycle.response_complete:  # an answered body has ended: the connection is idle
            self._start_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_half_closed and not self.transport.is_closing():
            self.transport.close()
            return
        if self._is_in_message:  # the rest of a body that nobody reads must come to its end
            self._start_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection; one whose client never read its answer is dropped."""
        if self.transport.get_write_buffer_size() > 0:
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is not HTTP, and after ``_reject``."""
        self._refuse(self._refusal or invalid(None, "Not a valid HTTP request.", "invalid_http"))

    def _reject(self, error: ApiError) -> None:
        """Ends parsing: the parser turns an exception of a callback into HttpParserError."""
        self._refusal = self._refusal or error
        raise error

    def _refuse(self, error: ApiError) -> None:
        """Answers and closes, unless an answer is under way already: then only closes."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.close()
                return
            cycle.disconnected = True  # what the app still says is dropped
            cycle.message_event.set()
        body = orjson.dumps(error.body())
        head = b"content-type: application/json\r\nconnection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + head + length + body)
        self._linger()

    def _linger(self) -> None:
        """Closes our side only: with unread bytes a full close would lose the answer."""
        self._is_refused = True
        self._stop_timer()
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.header_timeout_s, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_headers:
            self._refuse(ApiError(408, "The headers did not come in time.", code="header_timeout"))
        else:
            self.transport.close()


def bounded_by(settings: Settings) -> type[BoundedProtocol]:
    """The protocol class with the operator's limits."""
    limits = {
        "header_timeout_s": settings.header_timeout,
        "max_connections": settings.max_connections,
    }
    return type("Protocol", (BoundedProtocol,), limits)


def _headers_too_large() -> ApiError:
    return ApiError(431, "The headers are too large.", code="headers_too_large")
