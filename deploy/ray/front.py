"""What clients speak to: reads a request, has Ray find a place for it, relays the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import aiohttp
import orjson
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from ray.serve.handle import DeploymentHandle
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from slotmux.deploy.ray.asked import Asked, Probe
from slotmux.deploy.ray.relay import Afterwards, Relay
from slotmux.deploy.ray.scrape import Scraped
from slotmux.server.dialects import DIALECTS
from slotmux.server.http.errors import ApiError, json_response
from slotmux.server.http.paths import Paths
from slotmux.server.http.session import session_header
from slotmux.server.http.shapes import error_response
from slotmux.server.process.exposition import merged
from slotmux.server.routes import ROUTES
from slotmux.server.settings import MAX_BODY_BYTES

_SCRAPE_S = 5.0
# Ray's own word for it, and what proxies make of that.
_MODEL_HEADERS = ("serve_multiplexed_model_id", "serve-multiplexed-model-id")


class Front:
    """One of the processes that relay. ``models``: a handle of the replicas of each."""

    def __init__(self, models: dict[str, DeploymentHandle]) -> None:
        self._models = models

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return FrontApp(self._models)


class FrontApp:
    """ASGI. Holds nothing of a request beyond its response."""

    def __init__(self, models: dict[str, DeploymentHandle]) -> None:
        self._models = models
        self._paths = Paths([module.endpoints for module in (*ROUTES, *DIALECTS)])
        self._session: aiohttp.ClientSession | None = None
        self._afterwards = Afterwards()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
                    auto_decompress=False,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                )
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._session is not None:
                    await self._session.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        shape = self._paths.shape_of(scope["path"])
        try:
            body = await _body_of(receive)
            if body is None:  # the client has gone
                return
            if scope["path"] == "/livez":
                await json_response({"status": "ok"})(scope, receive, send)
                return
            if scope["path"] == "/metrics":
                await self._tell_metrics(scope, receive, send)
                return
            if len(self._models) > 1 and scope["path"] in ("/v1/models", "/models"):
                await self._tell_models(scope, receive, send)
                return
            handle = self._handle_for(scope, body)
        except ApiError as error:
            await error_response(error, shape)(scope, receive, send)
            return
        assert self._session is not None
        relay = Relay(self._session, handle, scope, send, shape, self._afterwards)
        asked = Asked(
            Probe(scope["path"], tuple(scope["headers"]), body),
            session_header(Headers(scope=scope)) or _session_in(body),
        )
        await _unless_gone(relay.run(asked), receive)

    def _handle_for(self, scope: Scope, body: bytes) -> DeploymentHandle:
        """The replicas of the model that is asked for. Raises ApiError 404."""
        if len(self._models) == 1:
            return next(iter(self._models.values()))  # which judges names itself
        headers = Headers(scope=scope)
        told = (_model_in(body), *(headers.get(header) for header in _MODEL_HEADERS))
        name = next((each for each in told if each), "")
        if not name or name == "default":
            return next(iter(self._models.values()))
        for known, handle in self._models.items():
            if known.casefold() == name.casefold():
                return handle
        names = ", ".join(f"'{known}'" for known in self._models)
        message = f"The model does not exist here. Served: {names}."
        raise ApiError(404, message, param="model", code="model_not_found")

    async def _tell_metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Those of all replicas, told apart."""
        headers = tuple(scope["headers"])
        calls = [handle.broadcast("scraped", headers) for handle in self._models.values()]
        answers = await asyncio.gather(
            *(c.results_async(timeout_s=_SCRAPE_S, return_exceptions=True) for c in calls)
        )
        scraped = [each for some in answers for each in some if isinstance(each, Scraped)]
        refused = next((each for each in scraped if each.status != 200), None)
        if refused is not None:
            text, status = refused.text, refused.status
        else:
            pages = {each.replica: each.text.encode() for each in scraped}
            text, status = merged("replica", pages).decode(), 200
        media = "application/json" if refused is not None else CONTENT_TYPE_LATEST
        await Response(text, status, media_type=media)(scope, receive, send)

    async def _tell_models(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "slotmux"}
            for name in self._models
        ]
        await json_response({"object": "list", "data": data})(scope, receive, send)


async def _body_of(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    n_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        n_bytes += len(parts[-1])
        if n_bytes > MAX_BODY_BYTES:
            raise ApiError(
                413, f"A body has at most {MAX_BODY_BYTES} bytes.", code="body_too_large"
            )
        if not message.get("more_body", False):
            return b"".join(parts)


def _model_in(body: bytes) -> str | None:
    found = _object_in(body).get("model")
    return found if isinstance(found, str) else None


def _session_in(body: bytes) -> str:
    told = _object_in(body)
    names = (told.get("session_id"), told.get("prompt_cache_key"))
    return next((name for name in names if isinstance(name, str) and name), "")


def _object_in(body: bytes) -> dict[str, Any]:
    """What a body says; nothing where it is no JSON object: its replica will say so."""
    with contextlib.suppress(orjson.JSONDecodeError):
        told = orjson.loads(body)
        if isinstance(told, dict):
            return told
    return {}


async def _unless_gone(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Does ``work`` until the client goes."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
