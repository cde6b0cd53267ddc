"""slotmux servers and a proxy before them, as processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
SLOTMUX = Path(os.environ.get("SLOTMUX_COMMAND", ROOT / ".venv" / "bin" / "slotmux"))
READY_WITHIN_S = 600  # a first start compiles kernels


@dataclass
class Replica:
    """A server whose answers tell its name as the model."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def drain(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def n_running(self) -> int:
        """Choices in its slots."""
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(r"^vllm:num_requests_running (\S+)$", text, re.M)
        assert found is not None
        return int(float(found[1]))


@contextlib.contextmanager
def two_replicas(*flags: str) -> Iterator[list[Replica]]:
    """Both ready."""
    replicas = [_start(name, *flags) for name in ("one", "two")]
    try:
        for replica in replicas:
            wait_until_ready(replica.url, replica.process)
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()


def _start(name: str, *flags: str) -> Replica:
    port = free_port()
    command = [str(SLOTMUX), "serve", "demo", "--port", str(port), "--alias", name]
    command += ["--threads", "1", "--ctx-size", "2048", "--spec-type", "none", *flags]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    return Replica(name, port, process)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until /readyz says so."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{url} ended"
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} is not ready")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def with_ports(text: str, listen: int, replicas: list[Replica]) -> str:
    """A configuration of deploy/ with ports of this test's."""
    for old, new in ((8080, listen), *zip((8081, 8082), (r.port for r in replicas), strict=True)):
        text, n = re.subn(rf"127\.0\.0\.1:{old}\b", f"127.0.0.1:{new}", text)
        assert n == 1, old
    return text


@contextlib.contextmanager
def nginx(replicas: list[Replica], folder: Path) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    site = (ROOT / "deploy/nginx/slotmux.conf").read_text()
    (folder / "slotmux.conf").write_text(with_ports(site, port, replicas))
    folders = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; worker_processes 1; error_log stderr;\n"
        "events {}\n"
        f"http {{ access_log off; {folders} include {folder}/slotmux.conf; }}\n"
    )
    with _proxy(["nginx", "-c", f"{folder}/nginx.conf", "-e", "stderr"], port) as url:
        yield url


@contextlib.contextmanager
def haproxy(replicas: list[Replica], folder: Path, n_places: int = 68) -> Iterator[str]:
    """Its URL. ``n_places``: what a replica has in slots and queue."""
    port = free_port()
    text = with_ports((ROOT / "deploy/haproxy/haproxy.cfg").read_text(), port, replicas)
    assert "maxconn 68" in text
    (folder / "haproxy.cfg").write_text(text.replace("maxconn 68", f"maxconn {n_places}"))
    with _proxy(["haproxy", "-f", f"{folder}/haproxy.cfg"], port) as url:
        yield url


PROXIES: dict[str, Callable[..., contextlib.AbstractContextManager[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
}


@contextlib.contextmanager
def _proxy(command: list[str], port: int) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()
