"""Compile a kernel to machine code, or find it compiled on disk.

Numba's own cache misses kernels that are made by factories and does not notice a change in an
imported file, so slotmux keeps one object file a kernel, named after the sources it is made of,
in a directory named after everything else that shapes the code: Numba, LLVM, Python and the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite
from llvmlite import binding as llvm

from slotmux.kernels.cpu import Cpu, Isa
from slotmux.kernels.own_directory import ensure_own, private_directory
from slotmux.kernels.sources import kernel_digest

if TYPE_CHECKING:
    from slotmux.kernels.codegen import KernelSource

log = logging.getLogger(__name__)
ENTRY = "slotmux_kernel"  # the function of a kernel's object file
# Older code of a kernel, and directories of other CPUs and compilers, that are kept: whoever goes
# back and forth between two versions does not compile each time. An instruction set has a directory
# of its own, and the tests use them all in turn.
KEPT_VERSIONS, KEPT_DIRECTORIES = 3, 2 * len(Isa)
_PRIVATE = "slotmux-kernels-"
_PART = ".part"  # of files that are being written
_ROOM = 1 << 20  # bytes that must be free for a cache to be written: several kernels
_MAGIC = b"slotmux-kernel-2\n"
# What compiled code may call in the C library. LLVM's own lookup leaves some at address 0.
_C_SYMBOLS = (
    "syscall", "sched_yield", "memcpy", "memmove", "memset", "fmaf", "fma",
)  # fmt: skip


def _digest(name: str, body: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + body).digest()


@cache
def _register_c_symbols() -> None:
    library = ctypes.CDLL(None)
    for name in _C_SYMBOLS:
        llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


def _optimised(source: KernelSource) -> Any:
    from slotmux.kernels.codegen import optimised  # Numba takes a second to import

    return optimised(source, ENTRY)


class KernelCache:
    """Compiled kernels by name; not thread-safe, used while a model is loaded.

    ``directory`` is created with mode 0700. In the place of one that others can write, or that
    cannot be used, a private one serves until this process ends, and a line in the log says so.
    What is compiled in one that is ours but takes no more is still used. None keeps nothing.
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
        self._read_only: Path | None = None  # likewise, of a root that cannot be written
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
            self._use_private()

    def _use_private(self) -> None:
        self.root = self._directory = None
        with contextlib.suppress(OSError):  # no room for that either: nothing is kept
            self._use(private_directory(_PRIVATE))

    def _cannot_write(self, error: OSError) -> None:
        """What is compiled from here on goes to a private directory, or nowhere."""
        if self._read_only is None:
            log.warning(
                "kernel cache %s cannot be written, what is missing there is compiled at every"
                " start: %s; --cache-dir names another place", self.root, error,
            )  # fmt: skip
            self._read_only = self._directory
            self._use_private()
        else:
            self.root = self._directory = None

    def make_room(self) -> None:
        """See that kernels can be written, before other processes are told to: they need not find
        out, nor say, each for itself."""
        if self._directory is None:
            return
        try:
            with tempfile.TemporaryFile(dir=self._directory) as file:
                file.write(bytes(_ROOM))
        except OSError as error:
            self._cannot_write(error)

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
        self.root, self._directory = directory, path
        if not os.access(path, os.W_OK | os.X_OK):
            return  # what is in it can be read: it is told when something is to be written
        os.utime(path)
        _prune([p for p in directory.iterdir() if len(p.name) == 24 and p.is_dir()],
               KEPT_DIRECTORIES)  # fmt: skip
        _remove_abandoned(path)

    def address(self, name: str, build: Callable[[], KernelSource]) -> int:
        """Address of the kernel called ``name``; ``build`` makes its Python source if needed.

        ``name`` must say everything that ``build`` depends on besides the cache's own key.
        """
        if name not in self._addresses:
            code = self._read(name, build)
            if code is None:
                code = self._compile(build())
                self._write(name, build, code)
            try:
                self._addresses[name] = self._link(code)
            except RuntimeError as error:  # an object file that LLVM cannot read
                log.warning("kernel %s: cached code refused: %s", name, error)
                self._addresses[name] = self._link(self._compile(build()))
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
        return str(self._target().emit_assembly(_optimised(source)))

    def _compile(self, source: KernelSource) -> bytes:
        self.n_compiled += 1
        return bytes(self._target().emit_object(_optimised(source)))

    def _link(self, code: bytes) -> int:
        empty = llvm.parse_assembly("")
        engine = llvm.create_mcjit_compiler(empty, self._target())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(ENTRY))
        if not address:
            raise RuntimeError(f"symbol {ENTRY} is missing")
        self._engines.append(engine)  # owns the machine code
        return address

    def _read(self, name: str, build: Callable[[], KernelSource]) -> bytes | None:
        for directory in (self._directory, self._read_only):
            if directory is None:
                continue
            path = directory / _file_name(name, build)
            try:
                data = path.read_bytes()
            except OSError:
                continue
            head, body = data[: len(_MAGIC)], data[len(_MAGIC) :]
            digest, code = body[:32], body[32:]
            if head != _MAGIC or _digest(name, code) != digest:
                continue  # truncated or another kernel's: compile anew and overwrite
            with contextlib.suppress(OSError):  # a place that is only read
                os.utime(path)  # the last used are kept
            return code
        return None

    def _write(self, name: str, build: Callable[[], KernelSource], code: bytes) -> None:
        data = _MAGIC + _digest(name, code) + code
        while self._directory is not None:
            try:
                _write_whole(self._directory / _file_name(name, build), data)
                break
            except OSError as error:
                self._cannot_write(error)


def _file_name(name: str, build: Callable[[], KernelSource]) -> str:
    of_name = hashlib.sha256(name.encode()).hexdigest()[:24]
    return f"{of_name}-{kernel_digest(build)[:16]}.o"


def _write_whole(path: Path, data: bytes) -> None:
    """Written whole or not at all; older versions of it go. Raises OSError."""
    file = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=_PART, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    except OSError:
        if file is not None:
            with contextlib.suppress(OSError):  # the disk may take not even that
                Path(file.name).unlink(missing_ok=True)
        raise
    _prune(list(path.parent.glob(f"{path.name[:24]}-*.o")), KEPT_VERSIONS)


def _remove_abandoned(directory: Path) -> None:
    """Parts of files whose writer was killed; a kernel is written within a moment."""
    for path in directory.glob(f"*{_PART}"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - 3600:
                path.unlink()


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
