"""Which session a request belongs to: what clients and gateways call it, in a header or a body."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers

from slotmux.server.http.trace import Trace

# What routers hash for stickiness, then what Claude Code, Codex and opencode send.
SESSION_HEADERS = (
    "x-session-id",
    "x-claude-code-session-id",
    "session-id",
    "x-session-affinity",
    "x-opencode-session",
)


def session_header(headers: Headers) -> str:
    """What a header says of the session; '' if none does."""
    return next((headers[name] for name in SESSION_HEADERS if headers.get(name)), "")


def session_name(trace: Trace, session_id: str | None, cache_key: str | None) -> str:
    """A short name for the session that a body, else a header, else a cache key speaks of; '' if
    none does. Another API key has other sessions, whatever they are called."""
    sent = session_id or trace.session or cache_key
    if not sent:
        return ""
    return hashlib.sha256(f"{trace.key}/{sent}".encode()).hexdigest()[:32]
