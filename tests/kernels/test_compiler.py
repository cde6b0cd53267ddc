"""The kernel cache: what is compiled once stays compiled, and nothing on disk can stop a start."""

from __future__ import annotations

import errno
import math
import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import NumbaError

from slotmux.kernels import compiler, sources
from slotmux.kernels.address import load_f64, load_i64, store_f64, store_i64
from slotmux.kernels.compiler import KernelCache, as_callable
from slotmux.kernels.cpu import Isa, detect_cpu
from slotmux.kernels.ops.attention.rope import build_rope
from slotmux.kernels.ops.dense.linear import build_linear
from slotmux.kernels.ops.dense.norm import build_rms_norm
from slotmux.kernels.sources import kernel_digest


def build_add(value=1):
    """A kernel that adds to the int64 at ``op``."""

    def add(op, step, thread):
        store_i64(op, load_i64(op) + value)

    return add


def never():
    raise AssertionError("compiled what should have been found")


def result(cache, build=build_add, name="add"):
    """What the kernel makes of 41."""
    word = np.array([41], np.int64)
    as_callable(cache.address(name, build), 3)(word.ctypes.data, 0, 0)
    return int(word[0])


def entries(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def cpu():
    return detect_cpu("portable")


@pytest.fixture
def filled(tmp_path, cpu):
    """A cache directory that holds the kernel."""
    directory = tmp_path / "cache"
    assert result(KernelCache(cpu, directory)) == 42
    return directory


def test_a_second_start_compiles_nothing(filled, cpu):
    cache = KernelCache(cpu, filled)
    assert cache.has("add", build_add)
    assert not cache.has("other", build_add)
    assert result(cache, never) == 42
    assert cache.n_compiled == 0
    assert result(cache, never) == 42  # from memory


def test_one_cache_compiles_a_kernel_once(cpu):
    cache = KernelCache(cpu)
    assert not cache.has("add", build_add)
    assert result(cache) == result(cache, never) == 42
    assert cache.n_compiled == 1
    assert cache.has("add", build_add)


def test_kernels_of_one_source_keep_apart_by_name(filled, cpu):
    cache = KernelCache(cpu, filled)
    assert result(cache, lambda: build_add(100), "add.100") == 141
    assert result(cache, never) == 42
    again = KernelCache(cpu, filled)
    assert result(again, never, "add.100") == 141
    assert result(again, never) == 42


def test_the_directory_is_ours_alone(tmp_path, cpu):
    old = os.umask(0)
    try:
        directory = tmp_path / "a" / "b"
        result(KernelCache(cpu, directory))
    finally:
        os.umask(old)
    for path in (directory, *directory.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in entries(directory):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def refused(cpu, directory, caplog):
    """A cache that may not use the directory says so once with a remedy, works, and writes nothing
    there; what it compiles is in a place of its own, which other processes are told of."""
    before = entries(directory.parent)
    cache = KernelCache(cpu, directory)
    (line,) = caplog.messages
    assert line.startswith("kernel cache not used")
    assert "--cache-dir" in line
    assert result(cache) == 42
    assert cache.n_compiled == 1
    assert len(caplog.messages) == 1
    assert entries(directory.parent) == before
    assert cache.root != directory
    if cache.root is not None:
        assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700
        assert result(KernelCache(cpu, cache.root), never) == 42


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_directory_that_others_may_write_is_not_used(filled, cpu, mode, caplog):
    filled.chmod(mode)
    refused(cpu, filled, caplog)
    assert "chmod go-w" in caplog.text


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711])
def test_a_directory_that_others_may_read_is(filled, cpu, mode, caplog):
    filled.chmod(mode)
    assert result(KernelCache(cpu, filled), never) == 42
    assert not caplog.messages


def test_a_folder_of_the_key_that_others_may_write_is_not_used(filled, cpu, caplog):
    next(filled.iterdir()).chmod(0o777)
    refused(cpu, filled, caplog)


def test_a_directory_of_another_user_is_not_used(filled, cpu, monkeypatch, caplog):
    monkeypatch.setattr(os, "getuid", lambda: filled.stat().st_uid + 1)
    refused(cpu, filled, caplog)


def test_a_link_is_not_followed(filled, cpu, caplog):
    link = filled.parent / "link"
    link.symlink_to(filled)
    refused(cpu, link, caplog)


