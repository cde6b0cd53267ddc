"""Limits of control groups, on trees of files as kernels and containers make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotmux.server.loading.cgroups import cgroup_limit

V2 = "30 23 0:26 {mounted} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "35 30 0:30 {mounted} /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
    "36 30 0:31 / /sys/fs/cgroup/cpu rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
)
NO_LIMIT_V1 = "9223372036854771712"


def machine(
    root: Path, mountinfo: str, membership: str, files: dict[str, str], top: str
) -> int | None:
    """The limit on a made-up machine; ``files`` are below ``top``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        path = root / top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return cgroup_limit(root)


V2_CASES = {
    "no limit anywhere": ("/", "/a/b", {"a/b/memory.max": "max", "a/memory.max": "max"}, None),
    "its own": ("/", "/a/b", {"a/b/memory.max": "700", "a/memory.max": "max"}, 700),
    "one around it": ("/", "/a/b/c", {"a/b/c/memory.max": "900", "a/memory.max": "500"}, 500),
    "soft limit": ("/", "/a", {"a/memory.max": "900", "a/memory.high": "400"}, 400),
    "namespace of its own": ("/", "/", {"memory.max": "300"}, 300),
    "a container's group is mounted": ("/docker/x", "/docker/x", {"memory.max": "200"}, 200),
    "outside of what is mounted": ("/docker/x", "/other", {"memory.max": "150"}, 150),
    "above its namespace": ("/", "/../../up", {"memory.max": "120"}, 120),
    "not readable": ("/", "/a/b", {}, None),
}


@pytest.mark.parametrize("case", V2_CASES)
def test_version_2(tmp_path: Path, case: str) -> None:
    mounted, group, files, limit = V2_CASES[case]
    info = V2.format(mounted=mounted)
    assert machine(tmp_path, info, f"0::{group}\n", files, "sys/fs/cgroup") == limit


V1_CASES = {
    "its own": ("/", "/a/b", {"a/b/memory.limit_in_bytes": "800"}, 800),
    "one around it": (
        "/",
        "/a/b/c",
        {"a/b/c/memory.limit_in_bytes": NO_LIMIT_V1, "a/memory.limit_in_bytes": "600"},
        600,
    ),
    "a container's group is mounted": (
        "/docker/x",
        "/docker/x",
        {"memory.limit_in_bytes": "250"},
        250,
    ),
    "below a container's group": (
        "/docker/x",
        "/docker/x/inner",
        {"memory.limit_in_bytes": "250", "inner/memory.limit_in_bytes": "90"},
        90,
    ),
}


@pytest.mark.parametrize("case", V1_CASES)
def test_version_1(tmp_path: Path, case: str) -> None:
    mounted, group, files, limit = V1_CASES[case]
    membership = f"9:cpu,cpuacct:/elsewhere\n5:memory:{group}\n0::/\n"
    info = V1.format(mounted=mounted)
    assert machine(tmp_path, info, membership, files, "sys/fs/cgroup/memory") == limit


def test_both_versions_at_once(tmp_path: Path) -> None:
    files = {"memory/a/memory.limit_in_bytes": "500", "unified/b/memory.max": "400"}
    info = V1.format(mounted="/") + V2.format(mounted="/").replace(
        "/sys/fs/cgroup", "/sys/fs/cgroup/unified"
    )
    assert machine(tmp_path, info, "5:memory:/a\n0::/b\n", files, "sys/fs/cgroup") == 400


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert cgroup_limit(tmp_path) is None
