"""What a model may be brought to say, a mebibyte of it: read in linear time, given back as text."""

from __future__ import annotations

import time

import pytest

from slotmux.server.tools.detect import BY_NAME
from slotmux.server.tools.reader import Plan
from tests.server.tools.examples import EXAMPLES, SCHEMAS
from tests.server.tools.test_formats import meaning, read
from tests.timing import judge

SIZE = 1 << 20
PIECE = 4096
# What follows the beginning of a call, and goes on for ever.
ENDLESS = {
    "brackets": "[",
    "braces": '{"a":',
    "quotes": '"',
    "escapes": '\\"',
    "digits": "9",
    "spaces": " ",
    "begun calls": "<tool_call>",
    "ended calls": "</tool_call>",
    "thoughts": "<think>",
    "nested quotes": "\"'",
}
FORMATS = {example.format: example.text for example in EXAMPLES}


def beginning(name: str) -> str:
    """A call of the format, cut in the middle of its arguments."""
    text = FORMATS[name]
    return text[: len(text) * 2 // 3]


@pytest.mark.parametrize("endless", ENDLESS)
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_text_is_lost_and_no_call_made_up(name, endless):
    text = beginning(name) + ENDLESS[endless] * (SIZE // 16 // len(ENDLESS[endless]))
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    plan = Plan(BY_NAME[name], SCHEMAS)
    whole = meaning(*read(plan, [text]))
    assert meaning(*read(plan, pieces)) == whole
    content, reasoning, calls, _ = whole
    kept = content + reasoning + "".join(arguments for _, arguments in calls)
    if ENDLESS[endless].strip():  # white space around calls is nobody's
        assert ENDLESS[endless] * 16 in kept


@pytest.mark.timed
@pytest.mark.parametrize("endless", ENDLESS)
@pytest.mark.parametrize("name", ["hermes", "mistral", "qwen-coder", "gemma-4"])
def test_four_times_the_text_takes_four_times_the_time(name, endless):
    spent = []
    for size in (SIZE // 4, SIZE):
        text = beginning(name) + ENDLESS[endless] * (size // len(ENDLESS[endless]))
        begin = time.process_time()
        read(Plan(BY_NAME[name], SCHEMAS), [text[at : at + 64] for at in range(0, len(text), 64)])
        spent.append(time.process_time() - begin)
    judge(spent[1] < 3 * 4 * spent[0] + 0.5, f"{spent}")
