"""Qwen 2, 3 and 3-MoE: biases, q/k norms, a padded vocabulary, experts, yarn."""

from tools.golden.recipe import EPSILON, N_VOCAB, Recipe, rope

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}

RECIPES = (
    Recipe(
        "qwen2",
        "Qwen2ForCausalLM",
        "Qwen2Config",
        {
            "hidden_size": 60,
            "intermediate_size": 140,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(1e6),
        },
    ),
    Recipe(
        "qwen3",
        "Qwen3ForCausalLM",
        "Qwen3Config",
        {
            "hidden_size": 56,
            "intermediate_size": 120,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 20,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": rope(1e6),
        },
        # Larger than the tokenizer's, as in many real checkpoints.
        n_padded_vocab=N_VOCAB + 13,
    ),
    Recipe(
        "qwen3moe",
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "head_dim": 16,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": YARN,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 40,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
)
