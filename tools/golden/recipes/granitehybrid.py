"""Granite 4: Mamba 2 and attention without positions, four multipliers, dense and with experts."""

from tools.golden.recipe import EPSILON, N_VOCAB, Config, Recipe, rounded_up

GRANITE: Config = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": EPSILON,
    "max_position_embeddings": 2048,
    "embedding_multiplier": 3.0,
    "logits_scaling": 1.7,
    "residual_multiplier": 0.43,
    "attention_multiplier": 0.11,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 32,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "layers_block_type": ["mamba", "attention", "mamba", "attention"],
    "position_embedding_type": "nope",
    "attention_bias": False,
}


def published(config: Config) -> Config:
    """Checkpoints call the layers mamba and attention."""
    names = {"linear_attention": "mamba", "full_attention": "attention"}
    layers = config.get("layers_block_type") or config["layer_types"]
    assert isinstance(layers, list)
    return {**config, "layer_types": [names.get(layer, layer) for layer in layers]}


RECIPES = (
    Recipe(
        "granitehybrid",
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        {
            **GRANITE,
            "intermediate_size": 112,
            "shared_intermediate_size": 112,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "tie_word_embeddings": True,
        },
        n_padded_vocab=rounded_up(N_VOCAB, 8),
        published=published,
    ),
    Recipe(
        "granitehybrid-moe",
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        {
            **GRANITE,
            "intermediate_size": 32,
            "shared_intermediate_size": 48,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "tie_word_embeddings": False,
        },
        n_padded_vocab=rounded_up(N_VOCAB, 8),
        published=published,
    ),
    Recipe(
        "q-granitehybrid",
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        {
            **GRANITE,
            "hidden_size": 256,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "mamba_d_head": 64,
            "mamba_d_state": 32,
            "layers_block_type": ["mamba", "attention"],
            "intermediate_size": 256,
            "shared_intermediate_size": 256,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "tie_word_embeddings": True,
        },
        n_vocab=323,
        n_padded_vocab=rounded_up(323, 8),
        published=published,
        keeps_float=False,
        quantised=("Q4_0", "Q5_K_M"),
    ),
)
