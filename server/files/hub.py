"""From what an operator writes (a path, ``hf:USER/REPO[:QUANT]``, ``demo``) to a file on disk.

Downloads land in the Hugging Face cache, in its own layout, so that other tools share them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slotmux.server.files.default_model import demo_model, ensure_default_model
from slotmux.server.files.download import ModelSourceError, Progress, no_progress
from slotmux.server.files.hub_choice import choose_files

_SPEC = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(:(?P<quant>[\w.-]{1,128}))?",
    re.ASCII,
)
_ETAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_MAX_HTTP_BYTES = 50 * 1000**3  # above this the hub itself serves only through its own client


@dataclass(frozen=True, slots=True)
class Hub:
    """Which hub, as whom, into which cache. None means huggingface_hub's own
    default (HF_ENDPOINT, HF_TOKEN or a saved login, HF_HOME)."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    n_retries: int = 5  # attempts in a row that may bring nothing
    retry_wait_s: float = 1.0


def resolve_model(
    spec: str | None,
    progress: Progress = no_progress,
    *,
    models_dir: Path | None = None,
    hub: Hub | None = None,
) -> Path:
    """The GGUF file that ``spec`` names, downloaded if need be (of a split model, all parts; the
    first one's path). None is the default model, kept in ``models_dir``; ``demo`` is the one that
    comes with the package.

    Raises ModelSourceError when there is no such file and none can be had.
    """
    if spec is None:
        return ensure_default_model(models_dir, progress)
    if spec == "demo":
        return demo_model()
    if spec.startswith("hf:"):
        return _resolve_hub(spec, progress, hub or Hub())
    path = Path(spec).expanduser()
    if path.exists():
        return path
    hint = f"; hf:{spec} would be a repository of the hub" if _SPEC.fullmatch(spec) else ""
    raise ModelSourceError(f"there is no file {spec}{hint}")


def _resolve_hub(spec: str, progress: Progress, hub: Hub) -> Path:
    match = _SPEC.fullmatch(spec.removeprefix("hf:"))
    if match is None:
        raise ModelSourceError(f"{spec} is not of the form hf:USER/REPO or hf:USER/REPO:QUANT")
    repo, quant = match["repo"], match["quant"]
    try:
        snapshot = _list_files(repo, hub)
    except _UnreachableError as error:
        cached = _from_cache(repo, quant, hub_cache_dir(hub))
        if cached is None:
            raise ModelSourceError(str(error)) from error
        return cached
    paths = [
        _fetch_one(repo, name, snapshot, progress, hub)
        for name in choose_files(list(snapshot.sha256), quant, repo)
    ]
    return paths[0]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A repository at one commit: its files, and the sha256 of those that the hub knows."""

    commit: str
    sha256: Mapping[str, str | None]


class _UnreachableError(ModelSourceError):
    """The hub gave no answer at all: what is cached may serve."""


@contextmanager
def _asking(repo: str) -> Iterator[None]:
    """Around calls of huggingface_hub: whatever they raise becomes a ModelSourceError."""
    # Imported here: it takes a noticeable part of a second that a local file need not pay.
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except Exception as error:
        # Which library does the transport, and so what it raises, differs between versions.
        raise _UnreachableError(
            f"{repo} cannot be had from the hub: {type(error).__name__}: {error}"
        ) from error


def _list_files(repo: str, hub: Hub) -> _Snapshot:
    from huggingface_hub import HfApi

    with _asking(repo):
        info = HfApi(endpoint=hub.endpoint, token=hub.token).model_info(repo, files_metadata=True)
    files = {s.rfilename: s.lfs.sha256 if s.lfs else None for s in info.siblings or ()}
    if info.sha is None:
        raise ModelSourceError(f"{repo}: the hub does not name a commit")
    return _Snapshot(info.sha, files)


def _refused(repo: str, error: Exception) -> ModelSourceError:
    """What a hub's error answer means for the operator."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        why = "access has to be granted on its page first, and HF_TOKEN set to a token that has it"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        why = "there is no such repository, or it is private and HF_TOKEN does not open it"
    elif status in (401, 403):
        why = "the hub refuses access: check HF_TOKEN"
    else:
        why = f"the hub answers with status {status}"
    if status is not None and status >= 500:
        return _UnreachableError(f"{repo}: {why}")
    return ModelSourceError(f"{repo}: {why}")


def _fetch_one(repo: str, name: str, snapshot: _Snapshot, progress: Progress, hub: Hub) -> Path:
    """The cached path of one file of a repository, downloaded if it is not there yet."""
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    cache_dir = hub_cache_dir(hub)
    cached = try_to_load_from_cache(repo, name, cache_dir=cache_dir, revision=snapshot.commit)
    if isinstance(cached, str):
        return Path(cached)
    with _asking(repo):
        url = hf_hub_url(repo, name, revision=snapshot.commit, endpoint=hub.endpoint)
        meta = get_hf_file_metadata(url, token=hub.token)
    if meta.size is not None and meta.size <= _MAX_HTTP_BYTES:
        from slotmux.server.files.fetch import (  # a local file is served without an HTTP client
            RemoteFile,
            fetch,
        )

        # huggingface_hub's downloader forgets a partial file when the process ends. Given the
        # whole blob, it only has to enter it in the cache.
        remote = RemoteFile(url, name, meta.size, snapshot.sha256[name], _headers(hub))
        blob = _blob(cache_dir, repo, meta.etag)
        if not blob.exists():
            fetch(remote, blob, progress, n_retries=hub.n_retries, wait_s=hub.retry_wait_s)
    with _asking(repo):
        path = hf_hub_download(
            repo,
            name,
            revision=snapshot.commit,
            cache_dir=cache_dir,
            endpoint=hub.endpoint,
            token=hub.token,
        )
    return Path(path)


def _headers(hub: Hub) -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers: dict[str, str] = build_hf_headers(token=hub.token)
    return headers


def _blob(cache_dir: Path, repo: str, etag: str | None) -> Path:
    if etag is None or not _ETAG.fullmatch(etag):
        raise ModelSourceError(f"{repo}: the hub does not name the file's content")
    return _repo_dir(cache_dir, repo) / "blobs" / etag


def _repo_dir(cache_dir: Path, repo: str) -> Path:
    return cache_dir / f"models--{repo.replace('/', '--')}"


def hub_cache_dir(hub: Hub) -> Path:
    """Where downloads of ``hub`` are kept."""
    from huggingface_hub import constants

    return hub.cache_dir or Path(constants.HF_HUB_CACHE)


def _from_cache(repo: str, quant: str | None, cache_dir: Path) -> Path | None:
    """The newest complete download of ``repo``, None if there is none."""
    snapshots = (_repo_dir(cache_dir, repo) / "snapshots").glob("*")
    for snapshot in sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True):
        names = [str(p.relative_to(snapshot)) for p in snapshot.rglob("*.gguf") if p.is_file()]
        try:
            return snapshot / choose_files(names, quant, repo)[0]
        except ModelSourceError:
            continue  # an older snapshot may have it
    return None
