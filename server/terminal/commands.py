"""The commands of a chat: /help and the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from slotmux.server.loading.errors import CommandError
from slotmux.server.terminal.chat import Chat
from slotmux.server.terminal.conversation import Conversation
from slotmux.server.terminal.shown import Thoughts


def run_command(chat: Chat, line: str) -> bool:
    """Does what a line with a slash asks for; False: the chat ends. Raises CommandError, or
    OSError."""
    name, _, rest = line.partition(" ")
    if name in ("/bye", "/exit", "/quit"):
        return False
    found = COMMANDS.get(name)
    if found is None:
        raise CommandError(f"there is no command {name}: /help tells them")
    found(chat, rest.strip())
    return True


def _help(chat: Chat, rest: str) -> None:
    """what can be typed"""
    width = max(map(len, _USES.values()))
    lines = [f"{_USES[name]:<{width}}  {run.__doc__}" for name, run in COMMANDS.items()]
    lines.append(f"{'/bye':<{width}}  leave; so does Ctrl-D")
    lines += [
        "",
        '""" begins and ends a message of several lines; a line that ends with \\ goes on.',
        "Ctrl-C stops an answer. Arrows and Ctrl-R find what was typed before.",
    ]
    chat.tell("\n".join(lines))


def _system(chat: Chat, rest: str) -> None:
    """the system prompt from now on; alone: what it is; 'none': none"""
    if rest:
        chat.conversation.system = "" if rest == "none" else rest
    chat.tell(chat.conversation.system or "there is no system prompt")


def _set(chat: Chat, rest: str) -> None:
    """a parameter of requests, 'default': the server's own; alone: what is set"""
    name, _, value = rest.partition(" ")
    if name == "thoughts" and value:
        chat.looks.thoughts = _thoughts(value.strip())
    elif name in ("verbose", "markdown") and value:
        setattr(chat.looks, name, _switch(value.strip()))
    elif name and not value:
        raise CommandError(f"/set {name} needs a value, such as /set temperature 0.2")
    elif name:
        chat.conversation.set(name, value.strip())
    looks = chat.looks
    settings = {
        **chat.conversation.options,
        "thoughts": looks.thoughts,
        "markdown": "on" if looks.markdown else "off",
        "verbose": "on" if looks.verbose else "off",
    }
    chat.tell("  ".join(f"{key}={setting}" for key, setting in settings.items()))


def _clear(chat: Chat, rest: str) -> None:
    """forget the conversation; the system prompt and what is set stay"""
    chat.conversation.messages.clear()
    chat.tell("a new conversation")


def _regen(chat: Chat, rest: str) -> None:
    """another answer to the last message"""
    chat.again()


def _undo(chat: Chat, rest: str) -> None:
    """take the last message and its answer back"""
    text = chat.conversation.undo()
    chat.tell("nothing to take back" if text is None else f"taken back: {text}")


def _save(chat: Chat, rest: str) -> None:
    """keep the conversation: by a name, or a path with a slash"""
    path = _path(chat, rest or time.strftime("%Y-%m-%d-%H%M%S"))
    chat.conversation.save(path)
    chat.tell(f"saved: {path}")


def _load(chat: Chat, rest: str) -> None:
    """go on with a kept one; alone: their names"""
    if not rest:
        names = sorted(path.stem for path in chat.folder.glob("*.json"))
        chat.tell("  ".join(names) or "nothing was saved yet")
        return
    loaded = Conversation(chat.conversation.model)
    loaded.load(_path(chat, rest))
    chat.conversation = loaded
    for message in loaded.messages[-2:]:
        chat.tell(f"{message['role']}: {message['content']}")
    chat.tell(f"{len(loaded.messages)} messages")


def _model(chat: Chat, rest: str) -> None:
    """the model that is asked; alone: those that the server has"""
    names = chat.server.models()
    if not rest:
        chat.tell("  ".join(f"[{n}]" if n == chat.conversation.model else n for n in names))
        return
    if rest not in names:
        raise CommandError(f"the server has no model {rest}; it has {', '.join(names)}")
    chat.conversation.model = rest


COMMANDS: dict[str, Callable[[Chat, str], None]] = {
    "/help": _help,
    "/system": _system,
    "/set": _set,
    "/clear": _clear,
    "/regen": _regen,
    "/undo": _undo,
    "/save": _save,
    "/load": _load,
    "/model": _model,
}
_USES = {name: name for name in COMMANDS} | {
    "/system": "/system [TEXT]",
    "/set": "/set [NAME VALUE]",
    "/save": "/save [NAME]",
    "/load": "/load [NAME]",
    "/model": "/model [NAME]",
}
WORDS = [*COMMANDS, "/bye"]


def _path(chat: Chat, name: str) -> Path:
    return Path(name).expanduser() if "/" in name else chat.folder / f"{name}.json"


def _switch(value: str) -> bool:
    if value not in ("on", "off"):
        raise CommandError("on or off")
    return value == "on"


def _thoughts(value: str) -> Thoughts:
    for known in get_args(Thoughts):
        if value == known:
            found: Thoughts = known
            return found
    raise CommandError(f"thoughts are {', '.join(get_args(Thoughts))}")
