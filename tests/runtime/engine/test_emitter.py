"""Text for the client: whatever the token borders, the same text and the same stop."""

import hypothesis.strategies as st
from hypothesis import given

from slotmux.runtime.engine.emitter import Emitter


class Pieces:
    """A detokenizer whose token ids index given pieces; the last characters stay until flush."""

    def __init__(self, pieces, rest=""):
        self.pieces = pieces
        self.rest = rest

    def push(self, token_id):
        return self.pieces[token_id]

    def flush(self):
        rest, self.rest = self.rest, ""
        return rest


def emit(pieces, stops, include=False, rest=""):
    emitter = Emitter(Pieces(pieces, rest), tuple(stops), include_stop=include)
    text = ""
    for i in range(len(pieces)):
        more, stop = emitter.push(i, may_stop=True)
        text += more
        if stop is not None:
            return text, stop
    return text + emitter.flush(), None


def first_stop(text, stops):
    """Reading one character at a time: what ends first, and of those the longest."""
    for end in range(1, len(text) + 1):
        found = [s for s in stops if text[:end].endswith(s)]
        if found:
            return max(found, key=len), end
    return None, len(text)


@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    include=st.booleans(),
)
def test_token_borders_do_not_matter(pieces, stops, include):
    text = "".join(pieces)
    stop, end = first_stop(text, stops)
    expected = text[: end if include or stop is None else end - len(stop)]
    assert emit(pieces, stops, include) == (expected, stop)


@given(
    pieces=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=12),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_nothing_is_sent_that_must_be_taken_back(pieces, stops):
    emitter = Emitter(Pieces(pieces), tuple(stops), include_stop=False)
    full, sent = "".join(pieces), ""
    stop, end = first_stop(full, stops)
    final = full[: end - len(stop)] if stop else full
    for i in range(len(pieces)):
        text, found = emitter.push(i, may_stop=True)
        sent += text
        assert final.startswith(sent)
        if found is not None:
            break
        held = "".join(pieces[: i + 1])[len(sent) :]
        assert not held or any(s.startswith(held) for s in stops), "held back for nothing"


def test_flush_gives_held_text_and_the_unfinished_character():
    assert emit(["ab", "c"], ["cd"], rest="\ufffd") == ("abc\ufffd", None)


def test_below_min_tokens_stop_strings_pass():
    emitter = Emitter(Pieces(["xSTOP", "y", "STOP"]), ("STOP",), include_stop=False)
    assert emitter.push(0, may_stop=False) == ("xSTOP", None)
    assert emitter.push(1, may_stop=True) == ("y", None)
    assert emitter.push(2, may_stop=True) == ("", "STOP")
