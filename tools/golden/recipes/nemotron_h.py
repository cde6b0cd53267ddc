"""Nemotron-H: Mamba 2, attention or feed-forward in a layer; dense and with experts."""

from tools.golden.recipe import EPSILON, N_VOCAB, Config, Recipe, rounded_up

SYMBOLS = {"linear_attention": "M", "mlp": "-", "full_attention": "*"}
MAMBA2: Config = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "ssm_state_size": 16,
    "n_groups": 2,
    "conv_kernel": 4,
    "expand": 2,
    "use_conv_bias": True,
    "chunk_size": 32,
    "mlp_hidden_act": "relu2",
    "layer_norm_epsilon": EPSILON,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
DENSE_LAYERS = ["linear_attention", "mlp", "linear_attention", "full_attention", "mlp"]
UNPUBLISHED = ("n_group", "topk_group", "norm_topk_prob", "layers_block_type")


def published_dense(config: Config) -> Config:
    """Dense checkpoints carry a pattern of symbols and no key of experts."""
    kept = {
        key: value
        for key, value in config.items()
        if key not in UNPUBLISHED
        and not any(word in key for word in ("moe", "expert", "nextn", "mtp_layers_block_type"))
    }
    pattern = "".join(SYMBOLS[layer] for layer in DENSE_LAYERS)
    return {**kept, "hybrid_override_pattern": pattern, "num_hidden_layers": len(DENSE_LAYERS)}


def published_with_next(config: Config) -> Config:
    """With a block for multi-token prediction."""
    return {**config, "num_nextn_predict_layers": 1}


RECIPES = (
    Recipe(
        "nemotron_h",
        "NemotronHForCausalLM",
        "NemotronHConfig",
        {
            **MAMBA2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "layers_block_type": DENSE_LAYERS,
            "head_dim": 24,
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "use_mamba_kernels": False,
        },
        n_padded_vocab=rounded_up(N_VOCAB, 8),
        published=published_dense,
        # transformers would add a number of experts, and the converter would believe it.
        reads_raw_config=True,
    ),
    Recipe(
        "nemotron_h-moe",
        "NemotronHForCausalLM",
        "NemotronHConfig",
        {
            **MAMBA2,
            "hidden_size": 48,
            "intermediate_size": 64,
            "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
            "head_dim": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 32,
            "n_routed_experts": 6,
            "n_shared_experts": 1,
            "moe_intermediate_size": 40,
            "moe_shared_expert_intermediate_size": 56,
            "num_experts_per_tok": 2,
            "routed_scaling_factor": 1.6,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": True,
        },
        n_padded_vocab=rounded_up(N_VOCAB, 8),
    ),
    Recipe(
        "nemotron_h-latent",
        "NemotronHForCausalLM",
        "NemotronHConfig",
        {
            **MAMBA2,
            "hidden_size": 48,
            "intermediate_size": 64,
            "layers_block_type": ["linear_attention", "moe", "full_attention"],
            "head_dim": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 32,
            "n_routed_experts": 6,
            "n_shared_experts": 1,
            "moe_intermediate_size": 40,
            "moe_latent_size": 24,
            "moe_shared_expert_intermediate_size": 56,
            "num_experts_per_tok": 2,
            "routed_scaling_factor": 1.6,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": True,
        },
        n_vocab=320,
        published=published_with_next,
        has_mtp=True,
        mtp_form="nemotron",
        note="Nemotron 3 Super: routed experts in a space of their own.",
    ),
)
