"""smollm3 (SmolLM3): llama's layers, of which every fourth has no positions (NoPE).

Yang et al. 2025, "RoPE to NoPE and back again". The interval is not in the file.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams

NO_ROPE_EVERY = 4


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=True, no_rope_every=NO_ROPE_EVERY)
