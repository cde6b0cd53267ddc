"""Bamba: Mamba 2 and attention with a rotary embedding; llama.cpp calls it granitehybrid."""

from tools.golden.recipe import EPSILON, N_VOCAB, Recipe, rope, rounded_up

RECIPES = (
    Recipe(
        "bamba",
        "BambaForCausalLM",
        "BambaConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "attn_layer_indices": [1],
            "mamba_n_heads": 8,
            "mamba_d_head": 16,
            "mamba_n_groups": 2,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_chunk_size": 32,
            "mamba_conv_bias": True,
            "mamba_proj_bias": False,
            "rms_norm_eps": EPSILON,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
            "rope_parameters": rope(10000.0, partial_rotary_factor=1.0),
        },
        n_padded_vocab=rounded_up(N_VOCAB, 8),
    ),
)
