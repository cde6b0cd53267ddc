"""A request to an ASGI app of this process, without a socket."""

from __future__ import annotations

from starlette.types import ASGIApp, Message

from slotmux.deploy.ray.asked import Headers

_OURS = (b"content-length", b"transfer-encoding")


async def call(
    app: ASGIApp, method: str, path: str, headers: Headers, body: bytes = b""
) -> tuple[int, bytes]:
    """The status and the whole body of the answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            *(pair for pair in headers if pair[0] not in _OURS),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": None,
        "server": None,
    }
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])
    status, parts = 0, []

    async def receive() -> Message:
        return next(sent, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)
