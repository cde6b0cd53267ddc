"""How a server process ends: the first signal drains, the second exits at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import uvicorn

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EndedBySignals(uvicorn.Server, ABC):
    """uvicorn's server with our own ending; ``_loop`` is set by whoever serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._n_signals = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's, which would raise the signal again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDING_SIGNALS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs between two bytecodes of the main thread."""
        self._n_signals += 1
        if self._n_signals > 1:
            os._exit(128 + sig)
        self._call(lambda: self._spawn(self._drain()))

    @abstractmethod
    async def _drain(self) -> None:
        """Lets what runs finish, then ends."""

    def _end(self, exit_code: int) -> None:
        if not self.should_exit:
            self.exit_code = exit_code
            self.should_exit = True

    def _call(self, call: Callable[..., None], *args: Any) -> None:
        """On the loop's thread; nothing once the loop is gone."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # closed: everything is over already
            self._loop.call_soon_threadsafe(call, *args)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
