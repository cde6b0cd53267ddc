"""Models without processes, for tests of the fleet; and a router with processes of fake models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn

from slotmux.server.http.connection import bounded_by
from slotmux.server.process.state import ModelInfo
from slotmux.server.router.app import create_router_app
from slotmux.server.router.fleet.fleet import Fleet
from slotmux.server.router.fleet.room import Room
from slotmux.server.router.known.catalog import Catalog, ModelSpec, read_catalog
from slotmux.server.router.processes.child_settings import child_settings
from slotmux.server.router.processes.orders import Orders
from slotmux.server.router.processes.process import ChildFailedError, ChildProcess, Planned
from slotmux.server.router.processes.sockets import SocketFolder
from slotmux.server.router.state import RouterState
from slotmux.server.settings import Settings
from tests.server.router.fake_child import COMMAND


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeChild:
    """A process that does what a test says."""

    def __init__(self, name: str, n_bytes: int) -> None:
        self.socket, self.pid = f"/nowhere/{name}", 0
        self.is_permitted = self.is_stopped = False
        self._n_bytes = n_bytes
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._exited: asyncio.Future[int] = loop.create_future()
        self.holds_on = False  # takes its time to end

    async def planned(self) -> Planned:
        return Planned(self._n_bytes, f"{self._n_bytes} bytes in all")

    def permit(self) -> None:
        self.is_permitted = True

    async def ready(self) -> dict[str, Any]:
        return await asyncio.shield(self._ready)

    def stop(self) -> None:
        self.is_stopped = True
        if not self.holds_on:
            self.end(0)

    def kill(self) -> None:
        self.end(-9)

    async def exited(self) -> int:
        return await asyncio.shield(self._exited)

    def become_ready(self) -> None:
        self._ready.set_result(asdict(ModelInfo("x", 1, 1, 1)))

    def fail(self, message: str) -> None:
        self._ready.set_exception(ChildFailedError(message, 2))
        self.end(2)

    def end(self, exit_code: int) -> None:
        if not self._exited.done():
            self._exited.set_result(exit_code)


class Yard:
    """A fleet of fake processes. ``sizes``: what each model needs; ``room``: what there is."""

    def __init__(self, sizes: Mapping[str, int], room: int, n_models: int = 0, **settings: Any):
        self.pinned = settings.pop("pinned", ())
        self.chosen = Settings(**settings)
        self.children: dict[str, list[FakeChild]] = {name: [] for name in sizes}
        self.is_ready_at_once = True
        self.clock = Clock()
        self._sizes = dict(sizes)
        self.fleet = Fleet(
            self.catalog(sizes), self.chosen, Room(room, n_models), self._start, self.clock
        )

    def catalog(self, names: Any) -> Catalog:
        return Catalog(
            ModelSpec(
                name,
                self.chosen.model_copy(update={"model": f"/{name}.gguf"}),
                "models_dir",
                is_pinned=name in self.pinned,
            )
            for name in names
        )

    async def _start(self, spec: ModelSpec) -> FakeChild:
        child = FakeChild(spec.name, self._sizes[spec.name])
        self.children.setdefault(spec.name, []).append(child)
        if self.is_ready_at_once:
            child.become_ready()
        return child

    def member(self, name: str) -> Any:
        return self.fleet.members[name]

    async def used(self, name: str, keep_alive_s: float | None = None) -> None:
        """A request from begin to end."""
        lease = await self.fleet.acquire(self.member(name))
        lease.release(keep_alive_s)
        self.clock.now += 1.0
        await settle()

    @property
    def loaded(self) -> set[str]:
        return {name for name, m in self.fleet.members.items() if m.status == "loaded"}


async def settle() -> None:
    """Lets everything happen that can happen now."""
    for _ in range(50):
        await asyncio.sleep(0)


class RunningRouter:
    """A real uvicorn on a free loopback port, in a thread of this process; models' processes are
    those of fake_child."""

    def __init__(
        self,
        settings: Settings,
        flags: dict[str, Any],
        room: Room,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._command = command
        self._sockets = SocketFolder()
        self._settings, self._room = settings, room
        self.state = RouterState(settings, reread=lambda: read_catalog(settings, flags))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.app = create_router_app(self.state)
        config = uvicorn.Config(
            self.app, loop="uvloop", http=bounded_by(settings), ws="none",
            lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._catalog = read_catalog(settings, flags)

    def start(self) -> None:
        self._thread.start()
        assert self._is_up.wait(10)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.state.close()
        self._sockets.close()

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.state.serve(Fleet(self._catalog, self._settings, self._room, self._start))
        self.state.fleet.keep_pinned()
        task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._is_up.set()
        await task
        await self.state.fleet.drain(5.0)

    async def _start(self, spec: ModelSpec) -> ChildProcess:
        settings = child_settings(spec, self._settings, self._room.n_bytes)
        orders = Orders(spec.name, settings, self._sockets.new(), self.state.keys.n_keys)
        return await ChildProcess.start(orders, self._command)


@contextlib.contextmanager
def routing(
    folder: Path, models: Mapping[str, Mapping[str, Any]], room: int = 10**9, **flags: Any
) -> Iterator[RunningRouter]:
    """A router over fake models: their "files" are written into ``folder``."""
    for name, options in models.items():
        (folder / f"{name}.gguf").write_text(json.dumps(options))
    flags = {"models_dir": folder} | flags
    with started(RunningRouter(Settings(**flags), flags, Room(room))) as router:
        yield router


@contextlib.contextmanager
def started(router: RunningRouter) -> Iterator[RunningRouter]:
    router.start()
    try:
        yield router
    finally:
        router.stop()
