"""Qwen3.8-Flash-Next: gated delta net, attention to chosen blocks, hyper-connections, n-grams."""

from tools.golden.recipe import Config, Recipe
from tools.golden.recipes.qwen35 import EXPERTS, GATED_DELTA_NET, sections


def published(config: Config) -> Config:
    """Checkpoints call the layers full_attention."""
    layers = config["layer_types"]
    assert isinstance(layers, list)
    names = {"indexed_attention": "full_attention"}
    return {**config, "layer_types": [names.get(layer, layer) for layer in layers]}


RECIPES = (
    Recipe(
        "qwen4exp",
        "Qwen4ExpForCausalLM",
        "Qwen4ExpTextConfig",
        {
            **GATED_DELTA_NET,
            **EXPERTS,
            "hidden_size": 64,
            "num_hidden_layers": 5,
            "layer_types": [
                "linear_attention",
                "full_attention",
                "linear_attention",
                "linear_attention",
                "full_attention",
            ],
            "tie_word_embeddings": False,
            "rope_parameters": sections(3000.0, 0.5),
            "hc_count": 3,
            "hc_lowrank": 12,
            "ple_layer_ids": [3],
            "ple_embed_dim": 64,
            "ple_conv_kernel_size": 3,
            "ngram_size": 3,
            "heads_per_ngram": 4,
            "ngram_vocab_size_base": 90,
            "make_ngram_vocab_size_divisible_by": 16,
            "split_ngram_parts": 2,
            # Enough that no block scores nothing: of equal ones any may be chosen.
            "indexer_n_heads": 8,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 24,
            "indexer_budget": 24,
            "indexer_compress_ratio": 4,
            "output_gate_type": "sigmoid",
        },
        pre="qwen35",
        offset_norms=(r"norm",),
        plain_norms=(r"linear_attn\.norm",),
        published=published,
        converter_flags=("--no-mtp",),
        reads_raw_config=True,
    ),
)
