"""Servers that are killed while they spill: whoever comes next gives the same answers, and finds
what was whole. ``make test-kills`` kills a hundred."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.runtime.memory.disk.kill_me import digest_of, made, play

Told = tuple[int, int, int, str]  # conversation, turn, tokens from disk, digest
WORDS = re.compile(r"(\d+) (\d+) (\d+) ([0-9a-f]{16})")


class Victim:
    """A server that runs until it is killed; ``lines``: what it has said."""

    def __init__(self, path: Path, kernels: Path, folder: Path, seed: int) -> None:
        command = [sys.executable, "-m", "tests.runtime.memory.disk.kill_me"]
        command += [str(path), str(kernels), str(folder), str(seed)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._said:
                self.lines.append(line.strip())
                self._said.notify()

    @property
    def answers(self) -> list[Told]:
        """So far."""
        found = (WORDS.fullmatch(line) for line in self.lines)
        return [(int(m[1]), int(m[2]), int(m[3]), m[4]) for m in found if m is not None]

    def wait(self, until: Callable[[list[Told]], bool]) -> None:
        """Until its answers are such."""
        with self._said:
            assert self._said.wait_for(lambda: until(self.answers), 60), "it said nothing"

    def kill(self) -> list[Told]:
        """Its answers."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        return self.answers


def survive(path: Path, kernels: Path, folder: Path, n_kills: int) -> tuple[int, int]:
    """Kill so many, comparing every answer with one that was computed without a cache on disk;
    returns how many tokens came from disk, and how many kills cut a write off."""
    rng, n_cut = Random(n_kills), 0
    told: list[Told] = []
    engine = made(path, kernels, None)
    want: dict[int, list[str]] = {}
    try:
        for seed in range(n_kills):
            victim = Victim(path, kernels, folder, seed)
            n = rng.randint(1, 20)
            if seed == n_kills - 1:  # the last comes so far that something has been read
                victim.wait(lambda answers: any(n_disk for _, _, n_disk, _ in answers))
            else:
                victim.wait(lambda answers, n=n: len(answers) >= n)
            time.sleep(rng.random() / 20)
            told += victim.kill()
            n_cut += bool(list(folder.rglob("*.part")))
        for conversation, turn, _, digest in told:
            if conversation not in want:
                want[conversation] = [digest_of(a) for _, a in play(engine, conversation)]
            assert digest == want[conversation][turn], (conversation, turn)
    finally:
        engine.stop()
    return sum(n_disk for _, _, n_disk, _ in told), n_cut


@pytest.mark.parametrize(("name", "n"), [("llama", 2), ("qwen35", 3)])
def test_a_few_kills(name, n, golden_dir, kernel_cache_dir, tmp_path):
    n_disk, _ = survive(golden_dir / name / "model.gguf", kernel_cache_dir, tmp_path / "tier", n)
    assert n_disk > 0


@pytest.mark.kills
@pytest.mark.parametrize("name", ["llama", "qwen35", "mamba"])
def test_a_hundred_kills(name, golden_dir, kernel_cache_dir, tmp_path):
    path = golden_dir / name / "model.gguf"
    n_disk, n_cut = survive(path, kernel_cache_dir, tmp_path / "tier", 100)
    print(f"{name}: {n_disk} tokens from disk, {n_cut} writes cut off")
    assert n_disk > 100  # fewer come through on a busy machine
    assert n_cut > 30
