"""The models that are on this machine: in folders of models and in the cache of the hub."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slotmux.server.files.download import ModelSourceError
from slotmux.server.files.hub_choice import choose_files, group_parts
from slotmux.server.files.names import models_in

_TYPE = re.compile(
    r"(?<![A-Za-z0-9])(IQ\d\w*|T?Q\d\w*|BF16|F16|F32|MXFP4\w*|NVFP4\w*)(?![A-Za-z0-9_])", re.I
)


@dataclass(frozen=True, slots=True)
class Installed:
    """A model on disk. ``name`` is what every command takes for it."""

    name: str
    paths: tuple[Path, ...]  # of a split model every part; in the hub's cache these are links
    repo_dir: Path | None = None  # in the hub's cache: the repository's folder

    @property
    def n_bytes(self) -> int:
        """Of all parts."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def modified(self) -> float:
        """When the youngest part was written, in seconds of the epoch."""
        return max(path.stat().st_mtime for path in self.paths)


def installed(folders: Sequence[Path], hub_dir: Path) -> list[Installed]:
    """Every whole model, the youngest first. A name that two folders have is the first one's."""
    found: dict[str, Installed] = {}
    for folder in folders:
        for name, paths in models_in(folder).items():
            found.setdefault(name, Installed(name, tuple(paths)))
    for repo_dir in sorted(hub_dir.glob("models--*--*")):
        for model in _of_repo(repo_dir):
            found.setdefault(model.name, model)
    return sorted(found.values(), key=lambda model: -model.modified)


def remove(model: Installed) -> None:
    """Deletes its files; in the hub's cache, what no other revision needs. Raises OSError."""
    if model.repo_dir is None:
        for path in model.paths:
            path.unlink()
        return
    snapshot = _snapshot_of(model.paths[0], model.repo_dir)
    names = [path.relative_to(snapshot) for path in model.paths]
    for revision in (model.repo_dir / "snapshots").iterdir():
        for name in names:
            (revision / name).unlink(missing_ok=True)
    _drop_unused(model.repo_dir)


def _of_repo(repo_dir: Path) -> Iterator[Installed]:
    """The models of a repository, of its newest snapshot first; one of each name."""
    repo = repo_dir.name.removeprefix("models--").replace("--", "/", 1)
    snapshots = sorted((repo_dir / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
    told: set[str] = set()
    for snapshot in reversed(snapshots):
        names = [str(p.relative_to(snapshot)) for p in snapshot.rglob("*.gguf") if p.is_file()]
        for stem in sorted(group_parts(names)):
            model = _model(repo, stem, names, snapshot, repo_dir)
            if model is not None and model.name not in told:
                told.add(model.name)
                yield model


def _model(
    repo: str, stem: str, names: list[str], snapshot: Path, repo_dir: Path
) -> Installed | None:
    """The model called ``stem`` by the shortest word that chooses it; None if parts are missing."""
    parts = group_parts(names)[stem]
    base = stem.rpartition("/")[2]
    for word in (*reversed(_TYPE.findall(base)), base):
        with contextlib.suppress(ModelSourceError):
            chosen = choose_files(names, word, repo)
            if chosen[0] == parts[0]:
                paths = tuple(snapshot / name for name in chosen)
                return Installed(f"hf:{repo}:{word}", paths, repo_dir)
    return None


def _snapshot_of(path: Path, repo_dir: Path) -> Path:
    """The snapshot that a link of the cache lies in: a repository's files may lie in folders."""
    depth = len(repo_dir.parts) + 2  # .../snapshots/COMMIT
    return Path(*path.parts[:depth])


def _drop_unused(repo_dir: Path) -> None:
    """Blobs that no snapshot links to, then folders that hold nothing."""
    # Where there are no links, the files themselves lie there.
    kept = [path for path in repo_dir.glob("snapshots/**/*") if not path.is_dir()]
    needed = {path.resolve() for path in kept}
    if not kept:
        shutil.rmtree(repo_dir)
        return
    for blob in (repo_dir / "blobs").iterdir():
        if blob.resolve() not in needed and blob.suffix != ".incomplete":
            blob.unlink()
    folders = (path for path in repo_dir.glob("snapshots/**/*") if path.is_dir())
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()
