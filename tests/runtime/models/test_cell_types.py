"""Every pair of cell types at every published width of heads: however tokens are cut and packed,
and however few are computed, the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slotmux.kernels.ops.attention.cells import CELL_TYPES, WORDS
from slotmux.runtime.driver import packed, pieces, run_pattern, whole
from slotmux.runtime.errors import ConfigError
from tests.runtime.models.isolation import assert_same, loaded
from tests.runtime.models.wide import wide_file


@pytest.mark.parametrize("d", [64, 96, 128, 256, 512])
@pytest.mark.parametrize("v_type", CELL_TYPES)
@pytest.mark.parametrize("k_type", CELL_TYPES)
def test_whole_is_token_by_token_is_packed(
    k_type: str, v_type: str, d: int, kernel_cache_dir: Path, tmp_path: Path
) -> None:
    """A context of two chunks of attention: parts of it are folded where few rows are computed."""
    rng = np.random.default_rng(d)
    prompts = [rng.integers(3, 500, n).tolist() for n in (150, 37, 5)]
    lengths = [len(prompt) for prompt in prompts]
    path = wide_file("qwen3", d, tmp_path / "wide.gguf")
    types = {"cache_type_k": k_type, "cache_type_v": v_type}
    with loaded(path, kernel_cache_dir, n_ctx=512, n_ubatch=200, n_outputs=200, **types) as model:
        alone = run_pattern(model, prompts, whole(lengths), poison=True)
        for k in (1, 2, 7):
            got = run_pattern(model, prompts, pieces(lengths, k), slots=(5, 0, 2), poison=True)
            assert_same(f"pieces of {k}", got, alone)
        for sizes in ((1, 1, 1), (40, 3, 2)):
            got = run_pattern(model, prompts, packed(lengths, sizes), poison=True)
            assert_same(f"packed {sizes}", got, alone)


@pytest.mark.parametrize("latent", [64, 512])
@pytest.mark.parametrize("cell_type", [kind for kind in CELL_TYPES if kind != WORDS])
def test_latent_cells(cell_type: str, latent: int, kernel_cache_dir: Path, tmp_path: Path) -> None:
    """Whole, token by token and packed; what V's type is does not matter: V is a part of K."""
    rng = np.random.default_rng(latent)
    prompts = [rng.integers(3, 500, n).tolist() for n in (150, 37, 5)]
    lengths = [len(prompt) for prompt in prompts]
    path = wide_file("deepseek2", latent, tmp_path / "wide.gguf")
    alone = None
    for v_type in ("f16", "q8_0"):
        types = {"cache_type_k": cell_type, "cache_type_v": v_type}
        with loaded(path, kernel_cache_dir, n_ctx=512, n_outputs=200, **types) as model:
            got = run_pattern(model, prompts, whole(lengths), poison=True)
            alone = alone or got
            assert_same(f"V as {v_type}", got, alone)
            for sizes in ((1, 1, 1), (40, 3, 2)):
                got = run_pattern(model, prompts, packed(lengths, sizes), poison=True)
                assert_same(f"packed {sizes}", got, alone)


def test_latent_cells_are_no_words(kernel_cache_dir: Path, tmp_path: Path) -> None:
    """Refused by the flag's name."""
    path = wide_file("deepseek2", 64, tmp_path / "wide.gguf")
    types = {"cache_type_k": WORDS, "cache_type_v": WORDS}
    with (
        pytest.raises(ConfigError, match="latent") as refusal,
        loaded(path, kernel_cache_dir, **types),
    ):
        pass
    assert refusal.value.field == "cache_type_k"
