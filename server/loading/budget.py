"""How much memory serving a model file takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slotmux.runtime.memory.prefix_tree import NODE_BYTES
from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.loading.words import mib

if TYPE_CHECKING:
    from slotmux.runtime.sizes import ModelSizes

# The interpreter with its libraries, compiled kernels, buffers of a step.
BASE_BYTES = 200 * 10**6


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory of a server, in bytes, from what its parts weigh."""

    n_slots: int
    n_ctx: int  # most tokens of one sequence
    n_cells: int
    cache_bytes: int  # of kept prefixes, beside what slots need
    sizes: ModelSizes
    staged_bytes: int = 0  # on their way to and from the prefix cache's tier on disk

    @property
    def weights_bytes(self) -> int:
        return self.sizes.weights

    @property
    def kv_bytes(self) -> int:
        return round(self.n_cells * self.sizes.cell)

    @property
    def state_bytes(self) -> int:
        """Recurrent state of the slots."""
        return self.n_slots * self.sizes.row

    @property
    def index_bytes(self) -> int:
        """What tells which of the slots' cells can be reused."""
        return -(-self.n_cells // BLOCK_CELLS) * NODE_BYTES if self.sizes.cell else 0

    @property
    def total_bytes(self) -> int:
        cells = self.kv_bytes + self.index_bytes
        cache = self.cache_bytes + self.staged_bytes
        parts = (self.weights_bytes, cells, self.state_bytes, self.sizes.buffers, cache)
        return sum(parts) + BASE_BYTES

    def describe(self) -> str:
        """The parts in a line."""
        parts = [f"{mib(self.weights_bytes)} of weights"]
        slots = f"{self.n_slots} slots of up to {self.n_ctx} tokens"
        if self.kv_bytes:
            parts.append(f"{mib(self.kv_bytes)} for {self.n_cells} KV cells ({slots})")
        if self.state_bytes:
            parts.append(f"{mib(self.state_bytes)} for the states of {self.n_slots} slots")
        if self.cache_bytes:
            parts.append(f"{mib(self.cache_bytes)} more for kept prefixes")
        return f"{', '.join(parts)}, {mib(self.total_bytes)} in all"
