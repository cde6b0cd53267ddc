"""Optimised LLVM IR of a kernel, made by Numba from its Python source.

Numba makes machine code of every function that it compiles, the nested ones too, before it links
them into their caller. LLVM rewrites a function for that (CodeGenPrepare computes addresses as
offsets from null), and what is linked and optimised afterwards is the rewritten one: alias analysis
takes such addresses for apart from all others, so loads move before the stores they depend on.
Here only IR is made of nested functions; the machine code of a kernel is made once, of the whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from llvmlite import binding as llvm
from numba import _dynfunc, int64, void
from numba.core.ccallback import _CFuncCompiler  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys

KernelSource = Callable[..., Any]  # (op: int64, step: int64, thread: int64) -> None
# Functions that differ from machine to machine in the last bit: see kernels/simd.py and scalar.py
# for ours. (fmuladd is rounded once or twice, as the CPU likes.)
_INEXACT = re.compile(
    r"(llvm\.)?(a?(sin|cos|tan)h?|atan2|sincos|exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|powi|cbrt"
    r"|hypot|erf|erfc|lgamma|tgamma|fmuladd)f?(\..*)?"
)
_ATTRIBUTES = re.compile(r"^(attributes #\d+ = \{)", re.MULTILINE)
_OPTIONS = {"nopython": True, "error_model": "numpy", "boundscheck": False}


def optimised(source: KernelSource, entry: str) -> Any:
    """The kernel as an LLVM module whose function ``entry`` takes int64 and returns nothing.

    Raises ValueError for one that calls what is not alike on all machines, and what Numba raises.
    """
    n_arguments = source.__code__.co_argcount
    rtsys.initialize(
        cpu_target.target_context
    )  # with machine code: whoever else uses Numba needs it
    with global_compiler_lock, _without_collector(), _without_machine_code():
        result = _KernelCompiler(source, cpu_target, _OPTIONS, {}, Compiler).compile(
            [int64] * n_arguments, void
        )
        result.library.is_whole = True
        result.library.finalize()  # link the callees in and optimise across them
    module = llvm.parse_assembly(_with_frame_pointers(result.library.get_llvm_str()))
    module.link_in(llvm.parse_assembly(_plain_entry(entry, result.fndesc, n_arguments)))
    module.verify()
    for function in module.functions:
        if function.is_declaration and _INEXACT.fullmatch(function.name):
            raise ValueError(f"{source.__name__}: {function.name} is not alike on all machines")
    return module


class _KernelCompiler(_CFuncCompiler):  # type: ignore[misc]
    """Numba's compiler without its wrappers for Python: compiled code must not refer to Numba."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True
        flags.no_compile = True
        flags.enable_pyobject = False
        return flags


class _Linkable(JITCodeLibrary):  # type: ignore[misc]
    """IR for whoever calls the function; no machine code is made of it.

    It is inlined, and optimised in full with all around it when the kernel is whole. To do that
    before as well gives the same speed for half more of the compiler's time.
    """

    is_whole = False

    def add_linking_library(self, library: Any) -> None:
        if not isinstance(library, _Linkable) and library is not rtsys.library:
            raise TypeError(
                f"{library.name} has been called from Python, and its IR was rewritten for that;"
                " only functions that no test calls itself can be linked"
            )
        super().add_linking_library(library)

    def _optimize_final_module(self) -> None:
        if self.is_whole:
            super()._optimize_final_module()
            return
        codegen = self._codegen
        passes, builder = codegen._module_pass_manager(
            loop_vectorize=codegen._loopvect, slp_vectorize=False, opt=codegen._opt_level,
            cost="cheap",
        )  # fmt: skip
        passes.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Numba makes millions of objects that live until it is done, and the collector would go
    through them again and again: 16 % of the time of compiling."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _without_machine_code() -> Iterator[None]:
    """What Numba compiles is for linking only; the caller holds its lock."""
    with (
        patch.object(JITCPUCodegen, "_library_class", _Linkable),
        patch.object(CPUContext, "get_executable", _no_executable),
        patch.object(Lower, "create_cpython_wrapper", _no_wrapper),
        patch.object(Lower, "create_cfunc_wrapper", _no_wrapper),
    ):
        yield


def _no_wrapper(lower: Lower, *_: Any) -> None:
    """Nothing: a function of a kernel is not called from Python."""


def _no_executable(context: CPUContext, library: JITCodeLibrary, fndesc: Any, env: Any) -> Any:
    """What a dispatcher calls when it is called from Python; here a TypeError comes of it."""
    library._ensure_finalized()
    name = fndesc.qualname.rpartition(".")[2]
    refuse = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value
    doc = "of a kernel: see kernels/codegen.py"
    return _dynfunc.make_function(fndesc.lookup_module(), name, doc, refuse, env, (library,))


def _plain_entry(entry: str, fndesc: Any, n_arguments: int) -> str:
    """LLVM source of a C function that calls a Numba function (result, exception, arguments)."""
    parameters = ", ".join(f"i64 %a{i}" for i in range(n_arguments))
    name = fndesc.llvm_func_name
    return f"""
declare i32 @"{name}"(ptr, ptr, {", ".join(["i64"] * n_arguments)})
define void @{entry}({parameters}) {{
  %result = alloca ptr
  %exception = alloca ptr
  call i32 @"{name}"(ptr %result, ptr %exception, {parameters})
  ret void
}}
"""


def _with_frame_pointers(text: str) -> str:
    """LLVM source whose functions keep a frame pointer: without one LLVM cannot align the stack,
    and vectors that find no register cross cache lines there. One Zen 5 core, 8 rows of IQ1_M:
    3.7 -> 4.4 GB/s, IQ2_S 6.6 -> 7.5."""
    return _ATTRIBUTES.sub(r'\1 "frame-pointer"="all"', text)
