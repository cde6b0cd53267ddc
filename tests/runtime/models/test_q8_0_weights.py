"""LFM2 and RWKV with 8-bit weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray

from slotmux.runtime.driver import run_pattern, whole
from tests.runtime.models.files.rewrite import rewrite
from tests.runtime.models.isolation import (
    F32,
    Golden,
    assert_isolated,
    golden,
    loaded,
)

NAMES = ["lfm2", "lfm2moe", "rwkv6", "rwkv7"]


def all_logits(path: Path, reference: Golden, kernel_cache: Path) -> F32:
    """Logits of the golden prompts, one under the other."""
    with loaded(path, kernel_cache) as model:
        lengths = [len(prompt) for prompt in reference.prompts]
        return np.concatenate(run_pattern(model, reference.prompts, whole(lengths), poison=True))


def widened(path: Path) -> dict[str, NDArray[np.float32]]:
    """The 8-bit tensors of a file as float32."""
    return {
        t.name: dequantize(t.data, t.tensor_type).reshape([int(n) for n in t.shape[::-1]])
        for t in GGUFReader(path).tensors
        if t.tensor_type == GGMLQuantizationType.Q8_0
    }


@pytest.mark.parametrize("name", NAMES)
def test_q8_0_weights(name: str, tmp_path: Path, kernel_cache_dir: Path) -> None:
    """8-bit activations reach every product, and cost about what the 8-bit weights cost.

    How much either rounding moves the logits is the model's doing (0.4 to 9 % here): the weights'
    share is measured with the same weights widened to float32."""
    reference = golden(name)
    path = rewrite(reference.path, tmp_path / "q8_0.gguf", to_q8_0=True)
    exact = rewrite(reference.path, tmp_path / "widened.gguf", tensors=widened(path))
    original, rounded, weights_only = (
        all_logits(p, reference, kernel_cache_dir) for p in (reference.path, path, exact)
    )
    of_weights = np.linalg.norm(weights_only - original)
    of_activations = np.linalg.norm(rounded - weights_only)
    assert 0 < of_weights < 0.1 * np.linalg.norm(original)
    assert 0 < of_activations < 3 * of_weights
    assert_isolated(path, kernel_cache_dir, reference.prompts)
