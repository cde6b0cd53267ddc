"""What golden models of texts are made from: a recipe as of any other, and what is pooled how."""

from __future__ import annotations

from dataclasses import dataclass

from tools.golden.recipe import EPSILON, Config, Recipe, rope


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """``pooling``: mean, cls, lasttoken; rank: the logits of a class with a head.
    ``sees_both_sides``: the mask is taken from a class that has one by itself."""

    recipe: Recipe
    pooling: str
    sees_both_sides: bool = False
    architecture: str = ""  # what the checkpoint calls itself, if not the class

    @property
    def name(self) -> str:
        return self.recipe.name


SMALL: Config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT: Config = {
    **SMALL,
    "intermediate_size": 152,
    "max_position_embeddings": 300,
    "type_vocab_size": 2,
    "layer_norm_eps": EPSILON,
    "hidden_act": "gelu",
}
MODERN: Config = {
    **SMALL,
    "num_hidden_layers": 4,
    "intermediate_size": 72,
    "max_position_embeddings": 300,
    "norm_eps": EPSILON,
    "local_attention": 20,
    "global_attn_every_n_layers": 3,
    "hidden_activation": "gelu",
    "layer_types": [*["full_attention"], *["sliding_attention"] * 2, "full_attention"],
    "rope_parameters": {
        "full_attention": rope(160000.0),
        "sliding_attention": rope(10000.0),
    },
    "cls_token_id": 0,
    "sep_token_id": 2,
}
DECODER: Config = {
    **SMALL,
    "intermediate_size": 152,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": EPSILON,
    "rope_parameters": rope(10000.0),
}


def as_nomic(config: Config) -> Config:
    """In the words of the checkpoint's own code."""
    return {
        "model_type": "nomic_bert",
        "vocab_size": config["vocab_size"],
        "n_embd": config["hidden_size"],
        "n_layer": config["num_hidden_layers"],
        "n_head": config["num_attention_heads"],
        "n_inner": config["intermediate_size"],
        "n_positions": 2048,
        "max_trained_positions": 2048,
        "layer_norm_epsilon": config["layer_norm_eps"],
        "type_vocab_size": config["type_vocab_size"],
        "rotary_emb_base": 1000.0,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "activation_function": "swiglu",
        "causal": False,
        "qkv_proj_bias": False,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "prenorm": False,
    }


def as_modern(config: Config) -> Config:
    """Rotary bases as published."""
    bases = {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    return {**config, **bases, "layer_norm_eps": config["norm_eps"]}


def with_own_window(config: Config) -> Config:
    """transformers keeps half of the window."""
    return {**config, "sliding_window": 20}


ALL = (
    TextRecipe(
        Recipe("bert", "BertModel", "BertConfig", BERT, tokenizer="wordpiece", looks_up_gelu=True),
        "mean",
    ),
    TextRecipe(
        Recipe(
            "nomic-bert",
            "NomicBertModel",
            "NomicBertConfig",
            {**BERT, "hidden_act": "silu", "rope_parameters": rope(1000.0)},
            tokenizer="wordpiece",
            published=as_nomic,
            reads_raw_config=True,
        ),
        "mean",
    ),
    TextRecipe(
        Recipe(
            "modern-bert",
            "ModernBertModel",
            "ModernBertConfig",
            MODERN,
            published=as_modern,
            looks_up_gelu=True,
        ),
        "cls",
    ),
    TextRecipe(
        Recipe(
            "modern-bert-rank",
            "ModernBertForSequenceClassification",
            "ModernBertConfig",
            {**MODERN, "classifier_pooling": "mean", "num_labels": 1, "classifier_bias": False},
            published=as_modern,
            looks_up_gelu=True,
        ),
        "rank",
    ),
    TextRecipe(
        Recipe(
            "eurobert",
            "EuroBertModel",
            "EuroBertConfig",
            {**DECODER, "hidden_act": "silu"},
            published=lambda config: {k: v for k, v in config.items() if k != "classifier_pooling"},
            reads_raw_config=True,
        ),
        "mean",
    ),
    TextRecipe(
        Recipe(
            "gemma-embedding",
            "Gemma3TextModel",
            "Gemma3TextConfig",
            {
                **DECODER,
                "num_hidden_layers": 7,
                "intermediate_size": 88,
                "num_key_value_heads": 1,
                "head_dim": 24,
                "query_pre_attn_scalar": 24,
                "sliding_window": 20,
                "use_bidirectional_attention": True,
                "tie_word_embeddings": True,
                "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
                "rope_parameters": {
                    "sliding_attention": rope(10000.0),
                    "full_attention": rope(1e6),
                },
            },
            tokenizer="spm",
            offset_norms=(r"norm",),
            published=with_own_window,
            looks_up_gelu=True,
        ),
        "mean",
    ),
    TextRecipe(
        Recipe(
            "jina-bert-v3",
            "JinaEmbeddingsV3Model",
            "JinaEmbeddingsV3Config",
            {**BERT, "type_vocab_size": 1, "rope_parameters": rope(20000.0)},
            tokenizer="unigram",
            published=lambda config: {
                **config,
                "lora_adaptations": ["retrieval"],
                "rotary_emb_base": 20000.0,
            },
            reads_raw_config=True,
            looks_up_gelu=True,
        ),
        "mean",
        architecture="XLMRobertaModel",
    ),
    TextRecipe(
        Recipe(
            "qwen3-embedding",
            "Qwen3Model",
            "Qwen3Config",
            {**DECODER, "head_dim": 24, "tie_word_embeddings": True},
        ),
        "lasttoken",
    ),
)
RECIPES = {recipe.name: recipe for recipe in ALL}
