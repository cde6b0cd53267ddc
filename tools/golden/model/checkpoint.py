"""A recipe as a checkpoint of transformers, and the logits of the model it was made from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from tools.golden.model.next_block import block_for
from tools.golden.model.vocabulary import (
    write_bpe,
    write_fallback_bpe,
    write_spm,
    write_unigram,
    write_wordpiece,
)
from tools.golden.model.weights import fill, mtp_tensors
from tools.golden.recipe import Recipe
from tools.golden.references.logits import F32


def eager(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """The plain implementations of attention and experts, in float32."""
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")
    return model.float().eval()


def build(recipe: Recipe) -> Any:
    """The recipe's model with its weights: of transformers, or one of tools.golden.written."""
    torch.set_num_threads(1)
    if recipe.written:
        written = import_module(f"tools.golden.written.{recipe.written}").Model(recipe.full_config)
        fill(written, recipe)
        return written
    config = getattr(transformers, recipe.config_class)(**recipe.full_config)
    torch.manual_seed(recipe.seed)
    model = eager(getattr(transformers, recipe.model_class)(config))
    fill(model, recipe)
    model.tie_weights()
    return model


def n_parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def save(model: Any, recipe: Recipe, folder: Path) -> None:
    """Write what the converter reads: weights, config.json as published, vocabulary."""
    if recipe.tokenizer == "spm":
        write_spm(folder, recipe.n_vocab)
    elif recipe.tokenizer == "wordpiece":
        write_wordpiece(folder, recipe.n_vocab)
    elif recipe.tokenizer == "unigram":
        write_unigram(folder, recipe.n_vocab)
    elif recipe.tokenizer == "fallback_bpe":
        write_fallback_bpe(folder, recipe.n_vocab)
    else:
        write_bpe(folder, recipe.n_vocab, recipe.pre)
    model.save_pretrained(folder)
    if recipe.transposed:
        weights = load_file(folder / "model.safetensors")
        for name, weight in weights.items():
            if any(re.search(pattern, name) for pattern in recipe.transposed):
                weights[name] = weight.transpose(-1, -2).contiguous()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if recipe.has_mtp:
        weights = load_file(folder / "model.safetensors")
        if recipe.mtp_form != "qwen":
            weights |= block_for(model, recipe).published()
        else:
            sizes = {key: n for key, n in recipe.config.items() if isinstance(n, int)}
            weights |= {k: w.contiguous() for k, w in mtp_tensors(sizes, recipe.seed).items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if recipe.rewritten is not None:
        weights = recipe.rewritten(load_file(folder / "model.safetensors"))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), "architectures": [recipe.model_class]}
    file.write_text(json.dumps(recipe.published(config), indent=1))


def logits(model: Any, prompts: Sequence[Sequence[int]]) -> list[F32]:
    """Of every position of each prompt: float32 [tokens, vocabulary]."""
    with torch.no_grad():
        outputs = [model(torch.tensor([list(p)]), use_cache=False) for p in prompts]
    return [np.asarray(out.logits[0].float().numpy(), np.float32) for out in outputs]
