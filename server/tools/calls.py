"""The calls that a choice has made so far, on their way to the client."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from slotmux.server.answers.delta import ToolDelta
from slotmux.server.tools.tape import MalformedError

_LETTERS = string.ascii_letters + string.digits


def new_call_id(n_chars: int = 24, prefix: str = "call_") -> str:
    """A name for a call that no other has."""
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(n_chars))


class Calls:
    """Calls as a parser finds them. ``is_eager``: their pieces are told at once, because a grammar
    sees to it that they end well; otherwise each call is told when it is whole.

    ``schemas``: of the arguments of each tool that may be called. ``on_whole`` is called after
    each call.
    """

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]], *, is_eager: bool) -> None:
        self.schemas = schemas
        self.n_whole = 0
        self.is_open = False
        self.on_whole: Callable[[], None] | None = None
        self.is_eager = is_eager
        self._ready: list[ToolDelta] = []
        self._head: ToolDelta | None = None
        self._pieces: list[str] = []

    def begin(self, name: str, call_id: str | None = None) -> None:
        """A call begins. Raises MalformedError for a tool that there is not."""
        if name not in self.schemas:
            raise MalformedError
        self.is_open = True
        self._head = ToolDelta(self.n_whole, call_id or new_call_id(), name)
        if self.is_eager:
            self._flush()

    def add(self, piece: str) -> None:
        """More JSON text of its arguments."""
        self._pieces.append(piece)

    def end(self) -> None:
        """The call is whole."""
        self._flush()
        self.n_whole += 1
        self.is_open = False
        if self.on_whole is not None:
            self.on_whole()

    def fail(self) -> bool:
        """The call is none. Whether that could be kept from the client."""
        is_told = self.is_open and self._head is None
        if is_told:
            self._flush()
            self.n_whole += 1
        self.is_open = False
        self._head = None
        self._pieces.clear()
        return not is_told

    def drain(self) -> tuple[ToolDelta, ...]:
        """What can be told by now."""
        if self.is_eager and self.is_open:
            self._flush()
        ready, self._ready = self._ready, []
        return tuple(ready)

    def _flush(self) -> None:
        if self._head is not None:
            self._ready.append(self._head)
            self._head = None
        if self._pieces:
            self._ready.append(ToolDelta(self.n_whole, arguments="".join(self._pieces)))
            self._pieces.clear()
