"""A model's process as the router sees it. Event loop only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from slotmux.server.router.processes.orders import Orders
from slotmux.server.settings import ENV_PREFIX

COMMAND = (sys.executable, "-m", "slotmux.server.router.processes.start_child")
_MAX_LINE = 8 << 20  # a template is in one


class ChildFailedError(Exception):
    """A process that ended before its model was ready. The message says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Planned:
    """What a model will take: bytes, and of which parts."""

    n_bytes: int
    parts: str


class ChildPort(Protocol):
    """A process of a model, or a fake of one."""

    socket: str
    pid: int

    async def planned(self) -> Planned:
        """What it will take, before it takes it. Raises ChildFailedError."""

    def permit(self) -> None:
        """There is room for it."""

    async def ready(self) -> dict[str, Any]:
        """Fields of its ModelInfo, once it serves. Raises ChildFailedError."""

    def stop(self) -> None:
        """Lets what runs finish (--drain-timeout); no-op once it has ended."""

    def kill(self) -> None:
        """Ends it at once; no-op once it has ended."""

    async def exited(self) -> int:
        """Its exit code, once it has one."""


class ChildProcess:
    """A real one."""

    def __init__(self, process: asyncio.subprocess.Process, orders: Orders) -> None:
        loop = asyncio.get_running_loop()
        self.socket = orders.socket
        self.pid = process.pid
        self._process = process
        self._planned: asyncio.Future[Planned] = loop.create_future()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._message = ""
        self._over = loop.create_task(self._follow())

    @classmethod
    async def start(cls, orders: Orders, command: Sequence[str] = COMMAND) -> ChildProcess:
        """A process that has its orders. Raises OSError."""
        ours = {name for name in os.environ if name.startswith(ENV_PREFIX)}
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        # What this process can import, the child can.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        process = await asyncio.create_subprocess_exec(
            *(*command, str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_LINE,
            env=environment,
            start_new_session=True,  # an interrupt at the terminal is the router's to answer
        )
        child = cls(process, orders)
        child._write(orjson.dumps(asdict(orders)))
        return child

    async def planned(self) -> Planned:
        return await asyncio.shield(self._planned)

    def permit(self) -> None:
        self._write(b"go")

    async def ready(self) -> dict[str, Any]:
        return await asyncio.shield(self._ready)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def exited(self) -> int:
        return await asyncio.shield(self._over)

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, RuntimeError):  # it has ended
            self._process.stdin.write(line + b"\n")

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _follow(self) -> int:
        """Reads what it says until it has ended."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(orjson.loads(line))
        exit_code = await self._process.wait()
        message = self._message or f"its process ended with {status_words(exit_code)}"
        for future in (self._planned, self._ready):
            if not future.done():
                future.set_exception(ChildFailedError(message, exit_code))
                future.exception()  # nobody need have waited for it
        return exit_code

    def _take(self, said: dict[str, Any]) -> None:
        if said["state"] == "planned":
            self._planned.set_result(Planned(said["bytes"], said["parts"]))
        elif said["state"] == "ready":
            self._ready.set_result(said["info"])
        elif said["state"] == "failed":
            self._message = said["message"]


def status_words(exit_code: int) -> str:
    """How a process ended."""
    if exit_code >= 0:
        return f"status {exit_code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-exit_code).name}"
    return f"signal {-exit_code}"
