"""Mamba and its hybrids: outside references, and the same bits in any company."""

from __future__ import annotations

import pytest

from tests.runtime.models.isolation import assert_golden, assert_isolated, golden, loaded

MODELS = (
    "mamba",
    "mamba2",
    "jamba",
    "granitehybrid",
    "granitehybrid-moe",
    "bamba",
    "falcon-h1",
    "nemotron_h",
    "nemotron_h-moe",
)


@pytest.mark.parametrize("name", MODELS)
def test_golden_logits(name, kernel_cache_dir):
    reference = golden(name)
    with loaded(reference.path, kernel_cache_dir) as model:
        assert_golden(model, reference, "hf")
        assert_golden(model, reference, "lcpp")


@pytest.mark.parametrize("name", MODELS)
def test_same_bits_in_any_company(name, kernel_cache_dir):
    reference = golden(name)
    assert_isolated(reference.path, kernel_cache_dir, reference.prompts)
