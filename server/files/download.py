"""What downloads share: their error, their progress, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from slotmux.runtime.errors import SlotmuxError

CHUNK_BYTES = 1 << 20


class ModelSourceError(SlotmuxError):
    """A model could not be found or fetched; the message is for the operator's eyes."""


class Progress(Protocol):
    """Told how far a named download is. ``n_total`` is None while nobody knows it. Called from
    the downloading thread, often; ``n_done == n_total`` ends that download."""

    def __call__(self, label: str, n_done: int, n_total: int | None) -> None: ...


def no_progress(label: str, n_done: int, n_total: int | None) -> None:
    """A Progress that shows nothing."""


class ConsoleProgress:
    """A Progress drawn on the terminal, a bar for each download; a plain line at the end of each
    where there is no terminal. Use it as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, label: str, n_done: int, n_total: int | None) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=n_total)
        self._bars.update(self._tasks[label], completed=n_done, total=n_total)
        if n_done == n_total and label not in self._ended:
            self._ended.add(label)
            if not self._console.is_terminal:
                self._console.print(f"{label}: {n_done / 2**20:.1f} MiB", highlight=False)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Write a file that appears at ``target`` whole, on disk, when the block ends well; on an
    error nothing is left. Two writers may race: the last one wins, none sees half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, target: Path) -> None:
    """Rename a written and synced file to ``target`` so that the name survives a power cut."""
    os.replace(temporary, target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
