"""Granite Switch: adapters in the model's own file, which tokens of its vocabulary call."""

from tools.golden.recipe import EPSILON, Recipe

# Tokens of the prompts that come with the recipe's seed: some call one adapter, the long one
# several, between whose numbers the mean falls.
CALLERS = (454, 474, 129, 365, 121)

RECIPES = (
    Recipe(
        "granite-switch",
        "GraniteSwitchForCausalLM",
        "",
        {
            "hidden_size": 64,
            "intermediate_size": 112,
            "shared_intermediate_size": 112,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "num_adapters": len(CALLERS),
            "max_lora_rank": 8,
            "adapter_token_ids": list(CALLERS),
            "adapter_substitute_token_ids": [7, 11, 8, 300, 9],
            "control_token_gain": 15.0,
            "rms_norm_eps": EPSILON,
            "rope_theta": 10000.0,
            "max_position_embeddings": 2048,
            "embedding_multiplier": 3.0,
            "logits_scaling": 1.7,
            "residual_multiplier": 0.43,
            "attention_multiplier": 0.11,
            "tie_word_embeddings": True,
        },
        written="granite_switch",
        reads_raw_config=True,
    ),
)
