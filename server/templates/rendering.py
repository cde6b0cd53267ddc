"""The part of a sandbox that filters and methods see: what this thread's rendering may spend, and
how it tells users' texts apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jinja2.sandbox import ImmutableSandboxedEnvironment

from slotmux.server.templates.limits import Budget
from slotmux.server.templates.user_text import Marker


class RenderingEnvironment(ImmutableSandboxedEnvironment):
    """A Jinja environment whose renderings have a budget and a marker each. Safe on several
    threads: a rendering stays on the thread that began it."""

    _local: threading.local

    @property
    def budget(self) -> Budget:
        """What the rendering of this thread has left."""
        budget: Budget = self._local.budget
        return budget

    @property
    def marker(self) -> Marker:
        """What marks the users' texts of this thread's rendering."""
        marker: Marker = self._local.marker
        return marker

    @contextmanager
    def rendering(self, budget: Budget, marker: Marker) -> Iterator[None]:
        """This thread's renderings in the block spend from ``budget``."""
        self._local.budget, self._local.marker = budget, marker
        try:
            yield
        finally:
            del self._local.budget, self._local.marker
