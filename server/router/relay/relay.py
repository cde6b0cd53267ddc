"""A request handed on to a model's process, and its answer handed back as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slotmux.server.answers.stream import ABORT_CONNECTION, PROBE_READER, SSE
from slotmux.server.answers.stream_end import StreamEnd
from slotmux.server.http.disconnect import client_gone
from slotmux.server.http.endpoints import Endpoint
from slotmux.server.http.errors import ApiError
from slotmux.server.http.hop import OF_HOP
from slotmux.server.http.trace import trace_of
from slotmux.server.openapi.operation import LINES
from slotmux.server.router.fleet.fleet import Lease
from slotmux.server.router.fleet.member import Member
from slotmux.server.router.fleet.refusals import crashed
from slotmux.server.router.processes.orders import KEY_HEADER, OUR_HEADERS
from slotmux.server.router.relay.client import Client
from slotmux.server.router.relay.upstream import (
    Connection,
    Header,
    Pool,
    UpstreamLostError,
    request_bytes,
    whole,
)
from slotmux.server.router.state import RouterState

# The router's own business.
_OF_REQUEST = (b"host", b"expect", b"content-length", b"x-request-id")
_OF_CLIENT = (b"authorization", b"x-api-key", b"origin", b"cookie")
_NOT_ON = frozenset((*OF_HOP, *_OF_REQUEST, *_OF_CLIENT))
_NOT_BACK = frozenset((*OF_HOP, b"date", b"server", b"x-request-id"))
_EVENTS_HEADERS = (
    (b"content-type", SSE.media_type),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be asked of a model's process. ``is_streamed``: whether the answer is events;
    ``keep_alive_s``: what the request wants."""

    endpoint: Endpoint
    body: bytes = b""
    may_load: bool = True
    is_streamed: bool = False
    keep_alive_s: float | None = None


