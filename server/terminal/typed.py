"""What a person types: lines with history and editing, put together to messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory

PROMPT, CONTINUED = ">>> ", "... "
_QUOTES = '"""'


class Lines(Protocol):
    """Where lines come from. Raises EOFError at their end, KeyboardInterrupt at Ctrl-C."""

    def read(self, prompt: str) -> str: ...


class TerminalLines:
    """Lines that are edited on a terminal; what was typed is kept in ``history``, a file that the
    user alone may read. A pasted text is one line, however many it has."""

    def __init__(self, history: Path, words: list[str]) -> None:
        history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(history, os.O_CREAT | os.O_APPEND, 0o600))
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)),
            completer=WordCompleter(words, sentence=True),
            complete_while_typing=False,
            enable_history_search=True,
        )

    def read(self, prompt: str) -> str:
        return self._session.prompt(prompt)


def read_message(lines: Lines) -> str:
    """The next message: a line, lines that end with a backslash and the one behind them, or
    everything between two lines with triple quotes. Raises what ``lines`` raises."""
    line = lines.read(PROMPT)
    if line.lstrip().startswith(_QUOTES):
        return _quoted(line.lstrip().removeprefix(_QUOTES), lines)
    parts = []
    while line.endswith("\\") and not line.endswith("\\\\"):
        parts.append(line[:-1])
        line = lines.read(CONTINUED)
    return "\n".join([*parts, line]).strip()


def _quoted(line: str, lines: Lines) -> str:
    parts = []
    while not line.rstrip().endswith(_QUOTES):
        parts.append(line)
        line = lines.read(CONTINUED)
    parts.append(line.rstrip().removesuffix(_QUOTES))
    return "\n".join(parts).strip("\n")
