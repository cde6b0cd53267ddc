"""Llama's layers with one or two things of their own: a scale, an activation, a place of a norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.golden.recipe import Config, Recipe, rope
from tools.golden.recipes.dense.sizes import N_SMALL, RMS_NORMED

if TYPE_CHECKING:
    from torch import Tensor

YARN: Config = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.4,
}
N_EMBD = 48


def minicpm_published(config: Config) -> Config:
    """Granite's four factors by the names that MiniCPM gives three of them."""
    return {
        **config,
        "architectures": ["MiniCPMForCausalLM"],
        "model_type": "minicpm",
        "scale_emb": config["embedding_multiplier"],
        "scale_depth": 0.6 * 2**0.5,
        "dim_model_base": N_EMBD // 3,
    }


def internlm2_published(config: Config) -> Config:
    """A Llama by InternLM 2's name."""
    return {**config, "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2"}


INTERNLM2_NAMES = {
    "embed_tokens": "tok_embeddings",
    "lm_head": "output",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def internlm2_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """InternLM 2's names; q, k and v in one matrix, by groups of heads that share k and v."""
    import torch

    head_dim, n_groups = N_EMBD // 4, 2
    out = {}
    for name, weight in weights.items():
        if "q_proj" in name:
            k, v = (weights[name.replace("q_proj", f"{x}_proj")] for x in "kv")
            parts = [w.reshape(n_groups, -1, head_dim, N_EMBD) for w in (weight, k, v)]
            fused = torch.cat(parts, dim=1).reshape(-1, N_EMBD)
            out[name.replace("self_attn.q_proj", "attention.wqkv")] = fused.contiguous()
        elif "k_proj" not in name and "v_proj" not in name:
            for theirs, ours in INTERNLM2_NAMES.items():
                name = name.replace(theirs, ours)
            out[name] = weight
    return out


BITNET_NAMES = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}


def bitnet_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """BitNet b1.58's names; and weights before they were rounded, as checkpoints have them.

    Rounding divides by the mean magnitude: with 0, s, -s that is s times the share of those that
    are not 0.
    """
    out = {}
    for name, weight in weights.items():
        for theirs, ours in BITNET_NAMES.items():
            name = name.replace(theirs, ours)
        is_rounded = name.endswith("_proj.weight")
        out[name] = weight / (weight != 0).float().mean() if is_rounded else weight
    return out


def qwen2vl_published(config: Config) -> Config:
    """Checkpoints say of the text model at the top."""
    text = config["text_config"]
    assert isinstance(text, dict)
    return {**text, **config}


def _vl(text: Config, **mrope: object) -> Config:
    """A model that sees: its text model has all layers that we run."""
    vision: Config = {
        "depth": 1,
        "hidden_size": 16,
        "embed_dim": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": N_EMBD,
        "patch_size": 4,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    return {
        "text_config": {
            **RMS_NORMED,
            **text,
            "vocab_size": N_SMALL,
            "rope_parameters": rope(1000000.0, **mrope),
        },
        "vision_config": vision,
        "tie_word_embeddings": False,
    }


RECIPES = (
    Recipe(
        "ministral3",
        "Ministral3ForCausalLM",
        "Ministral3Config",
        {**RMS_NORMED, "head_dim": 20, "rope_parameters": YARN},
        n_vocab=N_SMALL,
        has_plain_vocab=True,
    ),
    Recipe(
        "seed_oss",
        "SeedOssForCausalLM",
        "SeedOssConfig",
        {
            **RMS_NORMED,
            "head_dim": 20,
            "attention_bias": True,
            "attention_dropout": 0.0,
            "residual_dropout": 0.0,
            "rope_parameters": rope(1e7),
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "gemma",
        "GemmaForCausalLM",
        "GemmaConfig",
        {
            **RMS_NORMED,
            "head_dim": 20,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
        offset_norms=(r"norm",),
        seed_offset=1,  # llama's letters add up to the same
        has_plain_vocab=True,
        looks_up_gelu=True,
    ),
    Recipe(
        "hunyuan-dense",
        "HunYuanDenseV1ForCausalLM",
        "HunYuanDenseV1Config",
        {**RMS_NORMED, "head_dim": 20, "rope_parameters": rope(10000.0)},
        n_vocab=N_SMALL,
        has_plain_vocab=True,
    ),
    Recipe(
        "arcee",
        "ArceeForCausalLM",
        "ArceeConfig",
        {**RMS_NORMED, "head_dim": 20, "rope_parameters": rope(10000.0)},
        n_vocab=N_SMALL,
    ),
    Recipe(
        "apertus",
        "ApertusForCausalLM",
        "ApertusConfig",
        {
            **RMS_NORMED,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 12000000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "ernie4_5",
        "Ernie4_5ForCausalLM",
        "Ernie4_5Config",
        {
            **RMS_NORMED,
            "head_dim": 20,
            "use_bias": False,
            "tie_word_embeddings": True,
            "rope_parameters": rope(500000.0),
        },
        n_vocab=N_SMALL,
        has_plain_vocab=True,
    ),
    Recipe(
        "minicpm",
        "GraniteForCausalLM",
        "GraniteConfig",
        {
            **RMS_NORMED,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.6,
            "attention_multiplier": (N_EMBD / 4) ** -0.5,
            "logits_scaling": 3.0,
            "tie_word_embeddings": True,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
        has_plain_vocab=True,
        published=minicpm_published,
        reads_raw_config=True,
        note="transformers has no MiniCPM; its Granite is the same function with these factors.",
    ),
    Recipe(
        "internlm2",
        "LlamaForCausalLM",
        "LlamaConfig",
        {**RMS_NORMED, "rope_parameters": rope(1000000.0)},
        n_vocab=N_SMALL,
        has_plain_vocab=True,
        published=internlm2_published,
        rewritten=internlm2_weights,
        reads_raw_config=True,
        note="transformers has no InternLM 2; its Llama is the same function of other names.",
    ),
    Recipe(
        "qwen2vl",
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        # llama.cpp does not read this architecture's epsilon, and takes 0.
        _vl({"rms_norm_eps": 1e-6}, mrope_section=[2, 2, 2]),
        n_vocab=N_SMALL,
        published=qwen2vl_published,
    ),
    Recipe(
        "qwen3vl",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLConfig",
        _vl({"head_dim": 20}, mrope_section=[4, 3, 3], mrope_interleaved=True),
        n_vocab=N_SMALL,
    ),
    Recipe(
        "bitnet",
        "BitNetForCausalLM",
        "BitNetConfig",
        {
            **RMS_NORMED,
            # As in b1.58-3B, and as llama.cpp computes all; the file does not say.
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
        has_plain_vocab=True,
        ternary=(r"_proj\.weight$",),
        rewritten=bitnet_weights,
    ),
)
