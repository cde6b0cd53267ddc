"""Peak arithmetic of this machine: multiply-adds in registers, on the kernels' own thread team."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from slotmux.kernels.address import I32, load_i64, store_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.cpu import Isa
from slotmux.kernels.dot import I8X64, dot4
from slotmux.kernels.operands import STEP, fill, words
from slotmux.kernels.simd import F32X16, I32X16, fma_ir, splat_ir
from slotmux.kernels.team import Program, Team, aligned_zeros

# n_loops: passes of a chunk; sink: one word a chunk, so that no result is unused.
PEAK = words("Peak", "n_chunks n_loops sink")
N_CHUNKS_A_THREAD = 8
MIN_SECONDS = 0.1
INT8_OPS, F32_OPS = 128, 32  # of one vector instruction: 64 and 16 multiply-adds


def n_accumulators(isa: Isa) -> int:
    """Enough sums at once to hide an instruction's latency, few enough to stay in registers."""
    return 12 if isa.is_avx512 else 5


def _loop(b: Any, n: Any, zero: Any, n_sums: int, step: Callable[[Any], Any]) -> list[Any]:
    """``n`` times: every sum becomes ``step(sum)``."""
    slots = [cgutils.alloca_once_value(b, zero) for _ in range(n_sums)]
    with cgutils.for_range(b, n):
        for slot in slots:
            b.store(step(b.load(slot)), slot)
    return [b.load(slot) for slot in slots]


def _int8_loop(isa: Isa) -> Any:
    @intrinsic
    def loop(ctx: Any, n: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            codes = b.bitcast(splat_ir(b, b.trunc(args[0], I32), I32X16), I8X64)
            zero = ir.Constant(I32X16, None)
            sums = _loop(
                b,
                args[0],
                zero,
                n_accumulators(isa),
                lambda acc: dot4(b, isa, acc, codes, codes, small=True),
            )
            total = zero
            for value in sums:
                total = b.xor(total, value)
            return b.sext(b.extract_element(total, ir.Constant(I32, 0)), ir.IntType(64))

        return types.int64(types.int64), codegen

    return loop


def _f32_loop(isa: Isa) -> Any:
    @intrinsic
    def loop(ctx: Any, n: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            factor = splat_ir(b, b.sitofp(args[0], ir.FloatType()), F32X16)
            zero = ir.Constant(F32X16, None)
            sums = _loop(
                b, args[0], zero, n_accumulators(isa), lambda acc: fma_ir(b, acc, factor, factor)
            )
            total = zero
            for value in sums:
                total = b.fadd(total, value)
            word = b.bitcast(b.extract_element(total, ir.Constant(I32, 0)), I32)
            return b.sext(word, ir.IntType(64))

        return types.int64(types.int64), codegen

    return loop


def _build(loop: Any) -> Callable[[], Any]:
    def build() -> Any:
        def kernel(op, step, thread):  # type: ignore[no-untyped-def]
            n_chunks = load_i64(op + PEAK.n_chunks)
            chunk = claim(thread, n_chunks)
            while chunk >= 0:
                store_i64(load_i64(op + PEAK.sink) + 8 * chunk, loop(load_i64(op + PEAK.n_loops)))
                chunk = claim(thread, n_chunks)

        return kernel

    return build


def measure_peak(team: Team, kind: str) -> float:
    """Operations a second (a multiply-add is two) of the whole team; ``kind``: int8 or f32."""
    isa = team.kernels.cpu.isa
    make_loop, n_ops = {"int8": (_int8_loop, INT8_OPS), "f32": (_f32_loop, F32_OPS)}[kind]
    address = team.kernels.address(f"bench.peak.{kind}", _build(make_loop(isa)))
    n_chunks = N_CHUNKS_A_THREAD * team.n_threads
    sink = np.zeros(n_chunks, np.int64)
    step = aligned_zeros(8 * len(STEP._fields)).view(np.int64)
    operands = fill(PEAK, n_chunks=n_chunks, n_loops=1000, sink=sink)
    program = Program(team, step, [(address, operands, -1)])
    while (seconds := _best_of(team, program)) < MIN_SECONDS:
        operands[1] *= max(2, int(1.2 * MIN_SECONDS / seconds))
    return float(n_chunks * operands[1] * n_accumulators(isa) * n_ops / seconds)


def _best_of(team: Team, program: Program, n: int = 3) -> float:
    best = float("inf")
    for _ in range(n):
        start = time.perf_counter()
        team.run(program)
        best = min(best, time.perf_counter() - start)
    return best
