"""Typed getters: right values come out, wrong ones raise with the key's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType

from slotmux.runtime.gguf import Metadata, ModelFileError
from slotmux.runtime.gguf.part import parse_part
from tests.runtime.gguf.writer import File, array, pair, small_file


def metadata(*pairs: bytes) -> Metadata:
    return parse_part(Path("m.gguf"), memoryview(File(pairs=list(pairs)).pack())).metadata


@pytest.fixture
def small() -> Metadata:
    return parse_part(Path("m.gguf"), memoryview(small_file().pack())).metadata


def test_right_types(small: Metadata) -> None:
    assert small.get_u32("a.u32") == 4_000_000_000
    assert small.get_u32("a.u8", high=200) == 200
    assert small.get_u32("a.i8", low=-5) == -5
    assert small.get_u32("a.u64", high=1 << 63) == 1 << 63
    assert small.get_f32("a.f32", low=0.5, high=0.5) == 0.5
    assert small.get_f32("a.f64") == 0.1
    assert small.get_str("a.text") == "grüß dich"
    assert small.get_bool("a.yes") is True
    assert small.get_bool("a.no") is False
    assert small.get_strings("tokenizer.ggml.tokens")[2] == "é"
    assert small.get_array("a.heads").tolist() == [4, 0, 4]
    assert small.get_array("a.empty").tolist() == []


def test_mapping(small: Metadata) -> None:
    assert len(small) == 21
    assert "a.u8" in small
    assert "a.u9" not in small
    assert small.get("a.u9") is None
    with pytest.raises(KeyError):
        small["a.u9"]


GETTERS: dict[str, Callable[..., Any]] = {
    "u32": Metadata.get_u32,
    "f32": Metadata.get_f32,
    "str": Metadata.get_str,
    "bool": Metadata.get_bool,
    "strings": Metadata.get_strings,
    "array": Metadata.get_array,
}
RIGHT = {
    "u32": {"a.u8", "a.u16", "a.u32", "general.alignment"},
    "f32": {"a.f32", "a.f64"},
    "str": {"a.text", "general.architecture"},
    "bool": {"a.yes", "a.no"},
    "strings": {"tokenizer.ggml.tokens"},
    "array": {"tokenizer.ggml.scores", "a.heads", "a.signed", "a.swa", "a.empty"},
}


@pytest.mark.parametrize("getter", GETTERS)
def test_every_getter_on_every_key(getter: str, small: Metadata) -> None:
    for key in small:
        if key in RIGHT[getter]:
            GETTERS[getter](small, key)
            continue
        with pytest.raises(ModelFileError) as caught:
            GETTERS[getter](small, key)
        assert caught.value.field == key
        assert caught.value.offset == small.offset(key)
        assert caught.value.path == Path("m.gguf")
        # A default stands in for a missing key, never for a wrong one.
        with pytest.raises(ModelFileError):
            GETTERS[getter](small, key, None)


@pytest.mark.parametrize("getter", GETTERS)
def test_missing_key(getter: str, small: Metadata) -> None:
    assert GETTERS[getter](small, "no.key", default=None) is None
    with pytest.raises(ModelFileError, match=r"no\.key: the key is missing") as caught:
        GETTERS[getter](small, "no.key")
    assert caught.value.offset is None


@pytest.mark.parametrize("value", [0, -1, 1 << 32])
def test_block_count_out_of_range(value: int) -> None:
    found = metadata(pair("llama.block_count", GGUFValueType.INT64, value))
    with pytest.raises(ModelFileError, match="is not between 1 and 1000"):
        found.get_u32("llama.block_count", low=1, high=1000)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e30])
def test_floats_are_finite_and_in_range(value: float) -> None:
    found = metadata(pair("k", GGUFValueType.FLOAT32, value))
    with pytest.raises(ModelFileError, match="not a finite number between"):
        found.get_f32("k", low=0.0, high=1e9)


def test_per_layer(small: Metadata) -> None:
    assert small.per_layer("a.heads", 3) == [4, 0, 4]
    assert small.per_layer("a.u8", 3) == [200] * 3
    assert small.per_layer("no.key", 2, default=7) == [7, 7]
    assert small.per_layer("a.signed", 3, low=-1) == [4, -1, 4]
    assert small.per_layer_bool("a.swa", 3) == [True, False, True]
    assert small.per_layer_bool("a.yes", 2) == [True, True]
    assert small.per_layer_bool("no.key", 2, default=False) == [False, False]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("no.key", "the key is missing"),
        ("a.signed", "layer 1: -1 is not between 0 and"),
        ("a.i8", "-5 is not between"),
        ("a.swa", "expected integers, found an array of bool"),
        ("tokenizer.ggml.scores", "expected integers, found an array of float32"),
        ("tokenizer.ggml.tokens", "expected an integer, found an array of strings"),
        ("a.empty", "expected integers"),
    ],
)
def test_per_layer_refuses(key: str, words: str, small: Metadata) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        small.per_layer(key, 3)
    assert caught.value.field == key


def test_per_layer_wants_one_value_a_layer(small: Metadata) -> None:
    for n_layers in (2, 4):
        with pytest.raises(ModelFileError, match=f"3 values for {n_layers} layers"):
            small.per_layer("a.heads", n_layers)
        with pytest.raises(ModelFileError, match=f"3 values for {n_layers} layers"):
            small.per_layer_bool("a.swa", n_layers)
    with pytest.raises(ModelFileError, match="expected bools"):
        small.per_layer_bool("a.heads", 3)


def test_empty_string_array() -> None:
    found = metadata(array("k", GGUFValueType.STRING, []))
    assert found.get_strings("k") == []
