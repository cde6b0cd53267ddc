"""An application on the cluster, as tests handle it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import httpx
from ray import serve

from slotmux.deploy.ray.application import app

NAME = "slotmux"
DEFAULTS: dict[str, Any] = {
    "model": "demo",
    "host": "127.0.0.1",
    "parallel": 8,
    "ctx_size": 2048,
    "drain_timeout": 120.0,
}


@dataclass(frozen=True)
class Running:
    """One replica."""

    replica: str
    url: str
    pid: int


class Deployed:
    """There is one application at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=120)

    def run(self, **options: Any) -> None:
        """Deploys it, or changes it, and waits until it is whole and HAProxy knows."""
        given = options if "models" in options else DEFAULTS | options
        serve.run(app(given), name=NAME)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.client.get("/readyz").status_code == 200:
                return
            time.sleep(0.2)
        raise AssertionError("the application cannot be reached")

    def replicas(self, model: str = "default") -> list[Running]:
        """All that run."""
        handle = serve.get_deployment_handle(f"slotmux:{model}", NAME)
        return [Running(**told) for told in handle.broadcast("told").results(timeout_s=30)]

    def chat(self, text: str, **more: Any) -> httpx.Response:
        """The answer to one message, not judged."""
        headers = more.pop("headers", {})
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0} | more
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def remove(self) -> None:
        """Nothing of it is left."""
        self.client.close()
        serve.delete(NAME)
