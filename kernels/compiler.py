"""Compile a kernel to machine code, or find it compiled on disk.

Numba's own cache misses kernels that are made by factories and does not notice a change in an
imported file, so slotmux keeps one object file a kernel, in a directory named after everything
that shapes the code: the sources of this package, Numba, LLVM and the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from llvmlite import binding as llvm

from slotmux.kernels.cpu import Cpu

_MAGIC = b"slotmux-kernel-1\n"
# What compiled code may call in the C library. LLVM's own lookup leaves some at address 0.
_C_SYMBOLS = (
    "syscall", "sched_yield", "memcpy", "memmove", "memset", "fmaf", "fma",
)  # fmt: skip
# Functions that differ from machine to machine in the last bit: see kernels/simd.py and scalar.py
# for ours. (fmuladd is rounded once or twice, as the CPU likes.)
_INEXACT = re.compile(
    r"(llvm\.)?(a?(sin|cos|tan)h?|atan2|sincos|exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|powi|cbrt"
    r"|hypot|erf|erfc|lgamma|tgamma|fmuladd)f?(\..*)?"
)
_ENTRY = "slotmux_kernel"
KernelSource = Callable[..., Any]  # (op: int64, step: int64, thread: int64) -> None


@cache
def source_digest() -> str:
    """Of every source of this package, as it was when first asked for."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _digest(name: str, body: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + body).digest()


@cache
def _register_c_symbols() -> None:
    library = ctypes.CDLL(None)
    for name in _C_SYMBOLS:
        llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


def _kernel_compiler(source: KernelSource) -> Any:
    """Numba's compiler without its wrappers for Python: compiled code must not refer to Numba."""
    from numba.core.ccallback import _CFuncCompiler
    from numba.core.compiler import Compiler
    from numba.core.registry import cpu_target

    class KernelCompiler(_CFuncCompiler):  # type: ignore[misc]
        def _customize_flags(self, flags: Any) -> Any:
            flags.no_cpython_wrapper = True
            flags.no_cfunc_wrapper = True
            flags.no_compile = True  # machine code is made by KernelCache
            flags.enable_pyobject = False
            return flags

    options = {"nopython": True, "error_model": "numpy", "boundscheck": False}
    return KernelCompiler(source, cpu_target, options, {}, Compiler)


