"""Vocabularies cut by the sum of scores: the library's way equals the definition, and a file's
map of characters is applied as llama.cpp applies it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.gguf import Metadata, open_gguf
from slotmux.runtime.tokenizer import Tokenizer, chunks
from slotmux.runtime.tokenizer.unigram import PlamoEncoder, UnigramEncoder
from slotmux.runtime.tokenizer.unigram.charsmap import CharsMap, CharsMapError
from slotmux.runtime.tokenizer.vocab import read_vocab
from tests.runtime.tokenizer.test_references import FOLDER
from tests.runtime.tokenizer.vocabularies import (
    NORMAL,
    UNUSED,
    USER_DEFINED,
    plamo2,
    unigram,
)
from tests.timing import judge
from tools.golden.tokenizers.vocabularies import RULES

MAP = open_gguf(FOLDER / "unigram.gguf").metadata.get_array("tokenizer.ggml.precompiled_charsmap")
LETTERS = "ab▁é\U0001f600"
PIECES = st.dictionaries(
    st.text(alphabet=LETTERS, min_size=1, max_size=4),
    st.tuples(st.integers(-9, 0), st.sampled_from([NORMAL, NORMAL, NORMAL, USER_DEFINED, UNUSED])),
    min_size=1,
    max_size=9,
)


def encoder(metadata: Metadata) -> UnigramEncoder:
    return UnigramEncoder(metadata, read_vocab(metadata, {}))


def naive(text: str, rules: dict[str, str], kept: tuple[str, ...] = ()) -> str:
    """The longest at each place; what begins like a kept text stays."""
    out, at = "", 0
    while at < len(text):
        sizes = range(1, max(map(len, (*rules, *kept, "x"))) + 1)
        stays = [n for n in sizes if any(k[:n] == text[at : at + n] and len(k) >= n for k in kept)]
        found = [n for n in sizes if text[at : at + n] in rules and at + n <= len(text)]
        if stays:
            out, at = out + text[at : at + max(stays)], at + max(stays)
        elif found:
            out, at = out + rules[text[at : at + max(found)]], at + max(found)
        else:
            out, at = out + text[at], at + 1
    return out


MAPPED = st.text(alphabet="".join(RULES) + "aAeEqx<ud>\u0301\u030a\u1161\u11a8\0 ", max_size=30)


@settings(max_examples=500, deadline=None)
@given(MAPPED)
def test_the_map_replaces_the_longest_from_the_left(text: str) -> None:
    assert CharsMap(MAP.tobytes()).apply(text) == naive(text, RULES)


@settings(max_examples=300, deadline=None)
@given(MAPPED)
def test_what_begins_like_a_kept_text_stays(text: str) -> None:
    kept = ("<ud>", "E\u0301x", "Ａ", "\u11a8")
    assert CharsMap(MAP.tobytes(), kept).apply(text) == naive(text, RULES, kept)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (bytes(8), "8 bytes"),
        (MAP.tobytes()[:-1], "no end"),
        (bytes([1, 0, 0, 0]) + MAP.tobytes()[4:], "trie has 1 "),
        (b"\xfc\xff\xff\xff" + MAP.tobytes()[4:], "trie has"),
        (b"\x04\0\0\0" + bytes(4) + b"\xff\0", "not UTF-8"),
        (MAP.tobytes() + b"\xff\0", "not UTF-8"),
        (MAP.tobytes()[: 4 + int.from_bytes(MAP.tobytes()[:4], "little")] + b"\0\0", "outside"),
        (bytes((1 << 24) + 1), "bytes"),
    ],
)
def test_a_map_that_cannot_be_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(CharsMapError, match=words):
        CharsMap(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_maps_are_refused_or_replace_something(data: st.DataObject) -> None:
    damaged = bytearray(MAP.tobytes())
    for _ in range(data.draw(st.integers(1, 40))):
        damaged[data.draw(st.integers(4, len(damaged) - 2))] = data.draw(st.integers(0, 255))
    text = "".join(RULES) * 3
    try:
        found = CharsMap(bytes(damaged))
    except CharsMapError:
        return
    assert isinstance(found.apply(text), str)


@settings(max_examples=500, deadline=None)
@given(PIECES, st.text(alphabet=LETTERS.replace("▁", " ") + "漢", max_size=20))
def test_the_library_equals_the_definition(pieces: dict[str, Any], text: str) -> None:
    pieces["z"] = (-9, NORMAL)
    found = encoder(unigram(pieces))
    assert [i for ids in found.encode(text) for i in ids] == found.cut(found.normalize(text))


@pytest.mark.parametrize(
    ("pieces", "by_definition"),
    [
        ({"a": (-1.0, NORMAL), "[PAD]": (-1e4, UNUSED)}, False),
        ({"a": (-1.0, NORMAL), "b": (-1e4, UNUSED)}, True),
        ({"a": (-1.0, NORMAL), "ab": (-2.0, UNUSED)}, True),
        ({"a": (1.0, NORMAL)}, True),
    ],
)
def test_odd_vocabularies_are_cut_by_the_definition(
    pieces: dict[str, Any], by_definition: bool
) -> None:
    found = encoder(unigram(pieces))
    assert (found._cutter().backend is None) == by_definition
    tokens = ["<unk>", "<s>", "</s>", *pieces]
    ids = [i for part in found.encode("abaXb[PAD]") for i in part]
    assert "".join(tokens[i] for i in ids if i > 0).count("a") == 2
    assert ids == found.cut("abaXb[PAD]")


def test_unknown_characters_side_by_side_are_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Tokenizer.from_metadata(unigram({"a": (-1.0, NORMAL)}))
    assert found.encode("a漢字a字", add_special=False) == [3, 0, 3, 0]
    plain = chunks.chunks
    monkeypatch.setattr(chunks, "chunks", lambda text, breaks: plain(text, breaks, 2))
    assert found.encode("a漢字字字字a字", add_special=False) == [3, 0, 3, 0]


def test_spaces_go_first_and_merge_where_the_file_says_so() -> None:
    pieces = {"▁": (-2.0, NORMAL), "a": (-2.0, NORMAL)}
    for adds, merges, expected in [
        (False, False, "▁▁a▁▁a▁"),
        (True, False, "▁▁▁a▁▁a▁"),
        (False, True, "▁a▁a"),
        (True, True, "▁a▁a"),
    ]:
        keys = {"add_space_prefix": adds, "remove_extra_whitespaces": merges}
        found = Tokenizer.from_metadata(unigram(pieces, **keys))
        ids = found.encode("  a  a ", add_special=False)
        assert "".join(map(found.token_text, ids)) == expected
        assert found.encode("", add_special=False) == []
    assert found.encode("   ") == [2]


def naive_plamo(metadata: Metadata, text: str) -> list[int]:
    """From the end: at each place the token, or the character's bytes, after which the sum is
    highest; of equals the longest."""
    vocab = read_vocab(metadata, {})
    scores = metadata.get_array("tokenizer.ggml.scores")
    best: list[tuple[float, list[int]]] = [(0.0, [])] * (len(text) + 1)
    for at in range(len(text) - 1, -1, -1):
        spelled = [vocab.ids[f"<0x{byte:02X}>"] for byte in text[at].encode()]
        choices = [(-1e7 + best[at + 1][0], 0, spelled + best[at + 1][1])]
        for end in range(at + 1, len(text) + 1):
            token_id = vocab.ids.get(text[at:end])
            if token_id is not None and vocab.attrs[token_id] & 1:
                score = round(float(scores[token_id]) * 1e4)
                choices.append((score + best[end][0], end, [token_id, *best[end][1]]))
        total, _, ids = max(choices, key=lambda choice: choice[:2])
        best[at] = total, ids
    return best[0][1]


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.text(alphabet="ab é\n", min_size=1, max_size=4), st.integers(-9, 3), max_size=9
    ),
    st.text(alphabet="ab é\n漢\U0001f600", max_size=20),
)
def test_plamo_equals_its_definition(pieces: dict[str, float], text: str) -> None:
    metadata = plamo2(pieces)
    found = PlamoEncoder(metadata, read_vocab(metadata, {}))
    assert [i for ids in found.encode(text) for i in ids] == naive_plamo(metadata, text)


def test_plamo_drops_one_byte_order_mark_before_a_text() -> None:
    found = Tokenizer.from_metadata(plamo2({"a": -1.0}))
    assert found.encode("\ufeff") == []
    assert found.decode(found.encode("\ufeff\ufeffa\ufeff")) == "\ufeffa\ufeff"


def test_plamo_never_makes_what_fills_up_a_vocabulary() -> None:
    found = Tokenizer.from_metadata(plamo2({"[PAD1]": -1000.0, "a": -1.0}))
    ids = found.encode("a[PAD1]a")
    assert found.decode(ids) == "a[PAD1]a"
    assert len(ids) == 8


FLOODS = {
    "letters": "a",
    "spaces": " ",
    "a letter and spaces": "a    ",
    "marks": "e\u0301\u0302",
    "replaced": "Ａ",
    "syllables": "\u1100\u1161\u11a8",
    "unknown": "\U0001f600",
    "lines": "\n",
    "begun": "<u",
    "text": "The quick brown fox, 123 times. ",
}


@pytest.mark.timed
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
@pytest.mark.parametrize("file", ["unigram", "plamo2"])
def test_time_grows_with_the_text_only(file: str, flood: str) -> None:
    tokenizer = Tokenizer.from_metadata(open_gguf(FOLDER / f"{file}.gguf").metadata)
    seconds, counts = [], []
    for size in (1 << 16, 1 << 18):
        text = flood * (size // len(flood))
        start = time.process_time()
        counts.append(len(tokenizer.encode(text, add_special=False)))
        seconds.append(time.process_time() - start)
    judge(seconds[1] < 4 * 2 * max(seconds[0], 0.05))
    assert counts[1] <= 4 * counts[0] + 40
