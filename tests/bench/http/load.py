"""Sends requests at given times, or as many together as asked, and stamps what comes back.

    python -m tests.bench.http.load HOST PORT [--together N] < requests.json > answers.json

A process of its own, so that its work stands in nobody else's way but by the CPU it takes.
Requests: a list of {"at": seconds, "prompt": token ids, "n_gen": tokens}; with --together N times
do not count, N are open until there are no more. Answers: a list in the same order of {"sent",
"times", "n_tokens", "error"}, seconds since the start.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from typing import Any

from tests.bench.http.client import Stream, post, read_answer

TIMEOUT_S = 900.0


def body_of(request: dict[str, Any]) -> dict[str, Any]:
    """Greedy and never ending early: every program computes the same tokens."""
    return {
        "prompt": request["prompt"],
        "max_tokens": request["n_gen"],
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def send(host: str, port: int, data: bytes) -> Stream:
    """One request, to its end; one that the server does not take has no bytes."""
    loop = asyncio.get_running_loop()
    stream = Stream(data, loop.create_future(), time.perf_counter())
    try:
        await loop.create_connection(lambda: stream, host, port)
        async with asyncio.timeout(TIMEOUT_S):
            await stream.done
    except (OSError, TimeoutError) as error:
        stream.pieces.append((time.perf_counter(), f"{type(error).__name__}: {error}".encode()))
    return stream


async def send_all(host: str, port: int, requests: list[dict[str, Any]]) -> list[Stream]:
    """Each at its time, whatever became of the others."""
    datas = [post(host, body_of(request)) for request in requests]
    begin = time.perf_counter()

    async def at(request: dict[str, Any], data: bytes) -> Stream:
        await asyncio.sleep(begin + request["at"] - time.perf_counter())
        return await send(host, port, data)

    return await asyncio.gather(*(at(r, d) for r, d in zip(requests, datas, strict=True)))


async def send_together(
    host: str, port: int, requests: list[dict[str, Any]], n_together: int
) -> list[Stream]:
    """So many at a time until all were sent."""
    left = iter([post(host, body_of(request)) for request in requests])

    async def lane() -> list[tuple[int, Stream]]:
        return [(i, await send(host, port, data)) for i, data in numbered]

    numbered = ((i, data) for i, data in enumerate(left))
    lanes = await asyncio.gather(*(lane() for _ in range(n_together)))
    return [stream for _, stream in sorted((pair for lane in lanes for pair in lane), key=_first)]


def _first(pair: tuple[int, Stream]) -> int:
    return pair[0]


def told(stream: Stream, begin: float) -> dict[str, Any]:
    """What came, as JSON."""
    try:
        answer = read_answer(stream.sent, stream.pieces)
    except ValueError as error:
        return {"sent": stream.sent - begin, "times": [], "n_tokens": 0, "error": str(error)[:300]}
    times = [t - begin for t in answer.times]
    return {
        "sent": answer.sent - begin,
        "times": times,
        "n_tokens": answer.n_tokens,
        "error": "" if times else "no text came",
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.http.load")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--together", type=int, default=0)
    options = parser.parse_args()
    requests = json.load(sys.stdin)
    gc.disable()  # a collection would be taken for a pause of the server
    host, port = options.host, options.port
    begin = time.perf_counter()
    if options.together:
        streams = asyncio.run(send_together(host, port, requests, options.together))
    else:
        streams = asyncio.run(send_all(host, port, requests))
    json.dump([told(stream, begin) for stream in streams], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
