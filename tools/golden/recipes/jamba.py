"""Jamba: Mamba 1 with attention and experts."""

from tools.golden.recipe import EPSILON, Config, Recipe

MAMBA: Config = {
    "num_key_value_heads": 2,
    "rms_norm_eps": EPSILON,
    "num_experts_per_tok": 2,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "use_mamba_kernels": False,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}

RECIPES = (
    Recipe(
        "jamba",
        "JambaForCausalLM",
        "JambaConfig",
        {
            **MAMBA,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_experts": 4,
            "attn_layer_period": 3,
            "attn_layer_offset": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 6,
        },
        tokenizer="spm",
        has_tokenizations=True,
    ),
    Recipe(
        "q-jamba",
        "JambaForCausalLM",
        "JambaConfig",
        {
            **MAMBA,
            "hidden_size": 256,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "num_experts": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 16,
            "mamba_dt_rank": 16,
        },
        n_vocab=389,
        tokenizer="spm",
        keeps_float=False,
        quantised=("Q4_K_M", "IQ4_XS"),
    ),
)
