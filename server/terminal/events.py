"""What a stream of chat.completion.chunk events says: thoughts, text, and how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from slotmux.server.terminal.client import RefusedError


class Piece(NamedTuple):
    """Some text of an answer."""

    kind: Literal["thought", "text"]
    text: str


@dataclass(slots=True)
class Outcome:
    """How an answer went; filled while it is read. Seconds; 0 tokens where nobody counted."""

    began: float = field(default_factory=time.monotonic)
    first_s: float = 0.0  # until the first piece
    whole_s: float = 0.0
    n_pieces: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0
    rate: float = 0.0  # generated tokens a second, as the server tells
    finish_reason: str = ""

    def line(self) -> str:
        """In a line: what was generated, how fast, and what of the prompt was computed."""
        n = self.n_generated or self.n_pieces
        seconds = self.whole_s - self.first_s
        rate = self.rate or ((n - 1) / seconds if n > 1 and seconds > 0 else 0.0)
        parts = [f"{n} tokens"]
        if rate:
            parts.append(f"{rate:.1f} tokens/s")
        parts.append(f"first after {self.first_s:.2f} s")
        if self.n_prompt:
            parts.append(f"prompt {self.n_prompt} tokens, {self.n_cached} of them in memory")
        return ", ".join(parts)


def pieces(events: Iterator[str], outcome: Outcome) -> Iterator[Piece]:
    """The text of an answer as it comes. Raises RefusedError for an error in the stream."""
    for data in events:
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise RefusedError(0, f"the server sent no JSON: {data[:80]!r}") from error
        if chunk.get("error"):
            raise RefusedError(0, _message(chunk["error"]))
        _note(chunk, outcome)
        for piece in _of(chunk):
            if not outcome.n_pieces:
                outcome.first_s = time.monotonic() - outcome.began
            outcome.n_pieces += 1
            yield piece
    outcome.whole_s = time.monotonic() - outcome.began


def _of(chunk: dict[str, Any]) -> Iterator[Piece]:
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            yield Piece("thought", thought)
        if delta.get("content"):
            yield Piece("text", delta["content"])


def _note(chunk: dict[str, Any], outcome: Outcome) -> None:
    for choice in chunk.get("choices") or ():
        outcome.finish_reason = choice.get("finish_reason") or outcome.finish_reason
    usage = chunk.get("usage")
    if usage:
        outcome.n_prompt = usage.get("prompt_tokens") or 0
        outcome.n_generated = usage.get("completion_tokens") or 0
        details = usage.get("prompt_tokens_details") or {}
        outcome.n_cached = details.get("cached_tokens") or 0
    timings = chunk.get("timings")
    if timings:
        outcome.rate = timings.get("predicted_per_second") or 0.0


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)
