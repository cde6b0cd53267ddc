"""What a choice's text means while it comes: content, thought, calls of tools.

A reader turns text into deltas; the writers of all dialects word the same deltas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slotmux.runtime.engine.request import FinishReason, Output


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of call ``index`` of a choice. The first piece has ``id`` and ``name`` and no
    arguments; the arguments of all pieces together are one JSON object."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """What a piece of text adds to a choice. In time, ``reasoning`` comes before ``content``, and
    that before ``tools``."""

    content: str = ""
    reasoning: str = ""
    tools: tuple[ToolDelta, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.tools)


class Reader(Protocol):
    """Reads the text of one choice. Where it is cut never changes what all deltas add up to."""

    @property
    def n_reasoning(self) -> int:
        """Tokens of thought so far."""

    def push(self, text: str, token_ids: Sequence[int] = ()) -> Delta:
        """What an Output's text says, as far as it is decided; ``token_ids`` are only counted."""

    def finish(self, reason: FinishReason) -> tuple[Delta, str]:
        """The rest, and OpenAI's word for the end: stop, length or tool_calls. Once."""


NewReader = Callable[[], Reader]


def finish_text(reason: FinishReason) -> str:
    """OpenAI's word for why a choice ended."""
    return "length" if reason is FinishReason.LENGTH else "stop"


class PlainReader:
    """All text is content."""

    __slots__ = ()
    n_reasoning = 0

    def push(self, text: str, token_ids: Sequence[int] = ()) -> Delta:
        """The text."""
        return Delta(text)

    def finish(self, reason: FinishReason) -> tuple[Delta, str]:
        """Nothing more."""
        return Delta(), finish_text(reason)


@dataclass(slots=True)
class Call:
    """A whole call of a tool; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Said:
    """Deltas of one choice, put together."""

    content: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    _contents: list[str] = field(default_factory=list)
    _reasonings: list[str] = field(default_factory=list)
    _arguments: list[list[str]] = field(default_factory=list)

    def add(self, delta: Delta) -> None:
        """Puts a delta behind what there is; the fields are right after ``join``."""
        self._contents.append(delta.content)
        self._reasonings.append(delta.reasoning)
        for tool in delta.tools:
            if tool.name is not None:
                self.calls.append(Call(tool.id or "", tool.name))
                self._arguments.append([])
            self._arguments[tool.index].append(tool.arguments)

    def join(self) -> None:
        """Fills content, reasoning and the calls' arguments in."""
        self.content = "".join(self._contents)
        self.reasoning = "".join(self._reasonings)
        for call, pieces in zip(self.calls, self._arguments, strict=True):
            call.arguments = "".join(pieces)


def read_all(reader: Reader, outputs: Iterable[Output], reason: FinishReason) -> tuple[Said, str]:
    """The whole of one choice, and OpenAI's word for its end."""
    said = Said()
    for output in outputs:
        said.add(reader.push(output.text, output.token_ids))
    rest, word = reader.finish(reason)
    said.add(rest)
    said.join()
    return said, word
