"""gpt-oss: sinks, a window on every other layer, experts with biases, a clamped SwiGLU, YaRN."""

from tools.golden.recipe import EPSILON, Config, Recipe

GPT_OSS: Config = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "rms_norm_eps": EPSILON,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "sliding_window": 20,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": 64,
        "truncate": True,  # llama.cpp always does
    },
}
LAYERS = ["sliding_attention", "full_attention"]

RECIPES = (
    Recipe(
        "gpt-oss",
        "GptOssForCausalLM",
        "GptOssConfig",
        {
            **GPT_OSS,
            "hidden_size": 40,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "layer_types": [*LAYERS, *LAYERS[:1]],
        },
        n_vocab=283,
    ),
    Recipe(
        "q-gpt-oss",
        "GptOssForCausalLM",
        "GptOssConfig",
        {
            **GPT_OSS,
            # All of them: an expert that is taken for another moves logits more than rounding.
            "num_local_experts": 3,
            "num_experts_per_tok": 3,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "layer_types": LAYERS,
        },
        n_vocab=283,
        keeps_float=False,
        quantised=("MXFP4_MOE",),
    ),
)
