"""What is known of one model: how far it is, who uses it, how it failed."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slotmux.server.router.known.catalog import ModelSpec
from slotmux.server.router.processes.process import ChildPort

MAX_PAUSE_S = 60.0  # before a model that keeps failing is started again
STEADY_S = 60.0  # one that served for so long has not kept failing


class Status(StrEnum):
    """Names of llama-server's router, but for the one of what is on its way out."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"


@dataclass(slots=True)
class Failure:
    """How a model last failed. ``n``: times in a row; ``until``: when it may be tried again;
    ``was_serving``: whether it had been loaded."""

    message: str
    exit_code: int
    n: int
    until: float
    was_serving: bool


@dataclass(slots=True)
class Member:
    """A model of the fleet. Event loop only; the fleet changes it."""

    spec: ModelSpec
    keep_alive_s: float
    status: Status = Status.UNLOADED
    child: ChildPort | None = None
    n_bytes: int = 0  # that its process has been given
    n_planned: int = 0  # that it last said it would need
    info: dict[str, Any] = field(default_factory=dict)  # of its ModelInfo, while it is loaded
    n_running: int = 0  # requests
    n_waiting: int = 0  # requests for it to be loaded
    n_queued: int = 0  # those, and the ones that wait until it has been unloaded
    last_used: float = 0.0
    loaded_at: float = 0.0
    is_leaving: bool = False  # takes no more requests: its memory is needed
    failure: Failure | None = None
    loading: asyncio.Task[None] | None = None
    n_loads: int = 0
    n_crashes: int = 0
    unloads: dict[str, int] = field(default_factory=dict)  # by reason

    @property
    def name(self) -> str:
        """Its first name."""
        return self.spec.name

    @property
    def is_serving(self) -> bool:
        """Whether it takes requests."""
        return self.status is Status.LOADED and not self.is_leaving

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded for nobody."""
        return self.status is Status.LOADED and not (self.n_running or self.n_waiting)

    @property
    def is_active(self) -> bool:
        """Whether it has a process."""
        return self.status is not Status.UNLOADED

    @property
    def expires_at(self) -> float:
        """When it is unloaded if nobody asks for it before; math.inf: never."""
        if self.spec.is_pinned or not self.is_idle:
            return math.inf
        return self.last_used + self.keep_alive_s

    def note_failure(self, message: str, exit_code: int, now: float) -> None:
        """One more in a row, unless it served well before: the pause doubles. After a first crash
        there is none."""
        was_serving = self.status is Status.LOADED
        is_steady = was_serving and now - self.loaded_at > STEADY_S
        n = 1 if self.failure is None or is_steady else self.failure.n + 1
        pause = 0.0 if n == 1 and was_serving else min(2.0 ** (n - 1), MAX_PAUSE_S)
        self.failure = Failure(message, exit_code, n, now + pause, was_serving)
