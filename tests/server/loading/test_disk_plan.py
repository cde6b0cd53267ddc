"""The prefix cache's tier on disk in the plan: where, how many bytes, and the memory it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.memory.disk.tier import STAGED_BYTES
from slotmux.server.loading.plan import DiskPlan, make_plan
from slotmux.server.settings import SettingsError, load_settings


def test_where_and_how_many_bytes(tiny_model_path: Callable[..., Path], tmp_path: Path) -> None:
    file = open_gguf(tiny_model_path("llama"))
    without = make_plan(load_settings(), file)
    assert without.disk is None
    plan = make_plan(load_settings(prefix_cache_dir=tmp_path), file)
    assert plan.disk == DiskPlan(tmp_path, 10 * 2**30)
    assert plan.budget.total_bytes == without.budget.total_bytes + STAGED_BYTES
    settings = load_settings(prefix_cache_dir=tmp_path, prefix_cache_disk_bytes=5)
    assert make_plan(settings, file).disk == DiskPlan(tmp_path, 5)
    settings = load_settings(prefix_cache_dir=tmp_path, prefix_cache_disk_bytes=0)
    assert make_plan(settings, file).disk is None
    with pytest.raises(SettingsError, match="--prefix-cache-disk-bytes"):
        load_settings(prefix_cache_disk_bytes=-1)
