"""Families with norms after their blocks: OLMo 2 and 3, EXAONE 4, Gemma 2, GLM 4."""

from __future__ import annotations

from tools.golden.recipe import Config, Recipe, rope
from tools.golden.recipes.dense.sizes import N_SMALL, RMS_NORMED

WINDOWED = [*["sliding_attention"] * 3, "full_attention"]
# Layers that look back over a window rotate as they were trained, the others by this.
YARN: Config = {
    "rope_type": "yarn",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": 1.2079441541679836,
}

RECIPES = (
    Recipe(
        "olmo2",
        "Olmo2ForCausalLM",
        "Olmo2Config",
        {**RMS_NORMED, "rope_parameters": rope(500000.0)},
        n_vocab=N_SMALL,
    ),
    Recipe(
        "olmo3",
        "Olmo3ForCausalLM",
        "Olmo3Config",
        {
            **RMS_NORMED,
            "intermediate_size": 56,
            "num_hidden_layers": 4,
            "sliding_window": 20,
            "layer_types": WINDOWED,
            "rope_parameters": {"sliding_attention": rope(500000.0), "full_attention": YARN},
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "gemma2",
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {
            **RMS_NORMED,
            "num_hidden_layers": 3,
            "head_dim": 20,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 20,
            "sliding_window": 20,
            # So low that both bend most of what they bound.
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 4.0,
            "tie_word_embeddings": True,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
        offset_norms=(r"norm",),
        has_plain_vocab=True,
        looks_up_gelu=True,
    ),
    Recipe(
        "glm4",
        "Glm4ForCausalLM",
        "Glm4Config",
        {
            **RMS_NORMED,
            "head_dim": 24,
            "attention_bias": True,
            "rope_parameters": rope(10000.0, partial_rotary_factor=0.5),
        },
        n_vocab=N_SMALL,
        has_plain_vocab=True,
    ),
    Recipe(
        "exaone4",
        "Exaone4ForCausalLM",
        "Exaone4Config",
        {
            **RMS_NORMED,
            "sliding_window": None,
            "layer_types": ["full_attention"] * 2,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 1000000.0,
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "exaone4-window",
        "Exaone4ForCausalLM",
        "Exaone4Config",
        {
            **RMS_NORMED,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            # llama.cpp takes the window from this number of layers alone.
            "num_hidden_layers": 64,
            "sliding_window": 20,
            "layer_types": WINDOWED * 16,
            "rope_parameters": rope(1000000.0),
        },
        n_vocab=N_SMALL,
    ),
)
