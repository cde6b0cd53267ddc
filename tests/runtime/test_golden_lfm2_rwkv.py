"""LFM2 and RWKV against outside logits, and against themselves in company."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.isolation import assert_golden, assert_isolated, golden, loaded

NAMES = ["lfm2", "lfm2moe", "rwkv6", "rwkv7"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_from_outside(name: str, kernel_cache_dir: Path) -> None:
    reference = golden(name)
    with loaded(reference.path, kernel_cache_dir) as model:
        assert_golden(model, reference)
        assert_golden(model, reference, "lcpp")


@pytest.mark.parametrize("name", NAMES)
def test_alone_or_in_company(name: str, kernel_cache_dir: Path) -> None:
    reference = golden(name)
    assert_isolated(reference.path, kernel_cache_dir, reference.prompts)
