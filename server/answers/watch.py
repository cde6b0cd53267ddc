"""Watches a generation's clock: time limits, silence, a reader that stalls. No cost per token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from slotmux.server.answers.generation import Generation
from slotmux.server.http.errors import timed_out
from slotmux.server.settings import Settings


@dataclass(slots=True)
class Activity:
    """Written by the consumer, read by the watch; moments on the event loop's clock."""

    last_sent: float
    sending_since: float = 0.0  # 0 = not waiting for the client to read
    on_stall: Callable[[], None] | None = None


class Watch:
    """Ticks until stopped. Fails the generation when a limit is reached."""

    def __init__(self, generation: Generation, settings: Settings) -> None:
        self.loop = asyncio.get_running_loop()
        self._generation = generation
        self._settings = settings
        self.activity = Activity(last_sent=generation.timeline.start)
        limits = (
            settings.first_token_timeout,
            settings.request_timeout,
            settings.write_timeout,
            settings.sse_ping_interval,
        )
        self._period = min(1.0, *(limit / 4 for limit in limits))
        self._timer = self.loop.call_later(self._period, self._tick)

    def stop(self) -> None:
        """No tick comes after this."""
        self._timer.cancel()

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self._period, self._tick)
        now = self.loop.time()
        generation, limits, activity = self._generation, self._settings, self.activity
        waited = now - generation.timeline.start
        if generation.timeline.first == 0.0 and waited > limits.first_token_timeout:
            generation.fail(timed_out("no first token"))
        elif waited > limits.request_timeout:
            generation.fail(timed_out("in total"))
        elif activity.sending_since and now - activity.sending_since > limits.write_timeout:
            generation.fail(timed_out("the client does not read"))
            if activity.on_stall is not None:
                activity.on_stall()
        elif not activity.sending_since and now - activity.last_sent >= limits.sse_ping_interval:
            generation.nudge()
