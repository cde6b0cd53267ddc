"""Mamba 1 and Mamba 2, the latter with more than one group."""

from tools.golden.recipe import EPSILON, N_VOCAB, Recipe, rounded_up

RECIPES = (
    Recipe(
        "mamba",
        "MambaForCausalLM",
        "MambaConfig",
        {
            "hidden_size": 48,
            "state_size": 8,
            "num_hidden_layers": 3,
            "layer_norm_epsilon": EPSILON,
            "expand": 2,
            "conv_kernel": 4,
            "use_bias": False,
            "use_conv_bias": True,
            "time_step_rank": 5,
            "tie_word_embeddings": True,
        },
        n_padded_vocab=rounded_up(N_VOCAB, 8),
        pre="gpt-2",
        has_tokenizations=True,
    ),
    Recipe(
        "mamba2",
        "Mamba2ForCausalLM",
        "Mamba2Config",
        {
            "hidden_size": 64,
            "num_heads": 8,
            "head_dim": 16,
            "state_size": 16,
            "num_hidden_layers": 3,
            "expand": 2,
            "conv_kernel": 4,
            "n_groups": 2,
            "use_bias": False,
            "use_conv_bias": True,
            "chunk_size": 32,
            "layer_norm_epsilon": EPSILON,
            "tie_word_embeddings": False,
            "rms_norm": True,
        },
        n_padded_vocab=rounded_up(N_VOCAB, 16),
        pre="gpt-2",
    ),
)
