"""Which Host and Origin headers are let in: the guard against DNS rebinding and foreign pages."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from slotmux.server.http.errors import ApiError
from slotmux.server.settings import Settings

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-max-age": "600",
}
# Clients of providers send a dozen headers of their own: whatever is asked for is allowed.
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(\s*,\s*[A-Za-z0-9-]{1,64}){0,63}")
_USUAL_HEADERS = "authorization, content-type, x-api-key, x-request-id"
_EXPOSED = b"x-request-id, x-slot-id, x-unenforced-keywords, retry-after"


class OriginGuard:
    """Decided once from the settings."""

    def __init__(self, settings: Settings) -> None:
        self._origins = frozenset(settings.cors_origins)
        self._hosts: frozenset[str] | None = None
        if settings.is_loopback or settings.allowed_hosts:
            named = {_bare(host) for host in settings.allowed_hosts}
            self._hosts = _LOCAL_HOSTS | named | {_bare(settings.host)}

    def check(self, headers: Headers) -> None:
        """Raises ApiError 403 for a Host or an Origin that may not come in."""
        if self._hosts is not None and _bare(headers.get("host", "")) not in self._hosts:
            raise ApiError(
                403, "This Host is not allowed (--allowed-hosts).", code="host_not_allowed"
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_allowed(origin, headers):
            raise ApiError(
                403, "This Origin is not allowed (--cors-origins).", code="origin_not_allowed"
            )

    def cors_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """What lets a page of an allowed foreign origin read the answer."""
        origin = headers.get("origin")
        if origin is None:
            return []
        exposed = (b"access-control-expose-headers", _EXPOSED)
        if "*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), exposed]
        if origin not in self._origins and not _are_both_local(origin, headers):
            return []
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        return [allowed, (b"vary", b"Origin"), exposed]

    def preflight(self, headers: Headers) -> dict[str, str] | None:
        """Headers that answer a browser's preflight; None if this is not one we allow."""
        if not self.cors_headers(headers) or "access-control-request-method" not in headers:
            return None
        wanted = headers.get("access-control-request-headers", "")
        names = wanted if _HEADER_NAMES.fullmatch(wanted) else _USUAL_HEADERS
        return _PREFLIGHT | {"access-control-allow-headers": names}

    def _is_allowed(self, origin: str, headers: Headers) -> bool:
        if "*" in self._origins or origin in self._origins or _are_both_local(origin, headers):
            return True
        # a page served by this very server
        return origin in (f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https"))


def _are_both_local(origin: str, headers: Headers) -> bool:
    """Whether a page of this machine calls this machine by a local name, on whatever ports.

    A page that DNS rebinding lets in calls by its own name, which is none of these.
    """
    scheme, _, rest = origin.partition("://")
    if scheme not in ("http", "https") or "/" in rest or "@" in rest:
        return False
    return _bare(rest) in _LOCAL_HOSTS and _bare(headers.get("host", "")) in _LOCAL_HOSTS


def _bare(host: str) -> str:
    """A Host header without port and brackets, in lower case; '' if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
