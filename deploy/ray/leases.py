"""Places at a replica: given to fronts through Ray, taken up by HTTP, over with the response."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from slotmux.deploy.ray.asked import LEASE_HEADER
from slotmux.server.http.errors import unavailable
from slotmux.server.http.shapes import error_response, openai_body

CLAIM_WITHIN_S = 10.0  # then the front is thought dead


class Place:
    """One lease, as the replica sees it."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self._is_claimed = asyncio.Event()
        self._is_over = asyncio.Event()

    async def until_over(self) -> None:
        """Returns when its request has ended, or when nobody came."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_claimed.wait(), CLAIM_WITHIN_S)
        if self._is_claimed.is_set():
            await self._is_over.wait()

    def claim(self) -> None:
        """Its request is here."""
        self._is_claimed.set()

    def end(self) -> None:
        """Its request has ended."""
        self._is_over.set()


class Leases:
    """ASGI: ``app``, where a request that names a place ends it. A place that is no more is a 503:
    Ray may think that the replica has room, or is gone. Event loop of the replica only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places: dict[str, Place] = {}

    def open(self) -> Place:
        """A new place."""
        place = Place()
        self._places[place.id] = place
        return place

    def drop(self, place: Place) -> None:
        """It is not honoured any more."""
        self._places.pop(place.id, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = Headers(scope=scope).get(LEASE_HEADER) if scope["type"] == "http" else None
        if name is None:
            await self._app(scope, receive, send)
            return
        place = self._places.get(name)
        if place is None:
            error = unavailable("The lease is over.", "lease_over")
            await error_response(error, openai_body)(scope, receive, send)
            return
        place.claim()
        try:
            await self._app(scope, receive, send)
        finally:
            place.end()
