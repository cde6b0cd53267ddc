"""A chat in the terminal: what is typed becomes a command or a message, an answer is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from slotmux.server.loading.errors import CommandError
from slotmux.server.terminal.client import RefusedError, Server
from slotmux.server.terminal.conversation import Conversation
from slotmux.server.terminal.events import Outcome, pieces
from slotmux.server.terminal.interrupt import interruptible
from slotmux.server.terminal.keys import unseen
from slotmux.server.terminal.shown import MarkdownView, PlainView, Thoughts, View
from slotmux.server.terminal.typed import Lines, read_message

CHAT_PATH = "v1/chat/completions"
_COMMAND = re.compile(r"/\w+( .*)?")  # one line; a path is no command


@dataclass(slots=True)
class Looks:
    """How answers are shown."""

    markdown: bool = True
    thoughts: Thoughts = "folded"
    verbose: bool = False  # tokens a second behind each answer

    def view(self, console: Console) -> View:
        """For the next answer."""
        if self.markdown and console.is_terminal:
            return MarkdownView(console, self.thoughts)
        return PlainView(self.thoughts, console.file if console.is_terminal else None)


class Chat:
    """One conversation with one server. ``folder``: where conversations are saved by name."""

    def __init__(
        self, server: Server, conversation: Conversation, looks: Looks, folder: Path
    ) -> None:
        self.server = server
        self.conversation = conversation
        self.looks = looks
        self.folder = folder
        self.console = Console()
        self._errors = Console(stderr=True)

    def run(self, lines: Lines, command: Callable[[Chat, str], bool]) -> None:
        """Until the lines end or ``command``, which takes lines such as /help, is False."""
        while True:
            try:
                text = read_message(lines)
            except KeyboardInterrupt:
                self.tell("Ctrl-D or /bye leaves, /help tells the commands.")
                continue
            except EOFError:
                return
            try:
                if _COMMAND.fullmatch(text):
                    if not command(self, text):
                        return
                elif text:
                    self.say(text)
            except (CommandError, OSError) as error:
                self.complain(str(error))
            except KeyboardInterrupt:  # while a command waited
                self.tell("[stopped]")

    def say(self, text: str) -> bool:
        """Sends a message and shows the answer; False where it was interrupted. A message that got
        no answer is taken back. Raises RefusedError."""
        self.conversation.say(text)
        answer = _Answer()
        try:
            with interruptible() as check:
                self._show(answer, check)
        except KeyboardInterrupt:
            self.tell("[stopped]")
            return False
        finally:
            if answer.text:
                self.conversation.answer(answer.text)
            else:
                self.conversation.undo()
        return True

    def again(self) -> None:
        """Another answer to the last message; where there is none the last one stays."""
        before = list(self.conversation.messages)
        text = self.conversation.undo()
        if text is None:
            raise CommandError("there is no message to answer again")
        is_kept = False
        try:
            self.say(text)
            is_kept = len(self.conversation.messages) == len(before)
        finally:
            if not is_kept:
                self.conversation.messages = before

    def tell(self, text: str) -> None:
        """A remark of ours, beside the conversation."""
        self._errors.print(Text(text, style="dim"), soft_wrap=True)

    def complain(self, text: str) -> None:
        """What went wrong."""
        self._errors.print(Text(text, style="red"), soft_wrap=True)

    def _show(self, answer: _Answer, check: Callable[[], None]) -> None:
        outcome = Outcome()
        view = self.looks.view(self.console)
        try:
            with unseen(), self.server.stream(CHAT_PATH, self.conversation.body()) as events:
                for kind, text in pieces(events, outcome):
                    check()
                    if kind == "thought":
                        view.thought(text)
                    else:
                        answer.text += text
                        view.text(text)
        finally:
            view.end()
        if not outcome.finish_reason:
            raise RefusedError(0, "the connection ended in the middle of the answer")
        if outcome.finish_reason == "length":
            self.tell("[cut: max_tokens or the context is used up]")
        if self.looks.verbose:
            self.tell(f"[{outcome.line()}]")


@dataclass(slots=True)
class _Answer:
    """What has come of an answer, also where it does not end."""

    text: str = ""
