"""Markdown in pieces: what is cut off as complete never changes, and nothing is lost."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from slotmux.server.terminal.markdown_blocks import last_lines, whole_blocks
from slotmux.server.terminal.shown import MarkdownView, visible
from slotmux.server.terminal.words import ago, columns, size, sparkline

TEXT = """# Title

A paragraph
of two lines.

1. one

   more of one

2. two

```python
def f():

    return 1
```

- a
- b

~~~
```

~~~

The end."""
BLOCKS = [
    "# Title",
    "A paragraph\nof two lines.",
    "1. one\n\n   more of one\n\n2. two",
    "```python\ndef f():\n\n    return 1\n```",
    "- a\n- b",
    "~~~\n```\n\n~~~",
]


def test_blocks_of_a_whole_text() -> None:
    assert whole_blocks(TEXT + "\n") == (BLOCKS, "The end.\n")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
def test_blocks_are_the_same_however_the_text_comes(n: int) -> None:
    blocks, tail = [], ""
    for begin in range(0, len(TEXT), n):
        new, tail = whole_blocks(tail + TEXT[begin : begin + n])
        blocks += new
    new, tail = whole_blocks(tail + "\n")
    assert (blocks + new, tail) == (BLOCKS, "The end.\n")


def test_an_open_fence_is_no_block() -> None:
    assert whole_blocks("```\na\n\nb\n\n")[0] == []
    assert whole_blocks("````\n```\n\nb\n\nc\n")[0] == []


def test_the_last_lines_keep_the_fence_that_they_are_in() -> None:
    assert last_lines("a\nb\nc", 3) == "a\nb\nc"
    assert last_lines("a\nb\nc", 2) == "b\nc"
    assert last_lines("x\n```py\na\nb\nc", 2) == "```py\nb\nc"
    assert last_lines("```py\na\n```\nb\nc", 2) == "b\nc"
    assert last_lines("```py\na\n~~~\nb\nc", 2) == "```py\nb\nc"


def _shown(*pieces: tuple[str, str], thoughts: str = "folded", height: int = 20) -> str:
    out = io.StringIO()
    console = Console(file=out, width=60, height=height, force_terminal=False)
    view = MarkdownView(console, thoughts)  # type: ignore[arg-type]
    for kind, text in pieces:
        (view.thought if kind == "thought" else view.text)(text)
    view.end()
    return out.getvalue()


def test_every_block_is_shown_once() -> None:
    text = _shown(*(("text", c) for c in TEXT))
    for words in ("Title", "of two lines.", "more of one", "return 1", "The end."):
        assert text.count(words) == 1, text


def test_an_answer_that_is_longer_than_the_terminal_is_whole() -> None:
    lines = "".join(f"    line {i}\n" for i in range(60))
    text = _shown(("text", lines), ("text", "end"), height=10)
    assert [f"line {i}" in text for i in range(60)] == [True] * 60


def test_thoughts_folded_full_and_off() -> None:
    pieces = (("thought", "Hm, "), ("thought", "five."), ("text", "Hi."))
    folded = _shown(*pieces)
    assert "five" not in folded
    assert "2 words]" in folded
    full = _shown(*pieces, thoughts="full")
    assert "Hm, five." in full
    off = _shown(*pieces, thoughts="off")
    assert off.strip() == "Hi."


def test_control_characters_are_not_shown() -> None:
    assert visible("a\x1b[2J\x07\x9b1m\r\nb\tc\u200d") == "a[2J1m\nb\tc\u200d"


def test_words() -> None:
    assert [size(n) for n in (5, 98_362_432, 4_683_073_952, 1_500)] == [
        "5 B", "98 MB", "4.7 GB", "1.5 KB"
    ]  # fmt: skip
    assert [ago(s) for s in (3, 61, 7_300, 90_000, 86_400 * 400)] == [
        "just now", "1 minute ago", "2 hours ago", "1 day ago", "1 year ago"
    ]  # fmt: skip
    assert sparkline([0, 1, 2, 4], 3) == "▃▅█"
    assert sparkline([0, 0], 4) == "  ▁▁"
    assert columns(("A", "B"), [("long name", "1"), ("x\x1b", "22")]).splitlines() == [
        "A           B", "long name   1", "x?          22"
    ]  # fmt: skip
