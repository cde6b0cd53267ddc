"""One request to a replica and its answer back: tried elsewhere as long as nothing was sent, and
told in the client's own API where a stream breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from starlette.types import Message, Scope, Send
from yarl import URL

from slotmux.deploy.ray.asked import LEASE_HEADER, REPLICA_HEADER, Asked, Headers, Lease
from slotmux.server.answers.stream_end import StreamEnd
from slotmux.server.http.errors import ApiError, queue_full, unavailable
from slotmux.server.http.hop import OF_HOP
from slotmux.server.http.shapes import Shape, error_response
from slotmux.server.openapi.operation import EVENTS, LINES
from slotmux.server.process.logs import LOGGER

_N_TRIES = 3
_LEASE_WITHIN_S = 60.0  # a replica may be on its way
_LOOK_WITHIN_S = 5.0  # for who only looks, as probes do
_RETRY_AFTER_S = 2
_BUSY = (429, 503)
# And what the front says itself.
_NOT_ON = OF_HOP | {b"content-length", b"expect", LEASE_HEADER.encode(), REPLICA_HEADER.encode()}
_log = logging.getLogger(LOGGER)


class ReplicaLost(Exception):
    """A replica went away before it said anything."""


class Afterwards:
    """What is left to do when a request has been answered; one for a front."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds none of them

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Has it done; nobody waits for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Relay:
    """Of one request."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        handle: DeploymentHandle,
        scope: Scope,
        send: Send,
        shape: Shape,
        afterwards: Afterwards,
    ) -> None:
        self._session = session
        self._handle = handle
        self._scope = scope
        self._send = send
        self._shape = shape
        self._afterwards = afterwards

    async def run(self, asked: Asked) -> None:
        """Answers the request, whatever happens to replicas."""
        error: ApiError = unavailable("No replica could be reached.", "no_replica", 5)
        for n in range(_N_TRIES):
            is_last = n == _N_TRIES - 1
            try:
                if await self._try(asked, is_last=is_last):
                    return
            except ReplicaLost:
                asked.found = None
            except ApiError as failure:
                error = failure
                break
        await self._answer(error)

    async def _try(self, asked: Asked, *, is_last: bool) -> bool:
        """One replica's answer; False: it had no room, another may have. Raises ReplicaLost."""
        async with self._leased(asked) as lease:
            is_first = lease.replica not in asked.tried
            asked.tried.add(lease.replica)
            async with self._ask(lease, asked) as response:
                if response.status in _BUSY and is_first and not is_last:
                    return False
                if _is_stream(response):
                    await self._stream(response, lease)
                else:
                    await self._whole(response, lease)
        return True

    @contextlib.asynccontextmanager
    async def _leased(self, asked: Asked) -> AsyncIterator[Lease]:
        """A place at a replica that Ray chose. Raises ApiError, ReplicaLost."""
        handle = self._handle.options(stream=True, method_name="lease", session_id=asked.session)
        leases = handle.remote(asked)
        within = _LEASE_WITHIN_S if self._scope["method"] == "POST" else _LOOK_WITHIN_S
        try:
            lease = await asyncio.wait_for(anext(leases), within)
        except BackPressureError:
            raise queue_full(_RETRY_AFTER_S) from None
        except (DeploymentUnavailableError, TimeoutError):
            leases.cancel()
            raise unavailable("No replica is ready.", "no_replica", 5) from None
        except (RayError, StopAsyncIteration):
            raise ReplicaLost from None
        except asyncio.CancelledError:
            leases.cancel()
            raise
        try:
            yield lease
        finally:
            # The replica ends it with the response; Ray hears of it when that is read.
            self._afterwards.do(_exhaust(leases))

    @contextlib.asynccontextmanager
    async def _ask(self, lease: Lease, asked: Asked) -> AsyncIterator[aiohttp.ClientResponse]:
        scope, probe = self._scope, asked.probe
        query = scope.get("query_string", b"")
        target = scope.get("raw_path", probe.path.encode()) + (b"?" + query if query else b"")
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in _forwarded(probe.headers)]
        headers.append((LEASE_HEADER, lease.id))
        try:
            response = await self._session.request(
                scope["method"],
                URL(lease.url + target.decode("latin-1"), encoded=True),
                headers=headers,
                data=probe.body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError):
            raise ReplicaLost from None
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def _whole(self, response: aiohttp.ClientResponse, lease: Lease) -> None:
        """An answer in one piece. Raises ReplicaLost where it breaks off."""
        try:
            body = await response.read()
        except (aiohttp.ClientError, OSError):
            raise ReplicaLost from None
        length = [(b"content-length", str(len(body)).encode())]
        await self._send(_start(response, lease, length))
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, response: aiohttp.ClientResponse, lease: Lease) -> None:
        """An answer as it comes; where it breaks off, an error of the client's API is its end."""
        await self._send(_start(response, lease, []))
        is_lines = response.content_type == LINES
        ending = StreamEnd(self._shape, self._scope["path"], is_lines=is_lines)
        try:
            async for chunk in response.content.iter_any():
                ending.follow(chunk)
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            end = b""
        except (aiohttp.ClientError, OSError):
            _log.warning("a replica went away in the middle of an answer")
            message = "The server that computed this answer has gone. Try again."
            error = unavailable(message, "replica_lost")
            end = ending.error(error)
        await self._send({"type": "http.response.body", "body": end})

    async def _answer(self, error: ApiError) -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        await error_response(error, self._shape)(self._scope, receive, self._send)


def _forwarded(headers: Headers) -> Headers:
    return tuple((key, value) for key, value in headers if key.lower() not in _NOT_ON)


def _start(
    response: aiohttp.ClientResponse, lease: Lease, extra: list[tuple[bytes, bytes]]
) -> Message:
    headers = [(k.lower(), v) for k, v in _forwarded(response.raw_headers)]
    # Whoever speaks to the client says these.
    headers = [pair for pair in headers if pair[0] not in (b"date", b"x-request-id")]
    told = (REPLICA_HEADER.encode(), lease.replica.encode())
    return {
        "type": "http.response.start",
        "status": response.status,
        "headers": [*headers, told, *extra],
    }


def _is_stream(response: aiohttp.ClientResponse) -> bool:
    return response.content_type in (EVENTS, LINES)


async def _exhaust(leases: DeploymentResponseGenerator) -> None:
    with contextlib.suppress(RayError, asyncio.CancelledError):
        async for _ in leases:
            pass
