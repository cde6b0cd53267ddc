"""Phi-2 and Phi-3: parallel blocks with biases; fused projections."""

from tools.golden.recipe import EPSILON, Config, Recipe, rope

NOT_LLAMA_CPP = (
    "llama.cpp's graph has an RMS norm where the model has a layer norm, and weighs the two"
    " experts by a softmax of them, not by SparseMixer: it tells nothing here, and tests judge by"
    " transformers."
)


def phimoe_published(config: Config) -> Config:
    """Checkpoints name the class otherwise, and how many experts a token takes."""
    return {
        **config,
        "architectures": ["PhiMoEForCausalLM"],
        "original_max_position_embeddings": 2048,
    }


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
    Recipe(
        "phimoe",
        "PhimoeForCausalLM",
        "PhimoeConfig",
        {
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "rms_norm_eps": EPSILON,
            "attention_bias": True,
            "lm_head_bias": True,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "sliding_window": None,
            "rope_parameters": rope(10000.0),
        },
        tokenizer="spm",
        file_name="golden-pmoe",
        published=phimoe_published,
        known_difference=5.0,
        note=NOT_LLAMA_CPP,
    ),
)
