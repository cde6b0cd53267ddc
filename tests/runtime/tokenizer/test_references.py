"""Tokens equal llama.cpp's for every kind of vocabulary and every pre-tokenizer that it tells
apart, on texts that tell those apart (`python -m tools.golden.tokenizers` makes them)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from slotmux.runtime.gguf import Metadata, open_gguf
from slotmux.runtime.tokenizer import Tokenizer
from tests.runtime.tokenizer.vocabularies import metadata
from tools.golden.tokenizers.variants import variants, with_keys

FOLDER = Path(__file__).parents[2] / "golden" / "tokenizers"
VARIANTS = {name: rest for name, *rest in variants()}
PREFIX = "tokenizer.ggml."


@cache
def keys(file: str) -> Metadata:
    return open_gguf(FOLDER / f"{file}.gguf").metadata


def tokenizer(name: str) -> Tokenizer:
    file, over, left_out = VARIANTS[name]
    stored = {key.removeprefix(PREFIX): value for key, value in keys(file).items()}
    stored = {key: value for key, value in stored.items() if not key.startswith("general.")}
    return Tokenizer.from_metadata(metadata(**with_keys(stored, over, left_out)))


@cache
def references() -> dict[str, list[list[int]]]:
    """Tokens of all texts without special ones, then of all texts with them, by variant."""
    with np.load(FOLDER / "ids.npz") as stored:
        ids = stored["ids"].tolist()
        ends = np.cumsum(stored["lengths"].reshape(-1), dtype=np.int64)
        n_each = stored["lengths"].shape[1]
        names = stored["names"].tolist()
    starts = [0, *ends.tolist()]
    lists = [ids[a:b] for a, b in itertools.pairwise(starts)]
    return {name: lists[i * n_each : (i + 1) * n_each] for i, name in enumerate(names)}


def texts() -> list[str]:
    found: list[str] = json.loads((FOLDER / "texts.json").read_text("utf-8"))
    return found


def cases(name: str) -> Iterator[tuple[str, bool, list[int]]]:
    """Texts, whether with special tokens, and their tokens."""
    every = texts()
    for i, ids in enumerate(references()[name]):
        yield every[i % len(every)], i >= len(every), ids


def test_there_are_references_for_all() -> None:
    assert sorted(references()) == sorted(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_tokens(name: str) -> None:
    made = tokenizer(name)
    n_tokens = 0
    for text, special, expected in cases(name):
        got = made.encode(text, add_special=special, parse_special=special)
        assert got == expected, (text, special)
        n_tokens += len(got)
    assert n_tokens > 800
    every = made.all_token_bytes()
    assert every == [made.token_bytes(token_id) for token_id in range(made.n_vocab)]
