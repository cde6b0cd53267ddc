"""Whether the client of a request is still there, and what ends when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.types import Receive

from slotmux.server.http.disconnect import client_gone

T = TypeVar("T")


class Client:
    """Watches until ``stop``. The request's body must have been read."""

    def __init__(self, receive: Receive) -> None:
        self.is_gone = False
        self._on_gone: Callable[[], object] | None = None
        self._receive = receive
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """The answer is out."""
        self._task.cancel()

    def when_gone(self, call: Callable[[], object]) -> None:
        """From now on ``call`` is what to do when the client goes, or has gone."""
        self._on_gone = call
        if self.is_gone:
            call()

    async def joined(self, task: asyncio.Task[T]) -> T:
        """What a task comes to, which is cancelled when the client goes: ApiError 499."""
        self.when_gone(task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            if self.is_gone:
                raise client_gone() from None
            raise

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.is_gone = True
        if self._on_gone is not None:
            self._on_gone()
