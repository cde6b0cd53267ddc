"""The inner loop of the selective scans: one vector of 16 channels, its state in registers.

For n in ascending order, token by token:
    S[n] = decay * S[n] + u * B[n];  y += S[n] * C[n]
Every lane is a channel, so nothing is summed across lanes. States are taken N at a time through
all tokens of a segment; cutting tokens into segments or ubatches changes no operation.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import F32, I64, pointer
from slotmux.kernels.simd import F32X16, I32X16, const_ir, fma_ir, splat_ir

N_REGISTERS = 16  # states held at a time
SEGMENT = 32  # tokens that pass through before the next states are taken
# A token's vectors in the scratch, in bytes: decay's exponent factor, u, y.
DT, U, Y, TOKEN_BYTES = 0, 64, 128, 192

# 2^r = 1 + r P(r) for |r| <= 1/2, largest error 0.94 ulp; P by least maximum of relative error.
_EXP2 = (
    0.00015353357593994588, 0.0013398878509178758, 0.009618437848985195, 0.055503323674201965,
    0.24022647738456726, 0.6931471824645996, 1.0,
)  # fmt: skip
_ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to a whole number, left in the low bits
LOWEST_EXPONENT = -125.0  # 2^-125 is 0 to any state that matters


def exp2_negative_ir(b: Any, x: Any) -> Any:
    """2^x for x <= 0, at least 2^-125. NaN stays NaN."""
    lowest = const_ir(LOWEST_EXPONENT)
    x = b.select(b.fcmp_ordered(">", lowest, x), lowest, x)
    shifted = b.fadd(x, const_ir(_ROUND))
    r = b.fsub(x, b.fsub(shifted, const_ir(_ROUND)))
    p = const_ir(_EXP2[0])
    for coefficient in _EXP2[1:]:
        p = fma_ir(b, p, r, const_ir(coefficient))
    exponent = b.shl(b.bitcast(shifted, I32X16), const_ir(23, I32X16))
    return b.bitcast(b.add(b.bitcast(p, I32X16), exponent), F32X16)


def _load(b: Any, address: Any, offset: int = 0) -> Any:
    value = b.load(pointer(b, address, offset), typ=F32X16)
    value.align = 4
    return value


def _store(b: Any, value: Any, address: Any, offset: int = 0) -> None:
    b.store(value, pointer(b, address, offset)).align = 4


def _splat_at(b: Any, address: Any, offset: int = 0) -> Any:
    value = b.load(pointer(b, address, offset), typ=F32)
    value.align = 4
    return splat_ir(b, value, F32X16)


def _load_states(b: Any, state: Any, fresh: Any, height: int) -> list[Any]:
    """Registers with the states; zeros, and nothing read, when the sequence is fresh."""
    states = [cgutils.alloca_once_value(b, ir.Constant(F32X16, None)) for _ in range(height)]
    for register in states:
        b.store(ir.Constant(F32X16, None), register)
    with b.if_then(b.icmp_signed("==", fresh, ir.Constant(I64, 0))):
        for i, register in enumerate(states):
            b.store(_load(b, state, 64 * i), register)
    return states


def _make_block(height: int, decay_per_state: bool) -> Any:
    """An intrinsic: ``height`` states through ``n_tokens`` tokens."""

    @intrinsic
    def block(  # type: ignore[no-untyped-def]
        ctx, state, fresh, a, decay, decay_stride, scratch, b_rows, c_rows, bc_stride, n_tokens
    ):
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            (state, fresh, a, decay, decay_stride, scratch, b_rows, c_rows, bc_stride,
             n_tokens) = args  # fmt: skip
            states = _load_states(b, state, fresh, height)
            with cgutils.for_range(b, n_tokens, intp=I64) as loop:
                token = b.add(scratch, b.mul(loop.index, ir.Constant(I64, TOKEN_BYTES)))
                bc = b.mul(loop.index, bc_stride)
                b_t, c_t = b.add(b_rows, bc), b.add(c_rows, bc)
                u, y = _load(b, token, U), _load(b, token, Y)
                if decay_per_state:
                    dt = _load(b, token, DT)
                else:
                    factor = _splat_at(b, b.add(decay, b.mul(loop.index, decay_stride)))
                for i, register in enumerate(states):
                    if decay_per_state:
                        factor = exp2_negative_ir(b, b.fmul(dt, _load(b, a, 64 * i)))
                    kept = b.fmul(factor, b.load(register))
                    new = fma_ir(b, u, _splat_at(b, b_t, 4 * i), kept)
                    y = fma_ir(b, new, _splat_at(b, c_t, 4 * i), y)
                    b.store(new, register)
                _store(b, y, token, Y)
            for i, register in enumerate(states):
                _store(b, b.load(register), state, 64 * i)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 10), codegen

    return block


def make_scan(decay_per_state: bool) -> Any:
    """scan(state, fresh, a, decay, decay_stride, scratch, b, c, bc_stride, n_tokens, n_state).

    state: float32 [n_state, 16]; scratch: [n_tokens] of DT, U and Y vectors; b, c: float32 rows
    [n_tokens, n_state] of bc_stride bytes. Decay is 2^(DT * a[n]) with a: float32 [n_state, 16]
    (``decay_per_state``), or one float32 a token at ``decay`` with its stride.
    """
    scan_many = _make_block(N_REGISTERS, decay_per_state)
    scan_one = _make_block(1, decay_per_state)

    @njit
    def scan(
        state, fresh, a, decay, decay_stride, scratch, b_rows, c_rows, bc_stride, n_tokens, n_state
    ):
        whole = n_state // N_REGISTERS * N_REGISTERS
        for n in range(0, whole, N_REGISTERS):
            scan_many(
                state + 64 * n, fresh, a + 64 * n, decay, decay_stride, scratch,
                b_rows + 4 * n, c_rows + 4 * n, bc_stride, n_tokens,
            )  # fmt: skip
        for n in range(whole, n_state):
            scan_one(
                state + 64 * n, fresh, a + 64 * n, decay, decay_stride, scratch,
                b_rows + 4 * n, c_rows + 4 * n, bc_stride, n_tokens,
            )  # fmt: skip

    return scan
