"""Memory by address: typed loads and stores, atomics and the two system calls a thread team needs.

Kernels get addresses as int64, because their operands are described at run time. All functions
here are Numba intrinsics: one LLVM instruction each, no check.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
PTR = ir.PointerType()
SYS_FUTEX_X86_64, SYS_FUTEX_ARM64 = 202, 98
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129


def hidden(b: Any, address: Any) -> Any:
    """The same address, but LLVM does not know that: what is read there is read anew."""
    kind = ir.FunctionType(I64, [I64])
    return b.call(ir.InlineAsm(kind, "", "=r,0", side_effect=True), [address])


def pointer(b: Any, address: Any, offset: int | Any = 0) -> Any:
    """LLVM pointer to ``address + offset`` bytes."""
    if isinstance(offset, int):
        offset = ir.Constant(I64, offset)
    return b.inttoptr(b.add(address, offset), PTR)


def _loader(nb_type: Any, ir_type: Any, widen: Any = None) -> Any:
    @intrinsic
    def load(ctx: Any, address: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            value = b.load(b.inttoptr(args[0], PTR), typ=ir_type)
            value.align = 1
            return widen(b, value) if widen else value

        return nb_type(types.int64), codegen

    return load


def _storer(nb_type: Any, narrow: Any = None) -> Any:
    @intrinsic
    def store(ctx: Any, address: Any, value: Any) -> Any:
        def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
            value = narrow(b, args[1]) if narrow else args[1]
            b.store(value, b.inttoptr(args[0], PTR)).align = 1
            return c.get_dummy_value()

        return types.void(types.int64, nb_type), codegen

    return store


load_i64 = _loader(types.int64, I64)
load_i32 = _loader(types.int64, I32, lambda b, v: b.sext(v, I64))
load_u8 = _loader(types.int64, I8, lambda b, v: b.zext(v, I64))
load_u16 = _loader(types.int64, I16, lambda b, v: b.zext(v, I64))
load_f32 = _loader(types.float32, F32)
load_f64 = _loader(types.float64, F64)
load_f16 = _loader(types.float32, F16, lambda b, v: b.fpext(v, F32))
store_i64 = _storer(types.int64)
store_i32 = _storer(types.int64, lambda b, v: b.trunc(v, I32))
store_i8 = _storer(types.int64, lambda b, v: b.trunc(v, I8))
store_i16 = _storer(types.int64, lambda b, v: b.trunc(v, I16))
store_f32 = _storer(types.float32)
store_f64 = _storer(types.float64)
store_f16 = _storer(types.float32, lambda b, v: b.fptrunc(v, F16))


def prefetch_ir(b: Any, address: Any, level: int = 3, to_write: int = 0) -> None:
    """Ask for the cache line at an address, which need not be valid: level 3 into the first cache,
    2 into the second; ``to_write`` 1: to be written."""
    signature = ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32])
    fn = cgutils.get_or_insert_function(b.module, signature, "llvm.prefetch.p0")
    flags = [ir.Constant(I32, flag) for flag in (to_write, level, 1)]  # 1: data
    b.call(fn, [b.inttoptr(address, PTR), *flags])


@intrinsic
def prefetch(ctx: Any, address: Any) -> Any:
    """``prefetch_ir`` into the first cache."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        prefetch_ir(b, args[0])
        return c.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def prefetch_to_write(ctx: Any, address: Any) -> Any:
    """The same of a line that will be written."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        prefetch_ir(b, args[0], to_write=1)
        return c.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def load_acquire(ctx: Any, address: Any) -> Any:
    """Read an int64 that another thread may write; later reads see what it had written before."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.load_atomic(b.inttoptr(args[0], PTR), "acquire", 8, typ=I64)

    return types.int64(types.int64), codegen


@intrinsic
def load_in_order(ctx: Any, address: Any) -> Any:
    """The same, and not before the effect of this thread's atomic writes that stand before it: all
    threads agree on one order of these loads and of ``atomic_add``, ``atomic_swap`` and
    ``compare_and_swap`` (sequential consistency; see kernels/claims.py)."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.load_atomic(b.inttoptr(args[0], PTR), "seq_cst", 8, typ=I64)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_add(ctx: Any, address: Any, value: Any) -> Any:
    """Add to an int64 in one step; returns the value before."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.atomic_rmw("add", b.inttoptr(args[0], PTR), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_swap(ctx: Any, address: Any, value: Any) -> Any:
    """Store an int64, ordered after all earlier writes; returns the value before."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.atomic_rmw("xchg", b.inttoptr(args[0], PTR), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(ctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Store ``value`` if the int64 still is ``expected``; returns whether it was."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        pair = b.cmpxchg(b.inttoptr(args[0], PTR), args[1], args[2], "seq_cst", "seq_cst")
        return b.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def cpu_pause(ctx: Any) -> Any:
    """Tell the core that this is a spin loop (x86 ``pause``; a compiler barrier elsewhere)."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        if llvm.get_default_triple().startswith(("x86_64", "i686")):
            name = "llvm.x86.sse2.pause"
            fn = cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), []), name)
            b.call(fn, [])
        else:
            b.fence("acquire")
        return c.get_dummy_value()

    return types.void(), codegen


def _futex_number() -> int | None:
    triple = llvm.get_default_triple()
    if "linux" not in triple:
        return None
    return SYS_FUTEX_X86_64 if triple.startswith("x86_64") else SYS_FUTEX_ARM64


def _futex(b: Any, address: Any, operation: int, value: Any, timeout: Any) -> None:
    number = _futex_number()
    if number is None:  # no futex: give the CPU away and let the caller look again
        fn = cgutils.get_or_insert_function(b.module, ir.FunctionType(I32, []), "sched_yield")
        b.call(fn, [])
        return
    fn = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(I64, [I64] * 5, var_arg=True), "syscall"
    )
    b.call(fn, [ir.Constant(I64, number), address, ir.Constant(I64, operation), value, timeout])


@intrinsic
def futex_wait(ctx: Any, address: Any, expected: Any) -> Any:
    """Sleep until woken while the low 32 bits of the int64 at ``address`` are ``expected``.

    May return early; the caller looks again. Little-endian: the futex word is the low half.
    """

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        low = b.and_(args[1], ir.Constant(I64, 0xFFFFFFFF))
        _futex(b, args[0], FUTEX_WAIT_PRIVATE, low, ir.Constant(I64, 0))
        return c.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def futex_wake(ctx: Any, address: Any) -> Any:
    """Wake every thread that sleeps on ``address``."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        _futex(b, args[0], FUTEX_WAKE_PRIVATE, ir.Constant(I64, 0x7FFFFFFF), ir.Constant(I64, 0))
        return c.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def call_kernel(ctx: Any, function: Any, op: Any, step: Any, thread: Any) -> Any:
    """Call a compiled kernel by its address."""

    def codegen(c: Any, b: Any, sig: Any, args: Any) -> Any:
        signature = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
        b.call(b.inttoptr(args[0], signature.as_pointer()), args[1:])
        return c.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen
