"""Norms of each head of q or k, each with a weight of its own: layer norms (Command R+, StableLM 2
12B) and RMS norms (PLaMo 2), which leave the mean m as it is.

x[h] = (x[h] - m) / sqrt(mean((x[h] - m)^2) + eps) * w[h],    m = mean(x[h]) or 0
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from slotmux.kernels.address import load_f32, load_i64, store_f32
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, Vector, compiled, given, offsets, updates


class HeadNorm(Op, kernel="head_norm"):
    """x = the norm of each head of x, times weight"""

    kind: str = compiled("layer or rms")
    x: Rows = updates("float32 [n_tokens, n_head * head_dim]")
    weight: Vector = given("float32 [n_head * head_dim]")
    n_head: int = given("heads")
    head_dim: int = given("width of a head")
    eps: float = given("float32")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_head_norm(self.kind)


HEAD_NORM = offsets(HeadNorm)


@njit(forceinline=True)
def _mean(x, n):
    """Of n floats."""
    total = np.float32(0.0)
    for i in range(n):
        total += load_f32(x + 4 * i)
    return total / np.float32(n)


@njit(forceinline=True)
def _norm_head(x, n, mean, weight, eps):
    """In place; heads stand side by side, at any column."""
    total = np.float32(0.0)
    for i in range(n):
        d = load_f32(x + 4 * i) - mean
        total += d * d
    scale = np.float32(1.0) / np.sqrt(total / np.float32(n) + eps)
    for i in range(n):
        store_f32(x + 4 * i, (load_f32(x + 4 * i) - mean) * scale * load_f32(weight + 4 * i))


def build_head_norm(kind: str) -> Callable[..., None]:
    """The kernel of a layer norm or RMS norm; a chunk is a token."""
    is_centred = {"layer": True, "rms": False}[kind]

    @njit
    def norm_heads(op, x):
        n, weight = load_i64(op + HEAD_NORM.head_dim), load_i64(op + HEAD_NORM.weight)
        eps = load_f32(load_i64(op + HEAD_NORM.eps))
        for i in range(0, 4 * n * load_i64(op + HEAD_NORM.n_head), 4 * n):
            mean = _mean(x + i, n) if is_centred else np.float32(0.0)
            _norm_head(x + i, n, mean, weight + i, eps)

    def head_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_tokens = load_i64(step + STEP.n_tokens)
        token = claim(thread, n_tokens)
        while token >= 0:
            norm_heads(op, load_i64(op + HEAD_NORM.x) + token * load_i64(op + HEAD_NORM.x_stride))
            token = claim(thread, n_tokens)

    return head_norm
