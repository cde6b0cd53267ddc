"""Which vocabularies are read as what: names of references, and the keys that make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.golden.tokenizers import vocabularies
from tools.golden.tokenizers.vocabularies import Keys

FILES = {
    "bytes": vocabularies.byte_level,
    "lines": vocabularies.lines,
    "spaceless": vocabularies.spaceless,
    "dna": vocabularies.dna,
    "unigram": vocabularies.unigram,
    "plamo2": vocabularies.plamo2,
}
# One of each group that llama.cpp treats alike, and each whose flags are its own.
OF_BYTES = [
    "default",
    "llama-bpe",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "youtu",
    "falcon",
    "starcoder",
    "gpt-2",
    "jais-2",
    "roberta-bpe",
    "qwen2",
    "qwen35",
    "stablelm2",
    "poro-chat",
    "chatglm-bpe",
    "glm4",
    "viking",
    "tekken",
    "gpt-4o",
    "granite-embed-multi-97m",
    "tiny_aya",
    "cohere2moe",
    "kimi-k2",
    "superbpe",
    "bailingmoe",
    "seed-coder",
    "ufakzeka",
    "grok-2",
    "afmoe",
    "laguna",
    "exaone-moe",
    "minicpm5",
    "chameleon",
    "minimax-m2",
]
OF_LINES = ["gemma4", "granite-embed-multi-311m", "mmbert", "sarvam-moe"]


def variants() -> Iterator[tuple[str, str, Keys, tuple[str, ...]]]:
    """(name, file, keys that are put over the file's, keys that are left out)."""
    for name in OF_BYTES:
        yield f"pre {name}", "bytes", {"pre": name}, ()
    yield "pre kimi-k2 without merges", "bytes", {"pre": "kimi-k2"}, ("merges",)
    for name in OF_LINES:
        yield f"pre {name}", "lines", {"pre": name}, ()
    yield "model gemma4", "lines", {"model": "gemma4"}, ()
    yield "model whitespace", "spaceless", {}, ()
    yield "model whitespace in lower case", "spaceless", {"normalizer.lowercase": True}, ()
    yield "model hybriddna", "dna", {}, ()
    for adds in (False, True):
        for merges in (False, True):
            name = f"model t5, space first {adds:d}, spaces merged {merges:d}"
            keys: Keys = {"add_space_prefix": adds, "remove_extra_whitespaces": merges}
            yield name, "unigram", keys, ()
    yield "model t5 without a map", "unigram", {"add_bos_token": True}, ("precompiled_charsmap",)
    yield "model plamo2", "plamo2", {}, ()


def with_keys(file: Mapping[str, object], over: Keys, out: tuple[str, ...]) -> dict[str, object]:
    """Keys of a variant of ``file``."""
    return {key: value for key, value in (dict(file) | over).items() if key not in out}
