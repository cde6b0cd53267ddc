"""A model that says what the user said last: tests write its answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from slotmux.runtime.engine.request import Request
from slotmux.server.process.state import Loaded
from slotmux.server.tools.style import ChatStyle
from slotmux.server.tools.thought import Thinking
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import loaded_with


@dataclass
class EchoEngine(FakeEngine):
    """Each request answers with the last user's text of its prompt, or of the last tool, one byte a
    step; an assistant's last turn is what has been said of it already."""

    n_ctx: int = 1 << 20
    max_queue: int = 64

    def submit(self, request: Request) -> int:
        text = bytes(request.prompt).decode()
        turns = text.replace("<tool>", "<user>").rpartition("<user>")[2]
        said, _, begun = turns.partition("<assistant>")
        self.script = said.removeprefix(begun).encode() or b"."
        return super().submit(request)


def echo(step_s: float = 0.001, n_slots: int = 8) -> Loaded:
    """One that is ready to serve; what stands in <think> tags is a thought."""
    loaded = loaded_with(EchoEngine(n_slots=n_slots, step_s=step_s), name="echo")
    return replace(loaded, style=ChatStyle(thinking=Thinking("<think>", "</think>")))
