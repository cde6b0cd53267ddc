"""Score-driven merging: by the library where that is exact, by definition elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from slotmux.runtime.tokenizer import Tokenizer
from slotmux.runtime.tokenizer.merges import find_merges
from slotmux.runtime.tokenizer.spm import ScoreEncoder
from slotmux.runtime.tokenizer.vocab import read_vocab
from tests.runtime.tokenizer.vocabularies import score_driven

PIECES = st.lists(st.text(alphabet="ab▁é", min_size=1, max_size=5), min_size=3, unique=True)
LETTERS = ["a", "b", "▁"]


def slow_pairs(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    known = set(tokens)
    order = sorted(range(len(tokens)), key=lambda i: (-scores[i], i))
    return [
        (tokens[i][:cut], tokens[i][cut:])
        for i in order
        for cut in range(len(tokens[i]) - 1, 0, -1)
        if tokens[i][:cut] in known and tokens[i][cut:] in known
    ]


@settings(max_examples=300, deadline=None)
@given(PIECES, st.data())
def test_merges_are_all_pairs_in_order(pieces: list[str], data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.integers(-4, 0), min_size=len(pieces), max_size=len(pieces)))
    found = find_merges(pieces, np.array(scores, np.float64))
    assert found.pairs == slow_pairs(pieces, [float(score) for score in scores])
    joined = {left + right for left, right in found.pairs}
    counts = {text: scores[pieces.index(text)] for text in joined}
    assert found.tied == {t for t in joined if list(counts.values()).count(counts[t]) > 1}


def encoder(pieces: dict[str, float]) -> ScoreEncoder:
    metadata = score_driven(pieces)
    return ScoreEncoder(metadata, read_vocab(metadata, {}))


@settings(max_examples=200, deadline=None)
@given(PIECES, st.text(alphabet="ab \u00e9", max_size=30), st.booleans())
def test_the_fast_way_equals_the_definition(pieces: list[str], text: str, tied: bool) -> None:
    # Of a token that overlaps itself (aba in ababa) either may come first; no text has it.
    assume(not has_self_overlap(pieces))
    distinct = LETTERS + [piece for piece in pieces if piece not in LETTERS]
    scores = {piece: -1.0 - (i // 2 if tied else i) for i, piece in enumerate(distinct)}
    found = encoder(scores)
    got = [token_id for ids in found.encode(text) for token_id in ids]
    assert got == found.merge(text.replace(" ", "▁"))


def has_self_overlap(pieces: list[str]) -> bool:
    return any(p[:n] == p[-n:] for p in pieces for n in range(1, len(p)))


def test_runs_of_spaces_of_equal_score_merge_from_the_left() -> None:
    runs = {"▁" * n: -1e9 for n in range(2, 17)}
    metadata = score_driven({"▁": -1.0, "x": -2.0} | runs)
    tokenizer = Tokenizer.from_metadata(metadata)
    ids = tokenizer.encode(" " * 19 + "x", add_special=False)
    assert [tokenizer.token_text(i) for i in ids] == ["▁" * 16, "▁" * 4, "x"]


def test_what_is_no_token_becomes_bytes() -> None:
    tokenizer = Tokenizer.from_metadata(score_driven({"▁": -1.0, "a": -2.0}))
    ids = tokenizer.encode("aé", add_special=False)
    assert [tokenizer.token_text(i) for i in ids] == ["▁", "a", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(ids) == " aé"


def test_a_space_goes_before_a_text_that_begins_or_follows_a_special_token() -> None:
    tokenizer = Tokenizer.from_metadata(score_driven({"▁": -1.0, "a": -2.0, "▁a": -3.0}))
    ids = tokenizer.encode("a</s>a", parse_special=True)
    assert [tokenizer.token_text(i) for i in ids] == ["<s>", "▁a", "</s>", "▁a"]
    bare = Tokenizer.from_metadata(
        score_driven({"▁": -1.0, "a": -2.0}, add_space_prefix=False, add_bos_token=False)
    )
    assert [bare.token_text(i) for i in bare.encode("a a")] == ["a", "▁", "a"]
