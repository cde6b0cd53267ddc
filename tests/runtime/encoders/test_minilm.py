"""A real encoder against sentence-transformers: all-MiniLM-L6-v2, from text to vector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slotmux.runtime.encoder import Text
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import Tokenizer
from tests.encoders import encoder
from tests.runtime.encoders.minilm import write

REFERENCE = "minilm-l6-v2"  # of tests/golden: tools/golden/texts/minilm.py makes it


@pytest.mark.real
@pytest.mark.parametrize(("is_q8", "cosine"), [(False, 0.999999), (True, 0.999)])
def test_vectors_are_those_of_sentence_transformers(
    is_q8: bool, cosine: float, minilm_path: Path, golden_dir: Path, tmp_path: Path,
    kernel_cache_dir: Path,
) -> None:  # fmt: skip
    texts = json.loads((golden_dir / REFERENCE / "texts.json").read_text())
    with np.load(golden_dir / REFERENCE / "reference.npz") as file:
        vectors, ids = file["vectors"], [file[f"ids{i}"].tolist() for i in range(len(texts))]
    path = tmp_path / "model.gguf"
    write(minilm_path, path, is_q8=is_q8)
    tokenizer = Tokenizer.from_metadata(open_gguf(path).metadata)
    tokens = [tokenizer.encode(text) for text in texts]
    assert tokens == ids
    with encoder(path, kernel_cache_dir, n_ubatch=1024) as model:
        found = model.encode([Text(np.array(text, np.int32)) for text in tokens])
    for vector, want in zip(found, vectors, strict=True):
        assert vector @ want / np.linalg.norm(vector) >= cosine
