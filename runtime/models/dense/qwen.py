"""qwen2 (Qwen 1.5 to 2.5: biases on q, k, v) and qwen3 (q and k heads RMS-normalised instead).

Otherwise llama's layers, with rotary pairs in halves.
"""

from __future__ import annotations

from slotmux.runtime.lowering.buffers import Rows
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.models.dense.llama import dense_layers
from slotmux.runtime.models.hparams import Hparams


def lower(b: Builder, hp: Hparams) -> Rows:
    """Append all layers; returns the residual stream."""
    return dense_layers(b, hp, neighbours=False)
