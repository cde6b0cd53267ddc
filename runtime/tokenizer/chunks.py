"""Cutting a long text where no token can span the cut, so that memory stays bounded and an
overlong prompt is noticed before all of it is tokenized."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

CHUNK_CHARS = 1 << 17
_TAIL = 1 << 12

# Every pre-tokenizer ends a word between a letter and these.
WORD_BREAK = re.compile(r"(?<=[^\W\d_])(?=\n| [^\W\d_]|[，。、！？；：])")
LINE_BREAK = re.compile(r"(?<=[^\W\d_])(?=\n)")
NUMBER_BREAK = re.compile(r"(?<=[^\W\d_])(?=[0-9])")
# For vocabularies with "▁" at the beginning of words only.
SPACE_BREAK = re.compile(r"(?<=\S)(?= )")
NO_BREAK = re.compile("(?!)")
ESCAPED_SPACE_BREAK = re.compile("(?<=[^▁])(?=▁)")


def chunks(text: str, breaks: re.Pattern[str], size: int = CHUNK_CHARS) -> Iterator[str]:
    """``text`` in pieces of at most ``size`` characters, cut at ``breaks``.

    A stretch of ``size`` characters without a break is cut all the same: its tokens may
    differ there from those of the whole, which keeps memory and time in proportion.
    """
    start = 0
    while len(text) - start > size:
        cut = _last_break(text, breaks, start + 1, start + size)
        yield text[start:cut]
        start = cut
    if start < len(text) or not text:
        yield text[start:]


def whole_tokens_break(tokens: Iterable[str], breaks: re.Pattern[str]) -> re.Pattern[str]:
    """``breaks``, or if one would be inside a token a pattern that breaks nowhere: for tokenizers
    that know no words."""
    return NO_BREAK if breaks.search("\0".join(tokens)) else breaks


def _last_break(text: str, breaks: re.Pattern[str], start: int, end: int) -> int:
    """The last break in ``start``..``end``, or ``end``. Looks near the end first."""
    for begin in (max(start, end - _TAIL), start):
        # The patterns look two characters ahead.
        places = [found.start() for found in breaks.finditer(text, begin, end + 2)]
        fitting = bisect_right(places, end)
        if fitting:
            return places[fitting - 1]
    return end
