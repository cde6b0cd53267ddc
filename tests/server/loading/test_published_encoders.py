"""What `slotmux inspect` tells of the memory of published encoders, from files of their shapes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.models import is_encoder
from slotmux.server.loading.plan import make_plan
from slotmux.server.settings import Settings
from tests.server.loading.published import ATTENTION, HEAD_NORMS, PRE, SWIGLU, Published, write
from tests.server.loading.published_encoders import PublishedEncoder

MODERN = {"attention.sliding_window": 128, "rope.freq_base": 160000.0, "rope.freq_base_swa": 1e4}
MODELS = (
    PublishedEncoder("bert-base-uncased", "bert", 0.1089, 12, 768, 3072, 12, 12, 30522),
    PublishedEncoder("bge-m3", "bert", 0.568, 24, 1024, 4096, 16, 16, 250002, n_ctx=8192,
                     n_types=1),
    PublishedEncoder("nomic-embed-text-v1.5", "nomic-bert", 0.137, 12, 768, 3072, 12, 12, 30528,
                     n_ctx=2048),
    PublishedEncoder("nomic-embed-text-v2-moe", "nomic-bert-moe", 0.475, 12, 768, 3072, 12, 12,
                     250048, n_types=1, n_expert=8),
    PublishedEncoder("ModernBERT-base", "modern-bert", 0.149, 22, 768, 1152, 12, 12, 50368,
                     n_ctx=8192, keys=MODERN),
    PublishedEncoder("ModernBERT-large", "modern-bert", 0.395, 28, 1024, 2624, 16, 16, 50368,
                     n_ctx=8192, keys=MODERN),
    PublishedEncoder("EuroBERT-210m", "eurobert", 0.212, 12, 768, 3072, 12, 12, 128256,
                     n_ctx=8192),
    PublishedEncoder("jina-embeddings-v2-base-en", "jina-bert-v2", 0.137, 12, 768, 3072, 12, 12,
                     30528, n_ctx=8192),
    PublishedEncoder("jina-embeddings-v3", "jina-bert-v3", 0.559, 24, 1024, 4096, 16, 16, 250002,
                     n_ctx=8192, n_types=1),
    PublishedEncoder("embeddinggemma-300m", "gemma-embedding", 0.308, 24, 768, 1152, 3, 1, 262144,
                     256, n_ctx=2048, keys={"attention.sliding_window": 512}),
)  # fmt: skip
EMBEDDER = Published(
    "Qwen3-Embedding-0.6B", "qwen3", 0.596, 28, 1024, 3072, 16, 8, 151669, 128, is_tied=True,
    parts=(ATTENTION, HEAD_NORMS, SWIGLU, PRE), keys={"pooling_type": 3},
)  # fmt: skip


def weights_of(model: Published) -> float:
    """Bytes of Q8_0 matrices; tables of positions and types and vectors are float32."""
    total = 0.0
    for name, shape in model.tensors():
        is_float = len(shape) == 1 or name.startswith(("position_embd", "token_types"))
        total += math.prod(shape) * (4 if is_float else 34 / 32)
    return total


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_memory_of_a_published_encoder(model: PublishedEncoder, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    n_params = write(model, path)
    assert n_params == pytest.approx(model.n_params * 1e9, rel=0.01)
    file = open_gguf(path)
    assert is_encoder(file)
    budget = make_plan(Settings(threads=2), file).budget
    # Whole panels of 16 rows, and a panel's block may have a few bytes more.
    assert budget.weights_bytes == pytest.approx(weights_of(model), rel=0.02)
    assert (budget.kv_bytes, budget.state_bytes, budget.cache_bytes) == (0, 0, 0)
    # A text's rows: the stream and what is added to it; q, k, v and what attention gives; the
    # widest part of the feed-forward block (of experts, of each that a token takes) once or twice.
    sizes = model.sizes
    widths = 2 * sizes["E"] + sizes["QKV"] + sizes["Q"]
    rows = 4 * model.n_ctx * (widths + sizes["F"])
    assert rows < budget.sizes.buffers < 4 * model.n_ctx * (2 * widths + 8 * sizes["F"]) + 8e6


def test_memory_of_a_model_that_generates_and_embeds(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    n_params = write(EMBEDDER, path)
    assert n_params == pytest.approx(EMBEDDER.n_params * 1e9, rel=0.01)
    file = open_gguf(path)
    assert not is_encoder(file)
    budget = make_plan(Settings(ctx_size=1024, parallel=2), file).budget
    assert budget.weights_bytes == pytest.approx(weights_of(EMBEDDER), rel=0.02)
    assert budget.kv_bytes == budget.n_cells * 28 * 8 * 2 * (128 + 128)
