"""Files of latent attention that do not add up, or are of a form that is not read, are refused by
name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slotmux.runtime.gguf import ModelFileError
from tests.runtime.models.files.rewrite import rewrite
from tests.runtime.models.isolation import golden, loaded


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("expert_group_count", 3, "3 does not divide 8 experts"),
        ("expert_group_used_count", 5, "expert_group_used_count"),
        ("attention.key_length", 72, "72 is not 56 . 8"),
        ("attention.key_length_mla", 8, "key_length_mla"),
        ("expert_gating_func", 7, "7 is not supported"),
    ],
)
def test_sizes_that_do_not_go_together(
    key: str, value: Any, reason: str, kernel_cache_dir: Path, tmp_path: Path
) -> None:
    keys = {f"deepseek2.{key}": value}
    path = rewrite(golden("deepseek2").path, tmp_path / "bad.gguf", keys)
    with pytest.raises(ModelFileError, match=reason), loaded(path, kernel_cache_dir):
        pass


def test_a_file_with_keys_and_values_in_one_matrix(kernel_cache_dir: Path, tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray | None] = {}
    for layer in range(2):
        tensors |= {f"blk.{layer}.attn_k_b.weight": None, f"blk.{layer}.attn_v_b.weight": None}
        tensors[f"blk.{layer}.attn_kv_b.weight"] = np.zeros((4 * 40, 56), np.float32)
    path = rewrite(golden("deepseek2").path, tmp_path / "old.gguf", tensors=tensors)
    with (
        pytest.raises(ModelFileError, match=r"attn_kv_b.*convert the model again"),
        loaded(path, kernel_cache_dir),
    ):
        pass
