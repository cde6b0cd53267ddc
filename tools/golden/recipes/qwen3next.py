"""Qwen3-Next: the gated delta net with experts and a plain rotary embedding."""

from tools.golden.recipe import Recipe, rope
from tools.golden.recipes.qwen35 import EXPERTS, GATED_DELTA_NET, LAYERS, OFFSET_NORMS, PLAIN_NORMS

RECIPES = (
    Recipe(
        "qwen3next",
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        {
            **GATED_DELTA_NET,
            **EXPERTS,
            "hidden_size": 72,
            "num_hidden_layers": 3,
            "layer_types": LAYERS[1:4],
            "intermediate_size": 64,
            "tie_word_embeddings": False,
            "rope_parameters": rope(2000.0, partial_rotary_factor=0.25),
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
        },
        offset_norms=OFFSET_NORMS,
        plain_norms=PLAIN_NORMS,
        converter_flags=("--no-mtp",),
    ),
)
