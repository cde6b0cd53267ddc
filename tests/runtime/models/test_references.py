"""What no golden model has: granite, granitemoe, smollm3, longrope, windows and every scaling of
the rotation, in tiny random files, against a plain float64 transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from slotmux.runtime.driver import run_pattern, whole
from slotmux.runtime.gguf import ModelFileError
from tests.reference import transformer
from tests.reference.transformer import Config, Transformer
from tests.runtime.models.isolation import assert_isolated, loaded

N_EMBD, N_VOCAB, N_FF, N_HEAD, N_KV, HEAD_DIM = 64, 211, 96, 4, 2, 24
N_LAYERS, N_CTX, BASE = 4, 2048, 5000.0
PROMPTS = [
    list(np.random.default_rng(i).integers(0, N_VOCAB, n)) for i, n in enumerate((7, 37, 150))
]


@dataclass
class Case:
    """A file's keys (without the architecture), its tensors, and what it means."""

    arch: str
    config: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    n_experts: int = 0
    n_shared: int = 0
    is_fused: bool = False
    has_biases: bool = False
    n_ctx: int = N_CTX  # of the runtime

    def weights(self) -> dict[str, np.ndarray]:
        """Random tensors by GGUF name, [out, in]."""
        rng = np.random.default_rng(1)

        def matrix(n_out: int, n_in: int, *experts: int) -> np.ndarray:
            values = rng.normal(size=(*experts, n_out, n_in)) * 1.5 / np.sqrt(n_in)
            return values.astype(np.float32)

        def norm() -> np.ndarray:
            return (1.0 + 0.3 * rng.normal(size=N_EMBD)).astype(np.float32)

        w = {"token_embd.weight": matrix(N_VOCAB, N_EMBD) * 5, "output_norm.weight": norm()}
        n_q, n_kv = N_HEAD * HEAD_DIM, N_KV * HEAD_DIM
        for i in range(N_LAYERS):
            blk = f"blk.{i}"
            w |= {f"{blk}.attn_norm.weight": norm(), f"{blk}.ffn_norm.weight": norm()}
            w[f"{blk}.attn_output.weight"] = matrix(N_EMBD, n_q)
            if self.is_fused:
                w[f"{blk}.attn_qkv.weight"] = matrix(n_q + 2 * n_kv, N_EMBD)
                w[f"{blk}.ffn_up.weight"] = matrix(2 * N_FF, N_EMBD)
                w[f"{blk}.ffn_down.weight"] = matrix(N_EMBD, N_FF)
                continue
            for name, n in (("q", n_q), ("k", n_kv), ("v", n_kv)):
                w[f"{blk}.attn_{name}.weight"] = matrix(n, N_EMBD)
            experts, ends = (), [("", N_FF)]
            if self.n_experts:
                experts, ends = (self.n_experts,), [("_exps", N_FF)]
                w[f"{blk}.ffn_gate_inp.weight"] = matrix(self.n_experts, N_EMBD)
                if self.n_shared:
                    ends.append(("_shexp", self.n_shared))
            for end, n_ff in ends:
                shape = experts if end == "_exps" else ()
                w[f"{blk}.ffn_gate{end}.weight"] = matrix(n_ff, N_EMBD, *shape)
                w[f"{blk}.ffn_up{end}.weight"] = matrix(n_ff, N_EMBD, *shape)
                w[f"{blk}.ffn_down{end}.weight"] = matrix(N_EMBD, n_ff, *shape)
        if self.has_biases:
            for name in [n for n in w if "_norm" not in n and n.startswith("blk.")]:
                bias = rng.normal(size=len(w[name])).astype(np.float32)
                w[name.replace(".weight", ".bias")] = bias
        return w | self.tensors

    def write(self, folder: Path) -> tuple[Path, Transformer]:
        """The file and its reference."""
        weights = self.weights()
        path = folder / f"{self.arch}.gguf"
        writer = GGUFWriter(path, self.arch)
        keys = {
            "block_count": N_LAYERS, "context_length": N_CTX, "embedding_length": N_EMBD,
            "feed_forward_length": N_FF, "attention.head_count": N_HEAD,
            "attention.head_count_kv": N_KV, "attention.key_length": HEAD_DIM,
            "attention.value_length": HEAD_DIM, "rope.dimension_count": HEAD_DIM,
            "rope.freq_base": BASE, "attention.layer_norm_rms_epsilon": 1e-3, **self.keys,
        }  # fmt: skip
        add: dict[type, Callable[..., None]] = {
            bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
            str: writer.add_string,
        }  # fmt: skip
        for name, value in keys.items():
            add[type(value)](f"{self.arch}.{name}", value)
        for name, tensor in weights.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        defaults = {"inverse_frequencies": transformer.plain(HEAD_DIM, BASE), "eps": 1e-3}
        config = Config(N_LAYERS, N_HEAD, N_KV, HEAD_DIM, **(defaults | self.config))
        return path, Transformer(config, weights)


