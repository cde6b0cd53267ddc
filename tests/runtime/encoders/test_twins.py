"""Encoders without a golden model of their own against tests/reference/encoders.py, in tiny random
files; token types; and what a file may not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from slotmux.runtime.encoder import Text
from slotmux.runtime.gguf import ModelFileError
from slotmux.runtime.pooling import Pooling
from tests.encoders import TWINS, encoder
from tests.reference.encoders import Config, Encoder, Weights

N_EMBD, N_VOCAB, N_FF, N_LAYERS, EPS = 64, 211, 96, 3, 1e-3
TEXTS = [
    np.random.default_rng(i).integers(0, N_VOCAB, n).tolist() for i, n in enumerate((1, 37, 200))
]
CONFIGS = {
    "jina-bert-v2": Config("jina-bert-v2", N_LAYERS, 6, 6, 16, EPS),
    "nomic-bert-moe": Config("nomic-bert-moe", N_LAYERS, 4, 4, 16, EPS, 1000.0, 2, 2),
    "llama-embed": Config("llama-embed", N_LAYERS, 4, 2, 16, EPS),
}


def weights_of(config: Config) -> Weights:
    """Random tensors by GGUF name, [out, in]."""
    rng = np.random.default_rng(7)

    def matrix(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 1.3 / np.sqrt(shape[-1])).astype(np.float32)

    def vector(n: int, mean: float = 0.0) -> np.ndarray:
        return (mean + 0.2 * rng.normal(size=n)).astype(np.float32)

    def norm(name: str) -> Weights:
        made = {f"{name}.weight": vector(N_EMBD, 1.0)}
        return made if is_llama else made | {f"{name}.bias": vector(N_EMBD)}

    def linear(name: str, n_out: int, n_in: int) -> Weights:
        made = {f"{name}.weight": matrix(n_out, n_in)}
        return made if is_llama else made | {f"{name}.bias": vector(n_out)}

    is_llama, d = config.kind == "llama-embed", config.head_dim
    w: Weights = {"token_embd.weight": matrix(N_VOCAB, N_EMBD) * 5}
    if not is_llama:
        w |= {"token_types.weight": matrix(2, N_EMBD) * 3, **norm("token_embd_norm")}
    for i in range(N_LAYERS):
        blk = f"blk.{i}."
        for name, n in (("q", config.n_head), ("k", config.n_head_kv), ("v", config.n_head_kv)):
            w |= linear(f"{blk}attn_{name}", n * d, N_EMBD)
        w |= linear(f"{blk}attn_output", N_EMBD, config.n_head * d)
        norms = ("attn_norm", "ffn_norm") if is_llama else ("attn_output_norm", "layer_output_norm")
        for name in norms:
            w |= norm(blk + name)
        if config.every and i % config.every == 1:
            w[f"{blk}ffn_gate_inp.weight"] = matrix(5, N_EMBD) * 2
            w[f"{blk}ffn_up_exps.weight"] = matrix(5, N_FF, N_EMBD)
            w[f"{blk}ffn_down_exps.weight"] = matrix(5, N_EMBD, N_FF)
            continue
        is_wide = config.kind == "jina-bert-v2"
        w |= linear(f"{blk}ffn_up", N_FF * (2 if is_wide else 1), N_EMBD)
        w |= linear(f"{blk}ffn_gate", N_FF, N_EMBD) if is_llama else {}
        w |= linear(f"{blk}ffn_down", N_EMBD, N_FF)
    return w | norm("output_norm") if is_llama else w


def write(path: Path, config: Config, weights: Weights, **keys: Any) -> None:
    arch = config.kind
    writer = GGUFWriter(path, arch)
    sizes = {
        "block_count": N_LAYERS, "embedding_length": N_EMBD, "context_length": 512,
        "feed_forward_length": N_FF, "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_head_kv, "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim, "pooling_type": 1,
    }  # fmt: skip
    if config.every:
        sizes |= {"expert_count": 5, "expert_used_count": 2, "moe_every_n_layers": config.every}
    for name, value in (sizes | keys).items():
        writer.add_uint32(f"{arch}.{name}", value)
    kind = "rms_epsilon" if arch == "llama-embed" else "epsilon"
    writer.add_float32(f"{arch}.attention.layer_norm_{kind}", EPS)
    writer.add_float32(f"{arch}.rope.freq_base", config.base)
    writer.add_uint32("tokenizer.ggml.token_type_count", 2)
    for name, tensor in weights.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Encoder, Weights]:
    config = CONFIGS[request.param]
    weights = weights_of(config)
    write(tmp_path / "model.gguf", config, weights)
    return tmp_path / "model.gguf", Encoder(config, weights), weights


def test_every_family_has_a_twin_or_a_golden_model() -> None:
    assert set(CONFIGS) == TWINS


@pytest.mark.parametrize("made", CONFIGS, indirect=True)
def test_rows_and_means(made, kernel_cache_dir: Path) -> None:
    path, twin, _ = made
    texts = [Text(np.array(text, np.int32)) for text in TEXTS]
    want = [twin.rows(text) for text in TEXTS]
    tolerance = 1e-4 * max(float(np.abs(rows).max()) for rows in want)
    with encoder(path, kernel_cache_dir) as model:
        means = model.encode(texts)
        for mean, rows in zip(means, want, strict=True):
            np.testing.assert_allclose(mean, rows.mean(0), atol=tolerance)
        assert means[1].tobytes() == model.encode([texts[1]])[0].tobytes()
    with encoder(path, kernel_cache_dir, pooling=int(Pooling.NONE)) as model:
        for rows, twin_rows in zip(model.encode(texts), want, strict=True):
            np.testing.assert_allclose(rows, twin_rows, atol=tolerance)


@pytest.mark.parametrize("made", ["jina-bert-v2"], indirect=True)
def test_the_second_part_of_a_text_has_its_own_type(made, kernel_cache_dir: Path) -> None:
    path, twin, _ = made
    text, n_first = TEXTS[1], 11
    want = twin.rows(text, [0] * n_first + [1] * (len(text) - n_first)).mean(0)
    with encoder(path, kernel_cache_dir) as model:
        tokens = np.array(text, np.int32)
        both, one = model.encode([Text(tokens, n_first), Text(tokens)])
    np.testing.assert_allclose(both, want, atol=1e-4)
    assert np.abs(both - one).max() > 1e-2


@pytest.mark.parametrize("made", ["jina-bert-v2"], indirect=True)
def test_what_no_family_uses_is_refused(made, kernel_cache_dir: Path, tmp_path: Path) -> None:
    _, _, weights = made
    config = CONFIGS["jina-bert-v2"]
    extra = weights | {"blk.0.attn_norm_2.weight": np.ones(N_EMBD, np.float32)}
    write(tmp_path / "extra.gguf", config, extra)
    missing = {k: v for k, v in weights.items() if k != "blk.1.ffn_down.weight"}
    write(tmp_path / "missing.gguf", config, missing)
    write(tmp_path / "rank.gguf", config, weights, pooling_type=4)
    for name, field in (
        ("extra", "blk.0.attn_norm_2.weight"), ("missing", "blk.1.ffn_down.weight"),
        ("rank", "cls.output.weight"),
    ):  # fmt: skip
        with (
            pytest.raises(ModelFileError) as caught,
            encoder(tmp_path / f"{name}.gguf", kernel_cache_dir),
        ):
            pass
        assert caught.value.field == field
