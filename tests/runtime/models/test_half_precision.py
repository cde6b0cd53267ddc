"""Weights of 16 bits against outside logits, and smaller cells in company."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.models.isolation import assert_golden, assert_isolated, golden, loaded


def test_half_precision_weights(kernel_cache_dir: Path) -> None:
    """Activations stay float32, so the file with its weights widened is what must be matched.

    (Not so for BF16: see test_golden_quantised.py.)"""
    reference = golden("llama", "F16")
    with loaded(reference.path, kernel_cache_dir) as model:
        assert_golden(model, reference, "deq")


def test_alone_or_in_company_with_bf16_weights(kernel_cache_dir: Path) -> None:
    reference = golden("llama", "BF16")
    assert_isolated(reference.path, kernel_cache_dir, reference.prompts)


@pytest.mark.parametrize("cell_type", ["f32", "q8_0", "i16"])
def test_alone_or_in_company_with_other_cells(cell_type: str, kernel_cache_dir: Path) -> None:
    reference = golden("llama-rope3")
    types = {"cache_type_k": cell_type, "cache_type_v": cell_type}
    assert_isolated(reference.path, kernel_cache_dir, reference.prompts, **types)
