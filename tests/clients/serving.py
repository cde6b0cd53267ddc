"""A real server, as a user starts it: `slotmux serve MODEL` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLOTMUX = Path(os.environ.get("SLOTMUX_COMMAND", ROOT / ".venv" / "bin" / "slotmux"))
READY_WITHIN_S = 600  # a first start compiles kernels


@contextlib.contextmanager
def serving(model: str, *flags: str) -> Iterator[str]:
    """The URL of a server that is ready. It is told to stop at the end, and has to stop well."""
    with running(model, *flags) as server:
        yield server.url


@contextlib.contextmanager
def running(model: str, *flags: str) -> Iterator[Server]:
    """The same, with what it says of its requests."""
    port = _free_port()
    command = [str(SLOTMUX), "serve", model, "--port", str(port), *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
    log = _Log(process)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, log)
        yield Server(url, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.text()
        assert '"level":"error"' not in log.text(), log.text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Server:
    """A server that runs."""

    def __init__(self, url: str, log: _Log) -> None:
        self.url = url
        self._log = log

    def requests(self) -> list[dict]:
        """What was logged of each request to a model, in the order they ended."""
        lines = [line for line in self._log.text().splitlines() if '"event":"request"' in line]
        return [told for line in lines if (told := json.loads(line))["method"] == "POST"]


class _Log:
    """What the server says, read as it comes: a full pipe would stop it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._thread.start()

    def _read(self, stream) -> None:
        self._lines.extend(stream)

    def text(self) -> str:
        return "".join(self._lines)


def _wait_until_ready(process: subprocess.Popen[str], url: str, log: _Log) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended:\n{log.text()}"
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/readyz", timeout=5),
        ):
            return
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready:\n{log.text()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
