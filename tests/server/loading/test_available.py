"""What a process may still take, on trees of files as kernels make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotmux.server.loading.available import Limit, machine_bytes, memory_limit
from slotmux.server.loading.budget import BASE_BYTES
from slotmux.server.loading.cgroups import cgroup_room
from tests.server.loading.test_cgroups import V1, V2

MIB = 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_others_have_is_not_there() -> None:
    """On this machine."""
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    limit = memory_limit()
    assert 0 < limit.n_bytes <= limit.n_machine <= int(meminfo["MemTotal"].split()[0]) * 1024


def test_what_is_available_bounds_a_plan(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/meminfo": "MemTotal: 900000 kB\nMemAvailable:     20480 kB\n"})
    assert memory_limit(root=root) == Limit(20 * MIB, machine_bytes())
    assert "20 MiB, what is available of" in str(memory_limit(root=root))


def test_what_this_process_has_is_counted_in_its_plan(tmp_path: Path) -> None:
    available = "MemAvailable: 20480 kB\n"
    own = tree(tmp_path, {"proc/meminfo": available, "proc/self/status": "RssAnon:\t 1024 kB\n"})
    assert memory_limit(root=own).n_bytes == 21 * MIB
    # At most what a plan counts for it: a model that is loaded already is no room.
    tree(tmp_path, {"proc/self/status": "RssAnon:\t 99999999 kB\n"})
    assert memory_limit(root=own).n_bytes == 20 * MIB + BASE_BYTES


def test_systems_that_do_not_tell(tmp_path: Path) -> None:
    assert memory_limit(root=tmp_path) == Limit(machine_bytes(), machine_bytes())


def test_the_operator_decides(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/meminfo": "MemAvailable: 1 kB\n"})
    assert memory_limit(10**12, root) == Limit(10**12)
    assert "(--mem-limit)" in str(Limit(10**12))


V2_FILES = {
    "proc/self/mountinfo": V2.format(mounted="/"),
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/memory.max": "1000\n",
    "sys/fs/cgroup/a/memory.current": "700\n",
    # Files that were read make way; what is in memory only does not.
    "sys/fs/cgroup/a/memory.stat": "anon 400\nfile 300\ninactive_file 100\nactive_file 50\n\n",
    "sys/fs/cgroup/a/b/memory.max": "600\n",
    "sys/fs/cgroup/a/b/memory.current": "10\n",
}
V1_FILES = {
    "proc/self/mountinfo": V1.format(mounted="/"),
    "proc/self/cgroup": "5:memory:/a\n",
    "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
    "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "900\n",
    "sys/fs/cgroup/memory/a/memory.stat": "active_file 7\ntotal_active_file 250\n",
}


@pytest.mark.parametrize(
    ("files", "change", "left"),
    [
        (V2_FILES, {}, 450),  # the group around it has less left than its own
        (V2_FILES, {"sys/fs/cgroup/a/b/memory.current": "500\n"}, 100),
        (V2_FILES, {"sys/fs/cgroup/a/memory.current": "1400\n"}, 0),
        (V2_FILES, {"sys/fs/cgroup/a/memory.high": "500\n"}, 0),
        (V1_FILES, {}, 350),
        ({}, {}, None),
    ],
)
def test_what_control_groups_leave(
    tmp_path: Path, files: dict[str, str], change: dict[str, str], left: int | None
) -> None:
    root = tree(tmp_path, files | change)
    assert cgroup_room(root) == left
    if left is not None:
        assert memory_limit(root=root).n_bytes == left
