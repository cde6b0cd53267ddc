"""How much of the engine's speed reaches clients: N streams over HTTP beside `slotmux bench`.

    python -m tests.bench.http.bench MODEL [--clients 8] [--n-gen 128] [--rounds 3] [--threads N]

Starts a server of its own, then measures in turn: bench --parallel N, N clients, bench, ... The
server sleeps while bench runs. Clients are one process of their own, on the same CPUs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slotmux.server.loading.cores import n_usable_cores
from tests.bench.cases import SpeedTest
from tests.bench.programs import ProgramError, Slotmux, run
from tests.bench.quiet import MOST_SLOWDOWN, Quiet, Watch
from tests.bench.report import rows

HOST = "127.0.0.1"
START_S = 300.0
STOP_S = 30.0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(model: Path, n_slots: int, n_ctx: int, n_threads: int) -> Iterator[int]:
    """A server of this checkout; the port. ProgramError if it does not get ready."""
    port = free_port()
    words = ("--host", HOST, "--port", port, "--parallel", n_slots, "--ctx-size", n_ctx)
    command = [*Slotmux.command, "serve", str(model), *map(str, words), "--threads", str(n_threads)]
    with running(command, port):
        yield port


@contextmanager
def running(command: Sequence[str], port: int, within_s: float = START_S) -> Iterator[None]:
    """Any server that tells at /health when it is ready. ProgramError if it does not get so."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_ready(server, port, within_s)
        yield
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_ready(server: subprocess.Popen[bytes], port: int, within_s: float) -> None:
    command = shlex.join(map(str, server.args))
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ProgramError(f"{command} ended with {server.returncode}; try it by hand")
        if _is_ready(port):
            return
        time.sleep(0.2)
    raise ProgramError(f"{command} was not ready after {within_s:.0f} s")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:  # it does not listen yet
        return False
    finally:
        connection.close()


def measure_http(port: int, n_clients: int, n_gen: int) -> dict[str, float]:
    words = (HOST, port, "--clients", n_clients, "--n-gen", n_gen)
    text = run([sys.executable, "-m", "tests.bench.http.client", *map(str, words)])
    answer: dict[str, float] = json.loads(text)
    return answer


def table(bench: list[float], http_runs: list[dict[str, float]], n_clients: int) -> str:
    """Medians over the rounds; the shares are of the same round's bench."""
    steady = [answer["steady_tokens_per_second"] for answer in http_runs]
    total = [answer["total_tokens_per_second"] for answer in http_runs]
    head = ("", "tok/s", "% of bench")
    lines = [head, (f"slotmux bench --parallel {n_clients}", _number(bench), "")]
    for name, values in (("HTTP, all streams running", steady), ("HTTP, with prompts", total)):
        share = statistics.median(a / b for a, b in zip(values, bench, strict=True))
        lines.append((name, _number(values), f"{100 * share:.0f}"))
    waits: list[tuple[str, ...]] = [("ms", "p50", "p90", "p99")]
    for name, key in (("first token", "ttft_ms"), ("between tokens", "itl_ms")):
        columns = ([answer[f"{key}_p{p}"] for answer in http_runs] for p in (50, 90, 99))
        waits.append((name, *map(_number, columns)))
    return f"{rows(lines)}\n\n{rows(waits)}"


def _number(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.http.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--n-gen", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    n_threads = options.threads or n_usable_cores()
    test = SpeedTest("tg", options.n_gen, options.clients)
    bench, http_runs = [], []
    try:
        with (
            serving(options.model, options.clients, options.n_gen + 128, n_threads) as port,
            Watch(Quiet(n_threads)) as watch,
        ):
            measure_http(port, options.clients, 8)  # not counted: the first requests warm up
            for _ in range(options.rounds):
                bench.append(Slotmux().measure(options.model, test, n_threads))
                http_runs.append(measure_http(port, options.clients, options.n_gen))
    except ProgramError as error:
        print(f"http.bench: {error}", file=sys.stderr)
        return 1
    print(table(bench, http_runs, options.clients))
    if watch.slowdown > MOST_SLOWDOWN:
        print(f"\nthe machine was not quiet: {100 * watch.slowdown:.0f}% slower at one end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
