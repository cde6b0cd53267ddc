"""Special tokens are found as llama.cpp finds them: compared with its loop, written naively."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotmux.runtime.tokenizer.partition import Fragment, SpecialMatcher

SPACES = " \t\n\v\f\r"
LETTERS = st.text(alphabet="<>|abé", max_size=40)
TEXTS = st.lists(st.text(alphabet="<>|abé", min_size=1, max_size=5), max_size=8, unique=True)


def naive(
    texts: dict[str, int],
    rstrip: frozenset[int],
    text: str,
    lstrip: frozenset[int] = frozenset(),
) -> list[Fragment]:
    """llama.cpp's tokenizer_st_partition: each token, the longest in bytes first, takes all its
    occurrences in what is still text."""
    fragments: list[Fragment] = [text] if text else []
    for special in sorted(texts, key=lambda t: (-len(t.encode()), texts[t])):
        cut: list[Fragment] = []
        for fragment in fragments:
            rest = fragment
            while isinstance(rest, str) and special in rest:
                at = rest.index(special)
                head = rest[:at].rstrip(SPACES) if texts[special] in lstrip else rest[:at]
                if head:
                    cut.append(head)
                cut.append(texts[special])
                rest = rest[at + len(special) :]
                if texts[special] in rstrip:
                    rest = rest.lstrip(SPACES)
            if rest != "":
                cut.append(rest)
        fragments = cut
    return fragments


@settings(max_examples=500, deadline=None)
@given(TEXTS, LETTERS)
def test_it_equals_the_loop(specials: list[str], text: str) -> None:
    texts = {special: i for i, special in enumerate(specials)}
    assert SpecialMatcher(texts).split(text) == naive(texts, frozenset(), text)


@settings(max_examples=200, deadline=None)
@given(
    TEXTS,
    st.text(alphabet="<>|ab \n", max_size=40),
    st.sets(st.integers(0, 7)),
    st.sets(st.integers(0, 7)),
)
def test_it_equals_the_loop_where_tokens_eat_spaces(
    specials: list[str], text: str, right: set[int], left: set[int]
) -> None:
    texts = {special: i for i, special in enumerate(specials)}
    rstrip = frozenset(right & set(texts.values()))
    lstrip = frozenset(left & set(texts.values()))
    expected = naive(texts, rstrip, text, lstrip)
    assert SpecialMatcher(texts, rstrip, lstrip).split(text) == expected


def test_runs_are_taken_by_the_longest_first() -> None:
    matcher = SpecialMatcher({"\n" * n: n for n in range(1, 32)})
    assert matcher.split("\n" * 70) == [31, 31, 8]
    assert matcher.split("a" + "\n" * 33 + "b") == ["a", 31, 2, "b"]


@pytest.mark.timing
def test_a_flood_of_special_tokens_takes_linear_time() -> None:
    texts = {f"<unused{i}>": i for i in range(6000)} | {"\n" * n: 6000 + n for n in range(1, 32)}
    matcher = SpecialMatcher(texts)
    for flood in ("<unused77>", "\n" * 40 + "x", "<unused", "<"):
        seconds = []
        for size in (1 << 17, 1 << 19):
            text = flood * (size // len(flood))
            start = time.thread_time()
            matcher.split(text)
            seconds.append(time.thread_time() - start)
        assert seconds[1] < 4 * 3 * max(seconds[0], 0.01), flood
