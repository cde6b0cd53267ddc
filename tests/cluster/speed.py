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


def cpu_seconds(*names: str) -> float:
    """What processes of this user with these beginnings of a name have used."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "cmdline").read_text().split("\0")[0].rpartition("/")[2]
            if name.startswith(names):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # user and system
    return ticks / os.sysconf("SC_CLK_TCK")


BETWEEN = ("ray::ServeReplica:slotmux:Front", "haproxy", "ray::ProxyActor", "ray::HAProxyManager")
REPLICAS = ("ray::ServeReplica:slotmux:slotmux",)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
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
        deployed.run(replicas=2, model=chosen.model, parallel=chosen.clients, routing="load")
        direct = [each.url for each in deployed.replicas()]
        ratios, n_relayed, between, within = [], 0, 0.0, 0.0
        for n in range(-1, chosen.rounds):  # the first is for warmth alone
            before = cpu_seconds(*BETWEEN), cpu_seconds(*REPLICAS)
            pair = []
            for k, urls in enumerate(([deployed.url], direct)):
                work = tokens_per_second(urls, chosen.clients, chosen.tokens, 1000 * n + 100 * k)
                pair.append(asyncio.run(work))
                if n >= 0 and k == 0:
                    between += cpu_seconds(*BETWEEN) - before[0]
                    within += cpu_seconds(*REPLICAS) - before[1]
                    n_relayed += chosen.clients * chosen.tokens
            if n >= 0:
                ratios.append(pair[0] / pair[1])
                print(f"front {pair[0]:.0f}, direct {pair[1]:.0f} tokens/s: {ratios[-1]:.3f}")
        print(f"median of ratios: {statistics.median(ratios):.3f}")
        told = between / n_relayed * 1e6, within / n_relayed * 1e6
        share = within / (within + between)
        print(
            f"CPU time a token: {told[0]:.0f} us between, {told[1]:.0f} us in replicas: {share:.3f}"
        )
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