GRANITE = {
    "keys": {"embedding_scale": 3.0, "residual_scale": 0.6, "attention.scale": 0.11,
             "logit_scale": 1.7},
    "config": {"embedding_scale": 3.0, "residual_scale": 0.6, "attention_scale": 0.11,
               "logit_scale": 1.7},
}  # fmt: skip
EXPERTS = {"expert_count": 6, "expert_used_count": 2}
LONG, SHORT = (np.linspace(1.0, top, HEAD_DIM // 2, dtype=np.float32) for top in (9.0, 2.0))
LONGROPE = {
    "keys": {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": 1.2,
             "rope.scaling.original_context_length": 256},
    "tensors": {"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT},
    "is_fused": True,
}  # fmt: skip
FREQS = transformer.llama3(HEAD_DIM, BASE, 8.0, 1.0, 4.0, 128)
YARN = transformer.yarn(HEAD_DIM, BASE, 4.0, 128)
PLAIN = transformer.plain(HEAD_DIM, BASE)


def longrope(factors: np.ndarray, n_ctx: int) -> Case:
    config = {"inverse_frequencies": PLAIN / factors, "magnitude": 1.2, "neighbours": False}
    return Case("phi3", config=config, n_ctx=n_ctx, **LONGROPE)


CASES = {
    "granite": Case("granite", **GRANITE),
    "granite with biases": Case("granite", **GRANITE, has_biases=True),
    "granite without rotation": Case(
        "granite", keys={"rope.scaling.finetuned": False}, config={"no_rope": {0, 1, 2, 3}}
    ),
    "granitemoe": Case(
        "granitemoe", GRANITE["config"] | {"n_used": 2}, GRANITE["keys"] | EXPERTS, n_experts=6
    ),
    "granitemoe shared": Case(
        "granitemoe", GRANITE["config"] | {"n_used": 2},
        GRANITE["keys"] | EXPERTS | {"expert_shared_feed_forward_length": 40},
        n_experts=6, n_shared=40,
    ),
    "smollm3": Case("smollm3", config={"no_rope": {3}}),
    "mixtral": Case("llama", {"n_used": 2}, EXPERTS, n_experts=6),
    "smallthinker": Case(
        "smallthinker", {"n_used": 2, "no_rope": {0}, "neighbours": False, "is_smallthinker": True},
        EXPERTS | {"expert_feed_forward_length": N_FF, "attention.sliding_window": 4096},
        n_experts=6,
    ),
    "smallthinker without windows": Case(
        "smallthinker", {"n_used": 2, "neighbours": False, "is_smallthinker": True},
        EXPERTS | {"expert_feed_forward_length": N_FF}, n_experts=6,
    ),
    "llama with biases": Case("llama", has_biases=True),
    "llama linear": Case(
        "llama", {"inverse_frequencies": PLAIN / 4.0},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "llama linear by factor": Case(
        "llama", {"inverse_frequencies": PLAIN / 4.0}, {"rope.scaling.factor": 4.0}
    ),
    "llama3": Case(
        "llama", {"inverse_frequencies": PLAIN / FREQS},
        tensors={"rope_freqs.weight": FREQS.astype(np.float32)},
    ),
    "llama yarn": Case(
        "llama", {"inverse_frequencies": YARN[0], "magnitude": YARN[1]},
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
         "rope.scaling.original_context_length": 128},
    ),
    "llama partial rotary": Case(
        "llama", {"inverse_frequencies": transformer.plain(10, BASE)}, {"rope.dimension_count": 10}
    ),
    "phi3 short": longrope(SHORT, 256),
    "phi3 long": longrope(LONG, 272),
    "phi3 window": Case(
        "phi3", {"neighbours": False, "window": 19}, {"attention.sliding_window": 19}, is_fused=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_logits_match_the_reference(name: str, tmp_path: Path, kernel_cache_dir: Path) -> None:
    case = CASES[name]
    path, reference = case.write(tmp_path)
    with loaded(path, kernel_cache_dir, n_ctx=case.n_ctx) as model:
        for prompt in PROMPTS:
            got = run_pattern(model, [prompt], whole([len(prompt)]), poison=True)[0]
            want = reference.logits(np.array(prompt))
            assert 0.3 < want.std() < 30.0, "a file that tells nothing apart"
            assert np.abs(got - want).max() <= 1e-3 * want.std()


@pytest.mark.parametrize(
    "name",
    [
        "granite",
        "granitemoe shared",
        "smollm3",
        "smallthinker",
        "phi3 window",
        "phi3 long",
        "llama yarn",
    ],
)
def test_alone_or_in_company(name: str, tmp_path: Path, kernel_cache_dir: Path) -> None:
    path, _ = CASES[name].write(tmp_path)
    assert_isolated(path, kernel_cache_dir, PROMPTS)


def test_keys_and_tensors_are_refused_by_name(tmp_path: Path, kernel_cache_dir: Path) -> None:
    for case, field_name in (
        (Case("llama", keys={"rope.scaling.type": "dynamic"}), "llama.rope.scaling.type"),
        (Case("llama", keys={"rope.dimension_count": 7}), "llama.rope.dimension_count"),
        (
            Case("smollm3", tensors={"blk.1.attn_out_gate.weight": PLAIN}),
            "blk.1.attn_out_gate.weight",
        ),
        (Case("granitemoe", keys=EXPERTS), "blk.0.ffn_gate_inp.weight"),
    ):
        path, _ = case.write(tmp_path)
        with pytest.raises(ModelFileError) as error, loaded(path, kernel_cache_dir):
            pass
        assert error.value.field == field_name
