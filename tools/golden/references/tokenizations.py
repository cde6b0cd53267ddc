"""How llama.cpp, and where it has the vocabulary transformers, split awkward strings."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from tools.golden.references.llama_cpp import Library, LlamaModel
from tools.golden.references.strings import STRINGS


def of_string(model: LlamaModel, text: str) -> dict[str, object]:
    entry: dict[str, object] = {"text": text}
    for add, parse in product((True, False), repeat=2):
        key = f"add_special={add:d},parse_special={parse:d}"
        entry[key] = model.tokenize(text, add_special=add, parse_special=parse)
    plain = model.tokenize(text, add_special=False, parse_special=True)
    return {**entry, "pieces_hex": [model.piece(token).hex() for token in plain]}


def write(library: Library, path: Path, checkpoint: Path | None, out: Path) -> None:
    """Write tokenizer.json of a golden folder; ``checkpoint``: of a BPE vocabulary."""
    with LlamaModel(library, path) as model:
        strings = [of_string(model, text) for text in STRINGS]
        n_vocab = model.n_vocab
    if checkpoint is not None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        for entry in strings:
            entry["transformers"] = tokenizer.encode(entry["text"], add_special_tokens=False)
    table = {"n_vocab": n_vocab, "strings": strings}
    out.write_text(json.dumps(table, ensure_ascii=True, indent=0))
