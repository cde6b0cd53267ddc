"""Which architectures there are, and what a file says about its own, before anything is lowered."""

from __future__ import annotations

import re

from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.pooling import Pooling, stored_pooling

_DRAFT_KEY = "nextn_predict_layers"
_NEXTN = re.compile(r"blk\.(\d{1,6})\.nextn\.")

# GGUF architecture -> module of slotmux.runtime.models.
FAMILIES = {
    "llama": "dense.llama",
    "qwen2": "dense.qwen",
    "qwen3": "dense.qwen",
    "qwen3moe": "dense.qwen3moe",
    "qwen3next": "hybrid.qwen_hybrid",
    "qwen35": "hybrid.qwen_hybrid",
    "qwen35moe": "hybrid.qwen_hybrid",
    "qwen4exp": "hybrid.qwen4exp",
    "gemma3": "dense.gemma3",
    "lfm2": "hybrid.lfm2",
    "lfm2moe": "hybrid.lfm2",
    "rwkv6": "recurrent.rwkv6",
    "rwkv7": "recurrent.rwkv7",
    "rwkv6qwen2": "recurrent.rwkv6qwen2",
    "arwkv7": "recurrent.arwkv7",
    "deepseek2": "latent.deepseek2",
    "kimi-linear": "latent.kda_hybrid",
    "bailingmoe3": "latent.kda_hybrid",
    "phi2": "dense.layer_normed.phi2",
    "phi3": "dense.phi3",
    "phimoe": "experts.phimoe",
    "granite": "dense.granite",
    "granitemoe": "dense.granite",
    "graniteswitch": "dense.granite_switch",
    "smollm3": "dense.smollm3",
    "internlm2": "dense.llama",
    "ernie4_5": "dense.llama",
    "qwen2vl": "dense.qwen",
    "qwen3vl": "dense.qwen",
    "gemma": "dense.gemma",
    "gemma2": "dense.block_normed.gemma2",
    "glm4": "dense.block_normed.glm4",
    "olmo2": "dense.block_normed.olmo2",
    "exaone4": "dense.block_normed.exaone4",
    "mistral3": "dense.mistral3",
    "seed_oss": "dense.seed_oss",
    "hunyuan-dense": "dense.hunyuan",
    "arcee": "dense.arcee",
    "apertus": "dense.apertus",
    "minicpm": "dense.minicpm",
    "bitnet": "dense.bitnet",
    "command-r": "dense.layer_normed.cohere",
    "cohere2": "dense.layer_normed.cohere",
    "stablelm": "dense.layer_normed.stablelm",
    "starcoder2": "dense.layer_normed.starcoder2",
    "gptneox": "dense.layer_normed.gptneox",
    "falcon": "dense.layer_normed.falcon",
    "gpt2": "dense.layer_normed.gpt2",
    "nemotron": "dense.layer_normed.nemotron",
    "gpt-oss": "experts.gpt_oss",
    "gemma3n": "per_layer.gemma3n",
    "gemma4": "per_layer.gemma4",
    "qwen2moe": "experts.qwen2moe",
    "qwen3vlmoe": "dense.qwen3moe",
    "glm4moe": "experts.leading_dense",
    "dots1": "experts.leading_dense",
    "ernie4_5-moe": "experts.leading_dense",
    "olmoe": "experts.olmoe",
    "minimax-m2": "experts.olmoe",
    "hunyuan-moe": "experts.hunyuan_moe",
    "smallthinker": "experts.smallthinker",
    "llama4": "experts.llama4",
    "granite_swa": "experts.granite_swa",
    "mamba": "recurrent.mamba",
    "mamba2": "recurrent.mamba",
    "jamba": "hybrid.jamba",
    "plamo2": "hybrid.plamo2",
    "granitehybrid": "hybrid.granite_hybrid",
    "falcon-h1": "hybrid.falcon_h1",
    "nemotron_h": "hybrid.nemotron_h",
    "nemotron_h_moe": "hybrid.nemotron_h",
    "bert": "encoders.bert",
    "nomic-bert": "encoders.nomic_bert",
    "nomic-bert-moe": "encoders.nomic_bert",
    "jina-bert-v2": "encoders.jina_bert",
    "jina-bert-v3": "encoders.jina_bert",
    "modern-bert": "encoders.modern_bert",
    "eurobert": "encoders.eurobert",
    "llama-embed": "encoders.eurobert",
    "gemma-embedding": "encoders.gemma_embedding",
}
# Decoders whose layers also were trained without the causal mask, as ``attention.causal`` says.
_BOTH_WAYS = {"llama": "encoders.eurobert", "qwen2": "encoders.eurobert",
              "qwen3": "encoders.eurobert"}  # fmt: skip

