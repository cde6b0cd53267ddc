"""The recipes, a file a family."""

from __future__ import annotations

from tools.golden.recipe import AnyRecipe
from tools.golden.recipes import (
    bamba,
    deepseek,
    dense,
    falcon_h1,
    gemma3,
    gemma4,
    gpt_oss,
    granite_switch,
    granitehybrid,
    jamba,
    kda,
    lfm2,
    llama,
    mamba,
    moe,
    nemotron_h,
    phi,
    plamo2,
    qwen,
    qwen3next,
    qwen4exp,
    qwen35,
    rwkv,
)

FAMILIES: tuple[tuple[AnyRecipe, ...], ...] = (
    llama.RECIPES,
    qwen.RECIPES,
    qwen35.RECIPES,
    qwen3next.RECIPES,
    mamba.RECIPES,
    jamba.RECIPES,
    granitehybrid.RECIPES,
    bamba.RECIPES,
    falcon_h1.RECIPES,
    nemotron_h.RECIPES,
    lfm2.RECIPES,
    gemma3.RECIPES,
    phi.RECIPES,
    rwkv.RECIPES,
    deepseek.RECIPES,
    kda.RECIPES,
    dense.RECIPES,
    gpt_oss.RECIPES,
    gemma4.RECIPES,
    moe.RECIPES,
    plamo2.RECIPES,
    granite_switch.RECIPES,
    qwen4exp.RECIPES,
)
RECIPES: dict[str, AnyRecipe] = {r.name: r for family in FAMILIES for r in family}
