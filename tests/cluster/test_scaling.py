"""As many replicas as keep ongoing requests at one a slot."""

from __future__ import annotations

import threading
import time

import httpx

from tests.cluster.deployed import Deployed
from tests.cluster.streams import long_story

PATIENCE_S = 180.0  # Ray waits half a minute before it believes in a load


def test_load_brings_another_replica(deployed: Deployed) -> None:
    deployed.run(replicas=1, max_replicas=2, parallel=2)
    assert len(deployed.replicas()) == 1
    over = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=deployed.url, timeout=120) as client:
            while not over.is_set():
                body = long_story(number, 600) | {"stream": False}
                assert client.post("/v1/chat/completions", json=body).status_code == 200

    askers = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for asker in askers:
        asker.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(deployed.replicas()) < 2:
            assert time.monotonic() < deadline, "there is still one replica"
            time.sleep(1)
    finally:
        over.set()
        for asker in askers:
            asker.join()
