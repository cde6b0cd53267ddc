"""Twin of kernels/ops/recurrent/ngram.py in whole numbers of any size."""

from __future__ import annotations

import numpy as np


def ngram_ids(tokens, multipliers, sizes, starts, eos):
    """tokens of a sequence from its first on -> [T, heads]"""
    rows = []
    per_order = len(sizes) // (len(multipliers) - 1)
    for t in range(len(tokens)):
        known = [int(token) for token in tokens[:t]]
        if eos in known:
            known = known[len(known) - known[::-1].index(eos) :]
        window = [int(tokens[t]), *known[::-1], *[eos] * len(multipliers)]
        row = []
        for order in range(2, len(multipliers) + 1):
            mixed = 0
            for token, multiplier in zip(window[:order], multipliers, strict=False):
                mixed ^= token * int(multiplier) % 2**64
            heads = slice((order - 2) * per_order, (order - 1) * per_order)
            row += [
                mixed % int(size) + int(start)
                for size, start in zip(sizes[heads], starts[heads], strict=True)
            ]
        rows.append(row)
    return np.array(rows, np.int32)
