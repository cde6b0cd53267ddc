"""Streaming clients of an OpenAI-compatible server, as cheap as clients can be.

    python -m tests.bench.http.client HOST PORT --clients 8 --n-gen 128

Everything at once: each client sends one request, bytes are only stamped when they come and read
when all is over, so that a client's own work takes little from the server that is measured.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass(slots=True)
class Stream(asyncio.Protocol):
    """One request and what came back: pieces of bytes with the time of each."""

    request: bytes
    done: asyncio.Future[None]
    sent: float = 0.0  # when the connection is there, unless it was said before
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.sent = self.sent or time.perf_counter()
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class Answer:
    """When each token's event came, and how many tokens the server says it made."""

    sent: float
    times: list[float]
    n_tokens: int


def request_bytes(host: str, number: int, n_gen: int) -> bytes:
    """Greedy, never ending early, with a prompt that shares no prefix with another's."""
    body = {
        "prompt": f"{number} {'aloud said the ' * 4}{number}",
        "max_tokens": n_gen,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return post(host, body)


def post(host: str, body: dict[str, object]) -> bytes:
    """A whole request for a completion."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def read_answer(sent: float, pieces: list[tuple[float, bytes]]) -> Answer:
    """Events of a stream with the time at which the last byte of each came. ValueError if the
    server did not answer with a whole stream."""
    whole = b"".join(data for _, data in pieces)
    if not whole.startswith(b"HTTP/1.1 200") or b"data: [DONE]" not in whole:
        raise ValueError(f"the server answered {whole[:300]!r}")
    ends = np.cumsum([len(data) for _, data in pieces])
    times: list[float] = []
    n_tokens = 0
    at = whole.find(b"data: ")
    while at >= 0:
        end = whole.index(b"\n", at)
        payload = whole[at + 6 : end].strip()
        if payload != b"[DONE]":
            event = json.loads(payload)
            n_tokens = (event.get("usage") or {}).get("completion_tokens", n_tokens)
            if any(choice.get("text") for choice in event.get("choices", ())):
                times.append(pieces[int(np.searchsorted(ends, end, side="right"))][0])
        at = whole.find(b"data: ", end)
    return Answer(sent, times, n_tokens)


def summarize(answers: list[Answer]) -> dict[str, float]:
    """``steady``: tokens a second from the last stream's first token to the first stream's last,
    when all of them were running; ``total``: from the first request to the last token."""
    first = max(answer.times[0] for answer in answers)
    last = min(answer.times[-1] for answer in answers)
    n_steady = sum(
        sum(first < t <= last for t in answer.times) * answer.n_tokens / len(answer.times)
        for answer in answers
    )
    n_total = sum(answer.n_tokens for answer in answers)
    seconds = max(a.times[-1] for a in answers) - min(a.sent for a in answers)
    waits = np.array([answer.times[0] - answer.sent for answer in answers]) * 1e3
    gaps = np.concatenate([np.diff(answer.times) for answer in answers]) * 1e3
    out = {
        "steady_tokens_per_second": n_steady / (last - first) if last > first else 0.0,
        "total_tokens_per_second": n_total / seconds,
        "n_tokens": float(n_total),
    }
    for name, values in (("ttft_ms", waits), ("itl_ms", gaps)):
        for percent in (50, 90, 99):
            out[f"{name}_p{percent}"] = float(np.percentile(values, percent))
    return out


async def run_clients(host: str, port: int, n_clients: int, n_gen: int) -> list[Answer]:
    loop = asyncio.get_running_loop()
    salt = int(time.time()) % 100_000 * 100
    streams = [
        Stream(request_bytes(host, salt + i, n_gen), loop.create_future()) for i in range(n_clients)
    ]
    makers = [loop.create_connection(lambda s=s: s, host, port) for s in streams]  # type: ignore[misc]
    await asyncio.gather(*makers)
    await asyncio.gather(*(stream.done for stream in streams))
    return [read_answer(stream.sent, stream.pieces) for stream in streams]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.http.client")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--n-gen", type=int, default=128)
    options = parser.parse_args()
    try:
        answers = asyncio.run(
            run_clients(options.host, options.port, options.clients, options.n_gen)
        )
    except (ValueError, OSError) as error:
        print(f"http.client: {error}", file=sys.stderr)
        return 1
    print(json.dumps(summarize(answers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
