"""Tokenizations equal llama.cpp's on awkward strings, for every kind of vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import Detokenizer, Tokenizer

TINY = ["llama", "qwen35", "mamba", "gemma3", "jamba", "phi3", "rwkv6"]
FLAGS = [(True, True), (True, False), (False, True), (False, False)]


def check(tokenizer: Tokenizer, reference: dict[str, Any]) -> None:
    """All strings under all flags, the bytes of the pieces, and the way back."""
    strings = reference["strings"]
    assert len(strings) == 94
    for string in strings:
        text = string["text"]
        for add, parse in FLAGS:
            expected = string[f"add_special={int(add)},parse_special={int(parse)}"]
            got = tokenizer.encode(text, add_special=add, parse_special=parse)
            assert got == expected, (text, add, parse)
        ids = string["add_special=0,parse_special=1"]
        assert [tokenizer.token_bytes(i).hex() for i in ids] == string["pieces_hex"], text
        detokenizer = Detokenizer(tokenizer, skip_special=False)
        streamed = "".join([detokenizer.push(i) for i in ids]) + detokenizer.flush()
        assert streamed == tokenizer.decode(ids, skip_special=False)


def reference(golden_dir: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden_dir / name / "tokenizer.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_tokenize_as_the_reference(golden_dir: Path, name: str) -> None:
    tokenizer = Tokenizer.from_metadata(open_gguf(golden_dir / name / "model.gguf").metadata)
    expected = reference(golden_dir, name)
    assert tokenizer.n_vocab == expected["n_vocab"]
    check(tokenizer, expected)


@pytest.mark.real
def test_smollm2_tokenizes_as_the_reference(golden_dir: Path, smollm2_path: Path) -> None:
    tokenizer = Tokenizer.from_metadata(open_gguf(smollm2_path).metadata)
    check(tokenizer, reference(golden_dir, "smollm2-135m"))
    assert [tokenizer.token_text(i) for i in sorted(tokenizer.eog_ids)] == [
        "<|endoftext|>",
        "<|im_end|>",
        "<reponame>",
    ]


@pytest.mark.real
def test_gemma3_tokenizes_as_the_reference(golden_dir: Path, gemma3_path: Path) -> None:
    tokenizer = Tokenizer.from_metadata(open_gguf(gemma3_path).metadata)
    check(tokenizer, reference(golden_dir, "gemma3-270m"))
