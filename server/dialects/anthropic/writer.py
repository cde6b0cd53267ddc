"""Anthropic's message, streamed as named events or whole."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from slotmux.server.answers.delta import Delta
from slotmux.server.answers.generation import Generation
from slotmux.server.answers.stream import Framing
from slotmux.server.dialects.chat_path import Turn
from slotmux.server.dialects.turn_writer import TurnWriter, parsed_arguments
from slotmux.server.http.errors import ApiError
from slotmux.server.http.shapes import anthropic_body


def event(name: str, data: dict[str, Any]) -> bytes:
    """A named server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name} | data) + b"\n\n"


PING = event("ping", {})
FRAMING = Framing(ping=PING)
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageWriter(TurnWriter):
    """Blocks come one after the other: thought, text, calls."""

    def __init__(self, turn: Turn, *, hides_thoughts: bool = False) -> None:
        super().__init__(turn)
        self._hides_thoughts = hides_thoughts
        self._id = f"msg_{uuid.uuid4().hex}"
        self._n_blocks = 0
        self._open = ""  # the kind of the block that is being written

    def opening(self) -> bytes:
        """The message without content, and a ping, as the original does."""
        head = self._head() | {"content": [], "stop_reason": None, "usage": self._usage(0)}
        return event("message_start", {"message": head}) + PING

    def worded(self, delta: Delta) -> bytes:
        """Deltas of blocks, and where blocks begin and end."""
        parts: list[bytes] = []
        if delta.reasoning and not self._hides_thoughts:
            parts.append(self._enter("thinking", {"thinking": "", "signature": ""}))
            parts.append(self._add({"type": "thinking_delta", "thinking": delta.reasoning}))
        if delta.content:
            parts.append(self._enter("text", {"text": ""}))
            parts.append(self._add({"type": "text_delta", "text": delta.content}))
        for tool in delta.tools:
            if tool.name is not None:
                parts.append(self._leave())
                block: dict[str, Any] = {"id": tool.id, "name": tool.name, "input": {}}
                parts.append(self._enter("tool_use", block))
            if tool.arguments:
                parts.append(
                    self._add({"type": "input_json_delta", "partial_json": tool.arguments})
                )
        return b"".join(parts)

    def ending(self) -> bytes:
        """Why it ended, and how many tokens it took."""
        data = {"delta": self._reason(), "usage": self._usage(self._n_generated())}
        first = b""
        if not self._n_blocks:  # clients look for a first block
            first = self._enter("text", {"text": ""})
        return first + self._leave() + event("message_delta", data) + event("message_stop", {})

    def error(self, error: ApiError) -> bytes:
        """A named error event."""
        return event("error", anthropic_body(error))

    def whole(self, generation: Generation) -> dict[str, Any]:
        """The message."""
        said = self.said
        content: list[dict[str, Any]] = []
        if said.reasoning and not self._hides_thoughts:
            content.append({"type": "thinking", "thinking": said.reasoning, "signature": ""})
        if said.content or not (content or said.calls):
            content.append({"type": "text", "text": said.content})
        content += [
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": parsed_arguments(call.arguments),
            }
            for call in said.calls
        ]
        usage = self._usage(self._n_generated())
        return self._head() | {"content": content} | self._reason() | {"usage": usage}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self.turn.model,
            "stop_sequence": None,
        }

    def _reason(self) -> dict[str, Any]:
        if self.word == "stop" and self.stop_string is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": self.stop_string}
        return {"stop_reason": _REASONS[self.word], "stop_sequence": None}

    def _n_generated(self) -> int:
        return self.turn.generation.usages[0].n_generated

    def _usage(self, n_output: int) -> dict[str, Any]:
        n_cached = self.turn.n_cached
        return {
            "input_tokens": self.turn.n_prompt - n_cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": n_cached,
            "output_tokens": n_output,
        }

    def _enter(self, kind: str, block: dict[str, Any]) -> bytes:
        """Begins a block unless it is open."""
        if self._open == kind:
            return b""
        closed = self._leave()
        self._open = kind
        data = {"index": self._n_blocks, "content_block": {"type": kind} | block}
        self._n_blocks += 1
        return closed + event("content_block_start", data)

    def _add(self, delta: dict[str, Any]) -> bytes:
        return event("content_block_delta", {"index": self._n_blocks - 1, "delta": delta})

    def _leave(self) -> bytes:
        if not self._open:
            return b""
        index = self._n_blocks - 1
        signed = b""
        if self._open == "thinking":
            signed = self._add({"type": "signature_delta", "signature": ""})
        self._open = ""
        return signed + event("content_block_stop", {"index": index})
