"""Whether the engine gets ahead: seen from outside, without a step having to end.

A step of a large model may rightly take minutes on a slow machine; what must not happen is that
no kernel ends.
"""

from __future__ import annotations

from slotmux.server.interfaces import EnginePort

_IDLE_BEAT_S = 2.0  # an idle engine shows a sign of life more often than this
_MAX_TICK_S = 1.0


class Pulse:
    """Lives on the event loop, which calls ``observe`` regularly."""

    def __init__(self, engine: EnginePort) -> None:
        self.stalled_s = 0.0  # how long nothing has moved, as far as observed
        self._engine = engine
        self._progress = -1
        self._observed = 0.0

    def observe(self, now: float) -> None:
        """Look again; ``now`` is on the event loop's clock."""
        stats = self._engine.stats()
        # Of a longer gap a second counts: a process that was stopped as a whole has not hung.
        elapsed = min(now - self._observed, _MAX_TICK_S)
        self._observed = now
        if stats.heartbeat_age_s <= _IDLE_BEAT_S or stats.progress != self._progress:
            self._progress = stats.progress
            self.stalled_s = 0.0
        else:
            self.stalled_s += elapsed
