"""Notices that a client went away, for streams and for plain answers alike."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from slotmux.server.answers.generation import Generation
from slotmux.server.http.errors import ApiError


def client_gone() -> ApiError:
    """Never sent: nobody is there to read it. The status only appears in logs and metrics."""
    return ApiError(499, "The client has gone.", code="client_disconnected")


class DisconnectWatcher:
    """Fails the generation as soon as the connection is lost. The body must have been read."""

    def __init__(self, receive: Receive, generation: Generation) -> None:
        self._receive = receive
        self._generation = generation
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """The answer is out."""
        self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._generation.fail(client_gone())
