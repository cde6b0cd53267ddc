"""Gemma 3: a sliding window but for every sixth layer, two rotary bases, norms on both sides."""

from tools.golden.recipe import EPSILON, Recipe, rope

RECIPES = (
    Recipe(
        "gemma3",
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 88,
            "num_hidden_layers": 7,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": EPSILON,
            "query_pre_attn_scalar": 24,
            "sliding_window": 20,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "sliding_attention": rope(10000.0),
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            },
            "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
        },
        tokenizer="spm",
        offset_norms=(r"norm",),
        has_tokenizations=True,
        looks_up_gelu=True,
    ),
)
