"""The memory that control groups allow this process: the least of its own group's and of all those
around it, in version 1 and 2, as far as they can be seen from here; and how much of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class _Files:
    """What a version calls its files. Beyond memory.high the system takes pages away as fast as
    they are asked for: a server there stands still, so it is a limit as well."""

    limits: tuple[str, ...]
    used: str
    given_back: tuple[str, ...]  # lines of memory.stat: pages of files, which make way for others


_V1 = _Files(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
_V2 = _Files(
    ("memory.max", "memory.high"),
    "memory.current",
    ("inactive_file", "active_file", "slab_reclaimable"),
)


def cgroup_limit(root: Path = Path("/")) -> int | None:
    """Bytes, or None where there is no limit. ``root``: where /proc and /sys are."""
    return min((limit for limit, _ in _limits(root)), default=None)


def cgroup_room(root: Path = Path("/")) -> int | None:
    """Bytes that are left below the limits, files that were read counted as none; None where there
    is no limit."""
    return min((max(0, limit - used) for limit, used in _limits(root)), default=None)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Each limit around this process, and how much of it is used for more than files."""
    for directory, top, files in _groups(root):
        for folder in _upwards(directory, top):
            texts = [_read(folder / name).strip() for name in files.limits]
            for limit in (int(text) for text in texts if text.isdigit()):
                yield limit, _used(folder, files)


def _used(folder: Path, files: _Files) -> int:
    """Bytes of a group and those below it that nobody can have."""
    text = _read(folder / files.used).strip()
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    back = sum(int(line[1]) for line in lines if line[:1] and line[0] in files.given_back)
    return max(0, int(text) - back) if text.isdigit() else 0


def _groups(root: Path) -> Iterator[tuple[Path, Path, _Files]]:
    """Of each hierarchy that limits memory: this process's group, the topmost that can be seen, and
    what its files are called."""
    memberships = dict(_memberships(_read(root / "proc/self/cgroup")))
    for line in _read(root / "proc/self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        fields, (kind, _, options) = head.split(), [*tail.split(), "", "", ""][:3]
        if len(fields) < 5 or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup" and "memory" not in options.split(","):
            continue
        path = memberships.get("memory" if kind == "cgroup" else "")
        if path is None:
            continue
        top = root / fields[4].lstrip("/")
        files = _V1 if kind == "cgroup" else _V2
        yield top / _below(path, fields[3]), top, files


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    """Controller ("" in version 2) and group of each line of /proc/self/cgroup."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield "", path
        for controller in filter(None, controllers.split(",")):
            yield controller, path


def _below(path: str, mounted: str) -> str:
    """A group's path below the group that is mounted; in a container that may be the group itself,
    or one that cannot be named from inside (../..): then the mounted one is all there is to see."""
    try:
        below = PurePosixPath(path).relative_to(mounted)
    except ValueError:
        return ""
    return "" if ".." in below.parts else str(below)


def _upwards(directory: Path, top: Path) -> Iterator[Path]:
    while True:
        yield directory
        if directory == top or top not in directory.parents:
            return
        directory = directory.parent


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
