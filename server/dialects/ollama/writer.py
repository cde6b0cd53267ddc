"""Ollama's answers: a JSON object a line, or one; the last one has counts and times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from slotmux.server.answers.delta import Delta
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.stream import Framing
from slotmux.server.dialects.chat_path import Turn
from slotmux.server.dialects.turn_writer import TurnWriter, parsed_arguments
from slotmux.server.http.errors import ApiError
from slotmux.server.http.shapes import ollama_body

# Lines cannot be skipped by clients, so nothing is sent in a silence.
FRAMING = Framing(b"application/x-ndjson", b"")


def now() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class LineWriter(TurnWriter):
    """``is_chat``: whether an answer is a message, else it is a response."""

    def __init__(self, turn: Turn, *, is_chat: bool) -> None:
        super().__init__(turn)
        self._is_chat = is_chat
        self._n_told = 0  # calls

    def worded(self, delta: Delta) -> bytes:
        """Text and thought as they come; a call once it is whole."""
        parts: list[bytes] = []
        if delta.reasoning or delta.content:
            parts.append(self._line(self._said(delta.content, delta.reasoning, []), done=False))
        if any(tool.name is not None for tool in delta.tools):
            parts.append(self._calls(len(self.said.calls) - 1))
        return b"".join(parts)

    def ending(self) -> bytes:
        """The calls that are left, and the last line."""
        return self._calls(len(self.said.calls)) + self._line(
            self._said("", "", []) | self._counts(), done=True
        )

    def error(self, error: ApiError) -> bytes:
        """A line with the error."""
        return orjson.dumps(ollama_body(error)) + b"\n"

    def whole(self, generation: Generation) -> dict[str, Any]:
        """Everything in one object."""
        said = self.said
        calls = [self._call(index) for index in range(len(said.calls))]
        told = self._said(said.content, said.reasoning, calls)
        return self._head() | told | {"done": True} | self._counts()

    def _calls(self, end: int) -> bytes:
        """A line for the calls before ``end`` that were not told yet."""
        if end <= self._n_told:
            return b""
        self.said.join()
        calls = [self._call(index) for index in range(self._n_told, end)]
        self._n_told = end
        return self._line(self._said("", "", calls), done=False)

    def _call(self, index: int) -> dict[str, Any]:
        call = self.said.calls[index]
        function = {
            "index": index,
            "name": call.name,
            "arguments": parsed_arguments(call.arguments),
        }
        return {"id": call.id, "function": function}

    def _said(self, content: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        if not self._is_chat:
            return {"response": content} | ({"thinking": thought} if thought else {})
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if thought:
            message["thinking"] = thought
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _head(self) -> dict[str, Any]:
        return {"model": self.turn.model, "created_at": now()}

    def _line(self, told: dict[str, Any], *, done: bool) -> bytes:
        return orjson.dumps(self._head() | told | {"done": done}) + b"\n"

    def _counts(self) -> dict[str, Any]:
        usage = self.turn.generation.usages[0]
        total_s = usage.queue_s + usage.prompt_s + usage.generate_s
        return {
            "done_reason": "length" if self.word == "length" else "stop",
            "total_duration": _ns(total_s),
            "load_duration": 0,
            "prompt_eval_count": usage.n_prompt,
            "prompt_eval_duration": _ns(usage.prompt_s),
            "eval_count": usage.n_generated,
            "eval_duration": _ns(usage.generate_s),
        }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
