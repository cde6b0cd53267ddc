"""PLaMo 2: Mamba with a decay a head, attention in between, norms around every block."""

from tools.golden.recipe import EPSILON, Recipe

RECIPES = (
    Recipe(
        "plamo2",
        "Plamo2ForCausalLM",
        "",
        {
            "hidden_size": 80,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "hidden_size_per_head": 16,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "mamba_num_heads": 10,
            "mamba_d_state": 24,
            "mamba_d_conv": 4,
            "mamba_step": 2,
            "rms_norm_eps": EPSILON,
            "rope_theta": 10000.0,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
        written="plamo2",
        reads_raw_config=True,
        has_plain_vocab=True,
        has_heads_everywhere=True,
        note="llama.cpp takes the size of heads from the first layer, which has none here: it was"
        " given a copy with a number of query heads on every layer.",
    ),
)
