"""Kimi Delta Attention beside multi-head latent attention: Kimi Linear and Ling 3."""

from tools.golden.recipe import Config, Recipe, renaming, rope

KINDS = ["linear_attention", "full_attention", "linear_attention"]
HYBRID: Config = {
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
    # One epsilon is in the file; transformers has another for l2 norms, and that is this.
    "rms_norm_eps": 1e-6,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "num_hidden_layers": len(KINDS),
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "attention_bias": False,
    "layer_types": KINDS,
    "mlp_layer_types": ["dense", "sparse", "sparse"],
}


def published_kimi(config: Config) -> Config:
    """Layers are counted from 1, and experts have names of their own."""
    linear = [i + 1 for i, kind in enumerate(KINDS) if kind == "linear_attention"]
    full = [i + 1 for i, kind in enumerate(KINDS) if kind == "full_attention"]
    kept = {k: v for k, v in config.items() if k not in ("head_dim", "qk_head_dim")}
    return {
        **kept,
        "linear_attn_config": {
            "full_attn_layers": full,
            "kda_layers": linear,
            "head_dim": 16,
            "num_heads": 3,
            "short_conv_kernel_size": 4,
        },
        "moe_router_activation_func": "sigmoid",
        "first_k_dense_replace": 1,
        "num_experts": 6,
        "num_shared_experts": 1,
        "num_experts_per_token": 2,
        "n_group": 1,
        "topk_group": 1,
        "max_position_embeddings": 2048,
    }


def published_ling(config: Config) -> Config:
    """The gates' kinds, which transformers knows, and the class's name of checkpoints."""
    return {
        **config,
        "architectures": ["BailingMoeV3ForCausalLM"],
        "head_dim": 16,
        "no_kda_lora": True,
        "kda_safe_gate": True,
        "gated_attention_proj_granularity_type": "head_wise",
        "score_function": "sigmoid",
        "num_nextn_predict_layers": 1,
        "num_experts": 8,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": True,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 2048,
        "moe_shared_expert_intermediate_size": 24,
    }


RECIPES = (
    Recipe(
        "kimi-linear",
        "KimiLinearForCausalLM",
        "KimiLinearConfig",
        {
            **HYBRID,
            "hidden_size": 56,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "n_group": 1,
            "topk_group": 1,
            "num_local_experts": 6,
            "routed_scaling_factor": 2.446,
            "linear_head_dim": 16,
            "linear_num_heads": 3,
            "linear_conv_kernel_dim": 4,
        },
        n_vocab=323,
        published=published_kimi,
        # transformers' mapping knows no dense layer.
        rewritten=renaming((r"layers\.0\.block_sparse_moe\.", "layers.0.mlp.")),
        reads_raw_config=True,
    ),
    Recipe(
        "bailingmoe3",
        "BailingHybridForCausalLM",
        "BailingHybridConfig",
        {
            **HYBRID,
            "hidden_size": 48,
            "intermediate_size": 96,
            "moe_intermediate_size": 24,
            "n_group": 4,
            "topk_group": 2,
            "num_local_experts": 8,
            "routed_scaling_factor": 2.5,
            "head_dim": 16,
            "short_conv_kernel_size": 4,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "layer_group_size": 3,
            "num_mtp_layers": 0,
            "kda_lower_bound": -5.0,
            "rope_parameters": rope(6e6),
        },
        n_vocab=323,
        published=published_ling,
        # The block for multi-token prediction, which transformers does not save.
        rewritten=renaming(
            (r"(layers\.3\.)self_attn\.", r"\1attention."),
            (r"(layers\.3\.attention\.)o_proj", r"\1dense"),
            (r"(layers\.3\.)shared_head\.norm", r"\1final_layernorm"),
            (r"(layers\.3\.mlp\.gate\.)e_score_correction_bias", r"\1expert_bias"),
        ),
        reads_raw_config=True,
        has_mtp=True,
        mtp_form="layer",
        note="Ling 3.",
    ),
)
