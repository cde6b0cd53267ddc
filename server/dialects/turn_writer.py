"""What the writers of chat dialects share: reading one choice into deltas, and its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import orjson

from slotmux.runtime.engine.request import Output
from slotmux.server.answers.delta import Delta, Said
from slotmux.server.answers.generation import ChoiceOutput, Generation
from slotmux.server.dialects.chat_path import Turn
from slotmux.server.http.errors import ApiError


class TurnWriter(ABC):
    """Implements stream.Writer but for its words, which a dialect adds. After the last Output
    ``said`` is whole, ``word`` says why it ended (stop, length, tool_calls)."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.n_left = 1
        self.said = Said()
        self.word = ""
        self.stop_string: str | None = None

    # -- what a dialect words

    def opening(self) -> bytes:
        """What a stream begins with."""
        return b""

    @abstractmethod
    def error(self, error: ApiError) -> bytes:
        """What ends a stream that went wrong."""

    @abstractmethod
    def whole(self, generation: Generation) -> Any:
        """The JSON body of an answer that is not streamed."""

    @abstractmethod
    def worded(self, delta: Delta) -> bytes:
        """What a delta adds to a stream."""

    @abstractmethod
    def ending(self) -> bytes:
        """What a stream ends with; all has been said."""

    # -- what is common

    def events(self, choices: list[ChoiceOutput], generation: Generation) -> bytes:
        """The words of these Outputs."""
        parts: list[bytes] = []
        for _, output in choices:
            parts += [self.worded(delta) for delta in self._read(output)]
            if output.finish_reason is not None:
                parts.append(self.ending())
        return b"".join(parts)

    def take(self, choices: list[ChoiceOutput], generation: Generation) -> None:
        """Notes what is said."""
        for _, output in choices:
            self._read(output)

    def _read(self, output: Output) -> list[Delta]:
        reader = self.turn.reader
        deltas = [reader.push(output.text, output.token_ids)]
        if output.finish_reason is not None:
            rest, self.word = reader.finish(output.finish_reason)
            deltas.append(rest)
            self.stop_string = output.stop_string
            self.n_left = 0
        deltas = [delta for delta in deltas if delta]
        for delta in deltas:
            self.said.add(delta)
        if not self.n_left:
            self.said.join()
        return deltas


def parsed_arguments(text: str) -> Any:
    """Arguments of a call as an object; what a model cut short, or is no object, as it stands."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {"arguments": text}
    return value if isinstance(value, dict) else {"arguments": value}
