"""A small stand-in for the Hugging Face hub: what huggingface_hub asks for, and a CDN behind it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Seen:
    """One request as it came in."""

    method: str
    path: str
    host: str
    range: str | None
    authorization: str | None


@dataclass
class FakeHub:
    """Repositories by name, each a dict of files. The switches below make it misbehave."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None  # wanted from every client
    status: int | None = None  # answer everything with this
    break_after: list[int] = field(default_factory=list)  # bytes; one entry a GET that breaks off
    stall: threading.Event | None = None  # half a body, then wait for this
    ignore_range: bool = False
    corrupt: bool = False
    error_code: str | None = None
    seen: list[Seen] = field(default_factory=list)
    endpoint: str = ""
    port: int = 0

    def gets(self) -> list[Seen]:
        """The requests that fetched content."""
        return [seen for seen in self.seen if seen.method == "GET" and "/cdn/" in seen.path]

    def blob(self, digest: str) -> bytes | None:
        for files in self.repos.values():
            for data in files.values():
                if hashlib.sha256(data).hexdigest() == digest:
                    return data
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        header = self.headers.get
        path = urlsplit(self.path).path
        host = header("Host", "").partition(":")[0]
        self.hub.seen.append(
            Seen(self.command, path, host, header("Range"), header("Authorization"))
        )
        if self.hub.status is not None:
            return self._error(self.hub.status)
        if path.startswith("/cdn/"):
            return self._serve_blob(path.removeprefix("/cdn/"))
        if self.hub.token is not None and header("Authorization") != f"Bearer {self.hub.token}":
            return self._error(401)
        if path.startswith("/api/models/"):
            return self._serve_info(path.removeprefix("/api/models/").partition("/revision/")[0])
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        return self._serve_pointer(repo, rest.partition("/")[2])

    def _serve_info(self, repo: str) -> None:
        if repo not in self.hub.repos:
            return self._error(404, "RepoNotFound")
        siblings = []
        for name, data in self.hub.repos[repo].items():
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "b" * 40}
            if name.endswith(".gguf"):
                digest = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "tags": []}
        return self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _serve_pointer(self, repo: str, name: str) -> None:
        data = self.hub.repos.get(repo, {}).get(name)
        if data is None:
            return self._error(404, "EntryNotFound")
        digest = hashlib.sha256(data).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
            # Another host name for the same server: the token must not go there.
            "Location": f"http://localhost:{self.hub.port}/cdn/{digest}",
        }
        return self._answer(302, b"", headers)

    def _serve_blob(self, digest: str) -> None:
        data = self.hub.blob(digest)
        if data is None:
            return self._error(404)
        if self.hub.corrupt:
            data = bytes(len(data))
        start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        if start >= len(data):
            return self._error(416)
        status, headers = 200, {"ETag": f'"{digest}"'}
        if self.headers.get("Range") and not self.hub.ignore_range:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        return self._answer(status, data, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._send(body, is_blob="/cdn/" in self.path)

    def _send(self, body: bytes, is_blob: bool) -> None:
        if is_blob and self.hub.break_after:
            self.wfile.write(body[: self.hub.break_after.pop(0)])
            self.close_connection = True
        elif is_blob and self.hub.stall is not None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.stall.wait(30)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _error(self, status: int, code: str | None = None) -> None:
        code = self.hub.error_code or code
        self._answer(status, b'{"error":"no"}', {"X-Error-Code": code} if code else {})


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running FakeHub on a free port of 127.0.0.1."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    hub.endpoint = f"http://127.0.0.1:{hub.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        if hub.stall is not None:
            hub.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()
