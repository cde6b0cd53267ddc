"""The one list of encoders: each line's golden model passes every common test of texts.

A name is a folder of tests/golden/texts, made by tools/golden/texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.encoder import Encoder, Text, load_encoder
from slotmux.runtime.model import ModelConfig
from slotmux.runtime.pooling import Pooling

GOLDEN = Path(__file__).resolve().parent / "golden" / "texts"
F32 = NDArray[np.float32]
ENCODERS = (
    "bert",
    "nomic-bert",
    "modern-bert",
    "modern-bert-rank",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v3",
)
# Without a golden model of their own: held against tests/reference/encoders.py.
TWINS = {"jina-bert-v2", "nomic-bert-moe", "llama-embed"}
# Of models that generate: their vectors come out of slots.
DECODERS = ("qwen3-embedding",)


@dataclass(frozen=True, slots=True)
class GoldenTexts:
    """Texts of a golden folder, and their vectors from outside."""

    name: str
    path: Path
    texts: list[Text]
    hf: list[F32]
    lcpp: list[F32]
    entry: dict[str, Any]


def golden_texts(name: str) -> GoldenTexts:
    """A folder of tests/golden/texts."""
    entries = json.loads((GOLDEN / "manifest.json").read_text())
    with np.load(GOLDEN / name / "reference.npz") as file:
        texts = [Text(file[f"ids{i}"]) for i in range(3)]
        hf, lcpp = ([file[f"{key}{i}"] for i in range(3)] for key in ("hf", "lcpp"))
    entry = next(entry for entry in entries if entry["name"] == name)
    return GoldenTexts(name, GOLDEN / name / "model.gguf", texts, hf, lcpp, entry)


@contextmanager
def encoder(path: Path, kernel_cache: Path, n_threads: int = 2, **config: Any) -> Iterator[Encoder]:
    """A loaded encoder with room for 512 tokens a step; its working memory is full of NaN."""
    if path.parent.name.endswith("-rank"):  # what their converter leaves to whoever serves them
        config = {"pooling": int(Pooling.RANK)} | config
    resolved = ModelConfig(
        n_threads=n_threads, kernel_cache=kernel_cache, **({"n_ubatch": 512} | config)
    )
    loaded = load_encoder(path, resolved)
    try:
        loaded.poison()
        yield loaded
    finally:
        loaded.close()


def crowd(texts: list[Text], seed: int = 0) -> list[Text]:
    """The texts themselves, and pieces of the longest, of all lengths."""
    rng = np.random.default_rng(seed)
    longest = max(texts, key=lambda text: len(text.tokens)).tokens
    more = []
    for n in (1, 2, 8, 16, 17, 33, 64, 127, 128, 129):
        begin = int(rng.integers(0, max(1, len(longest) - n)))
        more.append(Text(longest[begin : begin + n][::-1].copy()))
    return [*texts, *more]
