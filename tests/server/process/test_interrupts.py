"""Ends that nobody planned: an interrupt at any moment is one line, and what a killed server had
started dies with it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.process.test_lifecycle import free_port

# As the console script, but tells when it begins: what comes before is the interpreter's own.
START = "from slotmux.server import start; print('begun', flush=True); start.main()"


def heed_interrupts() -> None:
    """A shell without job control starts what runs behind it (these tests, say) with interrupts
    ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def starting(model: Path, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A server in a process group of its own, whose kernels have yet to be compiled."""
    flags = ["serve", str(model), "--port", str(free_port()), "--cache-dir", str(cache)]
    popen = subprocess.Popen(
        [sys.executable, "-c", START, *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    try:
        assert popen.stdout is not None
        assert popen.stdout.readline() == "begun\n"
        yield popen
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.communicate()


def children(pid: int) -> set[int]:
    """Processes whose parent is ``pid``."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text()
            if int(text.rpartition(")")[2].split()[1]) == pid:
                found.add(int(path.parent.name))
    return found


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_compiling_children_die_with_a_killed_server(
    tiny_model_path: Callable[..., Path], tmp_path: Path
) -> None:
    with starting(tiny_model_path("llama"), tmp_path) as popen:
        wait_until(lambda: bool(children(popen.pid)))
        compiling = children(popen.pid)
        popen.kill()
        popen.wait()
        wait_until(lambda: not any(map(is_alive, compiling)))


@pytest.mark.parametrize("seed", range(4))
def test_an_interrupt_while_it_starts_is_no_traceback(
    tiny_model_path: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    """Ctrl-C at a terminal reaches the whole group: while it imports, reads, compiles or loads."""
    with starting(tiny_model_path("llama"), tmp_path) as popen:
        time.sleep(random.Random(seed).random() ** 2 * 6)
        started = children(popen.pid)
        os.killpg(popen.pid, signal.SIGINT)
        out, errors = popen.communicate(timeout=60)
        assert popen.returncode in (0, 130)
        assert "Traceback" not in out + errors
        wait_until(lambda: not any(map(is_alive, started)))
