"""Reads one choice: thought, content and calls of tools, out of text as it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slotmux.runtime.engine.request import FinishReason
from slotmux.server.answers.delta import Delta, finish_text
from slotmux.server.tools.calls import Calls
from slotmux.server.tools.formats.base import Format
from slotmux.server.tools.formats.harmony import ENDS, MESSAGE, START, Harmony, Header, header_of
from slotmux.server.tools.tape import MalformedError, Steps, Tape
from slotmux.server.tools.thought import Thinking
from slotmux.server.tools.trailing import Trailing


class Telling(StrEnum):
    """What becomes of thoughts."""

    APART = "apart"  # reasoning
    INSIDE = "inside"  # content, with their marks
    BOTH = "both"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the choices of one request are read. ``schemas``: of the tools that may be called, by
    name; ``is_eager``: a grammar sees to it that calls end well; ``starts_in_thought``: the prompt
    has begun one; ``end_ids``: tokens that end a thought."""

    format: Format | None = None
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_eager: bool = False
    thinking: Thinking | None = None
    starts_in_thought: bool = False
    end_ids: frozenset[int] = frozenset()
    telling: Telling = Telling.APART


class MessageReader:
    """Implements answers.delta.Reader."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tape = Tape()
        self._calls = Calls(plan.schemas, is_eager=plan.is_eager)
        self._calls.on_whole = self._tape.keep
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._spaces = Trailing()  # behind content, it may turn out to be nobody's
        self._has_content = False
        self._in_thought = plan.starts_in_thought
        self.n_reasoning = 0
        is_harmony = isinstance(plan.format, Harmony)
        self._steps = self._messages() if is_harmony else self._message()
        self._go_on()

    def push(self, text: str, token_ids: Sequence[int] = ()) -> Delta:
        """See Reader."""
        was_in_thought = self._in_thought
        if text:
            self._tape.push(text)
            self._go_on()
        if was_in_thought:
            self.n_reasoning += self._n_thought(token_ids)
        return self._drain()

    def finish(self, reason: FinishReason) -> tuple[Delta, str]:
        """See Reader."""
        self._tape.is_closed = True
        self._go_on()
        word = finish_text(reason)
        if word == "stop" and self._calls.n_whole:
            word = "tool_calls"
        return self._drain(), word

    def _go_on(self) -> None:
        next(self._steps, None)

    def _n_thought(self, token_ids: Sequence[int]) -> int:
        """How many of an Output's tokens belong to the thought that was open before it."""
        if not self._in_thought:
            for index, token_id in enumerate(token_ids):
                if token_id in self._plan.end_ids:
                    return index + 1
        return len(token_ids)

    def _drain(self) -> Delta:
        delta = Delta("".join(self._content), "".join(self._reasoning), self._calls.drain())
        self._content.clear()
        self._reasoning.clear()
        return delta

    # -- where text goes

    def _say(self, text: str) -> None:
        """Content. White space at its end waits where calls may follow, and goes with them."""
        if not self._has_content and self._has_marks:
            text = text.lstrip()
        if not text:
            return
        self._has_content = True
        spaces = self._spaces
        kept = spaces.split(text) if self._plan.schemas else spaces.take() + text
        if kept:
            self._content.append(kept)

    @property
    def _keeps_marks(self) -> bool:
        """Whether thoughts are content, with their marks."""
        return self._plan.telling in (Telling.INSIDE, Telling.BOTH)

    @property
    def _has_marks(self) -> bool:
        return bool(self._plan.schemas) or self._plan.thinking is not None

    # -- one message with marks in it

    def _message(self) -> Steps[None]:
        tape, plan = self._tape, self._plan
        thinking = plan.thinking
        if plan.starts_in_thought and thinking is not None:
            yield from tape.spaces()
            yield from tape.accept(thinking.opening)
            yield from self._thought(thinking)
        yield from self._leading()
        format_ = plan.format if plan.schemas else None
        stops = (*format_.triggers, *format_.loose) if format_ is not None else ()
        if thinking is not None and thinking.opening:
            stops = (*stops, thinking.opening)
        while stops:
            stop = yield from tape.until(stops, self._say)
            if not stop:
                break
            if thinking is not None and stop == thinking.opening:
                yield from self._inner_thought(thinking)
                yield from self._leading()
            elif format_ is not None:
                yield from self._read_calls(format_, stop)
        if not stops:
            yield from tape.pour(self._say)
        self._end_content()

    def _end_content(self) -> None:
        """White space at the very end is content unless calls stand before it."""
        spaces = self._spaces.take()
        if spaces and not self._calls.n_whole and self._content_is_last:
            self._content.append(spaces)

    @property
    def _content_is_last(self) -> bool:
        return self._has_content and not self._calls.is_open

    def _inner_thought(self, thinking: Thinking) -> Steps[None]:
        """A thought that the model opened itself: only at the beginning of an answer."""
        if self._has_content or self._calls.n_whole:
            self._say(thinking.opening)
            return
        if self._keeps_marks:
            self._content.append(thinking.opening)
        yield from self._thought(thinking)

    def _thought(self, thinking: Thinking) -> Steps[None]:
        """Up to the closing mark, which is read; white space around it is nobody's."""
        self._in_thought = True
        tape, telling = self._tape, self._plan.telling
        spaces, is_begun = Trailing(), False

        def think(text: str) -> None:
            nonlocal is_begun
            if self._keeps_marks:
                self._content.append(text)
            if telling in (Telling.INSIDE, Telling.NOT):
                return
            kept = spaces.split(text if is_begun else text.lstrip())
            is_begun = is_begun or bool(kept)
            if kept:
                self._reasoning.append(kept)

        stop = yield from tape.until((thinking.closing,), think)
        self._in_thought = False
        if self._keeps_marks:
            self._content.append(stop)
            self._has_content = bool(stop)

    def _leading(self) -> Steps[None]:
        """Calls with which an answer begins without any mark."""
        format_ = self._plan.format
        if format_ is None or not self._plan.schemas or not format_.leading:
            return
        begin = yield from self._peek_behind_spaces()
        if begin and begin in format_.leading:
            yield from self._read_calls(format_, "")

    def _peek_behind_spaces(self) -> Steps[str]:
        yield from self._tape.spaces()
        return (yield from self._tape.peek())

    def _read_calls(self, format_: Format, trigger: str) -> Steps[None]:
        """Calls; what turns out to be none is content."""
        tape, calls = self._tape, self._calls
        n_before = calls.n_whole
        tape.keep()
        spaces, self._spaces = self._spaces, Trailing()
        calls.is_eager = self._plan.is_eager and trigger in format_.triggers
        try:
            yield from format_.read(tape, trigger, calls)
        except MalformedError:
            begin = trigger if calls.n_whole == n_before else ""
            is_hidden = calls.fail()
            text = tape.take_back()
            if is_hidden:
                self._spaces = spaces if begin else Trailing()
                self._say(begin + text)
            return
        tape.take_back()

    # -- harmony: many messages

    def _messages(self) -> Steps[None]:
        tape = self._tape
        while not tape.is_closed or tape.rest:
            header = yield from self._header()
            if header is None:
                yield from tape.pour(self._say)
                break
            if header.recipient in self._plan.schemas:
                yield from self._call_to(header.recipient)
            else:
                yield from self._body(header.channel)
            yield from tape.accept(START)
        self._end_content()

    def _think(self, text: str) -> None:
        """A thought of a channel."""
        if self._keeps_marks:
            self._say(text)
        if self._plan.telling in (Telling.APART, Telling.BOTH):
            self._reasoning.append(text)

    def _header(self) -> Steps[Header | None]:
        """What stands before a message; None if there is none, and then it is content."""
        self._tape.keep()
        try:
            text, _ = yield from self._tape.short_until((MESSAGE,))
        except MalformedError:
            self._say(self._tape.take_back().strip())
            return None
        self._tape.take_back()
        return header_of(text)

    def _call_to(self, name: str) -> Steps[None]:
        assert self._plan.format is not None
        self._tape.keep()
        try:
            yield from self._plan.format.read(self._tape, name, self._calls)
        except MalformedError:
            self._calls.fail()
            self._say(self._tape.take_back())
            yield from self._tape.until(ENDS, self._say)
            return
        self._tape.take_back()

    def _body(self, channel: str) -> Steps[None]:
        is_thought = channel == "analysis"
        self._in_thought = is_thought
        yield from self._tape.until(ENDS, self._think if is_thought else self._say)
        self._in_thought = False
