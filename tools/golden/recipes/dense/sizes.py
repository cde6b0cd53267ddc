"""What these recipes have in common: each folder stays below half a megabyte."""

from __future__ import annotations

from tools.golden.recipe import EPSILON, Config

N_SMALL = 283  # tokens
SMALL: Config = {
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
RMS_NORMED: Config = {**SMALL, "rms_norm_eps": EPSILON}