# What a file of another kind than a language model is, by its architecture or general.type.
_OTHER_KINDS = {
    "clip": "a vision or audio projector (mmproj), the companion of a language model:"
    " give the model's own file; images and sound are not supported",
    "mmproj": "a vision or audio projector (mmproj), the companion of a language model:"
    " give the model's own file; images and sound are not supported",
    "adapter": "a LoRA adapter, not a model: merge it into its base model and convert that",
    "imatrix": "an importance matrix for quantising, not a model",
    "vocab": "a vocabulary without a model",
}


def check_architecture(file: GGUFFile) -> str:
    """The module of a file's architecture; ModelFileError, which says what it is instead, if there
    is none."""
    kind = file.metadata.tolerant("general.type", "model", file.metadata.get_str)
    for key, value in (("general.architecture", file.architecture), ("general.type", kind)):
        if value in _OTHER_KINDS:
            file.metadata.refuse(key, f"this is {_OTHER_KINDS[value]}")
    name = FAMILIES.get(file.architecture)
    if name is None:
        known = ", ".join(sorted(FAMILIES))
        reason = f"{file.architecture!r} is not supported (supported: {known})"
        file.metadata.refuse("general.architecture", reason)
    key = f"{file.architecture}.attention.causal"
    if not name.startswith("encoders.") and not file.metadata.get_bool(key, True):
        if file.architecture not in _BOTH_WAYS:
            file.metadata.refuse(key, "this architecture is only supported with the causal mask")
        return _BOTH_WAYS[file.architecture]
    return name


def pooling_of(file: GGUFFile, chosen: int = -1) -> Pooling:
    """What a text's vector is: ``chosen`` by the operator, else what the file says. Raises
    ModelFileError as check_architecture."""
    is_encoder = check_architecture(file).startswith("encoders.")
    default = Pooling.MEAN if is_encoder else Pooling.LAST
    return Pooling(chosen) if chosen >= 0 else stored_pooling(file, default)


def n_draft_blocks(file: GGUFFile, n_blocks: int) -> int:
    """Blocks behind the trunk that predict further tokens.

    Those at the end with tensors of such a block; where none has any, what the file's key says.
    """
    named = {int(found[1]) for found in map(_NEXTN.match, file.tensors) if found}
    n_named = next((n for n in range(n_blocks) if n_blocks - 1 - n not in named), n_blocks - 1)
    n_stored = n_stored_draft_blocks(file, n_blocks)
    if n_named and n_stored != n_named:
        what = f"{n_stored}, but {n_named} blocks hold such tensors; served without drafts"
        file.metadata.warn(f"{file.architecture}.{_DRAFT_KEY}", what)
    return n_named or n_stored


def n_stored_draft_blocks(file: GGUFFile, n_blocks: int) -> int:
    """How many of them the file's key says, 0 if it says nothing that can be."""
    key = f"{file.architecture}.{_DRAFT_KEY}"

    def read(key: str, default: int) -> int:
        return file.metadata.get_u32(key, default, 0, n_blocks - 1)

    return file.metadata.tolerant(key, 0, read)
