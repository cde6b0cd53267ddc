"""What the router's routes share: the state of a server that has no model in its own process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from slotmux.server.http.errors import shutting_down
from slotmux.server.process.logs import LOGGER
from slotmux.server.process.state import ServerState
from slotmux.server.router.fleet.fleet import Fleet
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.known.catalog import Catalog
from slotmux.server.router.known.facts import Facts
from slotmux.server.router.processes.process import ChildPort
from slotmux.server.router.relay.upstream import Pool
from slotmux.server.settings import SettingsError

_log = logging.getLogger(LOGGER)


@dataclass(slots=True, kw_only=True)
class RouterState(ServerState):
    """Belongs to the event loop. ``reread``: the catalog as it is on disk now."""

    reread: Callable[[], Catalog]
    facts: Facts = field(default_factory=Facts)
    _fleet: Fleet | None = None
    _stamp: int = 0  # when the folder was last changed, as far as it was read
    _pools: dict[str, Pool] = field(default_factory=dict)

    @property
    def fleet(self) -> Fleet:
        """The models. There from the first request on."""
        assert self._fleet is not None
        return self._fleet

    @property
    def is_serving(self) -> bool:
        """Whether there are models yet."""
        return self._fleet is not None

    def ready_fleet(self) -> Fleet:
        """The models, while they are served. Raises ApiError 503."""
        if self.fleet.is_draining:
            raise shutting_down()
        return self.fleet

    def serve(self, fleet: Fleet) -> None:
        """These models from now on."""
        self._fleet = fleet
        self._stamp = self._folder_stamp()
        fleet.listeners.add(self._on_status)

    def pool_of(self, child: ChildPort) -> Pool:
        """Connections to a process."""
        return self._pools.setdefault(child.socket, Pool(child.socket))

    async def reread_if_changed(self) -> bool:
        """Whether the folder has changed; its models are known then. Where something is wrong with
        it, that is logged once, and the models that there were stay."""
        if self._folder_stamp() == self._stamp:
            return False
        try:
            await self.reread_now()
        except SettingsError as error:
            _log.warning(f"{error}")
            return False
        return True

    async def reread_now(self) -> None:
        """Reads folder and configuration anew. Raises SettingsError."""
        self._stamp = self._folder_stamp()
        self.fleet.update(await asyncio.to_thread(self.reread))

    def _folder_stamp(self) -> int:
        folder = self.settings.models_dir
        try:
            return 0 if folder is None else folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _on_status(self, member: Member) -> None:
        if member.status is Status.UNLOADED:
            alive = {m.child.socket for m in self.fleet.members.values() if m.child is not None}
            for path in self._pools.keys() - alive:
                self._pools.pop(path).close()


def router_of(request: Request) -> RouterState:
    """The state of the router that serves ``request``."""
    state: RouterState = request.app.state.server
    return state
