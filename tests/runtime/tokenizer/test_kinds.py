"""Flags, special ids and pre-tokenizers that follow from a file's keys."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from slotmux.runtime.tokenizer import Tokenizer
from slotmux.runtime.tokenizer.pretokenize import GEMMA4, pre_tokenizer
from slotmux.runtime.tokenizer.rwkv import unescape
from tests.runtime.tokenizer.vocabularies import (
    CONTROL,
    NORMAL,
    USER_DEFINED,
    byte_level,
    metadata,
    plamo2,
    unigram,
)

# All of llama.cpp b11434.
ALL_NAMES = """
    a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe
    command-r dbrx deepseek-coder deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone
    exaone-moe exaone4 f2llmv2 falcon falcon-h1 falcon3 gemma4 gigachat glm4 glm5 gpt-2 gpt-4o
    gpt3-finnish granite-docling granite-embed-multi-311m granite-embed-multi-97m grok-2 hunyuan
    hunyuan-dense hy_v4 jais jais-2 jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es
    jina-v5-nano joyai-llm kanana2 kimi-k2 kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3
    llama4 megrez mellum mellum2 midm-2.0 minerva-7b minicpm5 minimax-m2 mmbert modern-bert mpt
    olmo phi-2 pixtral poro-chat qwen2 qwen35 refact roberta-bpe sarvam-moe seed-coder smaug-bpe
    smollm solar-open spark2_5 stablelm2 starcoder superbpe talkie tekken tiny_aya trillion
    ufakzeka viking whitespace youtu
"""
# These part nothing else than lines, words that are marked, or numbers.
COARSE = {"gemma4", "granite-embed-multi-311m", "mmbert", "sarvam-moe", "superbpe", "whitespace"}


def words(name: str, text: str) -> list[str]:
    found = pre_tokenizer(name)
    assert found is not None
    splits = Sequence([Split(Regex(pattern), "isolated") for pattern in found.patterns])
    return [word for word, _ in splits.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", sorted(set(ALL_NAMES.split()) - COARSE))
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
        ("afmoe", "a  1 12345", ["a", " ", " ", "1", " ", "12", "345"]),
        ("tiny_aya", "aB's 12345", ["aB's", " ", "12", "345"]),
        ("superbpe", "a b 12345678 12 c", ["a b ", "12", "345", "678", " ", "12", " c"]),
        ("kimi-k2", "漢字ab's 1234", ["漢字", "ab's", " ", "123", "4"]),
        ("youtu", "，。a12", ["，。", "a", "1", "2"]),
        ("spark2_5", "a.b\n\n12", ["a", ".b", "\n", "\n", "1", "2"]),
        ("laguna", "a \n\n b", ["a", " ", "\n\n", " b"]),
        ("ufakzeka", "Ankara'da", ["Ankara", "'da"]),
        ("chameleon", "a    b\tIMGIMGABZ", ["a", "    ", "b", "\t", "IMGIMGABZ"]),
        ("granite-embed-multi-97m", "e\u0301aB1234", ["e\u0301a", "B", "123", "4"]),
    ],
)
def test_words(name: str, text: str, expected: list[str]) -> None:
    assert words(name, text) == expected


def test_no_name_is_the_default() -> None:
    assert Tokenizer.from_metadata(byte_level(pre=None)).encode("a") == [97]
    assert pre_tokenizer("no-such") is None
    assert pre_tokenizer("gemma4") is GEMMA4


def test_all_names_of_llama_cpp_are_known() -> None:
    for name in ALL_NAMES.split():
        assert pre_tokenizer(name) is not None, name


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


def test_bos_eos_and_sep_by_the_kind_of_vocabulary() -> None:
    t5 = Tokenizer.from_metadata(unigram({"a": (-1.0, NORMAL)}))
    assert (t5.add_bos, t5.add_eos, t5.add_sep) == (False, True, False)
    assert t5.encode("a") == [3, 2]
    plamo = Tokenizer.from_metadata(plamo2({"a": -1.0}))
    assert (plamo.add_bos, plamo.add_eos, plamo.bos_id, plamo.eos_id) == (False, False, 1, 2)
    specials = {"<s>": CONTROL, "</s>": CONTROL}
    ids = {"bos_token_id": 256, "seperator_token_id": 257}
    roberta = Tokenizer.from_metadata(byte_level(specials, pre="roberta-bpe", **ids))
    assert (roberta.add_bos, roberta.add_sep, roberta.sep_id) == (False, True, 257)
    forced = byte_level(specials, pre="granite-embed-multi-311m", add_bos_token=False, **ids)
    assert Tokenizer.from_metadata(forced).add_bos


@pytest.mark.parametrize(
    ("mask", "keys"),
    [
        ("<mask>", {"pre": "jina-v2-code"}),
        ("<mask>", {"general_architecture": "jina-bert-v3"}),
        ("[MASK]", {"general_name": "Modern-BERT base"}),
    ],
)
def test_masks_eat_the_space_before_them(mask: str, keys: dict[str, str]) -> None:
    made = Tokenizer.from_metadata(byte_level({mask: CONTROL}, **keys))
    text = f"a \n{mask} b"
    assert made.decode(made.encode(text, parse_special=True), skip_special=False) == f"a{mask} b"
    assert made.decode(made.encode(text)) == text
    plain = Tokenizer.from_metadata(byte_level({mask: CONTROL}))
    assert plain.decode(plain.encode(text, parse_special=True), skip_special=False) == text


def test_bases_between_tags_are_six_a_token() -> None:
    kmers = ["ACGTAC\ue000", "ACGAAA\ue000"]
    more = dict.fromkeys(["<dna>", "</dna>", "<oov>", *kmers], NORMAL)
    made = Tokenizer.from_metadata(byte_level(more, model="hybriddna"))
    assert made.encode("x<dna>acgtacNNNNNNACG</dna>y") == [120, 256, 259, 258, 260, 257, 121]
    assert made.encode("<dna>ACGTACé") == [256, 259, 258]
    assert made.encode("<dna></dna></dna>")[:2] == [256, 257]
    assert made.decode([256, 259, 260]) == "<dna>ACGTACACGAAA"
    plain = Tokenizer.from_metadata(byte_level(model="hybriddna"))
    assert plain.decode(plain.encode("<dna>ACG")) == "<dna>ACG"


def test_runs_of_line_ends_that_are_tokens_stay_whole() -> None:
    tokens = ["\n", "\n\n\n", "a", "▁", "<s>"]
    types = np.array([NORMAL] * 4 + [CONTROL], np.int32)
    keys = {"tokens": tokens, "token_type": types, "merges": [], "bos_token_id": 4}
    gemma = Tokenizer.from_metadata(metadata(model="gemma4", **keys))
    assert gemma.encode("a\n\n\na\n\n a", add_special=False) == [2, 1, 2, 0, 0, 3, 2]
    sarvam = Tokenizer.from_metadata(metadata(model="gpt2", pre="sarvam-moe", **keys))
    assert sarvam.encode("a\n\n\na") == [2, 0, 0, 0, 2]


def test_what_is_no_token_stands_between_its_neighbours() -> None:
    tokens, merges = ["a", "b", "ab"], ["a b"]
    made = Tokenizer.from_metadata(metadata(model="whitespace", tokens=tokens, merges=merges))
    assert made.encode("ab a漢b a b") == [2, 0, 1, 0, 1]
    assert made.decode([2, 0]) == "aba"
