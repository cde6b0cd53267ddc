"""Mixtures of experts in ordinary layers: what differs is how experts are chosen."""

from tools.golden.recipe import EPSILON, Config, Recipe, rope

N_SMALL = 283  # tokens: many folders, each below half a megabyte
SMALL: Config = {
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": EPSILON,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}


def minimax_published(config: Config) -> Config:
    """Checkpoints say how many dimensions rotate, and how experts are scored."""
    return {**config, "rotary_dim": 12, "scoring_func": "sigmoid"}


def dots1_published(config: Config) -> Config:
    """Checkpoints say how experts are scored."""
    return {**config, "scoring_func": "sigmoid"}


def granite_swa_published(config: Config) -> Config:
    """Checkpoints say which layers rotate."""
    return {**config, "no_rope_layers": [1, 0, 1]}


def hunyuan_published(config: Config) -> Config:
    """Checkpoints have lists, one number a layer."""
    layers = config["num_hidden_layers"]
    assert isinstance(layers, int)
    return {
        **config,
        "moe_topk": [config["moe_topk"]] * layers,
        "moe_intermediate_size": [config["intermediate_size"]] * layers,
        "num_shared_expert": [1] * layers,
    }


RECIPES = (
    Recipe(
        "qwen2moe",
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {
            **SMALL,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
            "norm_topk_prob": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "rope_parameters": rope(1e6),
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "glm4moe",
        "Glm4MoeForCausalLM",
        "Glm4MoeConfig",
        {
            **SMALL,
            "head_dim": 24,
            "attention_bias": True,
            "use_qk_norm": True,
            "n_routed_experts": 6,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.6,
            "num_nextn_predict_layers": 0,
            "rope_parameters": rope(10000.0, partial_rotary_factor=0.5),
        },
        n_vocab=N_SMALL,
        has_plain_vocab=True,
    ),
    Recipe(
        "olmoe",
        "OlmoeForCausalLM",
        "OlmoeConfig",
        {
            **SMALL,
            "num_key_value_heads": 4,
            "intermediate_size": 24,
            "rms_norm_eps": 1e-5,  # the converter writes that whatever config.json says
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "norm_topk_prob": False,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "hunyuan-moe",
        "HunYuanMoEV1ForCausalLM",
        "HunYuanMoEV1Config",
        {
            **SMALL,
            "head_dim": 24,
            "intermediate_size": 24,
            "num_experts": 6,
            "moe_topk": 2,
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
        published=hunyuan_published,
        has_plain_vocab=True,
    ),
    Recipe(
        "ernie4_5-moe",
        "Ernie4_5_MoeForCausalLM",
        "Ernie4_5_MoeConfig",
        {
            **SMALL,
            "num_hidden_layers": 3,
            "intermediate_size": 64,
            "moe_intermediate_size": 32,
            "moe_num_experts": 6,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 2,
            "moe_layer_interval": 1,
            "use_bias": False,
            "tie_word_embeddings": True,
            "rope_parameters": rope(500000.0),
        },
        has_plain_vocab=True,
        n_vocab=N_SMALL,
    ),
    Recipe(
        "dots1",
        "Dots1ForCausalLM",
        "Dots1Config",
        {
            **SMALL,
            "head_dim": 24,
            "num_key_value_heads": 4,
            "n_routed_experts": 6,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.6,
            "layer_types": ["full_attention"] * 2,
            "sliding_window": None,
            "rope_parameters": rope(10000.0),
        },
        published=dots1_published,
        n_vocab=N_SMALL,
    ),
    Recipe(
        "minimax-m2",
        "MiniMaxM2ForCausalLM",
        "MiniMaxM2Config",
        {
            **SMALL,
            "head_dim": 24,
            "intermediate_size": 24,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "rope_parameters": rope(1e6, partial_rotary_factor=0.5),
        },
        n_vocab=N_SMALL,
        published=minimax_published,
    ),
    Recipe(
        "granite-swa",
        "GraniteMoeSWAForCausalLM",
        "GraniteMoeSWAConfig",
        {
            **SMALL,
            "num_hidden_layers": 3,
            "intermediate_size": 24,
            "shared_intermediate_size": 40,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "embedding_multiplier": 3.0,
            "logits_scaling": 1.7,
            "residual_multiplier": 0.43,
            "attention_multiplier": 0.11,
            "sliding_window": 20,
            "layer_types": [
                "full_attention",
                "sliding_attention",
                "full_attention",
            ],
            "rope_parameters": rope(10000.0),
        },
        n_vocab=N_SMALL,
    ),
    Recipe(
        "granite-swa-dense",
        "GraniteSWAForCausalLM",
        "GraniteSWAConfig",
        {
            **SMALL,
            "num_hidden_layers": 3,
            "embedding_multiplier": 3.0,
            "logits_scaling": 1.7,
            "residual_multiplier": 0.43,
            "attention_multiplier": 0.11,
            "sliding_window": 20,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "layer_rope_theta": [10000.0, 0, 10000.0],
            "rope_parameters": rope(10000.0),
        },
        published=granite_swa_published,
        n_vocab=N_SMALL,
    ),
    Recipe(
        "qwen3vlmoe",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3VLMoeConfig",
        {
            "text_config": {
                **SMALL,
                "vocab_size": N_SMALL,
                "head_dim": 24,
                "num_experts": 7,
                "num_experts_per_tok": 3,
                "moe_intermediate_size": 24,
                "decoder_sparse_step": 1,
                "mlp_only_layers": [],
                "rope_parameters": rope(1e6, mrope_section=[4, 4, 4], mrope_interleaved=True),
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 48,
                "num_position_embeddings": 4,
                "deepstack_visual_indexes": [],
            },
        },
        transposed=(r"experts\.(gate_up|down)_proj$",),
        n_vocab=N_SMALL,
    ),
    Recipe(
        "llama4",
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {
            **SMALL,
            "num_hidden_layers": 4,
            "head_dim": 16,
            "intermediate_size": 24,
            "intermediate_size_mlp": 88,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "use_qk_norm": True,
            "attention_chunk_size": 8192,  # what llama.cpp has, whatever the file says
            "floor_scale": 8192,
            "attn_scale": 0.1,
            "no_rope_layer_interval": 4,
            "rope_parameters": rope(500000.0),
        },
        n_vocab=N_SMALL,
    ),
)
