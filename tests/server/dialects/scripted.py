"""A reader that says what a test wants, whatever the model's text is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pytest

from slotmux.runtime.engine.request import FinishReason
from slotmux.server.answers.delta import Delta, finish_text
from slotmux.server.dialects import chat_path


class ScriptedReader:
    """One delta for each Output, then the rest at the end."""

    n_reasoning = 2

    def __init__(self, script: Sequence[Delta]) -> None:
        self._left = list(script)
        self._has_calls = any(delta.tools for delta in script)

    def push(self, text: str, token_ids: Sequence[int] = ()) -> Delta:
        return self._left.pop(0) if self._left else Delta()

    def finish(self, reason: FinishReason) -> tuple[Delta, str]:
        assert not self._left, "the script is longer than the answer"
        return Delta(), "tool_calls" if self._has_calls else finish_text(reason)


@contextlib.contextmanager
def scripted(monkeypatch: pytest.MonkeyPatch, script: Sequence[Delta]) -> Iterator[None]:
    """Every turn within is read by the script."""
    with monkeypatch.context() as patch:
        patch.setattr(chat_path, "PlainReader", lambda: ScriptedReader(script))
        yield
