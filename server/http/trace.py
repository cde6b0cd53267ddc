"""What is logged of one HTTP request: numbers and our own names, never a client's text."""

from __future__ import annotations

import itertools
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import Scope, Send

from slotmux.runtime.engine.request import Progress, Usage

_SCOPE_KEY, _SEND_KEY = "slotmux.trace", "slotmux.send"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_counter = itertools.count(1)


@dataclass(slots=True)
class Trace:
    """Filled in by the gate and the routes; logged when the response is over."""

    request_id: str
    number: int = field(default_factory=lambda: next(_counter))
    started: float = field(default_factory=time.monotonic)
    key: str = ""
    status: int = 0
    engine_ids: list[int] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    finishes: list[str] = field(default_factory=list)
    n_prompt: int = 0  # of all prompts of the request
    n_computed: int = 0  # of them, or taken from the cache, so far
    t_admitted: float = 0.0  # on the clock of ``started``; 0 = never
    fairness: str = ""  # X-LLM-D-Inference-Fairness-Id
    session: str = ""  # what a header said that the request belongs to
    progress: Progress | None = None  # of its first engine request
    traceparent: str = ""  # W3C Trace Context, as it was sent
    tracestate: str = ""
    unenforced: tuple[str, ...] = ()  # keywords of schemas that the answer need not keep to
    error: str | None = None
    is_told_elsewhere: bool = False  # another process logs it, with more

    def record(self, scope: Scope) -> dict[str, Any]:
        """The fields of the log line."""
        fields: dict[str, Any] = {
            "event": "request",
            "id": self.number,
            "request_id": self.request_id,
            "key": self.key,
            "method": scope["method"],
            "route": getattr(scope.get("route"), "path", "?"),
            "status": self.status,
            "total_ms": _ms(time.monotonic() - self.started),
        }
        if self.error is not None:
            fields["error"] = self.error
        if self.unenforced:
            fields["unenforced"] = list(self.unenforced)
        if self.usages:
            first = self.usages[0]
            fields |= {
                "engine_ids": self.engine_ids,
                "n_prompt": first.n_prompt,
                "n_cached": first.n_cached,
                "cache_miss": str(first.cache_miss),
                "cache_miss_at": first.cache_miss_at,
                "n_generated": sum(usage.n_generated for usage in self.usages),
                "queue_ms": _ms(first.queue_s),
                "prompt_ms": _ms(first.prompt_s),
                "generate_ms": _ms(max(usage.generate_s for usage in self.usages)),
                "finish": self.finishes,
            }
        elif self.n_prompt:  # ended before its answer did
            until = self.t_admitted or time.monotonic()
            fields |= {
                "engine_ids": self.engine_ids,
                "n_prompt": self.n_prompt,
                "n_computed": self.n_computed,
                "queue_ms": _ms(until - self.started),
            }
        return fields


def request_id_of(sent: str | None) -> str:
    """The client's X-Request-Id if it is harmless, else a new one."""
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    return f"req_{uuid.uuid4().hex}"


def attach(scope: Scope, trace: Trace, send: Send) -> None:
    """Makes ``trace`` reachable from the routes, and the server's own ``send``."""
    scope[_SCOPE_KEY], scope[_SEND_KEY] = trace, send


def send_of_bodies(scope: Scope, send: Send) -> Send:
    """The server's own, past what adds to the start of a response and passes on the rest: for
    streams, once they have begun. ``send``: what there is without a gate."""
    own: Send = scope.get(_SEND_KEY, send)
    return own


def trace_of(request: Request) -> Trace:
    """The trace that the gate attached."""
    trace: Trace = request.scope[_SCOPE_KEY]
    return trace


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
