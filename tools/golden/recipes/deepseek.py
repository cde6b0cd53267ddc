"""Multi-head latent attention: DeepSeek V2-Lite and V3, GLM-4.7-Flash."""

from tools.golden.recipe import Config, Recipe, rope

LATENT: Config = {
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
    # One epsilon is in the file; transformers has another for norms of latents, and that is this.
    "rms_norm_eps": 1e-6,
    "n_shared_experts": 1,
    "attention_bias": False,
    "num_nextn_predict_layers": 0,
}


def published(config: Config) -> Config:
    """Checkpoints say how scores are made, transformers knows it."""
    return {**config, "scoring_func": "sigmoid"}


def published_glm(config: Config) -> Config:
    """And that there is a block for multi-token prediction."""
    return {**published(config), "num_nextn_predict_layers": 1}


def yarn(factor: float, original: int, mscale: float) -> Config:
    """YaRN as DeepSeek's checkpoints have it: with a factor on the scale of the softmax."""
    return rope(
        10000.0,
        rope_type="yarn",
        factor=factor,
        beta_fast=32,
        beta_slow=1,
        mscale=mscale,
        mscale_all_dim=mscale,
        original_max_position_embeddings=original,
    )


RECIPES = (
    Recipe(
        "deepseek2",
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {
            **LATENT,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": 24,
            "kv_lora_rank": 56,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 24,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 4,
            "topk_group": 2,
            "moe_intermediate_size": 24,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 1.6,
            "norm_topk_prob": True,
            "rope_parameters": yarn(4.0, 64, 1.0),
        },
        n_vocab=323,
        published=published,
    ),
    Recipe(
        "deepseek2-lite",
        "DeepseekV2ForCausalLM",
        "DeepseekV2Config",
        {
            **LATENT,
            "hidden_size": 32,
            "intermediate_size": 16,
            # What llama.cpp knows a file without compressed queries by.
            "num_hidden_layers": 26,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": None,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 5,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "greedy",
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 24,
            "routed_scaling_factor": 1.0,
            "norm_topk_prob": False,
            "rope_parameters": yarn(8.0, 64, 0.707),
        },
        n_vocab=307,
    ),
    Recipe(
        "glm4moelite",
        "Glm4MoeLiteForCausalLM",
        "Glm4MoeLiteConfig",
        {
            **LATENT,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "q_lora_rank": 32,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 24,
            "qk_rope_head_dim": 16,
            "v_head_dim": 32,
            "n_routed_experts": 7,
            "num_experts_per_tok": 3,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 24,
            "first_k_dense_replace": 1,
            "mlp_layer_types": ["dense", "sparse"],
            "routed_scaling_factor": 1.8,
            "norm_topk_prob": True,
            "rope_parameters": rope(1e6),
        },
        n_vocab=323,
        published=published_glm,
        has_plain_vocab=True,
        has_mtp=True,
        mtp_form="layer",
        note="GLM-4.7-Flash.",
    ),
)
