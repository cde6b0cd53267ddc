"""What speculation knows of the request in a slot."""

from __future__ import annotations

from slotmux.runtime.speculation.acceptance import Acceptance


class SlotSpec:
    """What is known of one request's drafts, and what it allows."""

    __slots__ = ("acceptance", "cut", "n_max", "n_min", "p_min", "probe_every", "rare", "source")

    def __init__(self, limits: tuple[int, int, float], acceptance: dict[str, Acceptance]) -> None:
        self.n_max, self.n_min, self.p_min = limits
        self.acceptance = acceptance
        self.probe_every = 1
        self.rare = 0.0
        self.cut = 0.0  # how often a grammar cut guesses that were made without asking it
        self.source = ""  # of the drafts in the step under way
