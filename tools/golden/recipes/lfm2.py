"""LFM2 and its MoE: short convolutions and attention."""

from tools.golden.recipe import EPSILON, Recipe, rope

RECIPES = (
    Recipe(
        "lfm2",
        "Lfm2ForCausalLM",
        "Lfm2Config",
        {
            "hidden_size": 64,
            "intermediate_size": 120,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "norm_eps": EPSILON,
            "conv_bias": False,
            "conv_L_cache": 3,
            "block_multiple_of": 8,
            "block_ffn_dim_multiplier": 1.0,
            "block_auto_adjust_ff_dim": False,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(1e6),
            "layer_types": ["conv", "full_attention", "conv", "conv", "full_attention"],
        },
    ),
    Recipe(
        "lfm2moe",
        "Lfm2MoeForCausalLM",
        "Lfm2MoeConfig",
        {
            "hidden_size": 48,
            "intermediate_size": 104,
            "moe_intermediate_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "norm_eps": EPSILON,
            "conv_bias": False,
            "conv_L_cache": 3,
            "num_dense_layers": 1,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "use_expert_bias": True,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.0,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(1e6),
            "layer_types": ["conv", "conv", "full_attention", "conv"],
        },
    ),
)
