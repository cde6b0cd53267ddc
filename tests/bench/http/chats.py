"""How clients of a loaded server fare: real chats' lengths, arriving at shares of its capacity.

    python -m tests.bench.http.chats MODEL.gguf --peer llama.cpp/build/bin/llama-server

Each server is started with the same slots, contexts and threads. Its capacity is measured first:
requests of the trace, as many open as it has slots, one after the other. Then the requests come by
themselves, by Poisson, at 30, 60 and 90 % of *slotmux's* capacity: the same requests at the same
times for every server (--own: of each one's own capacity). Clients share the CPUs with the server.

`good`: requests within both bounds, of all. `longest pause`: between two pieces of text of any
answer, which slotmux bounds by --max-step-ms or four plain steps, whichever is more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.loading.cores import n_usable_cores
from tests.bench.http.bench import HOST, free_port, running
from tests.bench.http.latency import Bounds, capacity, summary
from tests.bench.http.trace import DISTRIBUTIONS, Chat, arrivals, chats
from tests.bench.programs import ProgramError, Slotmux
from tests.bench.quiet import MOST_SLOWDOWN, Quiet, Watch
from tests.bench.report import rows

Requests = list[dict[str, Any]]
COLUMNS = (
    *(("first token p50", "ttft_ms_p50"), ("p95", "ttft_ms_p95"), ("p99", "ttft_ms_p99")),
    *(("a token p50", "tpot_ms_p50"), ("p95", "tpot_ms_p95"), ("p99", "tpot_ms_p99")),
    ("longest pause", "longest_pause_ms"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A program under load: its name, and how it is started on a port."""

    name: str
    command: Callable[[int], list[str]]

    def running(self, port: int) -> AbstractContextManager[None]:
        return running(self.command(port), port)


def servers(options: argparse.Namespace, n_threads: int) -> list[Server]:
    """slotmux of this checkout, and llama-server where a path says so."""
    model, n_slots, n_ctx = str(options.model), options.parallel, options.ctx_size

    def ours(port: int) -> list[str]:
        numbers = ("--port", port, "--parallel", n_slots, "--ctx-size", n_ctx)
        more = ("--threads", n_threads, "--max-step-ms", options.max_step_ms)
        # No request is turned away: how long they wait is what is asked.
        waits = ("--max-queue", 100_000, "--queue-timeout", 3600, "--first-token-timeout", 3600)
        words = map(str, ("--host", HOST, *numbers, *more, *waits))
        return [*Slotmux.command, "serve", model, *words]

    def theirs(port: int) -> list[str]:
        numbers = ("--port", port, "-np", n_slots, "-c", n_slots * n_ctx, "-t", n_threads)
        words = map(str, ("--host", HOST, *numbers))
        return [str(options.peer), "-m", model, *words, *options.peer_args.split()]

    peer = [Server("llama-server", theirs)] if options.peer else []
    return [Server("slotmux", ours), *peer]


def words_of(model: Path) -> list[int]:
    """Tokens that are whole lower-case words: prompts of them are text, whatever is answered."""
    tokenizer = Tokenizer.from_metadata(open_gguf(model).metadata)
    pieces = enumerate(tokenizer.all_token_bytes())
    found = [i for i, piece in pieces if piece[:1] == b" " and piece[1:].isalpha()]
    if len(found) < 100:
        raise ValueError(f"{model}: the vocabulary has no words to make prompts of")
    return found


def requests_of(trace: Sequence[Chat], words: Sequence[int], seed: int) -> Requests:
    """Prompts that share no prefix, of exactly as many tokens as the trace says."""
    rng = np.random.default_rng(seed)
    return [
        {"at": 0.0, "prompt": rng.choice(words, chat.n_prompt).tolist(), "n_gen": chat.n_gen}
        for chat in trace
    ]


