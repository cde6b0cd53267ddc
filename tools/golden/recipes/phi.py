"""Phi-2 and Phi-3: parallel blocks with biases; fused projections."""

from tools.golden.recipe import EPSILON, Recipe, rope

RECIPES = (
    Recipe(
        "phi2",
        "PhiForCausalLM",
        "PhiConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "hidden_act": "gelu_new",
            "layer_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(10000.0, partial_rotary_factor=0.5),
        },
        pre="gpt-2",
        looks_up_gelu=True,
    ),
    Recipe(
        "phi3",
        "Phi3ForCausalLM",
        "Phi3Config",
        {
            "hidden_size": 64,
            "intermediate_size": 120,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "original_max_position_embeddings": 2048,
            "sliding_window": None,
            "rope_parameters": rope(10000.0, partial_rotary_factor=1.0),
        },
        tokenizer="spm",
        # llama.cpp changes attributes of tokens when the name holds "phi3".
        file_name="golden-ph3",
        has_tokenizations=True,
    ),
)