@pytest.mark.parametrize("below", ["", "below"])
def test_a_path_that_cannot_be_made_is_not_used(tmp_path, cpu, caplog, below):
    (tmp_path / "file").write_text("no directory")
    refused(cpu, tmp_path / "file" / below, caplog)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_read_only_place(tmp_path, cpu, monkeypatch, caplog, number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    refused(cpu, tmp_path / "cache", caplog)


def test_directories_of_other_compilers_are_pruned(filled, cpu, monkeypatch):
    for i in range(compiler.KEPT_DIRECTORIES + 2):
        monkeypatch.setattr("numba.__version__", f"0.{i}")
        result(KernelCache(cpu, filled))
    assert len(list(filled.iterdir())) == compiler.KEPT_DIRECTORIES
    assert result(KernelCache(cpu, filled), never) == 42  # the last one used is among them


def test_every_instruction_set_keeps_its_kernels_beside_the_others(tmp_path):
    cpus = [replace(detect_cpu("portable"), isa=isa) for isa in Isa]
    for cpu in cpus:
        result(KernelCache(cpu, tmp_path / "kernels"))
    for cpu in cpus:
        assert result(KernelCache(cpu, tmp_path / "kernels"), never) == 42


def test_older_code_of_a_kernel_is_pruned(filled, cpu, monkeypatch):
    for i in range(6):
        monkeypatch.setattr(compiler, "kernel_digest", lambda build, i=i: f"edit {i}".ljust(16))
        result(KernelCache(cpu, filled))
    assert len(entries(filled)) == compiler.KEPT_VERSIONS
    assert result(KernelCache(cpu, filled), never) == 42


def test_the_versions_of_a_kernel_that_are_kept_are_the_last_used(filled, cpu, monkeypatch):
    (first,) = entries(filled)
    for i in range(6):
        os.utime(first, (0, 0))  # written long ago
        assert result(KernelCache(cpu, filled), never) == 42  # used just now
        with monkeypatch.context() as edited:
            edited.setattr(compiler, "kernel_digest", lambda build, i=i: f"edit {i}".ljust(16))
            result(KernelCache(cpu, filled))
    assert result(KernelCache(cpu, filled), never) == 42


def test_what_a_killed_writer_left_goes(filled, cpu):
    (entry,) = entries(filled)
    old, new = entry.parent / "old.part", entry.parent / "new.part"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert result(KernelCache(cpu, filled), never) == 42
    assert entries(filled) == sorted([entry, new])


def test_private_places_go_with_those_who_use_them(tmp_path, cpu, monkeypatch):
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned = Path(tempfile.mkdtemp(prefix="slotmux-kernels-"))  # by a process that was killed
    first = KernelCache(cpu, tmp_path / "file")
    assert not abandoned.exists()
    assert result(first) == 42
    second = KernelCache(cpu, tmp_path / "file")
    assert first.root != second.root
    assert result(KernelCache(cpu, first.root), never) == 42  # in use: left alone


def test_nothing_private_stays_after_the_end(tmp_path):
    (tmp_path / "file").write_text("no directory")
    code = (
        "import sys, pathlib; from slotmux.kernels.compiler import KernelCache;"
        "from slotmux.kernels.cpu import detect_cpu;"
        "print(KernelCache(detect_cpu('portable'), pathlib.Path(sys.argv[1])).root)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()).parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def unwritable(monkeypatch, directory):
    """Nothing can be written below ``directory`` any more, whoever asks (root, too)."""
    access, utime = os.access, os.utime

    def check(path):
        if directory in (path := Path(path), *path.parents):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def is_allowed(path, mode, **kwargs):
        return access(path, mode, **kwargs) and not (
            mode & os.W_OK and directory in Path(path).parents
        )

    monkeypatch.setattr(os, "access", is_allowed)
    monkeypatch.setattr(os, "utime", lambda path, *a: (check(path), utime(path, *a)))
    for name in ("NamedTemporaryFile", "TemporaryFile"):
        make = getattr(tempfile, name)
        monkeypatch.setattr(
            tempfile, name, lambda *a, make=make, dir, **k: (check(dir), make(*a, dir=dir, **k))[1]
        )


@pytest.mark.parametrize("is_asked_before", [False, True])
def test_a_place_that_takes_no_more_is_read(filled, cpu, monkeypatch, caplog, is_asked_before):
    """An image with its kernels on a read-only disk: what is there is used without a word, what is
    not goes to a private place, where other processes find it; one line says where and why."""
    before = entries(filled)
    unwritable(monkeypatch, filled)
    cache = KernelCache(cpu, filled)
    assert result(cache, never) == 42
    assert not caplog.messages
    if is_asked_before:
        cache.make_room()
        assert cache.root != filled
    assert result(cache, lambda: build_add(2), "add.2") == 43
    (line,) = caplog.messages
    assert str(filled) in line
    assert "Read-only" in line
    assert "--cache-dir" in line
    assert cache.root not in (None, filled)
    assert cache.has("add", never)
    assert result(KernelCache(cpu, cache.root), never, "add.2") == 43
    assert entries(filled) == before


def test_an_edit_of_one_op_leaves_the_others_compiled(monkeypatch):
    """A kernel's key is made of what its module imports."""
    linear = kernel_digest(lambda: build_linear(None, "q4_0"))
    norm, rope = kernel_digest(build_rms_norm), kernel_digest(lambda: build_rope(False, "", ""))
    assert len({linear, norm, rope}) == 3
    edited = {**sources._sources(), "slotmux.kernels.ops.dense.linear": b"edited"}
    monkeypatch.setattr(sources, "_sources", lambda: edited)
    for cached in (sources.source_digest, sources._imports):
        cached.cache_clear()
    try:
        assert kernel_digest(lambda: build_linear(None, "q4_0")) != linear
        assert kernel_digest(build_rms_norm) == norm
        assert kernel_digest(lambda: build_rope(False, "", "")) == rope
        edited["slotmux.kernels.simd"] = b"edited, too"
        sources.source_digest.cache_clear()
        assert kernel_digest(build_rms_norm) != norm
    finally:
        monkeypatch.undo()
        for cached in (sources.source_digest, sources._imports):
            cached.cache_clear()


def test_what_a_kernel_imports_is_what_python_imports():
    """The closure of a module against the modules that are loaded when it alone is imported."""
    for name in ("ops.dense.linear", "ops.recurrent.delta_net", "ops.attention.attention", "team"):
        module = f"slotmux.kernels.{name}"
        code = f"import sys, {module}; print([m for m in sys.modules if 'slotmux.kernels' in m])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        loaded = set(eval(done.stdout))  # our own list
        assert loaded - {"slotmux.kernels"} <= sources._closure(frozenset({module}))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_more(tmp_path, cpu, monkeypatch, caplog, number):
    """The kernels work, one warning says why they are not kept, and no part of a file stays."""
    make = tempfile.NamedTemporaryFile

    def failing(*args, **kwargs):
        file = make(*args, **kwargs)
        write = file.write

        def no_space(data):
            write(data[:100])
            raise OSError(number, os.strerror(number))

        file.write = no_space
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", failing)
    directory = tmp_path / "cache"
    cache = KernelCache(cpu, directory)
    assert result(cache) == 42
    assert "cannot be written" in caplog.text
    assert result(cache, lambda: build_add(2), "add.2") == 43
    assert len(caplog.messages) == 1
    assert entries(directory) == []


DAMAGE = {
    "empty": lambda data: b"",
    "magic only": lambda data: data[:17],
    "cut in the digest": lambda data: data[:30],
    "cut in the code": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "more bytes": lambda data: data + b"\0",
    "bit flipped": lambda data: data[:-500] + bytes([data[-500] ^ 1]) + data[-499:],
    "digest flipped": lambda data: data[:20] + bytes([data[20] ^ 128]) + data[21:],
    "another version": lambda data: data.replace(b"kernel-2", b"kernel-1", 1),
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"#!/bin/sh\n" * 50,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_compiled_anew_and_mended(filled, cpu, damage):
    (entry,) = entries(filled)
    whole = entry.read_bytes()
    entry.write_bytes(DAMAGE[damage](whole))
    cache = KernelCache(cpu, filled)
    assert not cache.has("add", build_add)
    assert result(cache) == 42
    assert cache.n_compiled == 1
    mended = KernelCache(cpu, filled)
    assert result(mended, never) == 42
    assert entries(filled) == [entry]


def test_an_entry_that_is_a_directory_does_no_harm(filled, cpu, caplog):
    (entry,) = entries(filled)
    entry.unlink()
    entry.mkdir()
    cache = KernelCache(cpu, filled)
    assert result(cache) == 42
    assert "cannot be written" in caplog.text
    assert entries(filled) == []


def test_an_entry_of_another_kernel_is_not_taken(filled, cpu):
    (entry,) = entries(filled)
    cache = KernelCache(cpu, filled)
    assert result(cache, lambda: build_add(100), "add.100") == 141
    (other,) = set(entries(filled)) - {entry}
    other.write_bytes(entry.read_bytes())
    again = KernelCache(cpu, filled)
    assert result(again, lambda: build_add(100), "add.100") == 141
    assert again.n_compiled == 1


def test_the_key_is_all_that_shapes_the_code(filled, cpu, monkeypatch):
    assert not KernelCache(detect_cpu("auto"), filled).has("add", build_add)
    monkeypatch.setattr(compiler, "kernel_digest", lambda build: "an edited kernel")
    assert not KernelCache(cpu, filled).has("add", build_add)
    monkeypatch.undo()
    monkeypatch.setattr("numba.__version__", "0.0")
    assert not KernelCache(cpu, filled).has("add", build_add)
    monkeypatch.undo()
    assert KernelCache(cpu, filled).has("add", build_add)


STARTER = """
import sys, warnings
from dataclasses import replace
from pathlib import Path
warnings.simplefilter("error")
sys.path.insert(0, {root!r})
from tests.kernels.test_compiler import KernelCache, build_add, compiler, detect_cpu, result
compiler.kernel_digest = lambda build: "the same, whoever edits a kernel meanwhile"
print("ready", flush=True)
sys.stdin.readline()
cache = KernelCache(detect_cpu("portable"), Path({directory!r}))
values = [result(cache, lambda: build_add(i), f"add.{{i}}") - 41 for i in range(6)]
print(values, cache.n_compiled)
"""


def test_two_processes_start_at_once(tmp_path, cpu, monkeypatch):
    same = "the same, whoever edits a kernel meanwhile"
    monkeypatch.setattr(compiler, "kernel_digest", lambda build: same)
    root = Path(__file__).resolve().parents[2]
    directory = tmp_path / "cache"
    code = STARTER.format(root=str(root), directory=str(directory))
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.startswith("[0, 1, 2, 3, 4, 5]")
    assert len(entries(directory)) == 6, "a temporary file was left behind"
    again = KernelCache(cpu, directory)
    assert [result(again, never, f"add.{i}") - 41 for i in range(6)] == list(range(6))


def test_a_kernel_with_python_objects_does_not_compile(cpu):
    def build():
        def kernel(op, step, thread):
            [str(op)].append(object())

        return kernel

    cache = KernelCache(cpu)
    with pytest.raises(NumbaError):
        cache.address("bad", build)
    assert not cache.has("bad", build_add)
    assert result(cache) == 42


@pytest.mark.parametrize("function", ["cos", "log", "exp", "pow", "tanh"])
def test_a_kernel_that_calls_a_c_librarys_function_is_refused(cpu, function):
    """Its bits would depend on the library's version and on the CPU it chooses code for."""
    scope = {"math": math, "load_f64": load_f64, "store_f64": store_f64}
    arguments = "x, x" if function == "pow" else "x"
    code = f"""
def inexact(op, step, thread):
    x = load_f64(op)
    store_f64(op, math.{function}({arguments}))
"""
    exec(code, scope)
    with pytest.raises(ValueError, match=f"inexact: (llvm.)?{function}"):
        KernelCache(cpu).address("inexact", lambda: scope["inexact"])


def test_a_kernel_may_take_roots_and_round(cpu):
    """What IEEE 754 rounds in one way only."""

    def exact(op, step, thread):
        store_f64(op, math.floor(math.sqrt(load_f64(op))))

    cache, word = KernelCache(cpu), np.array([17.0])  # the cache owns the code
    as_callable(cache.address("exact", lambda: exact), 3)(word.ctypes.data, 0, 0)
    assert word[0] == 4.0
