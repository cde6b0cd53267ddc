"""Falcon-H1: Mamba 2 and attention side by side in every layer, a multiplier everywhere."""

from tools.golden.recipe import EPSILON, Recipe, rope

RECIPES = (
    Recipe(
        "falcon-h1",
        "FalconH1ForCausalLM",
        "FalconH1Config",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "rms_norm_eps": EPSILON,
            "mamba_d_ssm": 96,
            "mamba_n_heads": 6,
            "mamba_d_head": 16,
            "mamba_n_groups": 2,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_chunk_size": 32,
            "mamba_conv_bias": True,
            "mamba_norm_before_gate": False,
            "mamba_rms_norm": True,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(1e5),
            "lm_head_multiplier": 0.8,
            "embedding_multiplier": 1.7,
            "mlp_multipliers": [0.7, 1.3],
            "key_multiplier": 0.6,
            "attention_out_multiplier": 0.9,
            "attention_in_multiplier": 1.1,
            "ssm_multipliers": [0.6, 0.8, 0.7, 1.2, 0.9],
            "ssm_in_multiplier": 1.25,
            "ssm_out_multiplier": 0.75,
        },
    ),
)
