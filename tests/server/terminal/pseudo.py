"""A program at a pseudo terminal, as a person would use it: typed at, and read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import ROOT

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])")
_LIMIT_S = 60.0
SIZE = (40, 100)  # lines, columns


class Terminal:
    """What a program has written so far is ``seen``, without escape sequences."""

    def __init__(self, popen: subprocess.Popen[bytes], descriptor: int) -> None:
        self._popen = popen
        self._descriptor = descriptor
        self._raw = b""
        self._n_read = 0  # of what is seen, by wait_for

    @property
    def seen(self) -> str:
        return _ESCAPES.sub("", self._raw.decode("utf-8", "replace")).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """Reads on until ``text`` comes behind what was waited for before; what there is of it."""
        deadline = time.monotonic() + _LIMIT_S
        while text not in self.seen[self._n_read :]:
            assert self._read(deadline), f"{text!r} did not come:\n{self.seen}"
        begin = self._n_read
        self._n_read = self.seen.index(text, begin) + len(text)
        return self.seen[begin : self._n_read]

    def exit_code(self) -> int:
        deadline = time.monotonic() + _LIMIT_S
        while self._read(deadline):
            pass
        return self._popen.wait(_LIMIT_S)

    def _read(self, deadline: float) -> bool:
        """Some more; False at the end, or when it takes too long."""
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self._descriptor], [], [], left)[0]:
            return False
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the other side is closed
            return False
        self._answer(data)
        self._raw += data
        return bool(data)

    def _answer(self, data: bytes) -> None:
        """A program may ask where the cursor is."""
        if b"\x1b[6n" in data:
            os.write(self._descriptor, b"\x1b[1;1R")


@contextlib.contextmanager
def at_terminal(
    *args: str, cache: Path, n_columns: int = 100, n_lines: int = 40
) -> Iterator[Terminal]:
    """`slotmux ARGS` at a terminal of its own, with its caches below ``cache``."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    environment = {**os.environ, "SLOTMUX_CACHE_DIR": str(cache), "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    popen = subprocess.Popen(
        [sys.executable, "-m", "slotmux.server.cli", *args],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment,
        preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(popen, ours)
    finally:
        popen.kill()
        popen.wait()
        os.close(ours)


def wait_until(happens: Callable[[], object]) -> None:
    """Returns as soon as it has."""
    deadline = time.monotonic() + _LIMIT_S
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _own_terminal() -> None:
    """Ctrl-C reaches whom the terminal controls."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
