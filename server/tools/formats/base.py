"""What a format is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from slotmux.server.tools.calls import Calls
from slotmux.server.tools.rules import Rules, Tool
from slotmux.server.tools.tape import Steps, Tape


def read_in_a_row(
    tape: Tape, one: Callable[[], Steps[None]], opening: str, section: str, section_end: str,
    *, repeats: bool,
) -> Steps[None]:  # fmt: skip
    """Calls that ``one`` reads behind ``opening``, which is read where no ``section`` begins
    them; further ones if it ``repeats``, up to ``section_end``."""
    if section:
        yield from tape.spaces()
        yield from tape.expect(opening)
    while True:
        yield from one()
        yield from tape.spaces()
        if section_end and (yield from tape.accept(section_end)):
            return
        if not repeats or not (yield from tape.accept(opening)):
            return


class Format(Protocol):
    """How a family of models writes calls. Stateless.

    ``triggers``: each begins calls wherever it stands in a text, and is no part of any answer.
    ``leading``: begin calls where an answer begins with them, and are left to ``read``.
    ``loose``: triggers that need not mean calls; what is told of these is whole.
    ``marks``: all texts of the format that may be single tokens, the triggers too.
    """

    @property
    def triggers(self) -> tuple[str, ...]: ...

    @property
    def leading(self) -> tuple[str, ...]: ...

    @property
    def loose(self) -> tuple[str, ...]: ...

    @property
    def marks(self) -> tuple[str, ...]: ...

    def knows(self, source: str) -> bool:
        """Whether a template with this text is for models that write so."""

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """All calls that ``trigger``, which is read, begins ('': a leading one, which is not).
        Raises MalformedError."""

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """What may follow ``trigger``: one call, or several with ``many``."""

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """Calls that begin without any trigger, behind any text."""
