"""A token's one expert gets its input times the weight, instead of its result (Llama 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, Table, offsets, reads, updates, word, writes


class Weigh(Op, kernel="weigh"):
    """out = x * weight, and the weight becomes 1"""

    x: Rows = reads("float32 [n_tokens, n]")
    weights: Table[np.float32] = updates("[n_tokens, 1], see Route")
    out: Rows = writes("float32 [n_tokens, n]")

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_weigh()


WEIGH = offsets(Weigh)


@njit
def _weigh_row(x, n, weight, out):
    for i in range(0, n, 16):
        simd.store(out + 4 * i, simd.load(x + 4 * i) * simd.splat(weight))


def build_weigh() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def weigh(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + WEIGH.x) + token * load_i64(op + WEIGH.x_stride)
            out = load_i64(op + WEIGH.out) + token * load_i64(op + WEIGH.out_stride)
            weight = load_i64(op + WEIGH.weights) + 4 * token
            _weigh_row(x, load_i64(op + WEIGH.n), load_f32(weight), out)
            store_f32(weight, np.float32(1.0))
            token = claim(thread, n_tokens)

    return weigh
