"""Which layers of a family see a window of positions only."""

from __future__ import annotations

import numpy as np

from slotmux.runtime.models.hparams import Hparams
from slotmux.runtime.models.ranges import MAX_LAYERS


def windows(hp: Hparams, every: int, window: int = 0) -> list[int]:
    """How many positions each layer of the trunk sees, 0 for all.

    All layers but every n-th see the file's window: ``every`` and ``window`` where it does not say.
    It may say which layers do, with a number in place of ``every`` or with a flag for each.
    """
    key = hp.key("attention.sliding_window_pattern")
    n = hp.u32("attention.sliding_window", window)
    if isinstance(hp.metadata.get(key), np.ndarray):
        is_windowed = hp.metadata.per_layer_bool(key, hp.n_blocks)
    else:
        every = hp.metadata.get_u32(key, every, 0, MAX_LAYERS)
        is_windowed = [every == 0 or (i + 1) % every != 0 for i in range(hp.n_layers)]
    return [n if is_windowed[layer] else 0 for layer in range(hp.n_layers)]
