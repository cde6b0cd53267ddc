"""Headers that whoever relays a message does not pass on."""

from __future__ import annotations

# Of one connection, not of the message (RFC 9110, 7.6.1).
OF_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade",
    }
)  # fmt: skip
