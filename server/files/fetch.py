"""One file over HTTP, resumable: what an earlier run left behind is kept and continued."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path

import httpx

from slotmux.server.files.download import ModelSourceError, Progress, publish

_TIMEOUT = httpx.Timeout(30.0, connect=15.0)
_RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What to fetch and what it must turn out to be."""

    url: str
    label: str
    n_bytes: int
    sha256: str | None = None  # None if the server does not tell
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a token


def fetch(
    remote: RemoteFile, target: Path, progress: Progress, *, n_retries: int = 5, wait_s: float = 1.0
) -> None:
    """Put ``remote`` at ``target``, whole and verified. Bytes collect in ``<target>.incomplete``,
    which survives this process. Raises ModelSourceError once ``n_retries`` attempts in a row
    bring nothing. Processes that want the same file wait for each other."""
    partial = target.with_name(f"{target.name}.incomplete")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(partial) as file:
            if target.exists():  # another process was faster
                return
            _download(remote, file, progress, n_retries, wait_s)
            _verify(remote, file, partial)
            os.fsync(file.fileno())
            publish(partial, target)
    except OSError as error:
        why = error.strerror or str(error)
        raise ModelSourceError(f"{remote.label}: cannot be stored: {why}") from error


@contextmanager
def _locked(partial: Path) -> Iterator[BufferedRandom]:
    """The partial file, opened at its end, held by this process alone."""
    while True:
        with partial.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, partial):
                continue  # whoever held it has renamed or removed it
            file.seek(0, os.SEEK_END)
            try:
                yield file
            finally:
                if _is_at(file, partial) and os.fstat(file.fileno()).st_size == 0:
                    partial.unlink()
            return


def _is_at(file: BufferedRandom, path: Path) -> bool:
    """Whether ``path`` still names the open ``file``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _download(
    remote: RemoteFile, file: BufferedRandom, progress: Progress, n_retries: int, wait_s: float
) -> None:
    n_failed = 0
    while file.tell() != remote.n_bytes:
        before = file.tell()
        try:
            _continue(remote, file, progress)
        except (httpx.TransportError, _TryAgainError) as error:
            n_failed = 0 if file.tell() > before else n_failed + 1
            if n_failed > n_retries:
                raise ModelSourceError(
                    f"{remote.label}: the download stopped at byte {file.tell()}"
                    f" of {remote.n_bytes} ({error}); run the command again to continue it"
                ) from error
            time.sleep(wait_s * max(n_failed, 1))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ModelSourceError(f"{remote.label}: {error}") from error
    progress(remote.label, remote.n_bytes, remote.n_bytes)


class _TryAgainError(Exception):
    """The server answered, but not with all the bytes."""


def _continue(remote: RemoteFile, file: BufferedRandom, progress: Progress) -> None:
    """Append what is missing. Returns with fewer bytes only by raising."""
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if file.tell() > remote.n_bytes:
        _restart(file)
    if file.tell():
        headers["Range"] = f"bytes={file.tell()}-"
    # httpx drops the Authorization header when it is redirected to another host.
    with httpx.stream(
        "GET", remote.url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
    ) as response:
        _check_status(remote, response, file)
        n_done = file.tell()
        for chunk in response.iter_raw():
            n_done += len(chunk)
            if n_done > remote.n_bytes:
                _restart(file)
                raise ModelSourceError(f"{remote.label}: the server sends more than it announced")
            file.write(chunk)
            progress(remote.label, n_done, remote.n_bytes)
    file.flush()
    if n_done < remote.n_bytes:
        raise _TryAgainError(f"the connection ended after {n_done} bytes")


def _check_status(remote: RemoteFile, response: httpx.Response, file: BufferedRandom) -> None:
    """Returns if the body continues ``file`` where it ends."""
    if response.status_code == 206:
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if start != str(file.tell()):
            _restart(file)
            raise _TryAgainError("the server sent another range than asked for")
    elif response.status_code == 200:
        _restart(file)  # the server ignores ranges
    elif response.status_code == 416:
        _restart(file)
        raise _TryAgainError("the server refuses to continue the file")
    elif response.status_code in _RETRY_STATUS:
        raise _TryAgainError(f"status {response.status_code}")
    else:
        raise ModelSourceError(
            f"{remote.label}: the server answers {response.status_code} {response.reason_phrase}"
        )


def _restart(file: BufferedRandom) -> None:
    file.seek(0)
    file.truncate()


def _verify(remote: RemoteFile, file: BufferedRandom, partial: Path) -> None:
    if remote.sha256 is None:
        return
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != remote.sha256:
        partial.unlink()
        raise ModelSourceError(
            f"{remote.label}: the file arrived damaged (sha256 {digest}, not {remote.sha256});"
            " run the command again to fetch it anew"
        )
