"""Runs the router: it listens from the first moment, models follow, a signal ends all of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import uvicorn

from slotmux.server.loading.available import memory_limit
from slotmux.server.loading.errors import CommandError
from slotmux.server.loading.words import mib
from slotmux.server.process.ending import EndedBySignals
from slotmux.server.process.logs import LOGGER, is_text, set_up_logging
from slotmux.server.process.serve import (
    EXIT_UNUSABLE,
    announce,
    listen,
    url_of,
    uvicorn_config,
)
from slotmux.server.router.app import create_router_app
from slotmux.server.router.fleet.fleet import Fleet
from slotmux.server.router.fleet.room import ROUTER_BYTES, Room
from slotmux.server.router.known.catalog import ModelSpec, read_catalog
from slotmux.server.router.processes.child_settings import child_settings
from slotmux.server.router.processes.orders import Orders
from slotmux.server.router.processes.process import COMMAND, ChildPort, ChildProcess
from slotmux.server.router.processes.sockets import SocketFolder
from slotmux.server.router.state import RouterState
from slotmux.server.settings import Settings, unknown_variables

TICK_S = 0.5  # between two looks at what has been idle for too long
_N_NAMES = 8  # of models that a terminal shows
_log = logging.getLogger(LOGGER)


def run_router(
    settings: Settings,
    flags: Mapping[str, Any],
    known_variables: Iterable[str] = (),
    command: Sequence[str] = COMMAND,
) -> int:
    """Serves until a signal; returns the process's exit code. Main thread only. ``flags``: what was
    said on the command line, for models too; ``command``: what starts a model's process.

    Raises SettingsError and CommandError before it listens.
    """
    set_up_logging(settings.log_level, settings.log_format)
    for line in unknown_variables(known_variables):
        _log.warning(line)
    catalog = read_catalog(settings, flags)
    room = room_of(settings)
    listener = listen(settings)
    if listener is None:
        return EXIT_UNUSABLE
    state = RouterState(settings, reread=lambda: read_catalog(settings, flags))
    config = uvicorn_config(create_router_app(state), settings)
    sockets = SocketFolder()

    async def start(spec: ModelSpec) -> ChildPort:
        orders = Orders(
            spec.name,
            child_settings(spec, settings, room.n_bytes),
            sockets.new(),
            state.keys.n_keys,
        )
        return await ChildProcess.start(orders, command)

    announce(settings, listener)
    _tell_models(settings, [*catalog.specs], url_of(settings, listener))
    lifecycle = RouterLifecycle(config, state, lambda: Fleet(catalog, settings, room, start))
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(lifecycle.serve_with(listener))
    finally:
        state.close()
        sockets.close()
    return lifecycle.exit_code


def room_of(settings: Settings) -> Room:
    """What models may take together. Raises CommandError where that is nothing."""
    limit = memory_limit(settings.mem_limit).n_bytes
    if limit <= ROUTER_BYTES:
        raise CommandError(
            f"--mem-limit {limit} leaves nothing for models: {mib(ROUTER_BYTES)} are for the rest"
        )
    return Room(limit - ROUTER_BYTES, settings.models_max)


class RouterLifecycle(EndedBySignals):
    """Serves, looks after idle models, and takes all processes along when it ends."""

    def __init__(
        self, config: uvicorn.Config, state: RouterState, make_fleet: Callable[[], Fleet]
    ) -> None:
        super().__init__(config)
        self._state = state
        self._make_fleet = make_fleet

    async def serve_with(self, listener: socket.socket) -> None:
        """Serves on ``listener``; returns when all is over."""
        self._loop = asyncio.get_running_loop()
        self._state.serve(self._make_fleet())
        self._state.fleet.keep_pinned()
        self._spawn(self._expire())
        try:
            await self.serve(sockets=[listener])
        finally:
            if not self._state.fleet.is_draining:
                await self._state.fleet.drain(0.0)
            self._cancel_tasks()

    async def _drain(self) -> None:
        _log.info("draining")
        await self._state.fleet.drain(self._state.settings.drain_timeout)
        self._end(0)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._state.fleet.expire()


def _tell_models(settings: Settings, names: list[str], url: str) -> None:
    shown = names[:_N_NAMES]
    _log.info("models", extra={"fields": {"n": len(names), "names": shown}})
    if not names:
        _log.warning("there is no model yet: put GGUF files into --models-dir")
    if is_text(settings.log_format):
        print(_example(url, names, needs_key=bool(settings.api_keys)), file=sys.stderr)


def _example(url: str, names: list[str], *, needs_key: bool) -> str:
    """What a person at the terminal can do now."""
    key = " -H 'Authorization: Bearer KEY'" if needs_key else ""
    name = names[0] if names else "NAME"
    return f"""
  {url}/v1 is an OpenAI-compatible API of {len(names)} models; "model" chooses. Try it:

  curl {url}/v1/chat/completions{key} \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
"""
