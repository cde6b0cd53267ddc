"""Tokens equal those that llama.cpp's own vocabularies come with (`models/ggml-vocab-*.gguf`,
`.inp` and `.out` in its sources): `make test-vocabularies VOCABULARIES=that folder`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer import Tokenizer

FOLDER = os.environ.get("SLOTMUX_TEST_VOCABULARIES", "")
HERE = Path(__file__).parents[2] / "golden" / "tokenizers"
SEPARATOR = "\n__ggml_vocab_test__\n"
# Those that come without tokens: of llama.cpp's library, for the texts of gpt-2.
OURS = {"aquila", "baichuan", "gpt-neox", "nomic-bert-moe"}
NAMES = {
    *OURS,
    *("bert-bge", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2"),
    *("llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"),
}

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", sorted(NAMES))
def test_all_of_them(name: str) -> None:
    if not FOLDER:
        pytest.skip("SLOTMUX_TEST_VOCABULARIES names no folder")
    folder = Path(FOLDER)
    texts = folder / f"ggml-vocab-{'gpt-2' if name in OURS else name}.gguf.inp"
    tokens = (HERE if name in OURS else folder) / f"ggml-vocab-{name}.gguf.out"
    tokenizer = Tokenizer.from_metadata(open_gguf(folder / f"ggml-vocab-{name}.gguf").metadata)
    inputs = texts.read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
    outputs = tokens.read_text("utf-8").splitlines()
    assert len(inputs) == len(outputs) > 40
    for text, ids in zip(inputs, outputs, strict=True):
        got = tokenizer.encode(text, add_special=False)
        assert got == [int(token) for token in ids.split()], text
