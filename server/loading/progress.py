"""Progress of loading and compilation, on stderr: bars on a terminal, else lines."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

STAGES = {
    "load": "Loading weights",
    "compile": "Compiling kernels",
}


class ProgressDisplay:
    """A context that is called with a stage's name and how much of it is done, from 0 to 1.

    May be called on any one thread. The stage "ready" ends whatever is unfinished.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: float) -> None:
        if stage == "ready":
            for unfinished in list(self._started):
                self(unfinished, 1.0)
            return
        name = STAGES.get(stage, stage)
        if stage not in self._tasks:
            self._started[stage] = time.monotonic()
            self._tasks[stage] = self._bars.add_task(name, total=1.0)
            self._say(f"{name} ...")
        self._bars.update(self._tasks[stage], completed=min(done, 1.0))
        if done >= 1.0 and stage in self._started:
            self._say(f"{name}: done in {time.monotonic() - self._started.pop(stage):.1f} s")

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, highlight=False)
