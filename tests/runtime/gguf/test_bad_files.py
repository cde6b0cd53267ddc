"""Hostile and damaged files: one exception type, at once, without memory."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.gguf import ModelFileError, open_gguf
from slotmux.runtime.gguf.part import parse_part
from tests.runtime.gguf.bad_files import BAD_FILES
from tests.runtime.gguf.writer import ARCHITECTURE, File, small_file
from tests.timing import judge

SMALL = small_file().pack()
EXTREMES = (0, 1, 0x7F, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 62, 1 << 63, (1 << 64) - 1)


@contextlib.contextmanager
def bounded(seconds: float = 1.0, n_bytes: int = 4 << 20) -> Iterator[None]:
    """Fails if the block takes longer, or allocates more at its peak."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        yield
        elapsed = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    judge(elapsed < seconds)
    assert peak < n_bytes


def test_there_are_enough_of_them() -> None:
    assert len(BAD_FILES) >= 80


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused(name: str, tmp_path: Path) -> None:
    data, field = BAD_FILES[name]
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with bounded(), pytest.raises(ModelFileError) as caught:
        open_gguf(path)
    error = caught.value
    assert error.field == field
    assert error.path == path
    assert error.offset is None or 0 <= error.offset <= len(data)
    assert error.reason
    assert str(error).startswith("bad.gguf: ")
    assert str(error).isprintable()
    assert str(tmp_path) not in str(error)


def test_error_is_one_of_ours_and_a_value_error() -> None:
    error = ModelFileError("k", 12, "wrong")
    assert isinstance(error, SlotmuxError)
    assert isinstance(error, ValueError)
    assert str(error) == "k at byte 12: wrong"
    assert str(ModelFileError("k", None, "missing", Path("/x/m.gguf"))) == "m.gguf: k: missing"
    assert len(ModelFileError("k" * 5000, 0, "long").field) < 200


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(SMALL)
    open_gguf(path)
    for size in range(len(SMALL) - 1, -1, -1):
        os.truncate(path, size)
        with pytest.raises(ModelFileError) as caught:
            open_gguf(path)
        assert caught.value.offset is None or caught.value.offset <= size


def test_every_byte_set_to_ff() -> None:
    """Nothing but ModelFileError may come out, whatever byte is damaged."""
    for index in range(len(SMALL)):
        damaged = bytearray(SMALL)
        damaged[index] = 0xFF
        _exercise(bytes(damaged))


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    data = bytearray(SMALL)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[at : at + 8] = draw(st.sampled_from(EXTREMES)).to_bytes(8, "little")
            case 2:
                data[at : at + 4] = (draw(st.sampled_from(EXTREMES)) % 2**32).to_bytes(4, "little")
            case 3:
                data[at:at] = draw(st.binary(max_size=32))
            case 4:
                del data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


@settings(
    max_examples=500, deadline=1000, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(mutations())
def test_mutated_files(data: bytes) -> None:
    _exercise(data)


def _exercise(data: bytes) -> None:
    """Parse, then use everything that was promised to be sound."""
    try:
        part = parse_part(Path("m.gguf"), memoryview(data))
        values = [part.metadata[key] for key in part.metadata]
    except ModelFileError:
        return
    assert len(values) == len(part.metadata)
    spans = sorted((t.offset, t.offset + t.n_bytes) for t in part.tensors.values())
    for tensor in part.tensors.values():
        assert tensor.n_bytes == len(tensor.data) > 0
        assert tensor.data.tobytes() == data[tensor.offset : tensor.offset + tensor.n_bytes]
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert not spans or spans[-1][1] <= len(data)


def test_bad_token_text_names_the_key_and_the_byte(tmp_path: Path) -> None:
    data = SMALL.replace("é".encode(), b"\xc3\x28")
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    model = open_gguf(path)
    with pytest.raises(ModelFileError) as caught:
        model.metadata.get_strings("tokenizer.ggml.tokens")
    assert caught.value.field == "tokenizer.ggml.tokens"
    assert caught.value.offset == data.index(b"\xc3\x28")
    assert caught.value.path == path


def test_a_large_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    path.write_bytes(File(pairs=[ARCHITECTURE], n_pairs=3).pack())
    os.truncate(path, 8 << 30)
    with bounded(), pytest.raises(ModelFileError, match="may not be empty"):
        open_gguf(path)


class TestNotARegularFile:
    def refuse(self, path: Path, words: str) -> None:
        with bounded(), pytest.raises(ModelFileError, match=words) as caught:
            open_gguf(path)
        assert caught.value.field == "file"
        assert caught.value.path == path

    def test_directory(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "a directory")

    def test_fifo_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        self.refuse(tmp_path / "fifo", "a FIFO")

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
    def test_device(self, device: str) -> None:
        self.refuse(Path(device), "a character device")

    def test_symlink_to_a_device(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/dev/zero")
        self.refuse(tmp_path / "link", "a character device")

    def test_symlink_loop(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path / "a")
        self.refuse(tmp_path / "a", "cannot be opened")

    def test_socket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # a socket's path has to be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            self.refuse(Path("s"), "a socket")

    def test_missing(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "no", "No such file")

    def test_dangling_symlink(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "no")
        self.refuse(tmp_path / "link", "No such file")

    def test_name_too_long(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / ("x" * 300), "cannot be opened")

    def test_nul_in_the_path(self) -> None:
        self.refuse(Path("a\0b"), "cannot be opened")
