"""RMS norm of each group of neighbouring columns of a row, added to what is there.

out[g] += x[g] / sqrt(mean(x[g]^2) + eps) * w, for groups g of ``width`` columns that share w.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from slotmux.kernels import simd
from slotmux.kernels.address import load_f32, load_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.operands import STEP, Op, Rows, Vector, given, offsets, reads, updates
from slotmux.kernels.ops.dense.norm import inverse_rms


class GroupNorm(Op, kernel="group_norm"):
    """out += x, each group of columns normed, times weight"""

    x: Rows = reads("float32 [n_tokens, n_groups * width]")
    n_groups: int = given("groups of neighbouring columns")
    width: int = given("columns of a group, a multiple of 16")
    weight: Vector = given("float32 [width]")
    eps: float = given("float32")
    out: Rows = updates("float32 [n_tokens, n_groups * width]")

    def build(self, isa: Isa) -> Callable[..., None]:
        return build_group_norm()


GROUP_NORM = offsets(GroupNorm)


@njit
def _add_group(x, width, weight, eps, out):
    scale = simd.splat(inverse_rms(x, width, eps))
    for i in range(0, 4 * width, 64):
        value = simd.load(x + i) * scale * simd.load(weight + i)
        simd.store(out + i, simd.load(out + i) + value)


def build_group_norm() -> Callable[..., None]:
    """The kernel; a chunk is a group of a token."""

    def group_norm(op, step, thread):  # type: ignore[no-untyped-def]
        n_groups = load_i64(op + GROUP_NORM.n_groups)
        n_chunks = load_i64(step + STEP.n_tokens) * n_groups
        chunk = claim(thread, n_chunks)
        while chunk >= 0:
            token, width = chunk // n_groups, load_i64(op + GROUP_NORM.width)
            column = 4 * (chunk % n_groups) * width
            x = load_i64(op + GROUP_NORM.x) + token * load_i64(op + GROUP_NORM.x_stride)
            out = load_i64(op + GROUP_NORM.out) + token * load_i64(op + GROUP_NORM.out_stride)
            eps = load_f32(load_i64(op + GROUP_NORM.eps))
            _add_group(x + column, width, load_i64(op + GROUP_NORM.weight), eps, out + column)
            chunk = claim(thread, n_chunks)

    return group_norm
