"""Where sequences live: KV blocks, recurrent rows, checkpoints, and the prefixes they share."""

from slotmux.runtime.memory.memory import Memory, n_blocks_for
from slotmux.runtime.memory.prefix_tree import Kind
from slotmux.runtime.memory.sequence import Sequence

__all__ = ["Kind", "Memory", "Sequence", "n_blocks_for"]
