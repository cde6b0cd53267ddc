"""The process of one model: a server that listens on a Unix socket, for the router alone.

On its standard input comes a line of JSON (``Orders``), then "go" once there is memory for what it
plans; its end means that the router is gone, and ends this process at once. On its standard output
it says how far it is, a line of JSON each: {"state": "planned", "bytes", "parts"}, {"state":
"ready", "info"}, {"state": "failed", "message"}.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import orjson
from starlette.datastructures import Headers

from slotmux.runtime.errors import SlotmuxError
from slotmux.server.config_error import in_words
from slotmux.server.http.app import create_app
from slotmux.server.http.auth import ApiKeys
from slotmux.server.process.lifecycle import Lifecycle
from slotmux.server.process.logs import set_up_logging
from slotmux.server.process.serve import serve_until_end, uvicorn_config
from slotmux.server.process.state import Loaded, ServerState
from slotmux.server.router.processes.orders import KEY_HEADER, Orders
from slotmux.server.settings import Settings

if TYPE_CHECKING:
    from slotmux.server.loading.plan import Plan

_BACKLOG = 512
Assemble = Callable[[Settings, "Callable[[Plan], None]"], Loaded]


class RouterKeys(ApiKeys):
    """The router has looked at the key, and says whose it was."""

    def __init__(self, n_keys: int) -> None:
        super().__init__(())
        self._n_keys = n_keys

    @property
    def n_keys(self) -> int:
        return self._n_keys

    def identify(self, headers: Headers) -> str | None:
        return headers.get(KEY_HEADER, "")


class ChildLifecycle(Lifecycle):
    """Tells the router when the model is ready."""

    def __init__(self, *args: Any, told: Told) -> None:
        super().__init__(*args)
        self._told = told

    def _become_ready(self, loaded: Loaded) -> None:
        self._state.become_ready(loaded)
        self._told.say("ready", info=asdict(loaded.info))


class Told:
    """The lines of standard output. Any thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def say(self, state: str, **more: Any) -> None:
        """One line; nobody may be there to read it."""
        try:
            self._stream.write(orjson.dumps({"state": state} | more) + b"\n")
            self._stream.flush()
        except OSError:
            os._exit(1)


class Router:
    """The other end of the pipes: waits for its permission, and ends the process with it."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._is_permitted = threading.Event()
        threading.Thread(target=self._listen, name="slotmux-router", daemon=True).start()

    def permit(self, plan: Plan) -> None:
        """Says what will be taken, and waits until there is room for it."""
        budget = plan.budget
        self._told.say("planned", bytes=budget.total_bytes, parts=budget.describe())
        self._is_permitted.wait()

    def _listen(self) -> None:
        # Not by Python's own file, whose lock would be held here when the interpreter ends.
        while os.read(0, 4096):
            self._is_permitted.set()
        os._exit(1)


def main(assemble: Assemble | None = None) -> int:
    """Serves what the router orders; the exit code of a server of one model."""
    with open(0, "rb", buffering=0, closefd=False) as stream:
        orders = Orders(**orjson.loads(stream.readline()))
    # What others print must not get between the lines that the router reads.
    told = Told(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    settings = Settings(**orders.settings)
    set_up_logging(settings.log_level, settings.log_format, model=orders.model)
    router = Router(told)
    state = ServerState(settings)
    state.keys = RouterKeys(orders.n_keys)
    config = uvicorn_config(create_app(state), settings)
    lifecycle = ChildLifecycle(config, state, "", told=told)

    def load() -> Loaded:
        try:
            return (assemble or _assemble)(settings, router.permit)
        except (SlotmuxError, ValueError, OSError) as error:
            told.say("failed", message=in_words(error))
            raise

    return serve_until_end(lifecycle, _listen(orders.socket), load)


def _assemble(settings: Settings, permit: Callable[[Plan], None]) -> Loaded:
    from slotmux.server.loading.assemble import assemble

    return assemble(settings, permit)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
