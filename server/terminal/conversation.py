"""A conversation with a model: its messages, its system prompt, how answers are sampled."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slotmux.server.loading.errors import CommandError

_VERSION = 1
_NO_PARAMETERS = frozenset({"messages", "stream", "stream_options", "model"})


@dataclass(slots=True)
class Conversation:
    """``options`` are parameters of a request, by OpenAI's or the server's names."""

    model: str = ""
    system: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        """The request for the next answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        model = {"model": self.model} if self.model else {}
        return {
            **model,
            "messages": system + self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.options,
        }

    def say(self, text: str) -> None:
        """The user's next message."""
        self.messages.append({"role": "user", "content": text})

    def answer(self, text: str) -> None:
        """The model's."""
        self.messages.append({"role": "assistant", "content": text})

    def undo(self) -> str | None:
        """Takes the last turn back; the user's part of it, None if there is none."""
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return message["content"]
        return None

    def set(self, name: str, text: str) -> Any:
        """A parameter of the requests to come, from what was typed: JSON, else a string; 'default'
        takes it away. Returns what it is now. Raises CommandError."""
        if name in _NO_PARAMETERS or not name.isidentifier():
            raise CommandError(f"{name} is no parameter that can be set")
        if text == "default":
            self.options.pop(name, None)
            return None
        try:
            self.options[name] = json.loads(text)
        except ValueError:
            self.options[name] = text
        return self.options[name]

    def save(self, path: Path) -> None:
        """Writes it as JSON that the user alone may read. Raises OSError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(
            {
                "slotmux_chat": _VERSION,
                "model": self.model,
                "system": self.system,
                "options": self.options,
                "messages": self.messages,
            },
            ensure_ascii=False,
            indent=1,
        )
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def load(self, path: Path) -> None:
        """Becomes a saved one; the model that is talked to stays. Raises OSError, CommandError."""
        try:
            saved = json.loads(path.read_text("utf-8"))
            version = saved["slotmux_chat"]
            messages = [
                {"role": str(m["role"]), "content": str(m["content"])} for m in saved["messages"]
            ]
            system, options = str(saved["system"]), dict(saved["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path} is no saved conversation") from error
        if version != _VERSION:
            raise CommandError(f"{path} was saved by another version of slotmux")
        self.messages, self.system, self.options = messages, system, options
