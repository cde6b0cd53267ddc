"""HTTP/1.1 to a model's process, over its Unix socket: parsed by httptools, nothing per chunk but a
wake-up, and no more in memory than a reader is behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import cast

import httptools

MAX_BUFFERED = 256 * 1024  # of an answer that is not read yet
KEEP_S = 15.0  # an idle connection; the other side closes it after 30
Header = tuple[bytes, bytes]


class UpstreamLostError(Exception):
    """The connection ended before the answer did: the process is gone, or has given up."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._n_buffered = 0
        self._has_head = self._is_complete = self._is_lost = self._is_paused = False
        self._is_read = False
        self._is_nudged = self._keeps_alive = False
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.idle_since = 0.0

    @property
    def is_reusable(self) -> bool:
        """Whether another request can be sent: the last answer has been read to its very end."""
        return (
            self._is_read
            and not self._is_lost
            and self._keeps_alive
            and self._loop.time() - self.idle_since < KEEP_S
        )

    async def send(self, request: bytes) -> None:
        """A whole request. Raises UpstreamLostError when it cannot be taken."""
        self.status, self.headers = 0, []
        self._has_head = self._is_complete = self._is_read = self._is_nudged = False
        assert not self._chunks, "the last answer was not read"
        self._parser = httptools.HttpResponseParser(self)
        if self._is_lost or self._transport is None:
            raise UpstreamLostError
        self._transport.write(request)
        while self._drained is not None:
            await asyncio.shield(self._drained)
            if self._is_lost:
                raise UpstreamLostError

    async def head(self) -> None:
        """Waits for ``status`` and ``headers``. Raises UpstreamLostError."""
        while not self._has_head:
            if self._is_lost:
                raise UpstreamLostError
            await self._wait()

    async def read(self) -> bytes | None:
        """All of the body that has come since; b"" after ``nudge``; None at its end. Raises
        UpstreamLostError."""
        while True:
            if self._chunks:
                chunks, self._chunks = self._chunks, []
                self._n_buffered = 0
                self._resume()
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if self._is_complete:
                self._is_read = True
                self.idle_since = self._loop.time()
                return None
            if self._is_lost:
                raise UpstreamLostError
            if self._is_nudged:
                self._is_nudged = False
                return b""
            await self._wait()

    def nudge(self) -> None:
        """Has ``read`` return, though there is nothing."""
        self._is_nudged = True
        self._wake()

    def abort(self) -> None:
        """Drops the connection: the process stops computing for it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            return
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue
            self.headers = []
            return
        self.status = status
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._chunks.append(body)
        self._n_buffered += len(body)
        if self._n_buffered > MAX_BUFFERED and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._is_complete = self._has_head
        self._keeps_alive = self._parser.should_keep_alive()  # which it knows at this moment only

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            with contextlib.suppress(RuntimeError):  # it is closing
                self._transport.resume_reading()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def whole(connection: Connection) -> bytes:
    """The body of an answer, to its end. Raises UpstreamLostError."""
    parts = []
    while (data := await connection.read()) is not None:
        parts.append(data)
    return b"".join(parts)


class Pool:
    """Connections to one process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[Connection] = []

    async def ask(self, request: bytes) -> Connection:
        """Sends a request, and waits for the head of its answer. Raises UpstreamLostError."""
        while (connection := self._kept()) is not None:
            # One that was kept may be closed from the other side just now; no answer has begun.
            with contextlib.suppress(UpstreamLostError):
                return await self._asked(connection, request)
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_unix_connection(Connection, self._path)
        except OSError:
            raise UpstreamLostError from None
        return await self._asked(connection, request)

    def keep(self, connection: Connection) -> None:
        """Its answer has been read to the end."""
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Drops what is kept."""
        for connection in self._idle:
            connection.abort()
        self._idle = []

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
            connection.abort()
        return None

    async def _asked(self, connection: Connection, request: bytes) -> Connection:
        try:
            await connection.send(request)
            await connection.head()
        except BaseException:
            connection.abort()
            raise
        return connection


def request_bytes(method: str, target: str, headers: Iterable[Header], body: bytes) -> bytes:
    """A request as it goes over the wire. ``headers`` come from a parser of requests, so none has a
    line end in it."""
    lines = [f"{method} {target} HTTP/1.1\r\nhost: localhost\r\n".encode("latin-1")]
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d\r\n" % len(body))
    return b"".join((*lines, b"\r\n", body))
