"""Log-probabilities in OpenAI's two formats: the one of chat and the older one of completions."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any, Protocol

from slotmux.runtime.engine.request import TokenLogprobs
from slotmux.server.interfaces import TokenizerPort

LOWEST = -9999.0  # JSON has no infinity; OpenAI writes this for "very unlikely"


class LogprobsFormat(Protocol):
    """Formats the logprobs of one choice, delivery by delivery."""

    def format(self, logprobs: Iterable[TokenLogprobs]) -> dict[str, Any]:
        """The ``logprobs`` object of a chunk, or of the whole answer."""

    def begin_at(self, n_chars: int) -> None:
        """So many characters of an echoed prompt come before the choice's own."""


class ChatLogprobs:
    """{"content": [{"token", "logprob", "bytes", "top_logprobs"}], "refusal": null}."""

    def __init__(self, tokenizer: TokenizerPort, n_top: int) -> None:
        self._tokenizer = tokenizer
        self._n_top = n_top

    def format(self, logprobs: Iterable[TokenLogprobs]) -> dict[str, Any]:
        """One entry a token."""
        content = []
        for entry in logprobs:
            token = self._token(entry.token_id, entry.logprob)
            top = entry.top[: self._n_top]
            token["top_logprobs"] = [self._token(token_id, value) for token_id, value in top]
            content.append(token)
        return {"content": content, "refusal": None}

    def begin_at(self, n_chars: int) -> None:
        """Nothing here says where a token stands."""

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = self._tokenizer.token_bytes(token_id)
        return {
            "token": raw.decode("utf-8", "replace"),
            "logprob": max(logprob, LOWEST),
            "bytes": list(raw),
        }


class CompletionLogprobs:
    """{"tokens", "token_logprobs", "top_logprobs", "text_offset"}; offsets count characters."""

    def __init__(self, tokenizer: TokenizerPort, n_top: int) -> None:
        self._tokenizer = tokenizer
        self._n_top = n_top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def format(self, logprobs: Iterable[TokenLogprobs]) -> dict[str, Any]:
        """Parallel arrays, one element a token."""
        tokens: list[str] = []
        values: list[float] = []
        top: list[dict[str, float]] = []
        offsets: list[int] = []
        for entry in logprobs:
            tokens.append(self._text(entry.token_id))
            values.append(max(entry.logprob, LOWEST))
            top.append(self._top(entry))
            offsets.append(self._offset)
            raw = self._tokenizer.token_bytes(entry.token_id, skip_special=True)
            self._offset += len(self._decoder.decode(raw))
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": top if self._n_top else None,
            "text_offset": offsets,
        }

    def begin_at(self, n_chars: int) -> None:
        """Offsets go on from there."""
        self._offset = n_chars

    def _top(self, entry: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the drawn one, which may be one more than asked for. Of tokens
        that look alike the likelier one is told."""
        told: dict[str, float] = {}
        for token_id, value in (*entry.top[: self._n_top], (entry.token_id, entry.logprob)):
            told.setdefault(self._text(token_id), max(value, LOWEST))
        return told

    def _text(self, token_id: int) -> str:
        return shown(self._tokenizer, token_id)


def shown(tokenizer: TokenizerPort, token_id: int) -> str:
    """A token as OpenAI's older format tells it: its text, or its bytes where they are none."""
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
