"""Our side of the compiling process: hands it grammars, ends it when it takes too much."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slotmux.server.grammars.spec import GrammarError

SECONDS = 2.0
START_SECONDS = 20.0  # to begin with, on a busy machine
TOO_MUCH = "it takes too much time or memory to compile"


class Guard:
    """One compiling process, started when it is needed and again after it was ended. One thread at
    a time."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.warnings: list[str] = []  # what is passed over in the sources looked at last

    def first_fault(self, sources: Sequence[str]) -> tuple[int, str] | None:
        """The first of several grammars that is wrong, and what llguidance says of it.

        Raises GrammarError where that could not be found out within the limits.
        """
        process = self._process or self._start()
        self._send(process, sources)
        line = self._receive(process, self._seconds)
        reply: dict[str, Any] = json.loads(line)
        self.warnings = reply["warnings"]
        return None if reply["error"] is None else (reply["index"], reply["error"])

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # what was not sent is lost with it
                        pipe.close()

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def _start(self) -> subprocess.Popen[bytes]:
        child = Path(__file__).with_name("child.py")
        process = self._process = subprocess.Popen(
            [sys.executable, "-I", str(child)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's interrupt is not for it
        )
        self._send(process, [])
        self._receive(process, START_SECONDS)
        return process

    def _send(self, process: subprocess.Popen[bytes], sources: Sequence[str]) -> None:
        assert process.stdin is not None
        task = {"sources": list(sources), "seconds": self._seconds}
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            self.close()
            raise GrammarError(TOO_MUCH, is_final=False) from None

    def _receive(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        deadline, parts, pipe = time.monotonic() + seconds, b"", process.stdout.fileno()
        while not parts.endswith(b"\n"):
            left = deadline - time.monotonic()
            is_ready = left > 0 and select.select([pipe], [], [], left)[0]
            part = os.read(pipe, 1 << 16) if is_ready else b""
            if not part:
                self.close()
                raise GrammarError(TOO_MUCH, is_final=False)
            parts += part
        return parts
