"""Llama: grouped heads whose size is not n_embd / n_head; llama3 scaling; the quantised files."""

from tools.golden.recipe import BLOCK_TYPES, EPSILON, FLOAT_TYPES, Recipe, rope

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

RECIPES = (
    Recipe(
        "llama",
        "LlamaForCausalLM",
        "LlamaConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 152,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(10000.0),
        },
        has_tokenizations=True,
        quantised=FLOAT_TYPES,
    ),
    Recipe(
        "llama-rope3",
        "LlamaForCausalLM",
        "LlamaConfig",
        {
            "hidden_size": 48,
            "intermediate_size": 104,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "rope_parameters": LLAMA3,
        },
    ),
    Recipe(
        "q-llama",
        "LlamaForCausalLM",
        "LlamaConfig",
        {
            "hidden_size": 256,
            "intermediate_size": 256,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=323,
        keeps_float=False,
        quantised=BLOCK_TYPES,
    ),
)