class Relay(Response):
    """The answer. Made by ``begin``; whatever it holds is given back when it has been sent."""

    def __init__(
        self, request: Request, member: Member, errand: Errand, state: RouterState
    ) -> None:
        self.status_code, self.body, self.raw_headers = 200, b"", []
        self.background = None
        self._abort: Callable[[], None] | None = None
        self._request = request
        self._member = member
        self._errand = errand
        self._body = errand.body
        self._state = state
        self._client = Client(request.receive)
        endpoint = errand.endpoint
        is_lines = endpoint.told.streamed_as == LINES
        self._end = StreamEnd(endpoint.shape, endpoint.path, is_lines=is_lines)
        self._lease: Lease | None = None
        self._connection: Connection | None = None
        self._pool: Pool | None = None
        self._late: asyncio.Task[None] | None = None
        self._sending_since = 0.0

    async def begin(self) -> Relay:
        """Waits for the model and for the head of its answer: what goes wrong before is raised. A
        stream is not kept waiting for longer than --sse-ping-interval."""
        work = asyncio.create_task(self._ask())
        try:
            if self._errand.is_streamed:
                self._client.when_gone(work.cancel)
                await asyncio.wait({work}, timeout=self._state.settings.sse_ping_interval)
                if not work.done() and self._lease is None:
                    self._late = work
                    return self
            await self._client.joined(work)
        except BaseException:
            work.cancel()
            self._close()
            raise
        return self

    @property
    def upstream_status(self) -> int:
        """Of the answer that will be sent; 200 where it begins before the model's does."""
        return 200 if self._connection is None else self._connection.status

    def discard(self) -> None:
        """Gives back what it holds; it is not sent."""
        self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        self._abort = extensions.get(ABORT_CONNECTION)
        timer = _Timer(self._look, min(1.0, self._state.settings.write_timeout / 4))
        try:
            if self._late is not None:
                await self._keep_alive(self._late, send)
            if self._connection is not None:
                extensions[PROBE_READER] = self._connection.nudge
                self._client.when_gone(self._connection.abort)
                await self._relay(self._connection, send)
        finally:
            timer.stop()
            self._close()

    async def _ask(self) -> None:
        fleet, errand = self._state.fleet, self._errand
        self._lease = await fleet.acquire(self._member, may_load=errand.may_load)
        trace_of(self._request).is_told_elsewhere = True
        request = self._request
        target = request.scope["raw_path"].decode("latin-1")
        query = request.scope["query_string"].decode("latin-1")
        raw = request_bytes(
            request.method,
            f"{target}?{query}" if query else target,
            _headers_on(request),
            self._body,
        )
        self._body = b""  # an answer may take long, and bodies are large
        self._pool = self._state.pool_of(self._lease.child)
        try:
            self._connection = await self._pool.ask(raw)
        except UpstreamLostError:
            raise self._lost() from None

    async def _keep_alive(self, work: asyncio.Task[None], send: Send) -> None:
        """Comments until the model is there; an error is told as one of the stream."""
        await self._start(send, 200, list(_EVENTS_HEADERS))
        while not work.done():
            await self._send(send, self._end.ping)
            self._client.when_gone(work.cancel)
            await asyncio.wait({work}, timeout=self._state.settings.sse_ping_interval)
        try:
            await self._client.joined(work)
        except ApiError as error:
            await self._fail(error, send)

    async def _relay(self, connection: Connection, send: Send) -> None:
        if self._late is None:
            await self._start(send, connection.status, _headers_back(connection.headers))
        elif connection.status != 200:
            await self._fail(await _as_error(connection), send)
            return
        try:
            while (data := await connection.read()) is not None:
                if data:
                    self._end.follow(data)
                    await self._send(send, data)
                elif self._is_events(connection):
                    await self._send(send, self._end.ping)
        except UpstreamLostError:
            await self._break_off(connection, send)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _break_off(self, connection: Connection, send: Send) -> None:
        """The process is gone in the midst of an answer."""
        error = self._lost()
        if self._client.is_gone:
            raise client_gone()
        if self._is_events(connection):
            await self._fail(error, send)
            return
        trace_of(self._request).error = str(error.code)
        if self._abort is not None:
            self._abort()

    async def _fail(self, error: ApiError, send: Send) -> None:
        trace_of(self._request).error = str(error.code)
        body = self._end.error(error)
        await send({"type": "http.response.body", "body": body, "more_body": False})
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _start(self, send: Send, status: int, headers: list[Header]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, send: Send, body: bytes) -> None:
        if body:
            self._sending_since = self._state.fleet.clock()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            self._sending_since = 0.0

    def _look(self) -> None:
        """Drops a client that does not read."""
        since = self._sending_since
        if since and self._state.fleet.clock() - since > self._state.settings.write_timeout:
            trace_of(self._request).error = "request_timeout"
            if self._abort is not None:
                self._abort()

    def _is_events(self, connection: Connection) -> bool:
        """Whether the answer is a stream into which something may be put."""
        kinds = [value for name, value in connection.headers if name == b"content-type"]
        return self._late is not None or any(
            kind.startswith((b"text/event-stream", b"application/x-ndjson")) for kind in kinds
        )

    def _lost(self) -> ApiError:
        """Why the connection to the process has ended."""
        trace_of(self._request).is_told_elsewhere = False
        return client_gone() if self._client.is_gone else crashed()

    def _close(self) -> None:
        self._client.stop()
        if self._late is not None:
            self._late.cancel()
        connection, self._connection = self._connection, None
        if connection is not None and self._pool is not None:
            self._pool.keep(connection)
        if self._lease is not None:
            self._lease.release(self._errand.keep_alive_s)
            self._lease = None


class _Timer:
    """Calls now and then until stopped."""

    def __init__(self, call: Callable[[], None], period_s: float) -> None:
        self._call, self._period_s = call, period_s
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(period_s, self._tick)

    def stop(self) -> None:
        self._handle.cancel()

    def _tick(self) -> None:
        self._handle = self._loop.call_later(self._period_s, self._tick)
        self._call()


def _headers_on(request: Request) -> list[Header]:
    trace = trace_of(request)
    kept = [
        (name, value)
        for name, value in request.scope["headers"]
        if name not in _NOT_ON and not name.startswith(OUR_HEADERS)
    ]
    ours = [(b"x-request-id", trace.request_id.encode()), (KEY_HEADER.encode(), trace.key.encode())]
    return kept + ours


def _headers_back(headers: list[Header]) -> list[Header]:
    return [(name, value) for name, value in headers if name not in _NOT_BACK]


async def _as_error(connection: Connection) -> ApiError:
    """What a process refused, where the answer has begun as a stream already."""
    try:
        told = orjson.loads(await whole(connection))["error"]
    except UpstreamLostError:
        return crashed()
    if isinstance(told, str):
        told = {"message": told}
    return ApiError(
        connection.status,
        told["message"],
        code=told.get("code"),
        param=told.get("param"),
        type=told.get("type"),
    )
