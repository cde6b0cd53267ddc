"""`python -m tools.golden.texts.minilm CHECKPOINT OUT`: what sentence-transformers makes of some
texts with all-MiniLM-L6-v2, for tests/runtime/encoders/test_minilm.py.

OUT gets texts.json, and reference.npz: ids0, ids1, ... (int64) and vectors (float32 [n, 384], of
length 1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = [
    "Hi!",
    "The quick brown fox jumps over the lazy dog.",
    "A man is eating food.",
    "Ein Mann isst etwas. Un homme mange quelque chose. 男の人が食べる。",
    "def mean(x):\n    return sum(x) / len(x)  # raises ZeroDivisionError",
    "Attention is a mechanism by which each token of a text looks at others. " * 8,
    "What is the capital of France? Paris is the capital and largest city of France. " * 24,
    "emoji \N{GRINNING FACE} caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{EM DASH} 3.14159 $20 x_y",
]


def main(checkpoint: Path, out: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device="cpu")
    model.max_seq_length = 512  # as long as the model has positions
    vectors = model.encode(TEXTS, normalize_embeddings=True, batch_size=1)
    arrays: dict[str, Any] = {
        f"ids{i}": np.array(model.tokenizer(text)["input_ids"]) for i, text in enumerate(TEXTS)
    }
    arrays["vectors"] = vectors.astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    (out / "texts.json").write_text(json.dumps(TEXTS, indent=1, ensure_ascii=False) + "\n")
    np.savez_compressed(out / "reference.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
