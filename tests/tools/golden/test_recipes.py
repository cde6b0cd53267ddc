"""The table of recipes, against the golden models that are committed."""

from __future__ import annotations

import json

import pytest

from slotmux.runtime.gguf import open_gguf
from tests.conftest import ROOT
from tools.golden import manifest
from tools.golden.recipe import (
    BLOCK_TYPES,
    FLOAT_TYPES,
    MOE_TYPES,
    PROMPT_LENGTHS,
    Recipe,
    RwkvRecipe,
    seed_of,
)
from tools.golden.recipes import FAMILIES, RECIPES
from tools.golden.recipes.granitehybrid import published
from tools.golden.recipes.nemotron_h import published_dense

GOLDEN = ROOT / "tests/golden"
ENTRIES = {str(entry["name"]): entry for entry in manifest.read(GOLDEN)}
FROM_TRANSFORMERS = [r for r in RECIPES.values() if isinstance(r, Recipe)]


def test_every_golden_model_has_a_recipe_and_no_name_is_taken_twice() -> None:
    assert set(ENTRIES) <= set(RECIPES)
    assert len(RECIPES) == sum(len(family) for family in FAMILIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_recipe_is_of_what_is_committed(name: str) -> None:
    recipe, entry = RECIPES[name], ENTRIES[name]
    assert (recipe.seed, recipe.hf_class) == (entry["seed"], entry["hf_class"])
    kept = {"README.md"}
    kept |= {"model.gguf", "reference.npz"} if recipe.keeps_float else set()
    kept |= {"tokenizer.json"} if recipe.has_tokenizations else set()
    kept |= {"tensor_types.json"} if recipe.quantised else set()
    for kind in recipe.quantised:
        kept |= {f"model-{kind}.gguf", f"reference-{kind}.npz"}
    assert kept == {file.name for file in (GOLDEN / name).iterdir()}


@pytest.mark.parametrize("name", [n for n in ENTRIES if RECIPES[n].keeps_float])
def test_sizes_are_those_of_the_committed_file(name: str) -> None:
    recipe = RECIPES[name]
    tensors = open_gguf(GOLDEN / name / "model.gguf").tensors
    if isinstance(recipe, RwkvRecipe):
        want = [recipe.dims["n_embd"], recipe.n_vocab]
    else:
        config = dict(recipe.full_config)
        text = config.get("text_config")  # of models that see
        config |= text if isinstance(text, dict) else {}
        width = config["hidden_size"] if "hidden_size" in config else config["n_embd"]  # GPT-2
        want = [width, config["vocab_size"]]
    assert list(tensors["token_embd.weight"].shape) == want


@pytest.mark.parametrize("recipe", FROM_TRANSFORMERS, ids=lambda r: r.name)
def test_a_recipe_can_be_made(recipe: Recipe) -> None:
    assert max(PROMPT_LENGTHS) < int(str(recipe.config.get("max_position_embeddings", 2048)))
    assert recipe.n_padded_vocab == 0 or recipe.n_padded_vocab >= recipe.n_vocab
    assert {*recipe.quantised} <= {*BLOCK_TYPES, *FLOAT_TYPES, *MOE_TYPES}
    assert recipe.keeps_float or recipe.quantised
    if {*recipe.quantised} & {*BLOCK_TYPES}:  # llama-quantize wants rows of 256
        assert recipe.config["hidden_size"] == recipe.config["intermediate_size"] == 256
    json.dumps(recipe.full_config)


def test_seeds_come_from_names() -> None:
    assert seed_of("llama") == ENTRIES["llama"]["seed"]
    assert RECIPES["qwen35moe"].seed == seed_of("qwen35moe") + 5
    # Names of one sum share a seed; two models of one class would share their weights, too.
    seeds = [(recipe.seed, recipe.hf_class) for recipe in RECIPES.values()]
    assert len(seeds) == len(set(seeds))


def test_configs_are_edited_into_the_published_form() -> None:
    layers = ["linear_attention", "full_attention"]
    assert published({"layer_types": layers})["layer_types"] == ["mamba", "attention"]
    config = published_dense(
        {"hidden_size": 64, "n_routed_experts": 8, "moe_latent_size": None, "n_group": 1}
    )
    assert config == {"hidden_size": 64, "hybrid_override_pattern": "M-M*-", "num_hidden_layers": 5}
