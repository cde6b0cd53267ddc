"""`python -m tests.cluster.speed MODEL`: tokens a second through the front, beside the same clients
at the replicas themselves, in turn, round by round; and the CPU time of both sides of it, which
other programs on the machine do not change much."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import httpx


async def one(client: httpx.AsyncClient, url: str, number: int, n_tokens: int) -> int:
    """Reads a stream; the tokens that it had."""
    body = {
        "messages": [{"role": "user", "content": f"Story number {number}, please."}],
        "max_tokens": n_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    n_chunks = 0
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        async for chunk in response.aiter_bytes():
            n_chunks += len(chunk) > 0
    assert n_chunks > 1
    return n_tokens


async def tokens_per_second(urls: list[str], n_clients: int, n_tokens: int, first: int) -> float:
    """Of all clients together, spread over ``urls``."""
    async with httpx.AsyncClient(timeout=600) as client:
        began = time.perf_counter()
        work = [one(client, urls[i % len(urls)], first + i, n_tokens) for i in range(n_clients)]
        n = sum(await asyncio.gather(*work))
        return n / (time.perf_counter() - began)


PARTS = {
    "replicas": ("ray::ServeReplica:slotmux:slotmux",),
    "front": ("ray::ServeReplica:slotmux:Front",),
    "proxy": ("haproxy", "ray::ProxyActor"),
    "Ray": ("ray::HAProxyManager", "ray::ServeController", "raylet", "gcs_server"),
}


def cpu_seconds() -> dict[str, float]:
    """What the processes of each part have used; processes of other clusters are not told apart."""
    used = dict.fromkeys(PARTS, 0.0)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "cmdline").read_text().split("\0")[0].rpartition("/")[2]
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            for part, names in PARTS.items():
                if name.startswith(names):  # user and system time
                    ticks = int(fields[11]) + int(fields[12])
                    used[part] += ticks / os.sysconf("SC_CLK_TCK")
    return used


def measure(relayed: str, direct: list[str], chosen: argparse.Namespace) -> None:
    """Prints each pair, then what the rounds together say."""
    ratios, used = [], Counter[str]()
    for n in range(-1, chosen.rounds):  # the first is for warmth alone
        pair = []
        for k, urls in enumerate(([relayed], direct)):
            before = cpu_seconds()
            work = tokens_per_second(urls, chosen.clients, chosen.tokens, 1000 * n + 100 * k)
            pair.append(asyncio.run(work))
            if n >= 0 and k == 0:
                used.update({part: s - before[part] for part, s in cpu_seconds().items()})
        if n >= 0:
            ratios.append(pair[0] / pair[1])
            print(f"relayed {pair[0]:.0f}, direct {pair[1]:.0f} tokens/s: {ratios[-1]:.3f}")
    print(f"median of ratios: {statistics.median(ratios):.3f}")
    n_tokens = chosen.rounds * chosen.clients * chosen.tokens
    for part, seconds in used.items():
        print(f"{part}: {seconds / n_tokens * 1e6:.0f} us of CPU time a token")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--proxy", choices=("haproxy", "ray"), default="haproxy")
    chosen = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = str(int(chosen.proxy == "haproxy"))
    import ray
    from ray import serve

    from tests.cluster.deployed import Deployed

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 8765})
        deployed = Deployed("http://127.0.0.1:8765")
        deployed.run(
            replicas=chosen.replicas, model=chosen.model, parallel=chosen.clients, routing="load"
        )
        direct = [each.url for each in deployed.replicas()]
        measure(deployed.url, direct, chosen)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
