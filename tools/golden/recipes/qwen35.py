"""Qwen 3.5: gated delta net and gated attention, with a block for multi-token prediction."""

from tools.golden.recipe import Config, Recipe, rope

LAYERS = [
    "linear_attention",
    "full_attention",
    "linear_attention",
    "linear_attention",
    "full_attention",
]
GATED_DELTA_NET: Config = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "max_position_embeddings": 2048,
}
EXPERTS: Config = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
}
# Norm weights are stored less one, but for the gated norm of the delta net.
OFFSET_NORMS = (r"norm",)
PLAIN_NORMS = (r"linear_attn\.norm",)


def sections(theta: float, partial: float) -> Config:
    """Multi-section rotary embedding; for text the same as a plain one."""
    return rope(
        theta, partial_rotary_factor=partial, mrope_section=[3, 3, 2], mrope_interleaved=True
    )


def with_mtp(config: Config) -> Config:
    """config.json of a checkpoint that has the block."""
    return {**config, "mtp_num_hidden_layers": 1}


RECIPES = (
    Recipe(
        "qwen35",
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        {
            **GATED_DELTA_NET,
            "hidden_size": 64,
            "num_hidden_layers": 5,
            "layer_types": LAYERS,
            "intermediate_size": 112,
            "tie_word_embeddings": False,
            "rope_parameters": sections(3000.0, 0.5),
        },
        pre="qwen35",
        offset_norms=OFFSET_NORMS,
        plain_norms=PLAIN_NORMS,
        has_mtp=True,
        published=with_mtp,
        has_tokenizations=True,
    ),
    Recipe(
        "qwen35moe",
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeTextConfig",
        {
            **GATED_DELTA_NET,
            **EXPERTS,
            "hidden_size": 56,
            "num_hidden_layers": 3,
            "layer_types": LAYERS[1:4],
            "tie_word_embeddings": True,
            "rope_parameters": sections(3000.0, 0.5),
        },
        pre="qwen35",
        offset_norms=OFFSET_NORMS,
        plain_norms=PLAIN_NORMS,
        has_mtp=True,
        published=with_mtp,
        # A draw whose delta-net outputs stay clear of the norm's epsilon.
        seed_offset=5,
    ),
    Recipe(
        "q-qwen35",
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        {
            **GATED_DELTA_NET,
            "hidden_size": 256,
            "num_hidden_layers": 2,
            "layer_types": LAYERS[:2],
            "intermediate_size": 256,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_num_value_heads": 8,
            "tie_word_embeddings": True,
            "rope_parameters": sections(1e4, 0.25),
        },
        n_vocab=323,
        pre="qwen35",
        offset_norms=OFFSET_NORMS,
        plain_norms=PLAIN_NORMS,
        converter_flags=("--no-mtp",),
        keeps_float=False,
        quantised=("Q8_0", "Q4_0", "Q2_K", "Q4_K_M", "Q6_K", "IQ4_XS"),
    ),
)
