"""Records what a client sends, each body as a fixture that is cut to what may matter.

`python -m tests.clients.record SERVER_URL FOLDER` prints where to point the client, and passes its
requests on.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_TEXT = 60  # characters of a text that are kept: bodies are fixtures, prompts are not ours
KEPT_HEADERS = re.compile(r"anthropic-.*|.*session.*|x-client-request-id|user-agent|originator")
_HOP = ("host", "connection", "accept-encoding", "transfer-encoding", "content-length")
_PATH = re.compile(r"(?<![\w/])/(?:tmp|home|root|work|var|Users|opt|usr|proj)(?:/[\w.@+-]+)*")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def cut(value: Any) -> Any:
    """The same structure with long texts cut, and nothing of the machine in it."""
    if isinstance(value, dict):
        return {name: cut(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [cut(inner) for inner in value]
    if not isinstance(value, str):
        return value
    text = _UUID.sub("01234567-89ab-4cde-8f01-23456789abcd", _PATH.sub("/path", value))
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT]


def fixture(method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """What of a request is kept."""
    kept = {name: cut(value) for name, value in headers.items() if KEPT_HEADERS.fullmatch(name)}
    return {"method": method, "path": path, "headers": kept, "body": cut(json.loads(body))}


def _handler(server: str, folder: Path) -> type[BaseHTTPRequestHandler]:
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if body:
                kept = fixture(self.command, self.path, headers, body)
                text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
                (folder / f"{next(numbers):02}.json").write_text(text)
            connection = http.client.HTTPConnection(server, timeout=600)
            sent = {name: value for name, value in headers.items() if name not in _HOP}
            connection.request(self.command, self.path, body, sent)
            self._answer(connection.getresponse())

        def _answer(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = do_DELETE = pass_on

        def log_message(self, *words: object) -> None:
            print(self.command, self.path, *words[1:2], file=sys.stderr)

    return Handler


def main(url: str, folder: str) -> None:
    """Runs until it is interrupted."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(urlsplit(url).netloc, place))
    print(f"http://127.0.0.1:{proxy.server_port}", flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
