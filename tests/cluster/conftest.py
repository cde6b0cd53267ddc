"""A Ray cluster of this machine, with HAProxy before it, for all tests of this folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

# Read by Ray when it is imported: HAProxy is the entrance, nobody is told, nobody else's is met.
os.environ |= {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ADDRESS": "local",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",  # else each test waits 30 s for HAProxy
}

import ray
from ray import serve

from tests.cluster.deployed import Deployed


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Its URL. More CPUs than there are: replicas here are tiny."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def deployed(cluster: str) -> Iterator[Deployed]:
    """Runs applications, and removes them."""
    application = Deployed(cluster)
    try:
        yield application
    finally:
        application.remove()
