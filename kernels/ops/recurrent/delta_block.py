"""The inner loops of the delta rule: one block of columns of a head's state, one token.

A block is float32 [d, width]: rows are inputs (d_k), columns stand in lanes. Every sum over d_k is
in ascending order, whichever of the loops takes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import F32, I64, pointer
from slotmux.kernels.simd import F32X16, fma_ir, splat_ir


def _load(b: Any, base: Any, offset: Any, ir_type: Any) -> Any:
    value = b.load(pointer(b, base, offset), typ=ir_type)
    value.align = 4
    return value


def _splat(b: Any, base: Any, index: Any) -> Any:
    """Float ``index`` of an array in all lanes."""
    return splat_ir(b, _load(b, base, b.mul(index, ir.Constant(I64, 4)), F32), F32X16)


def _sums(b: Any, n: int) -> list[Any]:
    return [cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(n)]


def _add_product(b: Any, total: Any, x: Any, y: Any) -> None:
    b.store(fma_ir(b, x, y, b.load(total)), total)


def _store_sums(b: Any, totals: list[Any], address: Any) -> None:
    for j, total in enumerate(totals):
        b.store(b.load(total), pointer(b, address, 64 * j)).align = 4


def make_product(n_vectors: int) -> Any:
    """An intrinsic (state, d, k, out): out = S^T k for one block of columns."""

    @intrinsic
    def product(ctx, state, d, k, out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            state, d, k, out = args
            sums = _sums(b, n_vectors)
            with cgutils.for_range(b, d, intp=I64) as loop:
                row = b.add(state, b.mul(loop.index, ir.Constant(I64, 64 * n_vectors)))
                k_i = _splat(b, k, loop.index)
                for j, total in enumerate(sums):
                    _add_product(b, total, k_i, _load(b, row, 64 * j, F32X16))
            _store_sums(b, sums, out)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return product


def make_update(
    n_vectors: int, has_past: bool, has_next: bool, has_out: bool, decay_per_row: bool
) -> Any:
    """An intrinsic (state, d, decay, k, u, q, out, k_next, next_out) for one block of columns:
    S = decay * S + k u^T (without past, S was zero and is not read); out = S^T q, unless nobody
    wants it; and with a next token next_out = S^T k_next. ``decay`` is the address of one float, or
    of d, one a row."""

    @intrinsic
    def update(ctx, state, d, decay, k, u, q, out, k_next, next_out):  # type: ignore[no-untyped-def]
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            state, d, decay, k, u, q, out, k_next, next_out = args
            outs, nexts = _sums(b, n_vectors), _sums(b, n_vectors)
            factor = None if decay_per_row else _splat(b, decay, ir.Constant(I64, 0))
            u = [_load(b, u, 64 * j, F32X16) for j in range(n_vectors)]
            with cgutils.for_range(b, d, intp=I64) as loop:
                row = b.add(state, b.mul(loop.index, ir.Constant(I64, 64 * n_vectors)))
                k_i = _splat(b, k, loop.index)
                q_i = _splat(b, q, loop.index) if has_out else None
                n_i = _splat(b, k_next, loop.index) if has_next else None
                decay_i = _splat(b, decay, loop.index) if decay_per_row else factor
                for j in range(n_vectors):
                    if has_past:
                        old = b.fmul(decay_i, _load(b, row, 64 * j, F32X16))
                        s = fma_ir(b, k_i, u[j], old)
                    else:
                        s = b.fmul(k_i, u[j])
                    b.store(s, pointer(b, row, 64 * j)).align = 4
                    if has_out:
                        _add_product(b, outs[j], q_i, s)
                    if has_next:
                        _add_product(b, nexts[j], n_i, s)
            if has_out:
                _store_sums(b, outs, out)
            if has_next:
                _store_sums(b, nexts, next_out)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 9), codegen

    return update


class Blocks(NamedTuple):
    """The loops for one width of block: compiled functions, handed to those that call them.

    ``width()``: bytes of a row of a block; ``product`` as make_product's. Updates as make_update's,
    by what they do: with a past and a next token, or the last; the first of a fresh sequence, or
    its only one; and without outputs."""

    width: Any
    product: Any
    update: Any
    last: Any
    begin: Any
    only: Any
    again: Any
    last_again: Any


def make_blocks(n_vectors: int, decay_per_row: bool = False) -> Blocks:
    """The loops for blocks of 16 * ``n_vectors`` columns."""
    product_ir = make_product(n_vectors)

    @njit(forceinline=True)
    def product(state, d, k, out):
        product_ir(state, d, k, out)

    @njit(forceinline=True)
    def width():
        return np.int64(64 * n_vectors)

    def updates(has_past: bool, has_out: bool) -> tuple[Any, Any]:
        return tuple(
            _as_function(make_update(n_vectors, has_past, has_next, has_out, decay_per_row))
            for has_next in (True, False)
        )

    return Blocks(
        width, product, *updates(True, True), *updates(False, True), *updates(True, False)
    )


def _as_function(update_ir: Any) -> Any:
    """An update as a value, which an intrinsic is not."""

    @njit(forceinline=True)
    def update(state, d, decay, k, u, q, out, k_next, next_out):
        update_ir(state, d, decay, k, u, q, out, k_next, next_out)

    return update
