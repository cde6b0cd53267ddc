"""gpt-oss: messages with a header that names a channel and who it is for.

``analysis`` is thought, ``final`` is content, ``commentary`` to a function is a call; commentary to
nobody is what the model says before it calls, and content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slotmux.server.tools.calls import Calls
from slotmux.server.tools.rules import Rules, Tool
from slotmux.server.tools.tape import Steps, Tape
from slotmux.server.tools.values import json_object

CHANNEL, MESSAGE, START, CONSTRAIN = "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"
ENDS = ("<|end|>", "<|return|>", "<|call|>")
_NAME = re.compile(r"to=(?:functions\.)?([A-Za-z0-9_.\-]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*([a-z]+)")


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before a message: its channel, '' for none, and the tool it is for."""

    channel: str
    recipient: str


def header_of(text: str) -> Header:
    """Reads what stands before <|message|>."""
    channel, name = _CHANNEL.search(text), _NAME.search(text)
    return Header(channel.group(1) if channel else "", name.group(1) if name else "")


@dataclass(frozen=True, slots=True)
class Harmony:
    """The reader follows the messages itself; ``read`` is one call."""

    triggers: tuple[str, ...] = ()
    marks: tuple[str, ...] = (CHANNEL, MESSAGE, START, CONSTRAIN, *ENDS)
    leading: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    def knows(self, source: str) -> bool:
        """By the channels."""
        return CHANNEL in source and MESSAGE in source

    def read(self, tape: Tape, trigger: str, calls: Calls) -> Steps[None]:
        """The arguments of a call; ``trigger`` is the function's name."""
        calls.begin(trigger)
        yield from json_object(tape, calls.add)
        yield from tape.spaces()
        yield from tape.one_of(ENDS)
        calls.end()

    def rule(self, rules: Rules, trigger: str, tools: Sequence[Tool], *, many: bool) -> str:
        """A message to a function, from behind <|start|>assistant on; it ends the turn."""
        return rules.any_of([self._rule_of(rules, tool) for tool in tools])

    def unmarked(self, rules: Rules, tools: Sequence[Tool]) -> list[str]:
        """None."""
        return []

    def _rule_of(self, rules: Rules, tool: Tool) -> str:
        to = rules.text(f" to=functions.{tool.name}")
        constrain = f"({rules.text(' ')} {rules.mark(CONSTRAIN)})? {rules.text('json')}"
        channel, message = rules.mark(CHANNEL), rules.mark(MESSAGE)
        commentary = rules.text("commentary")
        late = f'{channel} {commentary} {to} (" ")? ({constrain})? {message}'
        early = f'{to} {channel} {commentary} (" ")? ({constrain})? {message}'
        return rules.rule(f"({late} | {early}) {rules.arguments(tool)}")


HARMONY = Harmony()
