"""The programs that are measured: how each is asked for a test, and how its answer is read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from tests.bench.cases import SpeedTest

TIMEOUT_S = 3600.0
CELLS_A_SEQUENCE = 256  # llama.cpp rounds each sequence's context up to a multiple
_REASON = re.compile(r"error|fail|assert|unknown|not supported", re.IGNORECASE)


class ProgramError(Exception):
    """A program that failed or whose output makes no sense; the text says which and why."""


class Program(Protocol):
    """One measurement: tokens a second of all sequences together. Raises ProgramError."""

    @property
    def name(self) -> str: ...

    def can(self, model: Path, test: SpeedTest) -> bool:
        """Whether it is asked at all."""
        ...

    def measure(self, model: Path, test: SpeedTest, n_threads: int) -> float: ...


def json_lines(text: str) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects; programs write others between them."""
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def run(command: list[str], timeout_s: float = TIMEOUT_S, env: dict[str, str] | None = None) -> str:
    """A program's standard output; ProgramError with the end of its complaints if it fails."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=env)
    except FileNotFoundError:
        raise ProgramError(f"{command[0]} is not there") from None
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{name}: not done after {timeout_s:.0f} s") from None
    if done.returncode:
        raise ProgramError(f"{name}: exit {done.returncode}: {complaint_of(done.stderr)}")
    return done.stdout


def complaint_of(stderr: str) -> str:
    """The lines that sound like the reason, else the last one; a backtrace may follow them."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reasons = [line for line in lines if _REASON.search(line)]
    return " / ".join(reasons[:2] or lines[-1:])[:300]


class Slotmux:
    """`slotmux bench` of this checkout."""

    name = "slotmux"
    command = (sys.executable, "-m", "slotmux.server.cli")

    def can(self, model: Path, test: SpeedTest) -> bool:
        return True

    def measure(self, model: Path, test: SpeedTest, n_threads: int) -> float:
        is_prompt = test.kind == "pp"
        options = {
            "--n-prompt": test.n if is_prompt else 0,
            "--n-gen": 0 if is_prompt else test.n,
            "--depth": test.depth,
            "--parallel": test.n_parallel,
            "--threads": n_threads,
            "--repeats": 1,
        }
        words = [str(word) for option in options.items() for word in option]
        return self.read(run([*self.command, "bench", str(model), *words, "--json"]), test)

    @staticmethod
    def read(text: str, test: SpeedTest) -> float:
        for line in json_lines(text):
            place = (line["test"], line["n_parallel"], line["depth"])
            if place == (f"{test.kind}{test.n}", test.n_parallel, test.depth):
                return float(line["tokens_per_second"])
        raise ProgramError(f"slotmux bench said nothing about {test}")


class LlamaCpp:
    """llama-bench for one sequence, llama-batched-bench for several."""

    name = "llama.cpp"

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self._folder = folder
        self._arguments = arguments
        for tool in ("llama-bench", "llama-batched-bench"):
            if not (folder / tool).is_file():
                raise ProgramError(f"{folder} holds no {tool}")

    def version(self) -> str:
        """Build number and commit; a build from a source archive knows neither."""
        done = subprocess.run(
            [str(self._folder / "llama-bench"), "--version"], capture_output=True, text=True
        )
        lines = (done.stdout + done.stderr).splitlines()
        said = next((line for line in lines if line.startswith("version")), "version unknown")
        return f"llama.cpp {said.removeprefix('version').lstrip(': ')}"

    def can(self, model: Path, test: SpeedTest) -> bool:
        return True

    def measure(self, model: Path, test: SpeedTest, n_threads: int) -> float:
        if test.n_parallel == 1:
            return self.read(run(self._bench(model, test, n_threads)), test)
        return self.read_batched(run(self._batched(model, test, n_threads)), test)

    def _bench(self, model: Path, test: SpeedTest, n_threads: int) -> list[str]:
        n_prompt, n_gen = (test.n, 0) if test.kind == "pp" else (0, test.n)
        numbers = ("-p", n_prompt, "-n", n_gen, "-d", test.depth, "-t", n_threads, "-r", 1)
        tool = str(self._folder / "llama-bench")
        words = [str(word) for word in numbers]
        return [tool, "-m", str(model), *words, "-o", "jsonl", *self._arguments]

    def _batched(self, model: Path, test: SpeedTest, n_threads: int) -> list[str]:
        """Each sequence begins with a prompt of its own; with none, a token to begin from."""
        n_prompt, n_gen = (test.n, 1) if test.kind == "pp" else (max(test.depth, 1), test.n)
        n_cells = -(-(n_prompt + n_gen + 1) // CELLS_A_SEQUENCE) * CELLS_A_SEQUENCE
        n_ctx = test.n_parallel * n_cells
        numbers = ("-npp", n_prompt, "-ntg", n_gen, "-npl", test.n_parallel, "-c", n_ctx)
        tool = str(self._folder / "llama-batched-bench")
        words = [str(word) for word in (*numbers, "-t", n_threads)]
        return [tool, "-m", str(model), *words, "--output-format", "jsonl", *self._arguments]

    @staticmethod
    def read(text: str, test: SpeedTest) -> float:
        wanted = (test.n, 0) if test.kind == "pp" else (0, test.n)
        for line in json_lines(text):
            if (line["n_prompt"], line["n_gen"]) == wanted and line["n_depth"] == test.depth:
                return float(line["avg_ts"])
        raise ProgramError(f"llama-bench said nothing about {test}")

    @staticmethod
    def read_batched(text: str, test: SpeedTest) -> float:
        for line in json_lines(text):
            if line.get("pl") == test.n_parallel:
                return float(line["speed_pp" if test.kind == "pp" else "speed_tg"])
        raise ProgramError(f"llama-batched-bench said nothing about {test}")
