"""How many slots and cells a server has: the operator's numbers, or what is sensible."""

from __future__ import annotations

from dataclasses import dataclass

from slotmux.server.loading.errors import CommandError
from slotmux.server.settings import Settings

MAX_AUTO_CELLS = 32_768  # long contexts cost memory: they are had by asking


@dataclass(frozen=True, slots=True)
class Room:
    """Slots, and how many tokens they hold."""

    n_slots: int
    n_ctx: int  # most tokens of one sequence
    n_cells: int  # of all
    n_outputs: int = 0
    is_served: bool = False  # requests come and go, and leave prefixes


def room_of_slots(settings: Settings, n_ctx_train: int) -> Room:
    """0 tokens: as many as the model was trained for, and then at most MAX_AUTO_CELLS of each.
    0 cells: enough for all slots. Raises CommandError."""
    n_slots, n_ctx, n_cells = settings.parallel, settings.ctx_size, settings.kv_size
    if n_ctx > n_ctx_train:
        raise CommandError(f"--ctx-size {n_ctx}: the model was trained for {n_ctx_train} tokens")
    if 0 < n_cells < n_ctx:
        raise CommandError(f"--kv-size {n_cells} does not hold one request of {n_ctx} tokens")
    if not n_ctx:
        n_ctx = min(n_ctx_train, n_cells or MAX_AUTO_CELLS)
        n_cells = n_cells or min(n_slots * n_ctx, MAX_AUTO_CELLS)
    return Room(n_slots, n_ctx, n_cells or n_slots * n_ctx, is_served=True)
