"""Watches a generation's clock: time limits, silence, a reader that stalls. No cost per token.

A request first waits for a slot (--queue-timeout), then its prompt must get ahead (a time without
any progress: --first-token-timeout; a long prompt on a slow machine may take as long as it needs),
and from its admission on --request-timeout counts, at which it ends with what it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from slotmux.server.answers.generation import Generation
from slotmux.server.http.errors import timed_out, waited_too_long
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
        # Of the last progress that was seen: tokens of prompts, and when.
        self._n_computed, self._t_progress = -1, generation.timeline.start
        self._t_admitted = 0.0
        limits = (
            settings.queue_timeout,
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
        self._look(now)
        if not self._t_admitted:
            if now - generation.timeline.start > limits.queue_timeout:
                generation.fail(waited_too_long(limits.queue_timeout))
        elif (
            generation.timeline.first == 0.0 and now - self._t_progress > limits.first_token_timeout
        ):
            seconds = f"{limits.first_token_timeout:g} s"
            generation.fail(timed_out(f"no progress for {seconds} (--first-token-timeout)"))
        elif now - self._t_admitted > limits.request_timeout:
            generation.cut()
        if activity.sending_since and now - activity.sending_since > limits.write_timeout:
            seconds = f"{limits.write_timeout:g} s"
            generation.fail(timed_out(f"nothing was read for {seconds} (--write-timeout)"))
            if activity.on_stall is not None:
                activity.on_stall()
        elif not activity.sending_since and now - activity.last_sent >= limits.sse_ping_interval:
            generation.nudge()

    def _look(self, now: float) -> None:
        """Note admission and progress."""
        if not self._t_admitted and self._generation.is_admitted:
            self._t_admitted = self._t_progress = now
        n_computed = self._generation.n_computed
        if n_computed != self._n_computed or self._generation.is_parked:
            self._n_computed, self._t_progress = n_computed, now
