"""RWKV-6 and RWKV-7, by themselves and in the place of Qwen2's attention.

llama.cpp's vector kernel of the RWKV-7 recurrence is only right for heads that are a multiple of
its SIMD step (up to 64 floats): those keep the published size of 64.
"""

from tools.golden.recipe import EPSILON, AnyRecipe, Config, Recipe, RwkvRecipe

QWEN2: Config = {"rms_norm_eps": EPSILON, "tie_word_embeddings": False}
ARWKV: Config = {
    **QWEN2,
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "head_size": 64,
    "wkv_version": 7,
}

RECIPES: tuple[AnyRecipe, ...] = (
    RwkvRecipe(
        "rwkv6",
        {
            "n_embd": 64,
            "n_layer": 4,
            "head_size": 16,
            "n_ff": 144,
            "mix_rank": 12,
            "decay_rank": 20,
            "rescale_every": 2,
        },
        has_tokenizations=True,
    ),
    RwkvRecipe(
        "rwkv7",
        {
            "n_embd": 128,
            "n_layer": 2,
            "head_size": 64,
            "n_ff": 96,
            "decay_rank": 12,
            "iclr_rank": 20,
            "value_rank": 16,
            "gate_rank": 24,
        },
    ),
    Recipe(
        "rwkv6qwen2",
        "RWKV6Qwen2ForCausalLM",
        "",
        {
            **QWEN2,
            "hidden_size": 96,
            "intermediate_size": 144,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "lora_rank_tokenshift": 12,
            "lora_rank_decay": 20,
        },
        written="rwkv6qwen2",
        reads_raw_config=True,
    ),
    Recipe(
        "arwkv7",
        "RwkvHybridForCausalLM",
        "",
        {**ARWKV, "wkv_has_gate": True, "wkv_has_group_norm": True},
        written="arwkv7",
        reads_raw_config=True,
    ),
    Recipe(
        "arwkv7-bare",
        "RwkvHybridForCausalLM",
        "",
        {**ARWKV, "wkv_has_gate": False, "wkv_has_group_norm": False},
        written="arwkv7",
        reads_raw_config=True,
    ),
)
