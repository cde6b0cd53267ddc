"""Dense families that are neither Llama, Qwen, Gemma 3 nor Phi: small vocabularies, few layers."""

from __future__ import annotations

from tools.golden.recipe import Recipe
from tools.golden.recipes.dense import layer_normed, llama_like, post_normed

RECIPES: tuple[Recipe, ...] = (*post_normed.RECIPES, *llama_like.RECIPES, *layer_normed.RECIPES)