def load(port: int, requests: Requests, n_together: int = 0) -> list[dict[str, Any]]:
    """The answers, from a process of clients."""
    command = [sys.executable, "-m", "tests.bench.http.load", HOST, str(port)]
    command += ["--together", str(n_together)] if n_together else []
    done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True)
    if done.returncode:
        raise ProgramError(f"clients: {done.stderr[-300:]}")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def measure(options: argparse.Namespace, n_threads: int) -> Iterator[dict[str, Any]]:
    """A result for each server and share, as soon as it is there."""
    words, seed = words_of(options.model), options.seed
    trace = chats(options.trace, options.requests, options.ctx_size, seed)
    full = chats(options.trace, 4 * options.parallel, options.ctx_size, seed + 1)
    bounds = Bounds(options.ttft_ms, options.tpot_ms)
    ours = 0.0
    for server in servers(options, n_threads):
        port = free_port()
        with server.running(port):
            load(port, requests_of(full[: options.parallel], words, seed + 2), options.parallel)
            most = capacity(load(port, requests_of(full, words, seed + 3), options.parallel))
            ours = ours or most
            for i, share in enumerate(options.shares):
                # New prompts each time: what was asked before would be in the prefix cache.
                requests = requests_of(trace, words, seed + 4 + i)
                rate = share / 100 * (most if options.own else ours)
                for request, at in zip(requests, arrivals(len(trace), rate, seed), strict=True):
                    request["at"] = at
                answers = load(port, requests)
                yield {
                    "server": server.name,
                    "capacity": most,
                    "share": share,
                    "rate": rate,
                    "summary": summary(answers, bounds),
                    "requests": [
                        {**asdict(chat), "at": r["at"], **a}
                        for chat, r, a in zip(trace, requests, answers, strict=True)
                    ],
                }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Milliseconds; requests a second; a line for each server and share."""
    names = ("program", "capacity", "load", "requests/s", "good %", "goodput", "tok/s")
    lines: list[tuple[str, ...]] = [(*names, *(name for name, _ in COLUMNS), "errors")]
    for result in results:
        s = result["summary"]
        of_all = (f"{result['capacity']:.2f}", f"{result['share']:g} %", f"{result['rate']:.2f}")
        if "seconds" not in s:
            none = [""] * (len(lines[0]) - 5)
            lines.append((result["server"], *of_all, *none, f"{s['n_errors']:.0f}"))
            continue
        good = (f"{100 * s['share_good']:.0f}", f"{s['goodput']:.2f}")
        times = [f"{s[key]:.0f}" if s[key] >= 100 else f"{s[key]:.1f}" for _, key in COLUMNS]
        speed = f"{s['tokens_per_second']:.0f}"
        lines.append((result["server"], *of_all, *good, speed, *times, f"{s['n_errors']:.0f}"))
    return rows(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.http.chats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path)
    add("--peer", type=Path, metavar="PATH", help="llama-server")
    add("--peer-args", default="", help="further options for it")
    add("--own", action="store_true", help="shares of each server's own capacity")
    add(
        "--trace",
        default="sharegpt",
        metavar="NAME|FILE.csv",
        help=f"lengths: {', '.join(DISTRIBUTIONS)}, or a file of Azure's trace",
    )
    add("--requests", type=int, default=100, help="of each load (default: 100)")
    add("--shares", default="30,60,90", help="per cent of capacity (default: %(default)s)")
    add("--parallel", type=int, default=8, help="slots (default: 8)")
    add("--ctx-size", type=int, default=2048, help="tokens of a slot (default: 2048)")
    add("--threads", type=int, default=0, help="0: one a physical core")
    add("--max-step-ms", type=float, default=50.0, help="slotmux's bound (default: 50)")
    add("--ttft-ms", type=float, default=1000.0, help="bound of the first token (default: 1000)")
    add("--tpot-ms", type=float, default=100.0, help="bound of a token (default: 100)")
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="FILE", help="every request of every load")
    options = parser.parse_args(arguments)
    try:
        options.shares = [float(share) for share in options.shares.split(",")]
    except ValueError:
        parser.error("--shares: numbers separated by commas")
    if min(options.shares) <= 0 or options.requests < 2 or options.parallel < 1:
        parser.error("--shares, --requests and --parallel are positive, and requests several")
    return options


def main() -> int:
    options = parse()
    n_threads = options.threads or n_usable_cores()
    results: list[dict[str, Any]] = []
    try:
        with Watch(Quiet(n_threads)) as watch:
            for result in measure(options, n_threads):
                results.append(result)
                if options.json:
                    options.json.write_text(json.dumps(results) + "\n")
    except (ProgramError, ValueError, OSError) as error:
        print(f"http.chats: {error}", file=sys.stderr)
        return 1
    print(table(results))
    bounds = f"good: first token within {options.ttft_ms:g} ms, a token within {options.tpot_ms:g}"
    print(f"\n{bounds}; slotmux's steps are bounded by {options.max_step_ms:g} ms.")
    if watch.slowdown > MOST_SLOWDOWN:
        print(f"The machine was not quiet: {100 * watch.slowdown:.0f}% slower at one end.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
