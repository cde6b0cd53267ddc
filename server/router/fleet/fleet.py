"""All models: which are loaded, for whom, and which give way. Event loop only."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from slotmux.server.http.errors import ApiError, queue_full, shutting_down
from slotmux.server.process.logs import LOGGER
from slotmux.server.router.fleet import refusals
from slotmux.server.router.fleet.changes import Changes
from slotmux.server.router.fleet.member import Member, Status
from slotmux.server.router.fleet.room import Room, RoomMaker
from slotmux.server.router.known.catalog import Catalog, ModelSpec
from slotmux.server.router.processes.process import ChildFailedError, ChildPort, status_words
from slotmux.server.settings import Settings

Start = Callable[[ModelSpec], Awaitable[ChildPort]]
Listener = Callable[[Member], None]
_RETRY_S = 5
_RESTART_PAUSE_S = 1.0
KILL_AFTER_S = 10.0  # beyond --drain-timeout
_log = logging.getLogger(LOGGER)


class Lease:
    """A model that is held loaded for a request, until ``release``."""

    def __init__(self, fleet: Fleet, member: Member, child: ChildPort) -> None:
        self.member = member
        self.child = child
        self._fleet: Fleet | None = fleet

    def release(self, keep_alive_s: float | None = None) -> None:
        """The request is over; how long it wants the model kept, if it said. Once."""
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.release(self.member, self.child, keep_alive_s)


class Fleet:
    """``start``: a process for a model; ``clock``: seconds, monotonic."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        room: Room,
        start: Start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalog = catalog
        self.room = room
        self.is_draining = False
        self.changes = Changes()
        self.listeners: set[Listener] = set()
        self.clock = clock
        self._settings = settings
        self._start = start
        self._tasks: set[asyncio.Task[None]] = set()
        self.members = {name: self._member(spec) for name, spec in catalog.specs.items()}
        self._rooms = RoomMaker(room, self.members, self.changes, self.unload)

    def find(self, asked: str | None) -> Member:
        """The model that a request names. Raises ApiError 400 or 404."""
        return self.members[self.catalog.find(asked).name]

    async def acquire(self, member: Member, *, may_load: bool = True) -> Lease:
        """The model, loaded first if need be, held until the lease is released. Raises ApiError."""
        if self.is_draining:
            raise shutting_down()
        if not member.is_serving:
            settings = member.spec.settings
            if member.n_queued >= settings.max_queue + settings.parallel:
                raise queue_full(_RETRY_S)
            member.n_queued += 1
            try:
                await self._until_serving(member, may_load)
            finally:
                member.n_queued -= 1
        assert member.child is not None
        member.n_running += 1
        member.last_used = self.clock()
        return Lease(self, member, member.child)

    def release(self, member: Member, child: ChildPort, keep_alive_s: float | None) -> None:
        """The end of a lease."""
        if member.child is not child:
            return
        member.n_running -= 1
        member.last_used = self.clock()
        if keep_alive_s is not None:
            member.keep_alive_s = keep_alive_s
        if member.is_idle and member.is_leaving:
            self.unload(member, "room")
        elif member.expires_at <= self.clock():
            self.unload(member, "idle")
        self.changes.notify()

    def load(self, member: Member) -> None:
        """Begins to load a model that nobody asked for, by order or because it is pinned."""
        if member.failure is not None:
            member.failure.until = 0.0
        self._begin(member, is_ordered=True)

    def unload(self, member: Member, reason: str) -> None:
        """Begins to unload; requests that run may finish. One that is being loaded is ended."""
        if member.status is Status.LOADING and member.loading is not None:
            member.loading.cancel()
        elif member.status is Status.LOADED:
            assert member.child is not None
            member.unloads[reason] = member.unloads.get(reason, 0) + 1
            member.failure = None  # it served until it was told to go
            self._set(member, Status.UNLOADING)
            member.child.stop()
            self._spawn(self._kill_late(member.child))
            _log.info("unloading", extra={"fields": {"model": member.name, "why": reason}})

    def expire(self) -> None:
        """Unloads what has been idle for too long; to be called now and then."""
        now = self.clock()
        for member in self.members.values():
            if member.expires_at <= now:
                self.unload(member, "idle")

    def update(self, catalog: Catalog) -> None:
        """Other models from now on: those that are gone or changed are unloaded."""
        self.catalog = catalog
        for name, member in [*self.members.items()]:
            spec = catalog.specs.get(name)
            if spec == member.spec:
                continue
            self.unload(member, "reload")
            self._forget(member)
            if spec is not None:
                member.spec = spec
                member.failure = None
        for name, spec in catalog.specs.items():
            self.members.setdefault(name, self._member(spec))
        self.changes.notify()

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new and ends every process, gently for so long. Returns when all have
        ended."""
        self.is_draining = True
        self.changes.notify()
        for member in self.members.values():
            self.unload(member, "shutdown")
        deadline = self.clock() + timeout_s + KILL_AFTER_S / 2
        while active := [m for m in self.members.values() if m.is_active]:
            left = deadline - self.clock()
            if left <= 0 or not await self.changes.wait(left):
                break
        for member in active:
            if member.child is not None:
                member.child.kill()
                await member.child.exited()

    def keep_pinned(self) -> None:
        """Loads pinned models, and those that are to be loaded at the start."""
        for member in self.members.values():
            if member.spec.is_pinned or member.spec.loads_at_start:
                self.load(member)

    def _member(self, spec: ModelSpec) -> Member:
        return Member(spec, spec.settings.keep_alive_s)

    async def _until_serving(self, member: Member, may_load: bool) -> None:
        while not member.is_serving:
            if self.is_draining:
                raise shutting_down()
            if not may_load and member.loading is None:
                raise refusals.not_loaded(member)
            if member.is_leaving or member.status is Status.UNLOADING:
                await self.changes.wait()
            else:
                await self._wait_for(member)

    async def _wait_for(self, member: Member) -> None:
        task = self._begin(member)
        member.n_waiting += 1
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not self.is_draining:
                raise refusals.was_unloaded(member) from None
            if not task.cancelled():
                raise
        finally:
            member.n_waiting -= 1
            self.changes.notify()

    def _begin(self, member: Member, *, is_ordered: bool = False) -> asyncio.Task[None]:
        """The loading that is under way, or a new one. Raises ApiError while it may not be."""
        if member.loading is not None:
            return member.loading
        failure, now = member.failure, self.clock()
        if failure is not None and now < failure.until:
            told = refusals.keeps_ending if failure.was_serving else refusals.load_failed
            raise told(member, failure, now)
        task = member.loading = self._spawn(self._load(member, is_ordered))
        return task

    async def _load(self, member: Member, is_ordered: bool) -> None:
        """Raises ApiError."""
        while member.status is Status.UNLOADING:
            await self.changes.wait()
        if member.status is Status.LOADED:
            return
        self._set(member, Status.LOADING)
        try:
            await self._bring_up(member, is_ordered)
        except BaseException as error:
            await self._give_up(member)
            if isinstance(error, ChildFailedError):
                now = self.clock()
                member.note_failure(str(error), error.exit_code, now)
                assert member.failure is not None
                _log.error("loading failed", extra={"fields": {"model": member.name}})
                raise refusals.load_failed(member, member.failure, now) from None
            raise
        finally:
            member.loading = None
            self._set(member, Status.LOADED if member.child else Status.UNLOADED)
            self._forget(member)

    async def _bring_up(self, member: Member, is_ordered: bool) -> None:
        try:
            child = member.child = await self._start(member.spec)
        except OSError as error:
            raise ChildFailedError(f"no process for it ({error.strerror})", 0) from None
        planned = await child.planned()
        member.n_planned = planned.n_bytes
        timeout_s = self._settings.queue_timeout
        await self._rooms.reserve(member, planned.parts, timeout_s, is_ordered=is_ordered)
        child.permit()
        begun, limit = self.clock(), self._settings.load_timeout
        try:
            async with asyncio.timeout(limit):
                member.info = await child.ready()
        except TimeoutError:
            raise ChildFailedError(refusals.took_too_long(member, limit), -9) from None
        member.loaded_at = member.last_used = self.clock()
        member.keep_alive_s = member.spec.settings.keep_alive_s
        member.n_loads += 1
        self._spawn(self._follow(member, child))
        fields = {"model": member.name, "seconds": round(member.loaded_at - begun, 3)}
        _log.info("loaded", extra={"fields": fields | {"bytes": member.n_bytes}})

    async def _give_up(self, member: Member) -> None:
        """Ends the process of a model that is not to be loaded after all."""
        child = member.child
        if child is not None:
            child.kill()
            await asyncio.shield(child.exited())
        member.child, member.n_bytes, member.info = None, 0, {}

    async def _follow(self, member: Member, child: ChildPort) -> None:
        """What happens when a process that has served ends."""
        exit_code = await child.exited()
        if member.status is Status.LOADED:
            member.n_crashes += 1
            member.note_failure(
                f"its process ended with {status_words(exit_code)}", exit_code, self.clock()
            )
            fields = {"model": member.name, "exit_code": exit_code, "running": member.n_running}
            _log.error("a model's process ended", extra={"fields": fields})
        member.child, member.n_bytes, member.info = None, 0, {}
        member.n_running, member.is_leaving = 0, False
        self._set(member, Status.UNLOADED)
        self._forget(member)
        if member.spec.is_pinned and not self.is_draining:
            await self._restart(member)

    def _forget(self, member: Member) -> None:
        """A model that is not served any more, once it has no process."""
        if member.name not in self.catalog.specs and not member.is_active:
            self.members.pop(member.name, None)

    async def _restart(self, member: Member) -> None:
        """Pinned models come back, later and later if they do not stay."""
        while not (self.is_draining or member.is_active or member.loading):
            if member.name not in self.members:
                return
            failure = member.failure
            if failure is not None:
                await asyncio.sleep(max(0.0, failure.until - self.clock()))
            try:
                await asyncio.shield(self._begin(member, is_ordered=True))
            except ApiError:
                await asyncio.sleep(_RESTART_PAUSE_S)

    async def _kill_late(self, child: ChildPort) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_timeout + KILL_AFTER_S):
                await child.exited()
        except TimeoutError:
            child.kill()

    def _set(self, member: Member, status: Status) -> None:
        if member.status is not status:
            member.status = status
            for listener in [*self.listeners]:
                listener(member)
        self.changes.notify()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        """Whoever waits for it sees how it ended; nobody need have waited."""
        self._tasks.discard(task)
        if not task.cancelled() and not isinstance(error := task.exception(), ApiError | None):
            _log.error("unexpected exception", exc_info=error)
