"""Families with layer norms; in most of them attention and feed-forward stand side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.golden.recipe import EPSILON, Config, Recipe, rope
from tools.golden.recipes.dense.sizes import N_SMALL, SMALL

if TYPE_CHECKING:
    from torch import Tensor

COHERE: Config = {
    **SMALL,
    "layer_norm_eps": EPSILON,
    "logit_scale": 0.25,
    "tie_word_embeddings": True,
    "rope_parameters": rope(10000.0),
}
STABLELM: Config = {
    **SMALL,
    "layer_norm_eps": EPSILON,
    "rope_parameters": rope(10000.0, partial_rotary_factor=0.5),
}
NEOX: Config = {
    **SMALL,
    "num_key_value_heads": 4,
    "intermediate_size": 192,
    "layer_norm_eps": EPSILON,
    "hidden_act": "gelu",
    "rope_parameters": rope(10000.0, partial_rotary_factor=0.5),
}
FALCON: Config = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "layer_norm_epsilon": EPSILON,
    "parallel_attn": True,
    "bias": False,
    "alibi": False,
    "tie_word_embeddings": True,
    "rope_parameters": rope(10000.0),
}


def cohere2_published(config: Config) -> Config:
    """Checkpoints say how much of a head rotates: all."""
    return {**config, "rotary_pct": 1.0}


def neox_published(config: Config) -> Config:
    """Checkpoints say how much of a head rotates."""
    return {**config, "rotary_pct": 0.5}


def falcon_published(config: Config) -> Config:
    """Checkpoints of one KV head do not say how many there are."""
    return {name: value for name, value in config.items() if name != "num_kv_heads"}


def stablelm_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Norms of heads in one tensor a layer: of single ones the converter makes nothing."""
    import torch

    heads: dict[str, list[Tensor]] = {}
    for name in sorted(weights):
        if ".norms." in name:
            heads.setdefault(name.partition(".norms.")[0], []).append(weights[name])
    others = {name: weight for name, weight in weights.items() if ".norms." not in name}
    return others | {f"{name}.weight": torch.stack(parts) for name, parts in heads.items()}


def gpt2_published(config: Config) -> Config:
    """Checkpoints call the number of positions by another name, too."""
    return {**config, "n_ctx": config["n_positions"]}


RECIPES = (
    Recipe("command-r", "CohereForCausalLM", "CohereConfig", COHERE, n_vocab=N_SMALL),
    Recipe(
        "cohere2",
        "Cohere2ForCausalLM",
        "Cohere2Config",
        {
            **COHERE,
            "num_hidden_layers": 4,
            "sliding_window": 20,
            "layer_types": [*["sliding_attention"] * 3, "full_attention"],
        },
        n_vocab=N_SMALL,
        published=cohere2_published,
    ),
    Recipe("stablelm", "StableLmForCausalLM", "StableLmConfig", STABLELM, n_vocab=N_SMALL),
    Recipe(
        "stablelm-parallel",
        "StableLmForCausalLM",
        "StableLmConfig",
        {**STABLELM, "use_parallel_residual": True, "qk_layernorm": True, "use_qkv_bias": True},
        n_vocab=N_SMALL,
        rewritten=stablelm_weights,
    ),
    Recipe(
        "starcoder2",
        "Starcoder2ForCausalLM",
        "Starcoder2Config",
        {
            **SMALL,
            "norm_epsilon": EPSILON,
            "use_bias": True,
            "hidden_act": "gelu_pytorch_tanh",
            "sliding_window": None,
            "tie_word_embeddings": True,
            "rope_parameters": rope(100000.0),
        },
        n_vocab=N_SMALL,
        looks_up_gelu=True,
    ),
    Recipe(
        "gptneox",
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        NEOX,
        n_vocab=N_SMALL,
        published=neox_published,
        reads_raw_config=True,
        looks_up_gelu=True,
    ),
    Recipe(
        "gptneox-sequential",
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        {**NEOX, "use_parallel_residual": False},
        n_vocab=N_SMALL,
        published=neox_published,
        reads_raw_config=True,
        looks_up_gelu=True,
    ),
    Recipe(
        "falcon",
        "FalconForCausalLM",
        "FalconConfig",
        {**FALCON, "multi_query": True, "new_decoder_architecture": False},
        n_vocab=N_SMALL,
        published=falcon_published,
        reads_raw_config=True,
        looks_up_gelu=True,
    ),
    Recipe(
        "falcon-40b",
        "FalconForCausalLM",
        "FalconConfig",
        {**FALCON, "num_kv_heads": 2, "new_decoder_architecture": True},
        n_vocab=N_SMALL,
        looks_up_gelu=True,
    ),
    Recipe(
        "gpt2",
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "n_embd": 48,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 512,
            "layer_norm_epsilon": EPSILON,
            "activation_function": "gelu_new",
            "tie_word_embeddings": True,
        },
        n_vocab=N_SMALL,
        published=gpt2_published,
        looks_up_gelu=True,
    ),
    Recipe(
        "nemotron",
        "NemotronForCausalLM",
        "NemotronConfig",
        {
            **SMALL,
            "norm_eps": EPSILON,
            "head_dim": 12,
            "hidden_act": "relu2",
            "rope_parameters": rope(10000.0, partial_rotary_factor=0.5),
        },
        n_vocab=N_SMALL,
        has_plain_vocab=True,
        offset_norms=(r"norm",),
    ),
)