def _plain_entry(fndesc: Any, n_arguments: int) -> str:
    """LLVM source of a C function that calls a Numba function (result, exception, arguments)."""
    parameters = ", ".join(f"i64 %a{i}" for i in range(n_arguments))
    name = fndesc.llvm_func_name
    return f"""
declare i32 @"{name}"(ptr, ptr, {", ".join(["i64"] * n_arguments)})
define void @{_ENTRY}({parameters}) {{
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
    group = re.compile(r"^(attributes #\d+ = \{)", re.MULTILINE)
    return group.sub(r'\1 "frame-pointer"="all"', text)


class KernelCache:
    """Compiled kernels by name; not thread-safe, used while a model is loaded.

    ``directory`` is created with mode 0700; one that is not ours, or that cannot be written,
    is not used (a warning says so) and kernels are compiled anew.
    """

    def __init__(self, cpu: Cpu, directory: Path | None = None) -> None:
        self.cpu = cpu
        self.n_compiled = 0
        self._engines: list[Any] = []
        self._addresses: dict[str, int] = {}
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _register_c_symbols()
        self._directory = self._usable(directory)

    def _usable(self, directory: Path | None) -> Path | None:
        if directory is None:
            return None
        import numba

        key = hashlib.sha256(
            "\0".join(
                (source_digest(), numba.__version__, llvmlite.__version__, sys.version,
                 self.cpu.name, self.cpu.features, self.cpu.isa)
            ).encode()
        ).hexdigest()  # fmt: skip
        path = directory / key[:24]
        try:
            for folder in (directory, path):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                info = folder.lstat()
                if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
                    raise PermissionError(f"{folder} is not a directory of ours with mode 0700")
        except OSError as error:
            warnings.warn(f"kernel cache not used: {error}", stacklevel=3)
            return None
        return path

    def address(self, name: str, build: Callable[[], KernelSource]) -> int:
        """Address of the kernel called ``name``; ``build`` makes its Python source if needed.

        ``name`` must say everything that ``build`` depends on besides the cache's own key.
        """
        if name not in self._addresses:
            entry = self._read(name)
            if entry is None:
                entry = self._compile(build())
                self._write(name, entry)
                self.n_compiled += 1
            try:
                self._addresses[name] = self._link(*entry)
            except RuntimeError as error:  # an object file that LLVM cannot read
                warnings.warn(f"kernel {name}: cached code refused: {error}", stacklevel=2)
                entry = self._compile(build())
                self.n_compiled += 1
                self._addresses[name] = self._link(*entry)
        return self._addresses[name]

    @property
    def is_on_disk(self) -> bool:
        """Whether compiled kernels are kept for other processes."""
        return self._directory is not None

    def has(self, name: str) -> bool:
        """Whether ``address(name, ...)`` would compile nothing."""
        return name in self._addresses or self._read(name) is not None

    def _target(self) -> Any:
        target = llvm.Target.from_triple(llvm.get_process_triple())
        return target.create_target_machine(
            cpu=self.cpu.name,
            features=self.cpu.features,
            opt=3,
            reloc="static",
            codemodel="jitdefault",
            jit=True,
        )

    def assembly(self, source: KernelSource) -> str:
        """What the machine will run, for reading."""
        return str(self._target().emit_assembly(self._optimised(source)[1]))

    def _optimised(self, source: KernelSource) -> tuple[str, Any]:
        from numba import int64, void
        from numba.core.compiler_lock import global_compiler_lock

        n_arguments = source.__code__.co_argcount
        with global_compiler_lock:
            result = _kernel_compiler(source).compile([int64] * n_arguments, void)
            result.library.finalize()  # link the callees in and optimise across them
        module = llvm.parse_assembly(_with_frame_pointers(result.library.get_llvm_str()))
        module.link_in(llvm.parse_assembly(_plain_entry(result.fndesc, n_arguments)))
        module.verify()
        for function in module.functions:
            if function.is_declaration and _INEXACT.fullmatch(function.name):
                raise ValueError(f"{source.__name__}: {function.name} is not alike on all machines")
        return _ENTRY, module

    def _compile(self, source: KernelSource) -> tuple[str, bytes]:
        symbol, module = self._optimised(source)
        return symbol, self._target().emit_object(module)

    def _link(self, symbol: str, code: bytes) -> int:
        empty = llvm.parse_assembly("")
        engine = llvm.create_mcjit_compiler(empty, self._target())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(symbol))
        if not address:
            raise RuntimeError(f"symbol {symbol} is missing")
        self._engines.append(engine)  # owns the machine code
        return address

    def _file(self, name: str) -> Path | None:
        if self._directory is None:
            return None
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.o"

    def _read(self, name: str) -> tuple[str, bytes] | None:
        path = self._file(name)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError:
            return None
        head, body = data[: len(_MAGIC)], data[len(_MAGIC) :]
        if head != _MAGIC or _digest(name, body[32:]) != body[:32]:
            return None  # truncated or another kernel's: compile anew and overwrite
        symbol, _, code = body[32:].partition(b"\n")
        return symbol.decode(), code

    def _write(self, name: str, entry: tuple[str, bytes]) -> None:
        path = self._file(name)
        if path is None:
            return
        body = entry[0].encode() + b"\n" + entry[1]
        file = None
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(_MAGIC + _digest(name, body) + body)
            Path(file.name).replace(path)
        except OSError as error:
            warnings.warn(f"kernel cache cannot be written: {error}", stacklevel=3)
            self._directory = None
            if file is not None:
                with contextlib.suppress(OSError):  # the disk may take not even that
                    Path(file.name).unlink(missing_ok=True)


def as_callable(address: int, n_arguments: int) -> Callable[..., None]:
    """A Python function that runs compiled code with int64 arguments, without the GIL."""
    prototype = ctypes.CFUNCTYPE(None, *([ctypes.c_int64] * n_arguments))
    return prototype(address)
