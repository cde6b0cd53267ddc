"""RWKV-6 and RWKV-7.

llama.cpp's vector kernel of the RWKV-7 recurrence is only right for heads that are a multiple of
its SIMD step (up to 64 floats): those keep the published size of 64.
"""

from tools.golden.recipe import RwkvRecipe

RECIPES = (
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
)
