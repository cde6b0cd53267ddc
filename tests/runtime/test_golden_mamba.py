"""Mamba and its hybrids: outside references, and the same bits in any company."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.driver import run_pattern, whole
from tests.runtime.isolation import assert_golden, assert_isolated, golden, loaded

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


@pytest.mark.parametrize(
    ("name", "kind"),
    [("q-granitehybrid", "Q4_0"), ("q-granitehybrid", "Q5_K_M"), ("q-jamba", "Q4_K_M")],
)
def test_quantised_files_come_as_near_as_llama_cpp(name, kind, kernel_cache_dir):
    """Distance to float32 over the same weights; only the activations are rounded."""
    reference = golden(name, kind)
    with loaded(reference.path, kernel_cache_dir) as model:
        lengths = [len(prompt) for prompt in reference.prompts]
        out = run_pattern(model, reference.prompts, whole(lengths), poison=True)
    got = np.concatenate([rows[reference.arrays[f"rows{i}"]] for i, rows in enumerate(out)])
    want = np.concatenate([reference.arrays[f"deq{i}"] for i in range(3)])
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert error <= reference.entry["quant"][kind]["lcpp_vs_deq_rel_l2"]
    assert np.array_equal(got.argmax(1), want.argmax(1))
