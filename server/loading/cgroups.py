"""The memory that control groups allow this process: the least of its own group's and of all those
around it, in version 1 and 2, as far as they can be seen from here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Files that hold a limit. Beyond memory.high the system takes pages away as fast as they are asked
# for: a server there stands still, so it is a limit as well.
_V1_FILES = ("memory.limit_in_bytes",)
_V2_FILES = ("memory.max", "memory.high")


def cgroup_limit(root: Path = Path("/")) -> int | None:
    """Bytes, or None where there is no limit. ``root``: where /proc and /sys are."""
    limits = [
        int(text)
        for directory, top, names in _groups(root)
        for folder in _upwards(directory, top)
        for name in names
        if (text := _read(folder / name).strip()).isdigit()
    ]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[tuple[Path, Path, tuple[str, ...]]]:
    """Of each hierarchy that limits memory: this process's group, the topmost that can be seen, and
    the files that hold limits."""
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
        names = _V1_FILES if kind == "cgroup" else _V2_FILES
        yield top / _below(path, fields[3]), top, names


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
