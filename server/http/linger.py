"""An answer to a body that nobody will read, sent so that the client still gets to see it."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_SECONDS = 1.0


class LingerResponse(Response):
    """Closes the connection, but throws away for a moment what still arrives.

    Closing with unread bytes makes the kernel reset the connection: the answer would be lost.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await _discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    n_bytes = 0
    while n_bytes < _DRAIN_BYTES:
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
