"""Compile a kernel to machine code, or find it compiled on disk.

Numba's own cache misses kernels that are made by factories and does not notice a change in an
imported file, so slotmux keeps one object file a kernel, named after the sources it is made of,
in a directory named after everything else that shapes the code: Numba, LLVM, Python and the CPU.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from llvmlite import binding as llvm

from slotmux.kernels.cpu import Cpu
from slotmux.kernels.own_directory import ensure_own
from slotmux.kernels.sources import kernel_digest

log = logging.getLogger(__name__)
# Older code of a kernel, and directories of other CPUs and compilers, that are kept: whoever goes
# back and forth between two versions does not compile each time.
KEPT_VERSIONS, KEPT_DIRECTORIES = 3, 4
_MAGIC = b"slotmux-kernel-1\n"
# What compiled code may call in the C library. LLVM's own lookup leaves some at address 0.
_C_SYMBOLS = (
    "syscall", "sched_yield", "memcpy", "memmove", "memset", "fmaf", "fma",
)  # fmt: skip
_ENTRY = "slotmux_kernel"
KernelSource = Callable[..., Any]  # (op: int64, step: int64, thread: int64) -> None


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

    ``directory`` is created with mode 0700. In the place of one that others can write, or that
    cannot be used, a private one serves until this process ends, and a line in the log says so;
    None keeps nothing.
    """

    def __init__(self, cpu: Cpu, directory: Path | None = None) -> None:
        self.cpu = cpu
        self.n_compiled = 0
        self._engines: list[Any] = []
        self._addresses: dict[str, int] = {}
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _register_c_symbols()
        self.root: Path | None = None  # the directory in use, for other processes
        self._directory: Path | None = None  # within it, for this CPU and compiler
        if directory is not None:
            self._open(directory)

    def _open(self, directory: Path) -> None:
        try:
            self._use(directory)
        except OSError as error:
            log.warning(
                "kernel cache not used, kernels are compiled at every start: %s;"
                " --cache-dir names another place", error,
            )  # fmt: skip
            with contextlib.suppress(OSError):  # no room for that either: nothing is kept
                private = Path(tempfile.mkdtemp(prefix="slotmux-kernels-"))
                atexit.register(shutil.rmtree, private, ignore_errors=True)
                self._use(private)

    def _use(self, directory: Path) -> None:
        import numba

        key = hashlib.sha256(
            "\0".join(
                (numba.__version__, llvmlite.__version__, sys.version,
                 self.cpu.name, self.cpu.features, self.cpu.isa)
            ).encode()
        ).hexdigest()  # fmt: skip
        path = directory / key[:24]
        for folder in (directory, path):
            ensure_own(folder)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"{path} cannot be written")
        os.utime(path)
        self.root, self._directory = directory, path
        _prune([p for p in directory.iterdir() if len(p.name) == 24 and p.is_dir()],
               KEPT_DIRECTORIES)  # fmt: skip

    def address(self, name: str, build: Callable[[], KernelSource]) -> int:
        """Address of the kernel called ``name``; ``build`` makes its Python source if needed.

        ``name`` must say everything that ``build`` depends on besides the cache's own key.
        """
        if name not in self._addresses:
            entry = self._read(name, build)
            if entry is None:
                entry = self._compile(build())
                self._write(name, build, entry)
                self.n_compiled += 1
            try:
                self._addresses[name] = self._link(*entry)
            except RuntimeError as error:  # an object file that LLVM cannot read
                log.warning("kernel %s: cached code refused: %s", name, error)
                entry = self._compile(build())
                self.n_compiled += 1
                self._addresses[name] = self._link(*entry)
        return self._addresses[name]

    @property
    def is_on_disk(self) -> bool:
        """Whether compiled kernels are kept for other processes."""
        return self._directory is not None

    def has(self, name: str, build: Callable[[], KernelSource]) -> bool:
        """Whether ``address(name, build)`` would compile nothing."""
        return name in self._addresses or self._read(name, build) is not None

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

    def _file(self, name: str, build: Callable[[], KernelSource]) -> Path | None:
        if self._directory is None:
            return None
        of_name = hashlib.sha256(name.encode()).hexdigest()[:24]
        return self._directory / f"{of_name}-{kernel_digest(build)[:16]}.o"

    def _read(self, name: str, build: Callable[[], KernelSource]) -> tuple[str, bytes] | None:
        path = self._file(name, build)
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

    def _write(
        self, name: str, build: Callable[[], KernelSource], entry: tuple[str, bytes]
    ) -> None:
        path = self._file(name, build)
        if path is None:
            return
        body = entry[0].encode() + b"\n" + entry[1]
        file = None
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(_MAGIC + _digest(name, body) + body)
            Path(file.name).replace(path)
            _prune(list(path.parent.glob(f"{path.name[:24]}-*.o")), KEPT_VERSIONS)
        except OSError as error:
            log.warning("kernel cache cannot be written: %s", error)
            self.root = self._directory = None
            if file is not None:
                with contextlib.suppress(OSError):  # the disk may take not even that
                    Path(file.name).unlink(missing_ok=True)


def _prune(paths: list[Path], n_kept: int) -> None:
    """Remove all but the ``n_kept`` last used: code that other processes run is in their memory."""

    def used(path: Path) -> float:
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
        return 0.0

    for path in sorted(paths, key=used)[:-n_kept]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def as_callable(address: int, n_arguments: int) -> Callable[..., None]:
    """A Python function that runs compiled code with int64 arguments, without the GIL."""
    prototype = ctypes.CFUNCTYPE(None, *([ctypes.c_int64] * n_arguments))
    return prototype(address)
