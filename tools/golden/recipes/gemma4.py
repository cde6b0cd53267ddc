"""Gemma 4 and 3n: two head sizes, per-layer embeddings, shared KV, experts beside a dense MLP."""

from tools.golden.recipe import EPSILON, Config, Recipe, rope

N_SMALL, N_TINY = 363, 353  # tokens, of which 256 are bytes
SLIDING, FULL = "sliding_attention", "full_attention"
GEMMA: Config = {
    "hidden_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": EPSILON,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "sliding_window": 20,
}
GEMMA4: Config = {
    **GEMMA,
    "head_dim": 16,
    "global_head_dim": 32,
    "final_logit_softcapping": 4.0,
    "rope_parameters": {
        SLIDING: rope(10000.0),
        FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
    },
}

RECIPES = (
    Recipe(
        "gemma4",
        "Gemma4ForCausalLM",
        "Gemma4TextConfig",
        {
            **GEMMA4,
            "num_hidden_layers": 5,
            "layer_types": [SLIDING, SLIDING, FULL, SLIDING, FULL],
            "intermediate_size": 40,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": N_SMALL,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
        },
        n_vocab=N_SMALL,
        tokenizer="fallback_bpe",
        looks_up_gelu=True,
    ),
    Recipe(
        "gemma4-moe",
        "Gemma4ForCausalLM",
        "Gemma4TextConfig",
        {
            **GEMMA4,
            "num_hidden_layers": 3,
            "layer_types": [SLIDING, SLIDING, FULL],
            "intermediate_size": 40,
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "enable_moe_block": True,
            "num_experts": 6,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
        n_vocab=N_SMALL,
        tokenizer="fallback_bpe",
        looks_up_gelu=True,
    ),
    Recipe(
        "gemma3n",
        "Gemma3nForCausalLM",
        "Gemma3nTextConfig",
        {
            **GEMMA,
            # What llama.cpp takes for granted: a width of 256 for each layer, a rank of 64, the
            # cap, 95 % of the gates of ten layers off, and no shared cells before the twentieth.
            "hidden_size_per_layer_input": 256,
            "laurel_rank": 64,
            "final_logit_softcapping": 30.0,
            "activation_sparsity_pattern": [0.95] * 2,
            "num_kv_shared_layers": 0,
            "hidden_size": 32,  # the streams lie side by side, in vectors of 16
            "head_dim": 24,
            "num_hidden_layers": 2,
            "layer_types": [SLIDING, FULL],
            "intermediate_size": 192,
            "vocab_size_per_layer_input": N_TINY,
            "altup_num_inputs": 4,
            "altup_active_idx": 0,
            "rope_parameters": {SLIDING: rope(10000.0), FULL: rope(1e6)},
        },
        n_vocab=N_TINY,
        tokenizer="spm",
        looks_up_gelu=True,
        known_difference=0.06,
        note="llama.cpp's sparse gates take the deviation by n - 1, transformers' by n.",
        table=("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    ),
)
