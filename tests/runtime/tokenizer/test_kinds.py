"""Flags, special ids and pre-tokenizers that follow from a file's keys."""

from __future__ import annotations

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from slotmux.runtime.tokenizer import Tokenizer
from slotmux.runtime.tokenizer.pretokenize import GEMMA4, pre_tokenizer
from slotmux.runtime.tokenizer.rwkv import unescape
from tests.runtime.tokenizer.vocabularies import CONTROL, NORMAL, USER_DEFINED, byte_level, metadata

NAMES = """
    default gpt-2 smollm llama-bpe llama3 qwen2 qwen35 deepseek-llm deepseek-coder deepseek-v3
    falcon falcon-h1 starcoder refact command-r gpt-4o llama4 tekken lfm2 granite-docling phi-2
    olmo smaug-bpe stablelm2 dbrx mpt exaone exaone4 exaone-moe chatglm-bpe glm4 bloom viking
    jais jais-2 bailingmoe seed-coder minicpm5 hunyuan hunyuan-dense grok-2 minimax-m2
"""


def words(name: str, text: str) -> list[str]:
    found = pre_tokenizer(name)
    assert found is not None
    splits = Sequence([Split(Regex(pattern), "isolated") for pattern in found.patterns])
    return [word for word, _ in splits.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", NAMES.split())
def test_words_are_the_whole_text(name: str) -> None:
    text = "Ab'LL don't 1234567\n\n  x,y  漢字é\u0301 \u3000Z。\t "
    assert "".join(words(name, text)) == text
    assert len(words(name, text)) > 8


# Expected words are llama.cpp's for the same regular expressions.
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt-2", "don't 123  a", ["don", "'t", " 123", " ", " a"]),
        ("smollm", "v12", ["v", "1", "2"]),
        ("llama-bpe", "I'LL 12345\n\nok", ["I", "'LL", " ", "123", "45", "\n\n", "ok"]),
        ("qwen2", "e\u0301a 12", ["e", "\u0301a", " ", "1", "2"]),
        ("qwen35", "e\u0301a 12", ["e\u0301a", " ", "1", "2"]),
        ("falcon", "a12345$b", ["a", "123", "45", "$", "b"]),
        ("gpt-4o", "HTMLParser's a/b", ["HTMLParser's", " a", "/b"]),
        ("tekken", "helloWorld 12", ["hello", "World", " ", "1", "2"]),
        ("deepseek-llm", "a漢1", ["a", "漢", "1"]),
        ("deepseek-v3", "漢字ab1234", ["漢字", "ab", "123", "4"]),
        ("default", "a_b 1234", ["a", "_", "b", " ", "123", "4"]),
    ],
)
def test_words(name: str, text: str, expected: list[str]) -> None:
    assert words(name, text) == expected


def test_no_name_is_the_default() -> None:
    assert Tokenizer.from_metadata(byte_level(pre=None)).encode("a") == [97]
    assert pre_tokenizer("no-such") is None
    assert GEMMA4.patterns == (r"\n+",)


def test_bos_and_eos_follow_the_flags() -> None:
    specials = {"<s>": CONTROL, "</s>": CONTROL}
    ids = {"bos_token_id": 256, "eos_token_id": 257}
    both = Tokenizer.from_metadata(
        byte_level(specials, **ids, add_bos_token=True, add_eos_token=True)
    )
    assert both.encode("a") == [256, 97, 257]
    assert both.encode("a", add_special=False) == [97]
    assert Tokenizer.from_metadata(byte_level(specials, **ids)).encode("a") == [97]
    assert Tokenizer.from_metadata(byte_level(specials, pre="llama-bpe", **ids)).encode("a") == [
        256,
        97,
    ]


def test_special_tokens_by_their_type() -> None:
    tokenizer = Tokenizer.from_metadata(
        byte_level({"<c>": CONTROL, "<u>": USER_DEFINED, "<n>": NORMAL})
    )
    assert tokenizer.encode("<c><u><n>", parse_special=True)[:2] == [256, 257]
    literal = tokenizer.encode("<c><u><n>")
    assert 256 not in literal
    assert 257 in literal  # user-defined tokens always match
    assert 258 not in literal
    assert tokenizer.is_control(256)
    assert not tokenizer.is_control(257)


@pytest.mark.parametrize("text", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "[EOS]"])
def test_well_known_texts_end_a_generation_and_are_control_tokens(text: str) -> None:
    tokenizer = Tokenizer.from_metadata(byte_level({text: NORMAL}))
    assert tokenizer.eog_ids == {256}
    assert tokenizer.is_control(256)


def test_named_ids_end_a_generation() -> None:
    specials = {"<x>": CONTROL, "<y>": CONTROL, "<z>": CONTROL, "<w>": CONTROL}
    tokenizer = Tokenizer.from_metadata(
        byte_level(specials, eos_token_id=256, eot_token_id=257, eom_token_id=258)
    )
    assert tokenizer.eog_ids == {256, 257, 258}


def test_harmony_ends_a_message_but_not_the_turn() -> None:
    specials = dict.fromkeys(["<|end|>", "<|return|>", "<|call|>", "<|channel|>"], CONTROL)
    tokenizer = Tokenizer.from_metadata(byte_level(specials))
    assert tokenizer.eog_ids == {257, 258}
    assert not tokenizer.is_control(256)
    assert not tokenizer.is_control(259)


def test_special_tokens_of_phi3_eat_the_space_after_them() -> None:
    specials = dict.fromkeys(["<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>"], CONTROL)
    other = Tokenizer.from_metadata(byte_level(specials, general_name="Llama"))
    phi = Tokenizer.from_metadata(byte_level(specials, general_name="My Phi-3 mini"))
    for text, kept in [("<|user|>\n a", False), ("<s>\n a", True)]:
        assert len(other.encode(text, parse_special=True)) == 4
        assert len(phi.encode(text, parse_special=True)) == (4 if kept else 2)


def test_world_tokens_are_the_longest_that_match() -> None:
    tokens = ["<s>", "a", "ab", "abc", "\\n", "\\xc3", "\\\\"]
    tokenizer = Tokenizer.from_metadata(metadata(model="rwkv", tokens=tokens, eos_token_id=0))
    assert tokenizer.encode("ababcab\n\\", add_special=True) == [2, 3, 2, 4, 6]
    assert tokenizer.encode("éz") == [5]  # bytes that are no token, and no unknown token
    assert tokenizer.decode([3, 4, 6]) == "abc\n\\"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", b"a"),
        ("\\t\\n\\r", b"\t\n\r"),
        ("\\xff\\x0a", b"\xff\n"),
        ("\\\\x41", b"\\x41"),
        ("\\'é", "'é".encode()),
        ("\\\\\\\\", b"\\\\"),
        ("a\\\\\\n", b"a\\\n"),
    ],
)
def test_unescape(text: str, expected: bytes) -> None:
    assert unescape(text) == expected
