"""Layer norm of each head of q or k, each with a weight of its own (Command R+, StableLM 2 12B).

x[h] = (x[h] - mean(x[h])) / sqrt(mean((x[h] - mean(x[h]))^2) + eps) * w[h]
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, Vector, given, offsets, updates


class HeadLayerNorm(Op, kernel="head_layer_norm"):
    """x = layer norm of each head of x, times weight"""

    x: Rows = updates("float32 [n_tokens, n_head * head_dim]")
    weight: Vector = given("float32 [n_head * head_dim]")
    n_head: int = given("heads")
    head_dim: int = given("width of a head")
    eps: float = given("float32")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_head_layer_norm()


HEAD_LAYER_NORM = offsets(HeadLayerNorm)


@njit
def _norm_head(x, n, weight, eps):
    """In place; heads stand side by side, at any column."""
    total = np.float32(0.0)
    for i in range(n):
        total += load_f32(x + 4 * i)
    mean = total / np.float32(n)
    total = np.float32(0.0)
    for i in range(n):
        d = load_f32(x + 4 * i) - mean
        total += d * d
    scale = np.float32(1.0) / np.sqrt(total / np.float32(n) + eps)
    for i in range(n):
        store_f32(x + 4 * i, (load_f32(x + 4 * i) - mean) * scale * load_f32(weight + 4 * i))


def build_head_layer_norm() -> Callable[..., None]:
    """The kernel; a chunk is a token."""

    def head_layer_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            x = load_i64(op + HEAD_LAYER_NORM.x) + token * load_i64(op + HEAD_LAYER_NORM.x_stride)
            n, weight = (
                load_i64(op + HEAD_LAYER_NORM.head_dim),
                load_i64(op + HEAD_LAYER_NORM.weight),
            )
            eps = load_f32(load_i64(op + HEAD_LAYER_NORM.eps))
            for head in range(load_i64(op + HEAD_LAYER_NORM.n_head)):
                _norm_head(x + 4 * n * head, n, weight + 4 * n * head, eps)
            token = claim(thread, n_tokens)

    return head_layer_norm
