"""How much of prompts comes from the cache when more conversations go round than fit.

    python -m tests.bench.http.rotation MODEL [--chats 64] [--tokens 4000] [--turns 3] [--slots 8]
        [--cache-bytes 2000000000] [--flags='--prefix-cache-dir DIR'] [--peer PATH/llama-server]

Each conversation has a prompt of its own and grows by an answer and --grow tokens a turn; all of
them take a turn, as many at a time as there are slots, then all the next. Prompts are token ids: a
synthetic model does. The peer, if one is given, gets the same requests with --cache-ram of as many
bytes. Prints one JSON object a turn: prompt tokens, those from the cache, medians of times.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shlex
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from tests.bench.http.bench import HOST, free_port, running
from tests.bench.programs import Slotmux

LOAD_S = 900.0
N_GENERATED = 4


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: its prompt, what of it was computed, and when the first token came."""

    tokens: list[int]
    n_cached: int
    n_computed: int
    prompt_ms: float
    total_s: float


def ask(port: int, prompt: list[int]) -> Answered:
    """One completion, greedy."""
    connection = http.client.HTTPConnection(HOST, port, timeout=3600)
    body = {
        "prompt": prompt, "n_predict": N_GENERATED, "temperature": 0, "ignore_eos": True,
        "cache_prompt": True, "return_tokens": True,
    }  # fmt: skip
    begun = time.monotonic()
    connection.request(
        "POST", "/completion", json.dumps(body), {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise RuntimeError(str(told))
    timings = told["timings"]
    return Answered(
        told["tokens"],
        timings["cache_n"],
        timings["prompt_n"],
        timings["prompt_ms"],
        time.monotonic() - begun,
    )


def rotate(port: int, args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Every conversation's turns, one round after the other."""
    rngs = [Random(f"{chat}") for chat in range(args.chats)]
    n_first = args.tokens - (args.turns - 1) * (args.grow + N_GENERATED)
    chats: list[list[int]] = [[] for _ in rngs]
    with ThreadPoolExecutor(args.slots) as pool:
        for turn in range(args.turns):
            for chat, rng in zip(chats, rngs, strict=True):
                chat += [
                    rng.randrange(3, args.vocab) for _ in range(args.grow if turn else n_first)
                ]
            answers = list(pool.map(lambda chat: ask(port, chat), chats))
            for chat, answer in zip(chats, answers, strict=True):
                chat += answer.tokens
            n_cached = sum(answer.n_cached for answer in answers)
            n_prompt = n_cached + sum(answer.n_computed for answer in answers)
            yield {
                "turn": turn,
                "prompt_tokens": n_prompt,
                "cached": n_cached,
                "share": round(n_cached / n_prompt, 4),
                "median_prompt_ms": round(statistics.median(a.prompt_ms for a in answers), 1),
                "median_total_s": round(statistics.median(a.total_s for a in answers), 3),
            }


def commands(args: argparse.Namespace, port: int) -> Iterator[tuple[str, list[str]]]:
    """Our server's command line, and the peer's."""
    n_ctx = args.tokens + 2 * N_GENERATED + 64
    ours = ["--parallel", args.slots, "--ctx-size", n_ctx, "--prefix-cache-bytes", args.cache_bytes]
    ours += ["--spec-type", "none", "--port", port, *shlex.split(args.flags)]
    yield "slotmux", [*Slotmux.command, "serve", args.model, *map(str, ours)]
    if args.peer:
        peer = ["-m", args.model, "--parallel", args.slots, "-c", n_ctx * args.slots]
        peer += ["--cache-ram", args.cache_bytes // 2**20, "--port", port]
        yield "llama-server", [args.peer, *map(str, peer), *shlex.split(args.peer_flags)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.http.rotation")
    parser.add_argument("model")
    parser.add_argument("--chats", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=4000, help="of a prompt in the last turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--grow", type=int, default=100, help="tokens a turn")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--vocab", type=int, default=20_000, help="prompts are of ids below this")
    parser.add_argument("--cache-bytes", type=int, default=2 * 10**9)
    parser.add_argument("--flags", default="", help="further flags of slotmux serve")
    parser.add_argument("--peer", default="", help="a llama-server to measure too")
    parser.add_argument("--peer-flags", default="")
    args = parser.parse_args()
    for program, command in commands(args, port := free_port()):
        with running(command, port, LOAD_S):
            for turn in rotate(port, args):
                print(json.dumps({"program": program, **turn}), flush=True)


if __name__ == "__main__":
    main()
