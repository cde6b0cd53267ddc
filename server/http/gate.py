"""The outermost layer of the app: who may come in, what every answer carries, one log line."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slotmux.server.http.auth import BySetting, access_by
from slotmux.server.http.errors import ApiError, internal, unauthorized
from slotmux.server.http.origins import OriginGuard
from slotmux.server.http.paths import Paths
from slotmux.server.http.session import session_header
from slotmux.server.http.shapes import NOT_SUPPORTED, error_response
from slotmux.server.http.trace import Trace, attach, request_id_of
from slotmux.server.process.logs import LOGGER, describe
from slotmux.server.process.state import ServerState

_log = logging.getLogger(LOGGER)
# What a gateway says of whom a request is for: llm-d's word for it, and the one it had before.
FAIRNESS_HEADER, MAX_FAIRNESS_CHARS = "x-llm-d-inference-fairness-id", 128
_OLD_FAIRNESS_HEADER = "x-gateway-inference-fairness-id"

# What is asked again and again, by programs: not worth a line of the log.
_PROBES = frozenset({"/health", "/livez", "/readyz", "/metrics", "/slots", "/board"})


class Gate:
    """Plain ASGI: a response passes through with one added header and nothing per chunk."""

    def __init__(self, app: ASGIApp, state: ServerState, paths: Paths) -> None:
        self._app = app
        self._state = state
        self._paths = paths
        self._origins = OriginGuard(state.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        trace = Trace(request_id_of(headers.get("x-request-id")))
        fairness = headers.get(FAIRNESS_HEADER) or headers.get(_OLD_FAIRNESS_HEADER, "")
        trace.fairness = fairness[:MAX_FAIRNESS_CHARS]
        trace.session = session_header(headers)
        trace.traceparent = headers.get("traceparent", "")
        trace.tracestate = headers.get("tracestate", "")
        attach(scope, trace, send)
        sender = _Sender(send, trace, self._origins.cors_headers(headers))
        try:
            early = self._admit(scope, headers, trace)
            if early is not None:
                await early(scope, receive, sender)
            else:
                await self._app(scope, receive, sender)
        except ApiError as error:
            trace.error = str(error.code)
            if not sender.is_started:
                await self._tell(error, scope, receive, sender)
        except ClientDisconnect:
            trace.error = "client_disconnected"
        except Exception as error:
            trace.error = "internal_error"
            _log.error("unexpected exception", extra={"fields": describe(error)})
            if not sender.is_started:
                await self._tell(internal(), scope, receive, sender)
        finally:
            self._account(scope, trace)

    def _admit(self, scope: Scope, headers: Headers, trace: Trace) -> Response | None:
        """An answer that needs no route. Raises ApiError (401, 403, 404)."""
        self._origins.check(headers)
        if scope["method"] == "OPTIONS":
            allowed = self._origins.preflight(headers)
            if allowed is not None:
                return Response(status_code=204, headers=allowed)
        rule = self._paths.rule(scope["path"])
        access = access_by(rule, self._state.settings)
        fingerprint = self._state.keys.identify(headers)
        if fingerprint is None and access != "public":
            raise unauthorized()
        trace.key = fingerprint or ""
        if access == "off":
            assert isinstance(rule, BySetting)
            raise ApiError(
                501,
                f"This endpoint is switched off ({rule.flag}).",
                code="endpoint_off",
                type=NOT_SUPPORTED,
            )
        return None

    async def _tell(self, error: ApiError, scope: Scope, receive: Receive, sender: _Sender) -> None:
        shape = self._paths.shape_of(scope["path"])
        await error_response(error, shape)(scope, receive, sender)

    def _account(self, scope: Scope, trace: Trace) -> None:
        fields = trace.record(scope)
        self._state.metrics.count_request(fields["route"], trace.status, trace.error)
        is_probe = fields["route"] in _PROBES
        telemetry, service = self._state.telemetry, self._state.service
        if telemetry is not None and not is_probe:
            model = "" if service is None else service.loaded.info.name
            telemetry.record(trace, scope["method"], fields["route"], model)
        is_quiet = is_probe or trace.is_told_elsewhere
        level = logging.DEBUG if is_quiet else logging.INFO
        if _log.isEnabledFor(level):
            _log.log(level, "request", extra={"fields": fields})


class _Sender:
    """Adds the headers that every answer carries, and remembers the status."""

    def __init__(self, send: Send, trace: Trace, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._trace = trace
        self._headers = [*headers, (b"x-request-id", trace.request_id.encode())]
        self.is_started = False

    async def __call__(self, message: Message) -> None:
        if not self.is_started and message["type"] == "http.response.start":
            self.is_started = True
            self._trace.status = message["status"]
            message["headers"] = [*message.get("headers", []), *self._headers, *self._facts()]
        await self._send(message)

    def _facts(self) -> list[tuple[bytes, bytes]]:
        """Where the request is computed, if anywhere, and what of its schemas is passed over."""
        progress, unenforced = self._trace.progress, self._trace.unenforced
        facts = []
        if progress is not None and progress.slot_id >= 0:
            facts.append((b"x-slot-id", str(progress.slot_id).encode()))
        if unenforced:
            facts.append((b"x-unenforced-keywords", ", ".join(unenforced).encode()))
        return facts
