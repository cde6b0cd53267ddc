"""Whether the client of a request is still there, and what ends when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from slotmux.server.http.disconnect import client_gone

T = TypeVar("T")


class Client:
    """Watches until ``stop``. The request's body must have been read."""

    def __init__(self, receive: Receive) -> None:
        self.is_gone = False
        self.on_gone: Callable[[], object] | None = None
        self._receive = receive
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """The answer is out."""
        self._task.cancel()

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Does ``work``, which is cancelled when the client goes: ApiError 499."""
        task = asyncio.create_task(work)
        return await self.joined(task)

    async def joined(self, task: asyncio.Task[T]) -> T:
        """The same for work that has begun."""
        if self.is_gone:
            task.cancel()
        self.on_gone = task.cancel
        try:
            return await task
        except asyncio.CancelledError:
            if self.is_gone:
                raise client_gone() from None
            raise
        finally:
            self.on_gone = None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()
