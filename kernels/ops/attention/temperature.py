"""Queries grow with their position, beyond the context of training (Llama 4, Ministral 3).

x *= 1 + scale log(1 + floor((pos + offset) / every))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slotmux.kernels.address import load_f32, load_i32, load_i64, store_f32
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Address, Op, Rows, given, offsets, updates, word
from slotmux.kernels.scalar import log


class Temper(Op, kernel="temper"):
    """x *= 1 + scale log(1 + floor((pos + offset) / every))"""

    x: Rows = updates("float32 [n_tokens, n]")
    positions: Address = given("int32 [n_tokens]")
    scale: float = given("float32")
    every: int = given("positions of a step of the factor")
    offset: int = given("positions that the first step is shorter by", default=0)

    @word
    def n(self) -> int:
        """Width."""
        return self.x.width

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_temper()


TEMPER = offsets(Temper)


def build_temper() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def temper(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + TEMPER.x) + token * load_i64(op + TEMPER.x_stride)
            pos = np.int64(load_i32(load_i64(op + TEMPER.positions) + 4 * token))
            pos += load_i64(op + TEMPER.offset)
            n_steps = np.float64(pos // load_i64(op + TEMPER.every))
            scale = np.float64(load_f32(load_i64(op + TEMPER.scale)))
            factor = np.float32(1.0 + scale * log(1.0 + n_steps))
            for i in range(load_i64(op + TEMPER.n)):
                store_f32(x + 4 * i, load_f32(x + 4 * i) * factor)
            token = claim(thread, n_tokens)

    return temper
