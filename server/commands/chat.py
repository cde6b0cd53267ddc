"""`slotmux chat`: a conversation in the terminal, with a running server or with one of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import argument, option
from slotmux.server.loading.errors import CommandError
from slotmux.server.settings import Settings

if TYPE_CHECKING:
    from slotmux.server.terminal.chat import Chat, Looks
    from slotmux.server.terminal.client import Address, Server
    from slotmux.server.terminal.conversation import Conversation

Thoughts = Literal["folded", "full", "off"]


@takes_settings(
    "ctx_size", "threads", "isa", "cache_type_k", "cache_type_v", "chat_template_file", "cache_dir",
    "hf_token", "hf_endpoint", spec_type="auto",
)  # fmt: skip
def chat(
    settings: Settings,
    target: Annotated[
        str | None,
        argument("URL|MODEL", "A server, such as http://127.0.0.1:8080, or what `slotmux serve`"
                 " takes. Default: the server of this machine, else the default model."),
    ] = None,
    message: Annotated[
        list[str] | None,
        argument("MESSAGE", "Answer this and leave; what is piped in comes behind it."),
    ] = None,
    system: Annotated[str, option("--system", help="System prompt.")] = "",
    model: Annotated[
        str, typer.Option("--model", help="Which of a server's models; default: the first.")
    ] = "",
    api_key: Annotated[str, option("--api-key", help="Key sent as bearer token.")] = "",
    temperature: Annotated[
        float | None, option("--temp", "--temperature", min=0, help="0: always the likeliest.")
    ] = None,
    top_k: Annotated[int | None, option("--top-k", help="Sample from so many.")] = None,
    top_p: Annotated[float | None, option("--top-p", min=0, max=1, help="From this mass.")] = None,
    min_p: Annotated[
        float | None, option("--min-p", min=0, max=1, help="From this share of the likeliest.")
    ] = None,
    seed: Annotated[int | None, option("--seed", "-s", help="The same answer again.")] = None,
    max_tokens: Annotated[
        int | None, option("--max-tokens", "--n-predict", "-n", min=1, help="Most of an answer.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        option("--set", help="A further parameter of requests; may be given again.",
               metavar="NAME=VALUE"),
    ] = None,
    thoughts: Annotated[
        Thoughts, option("--thoughts", help="How the model's thoughts are shown.")
    ] = "folded",
    markdown: Annotated[
        bool, typer.Option("--markdown/--no-markdown", help="Render it, on a terminal.")
    ] = True,
    verbose: Annotated[
        bool, option("--verbose", "-v", help="Tokens a second behind each answer.")
    ] = False,
) -> None:  # fmt: skip
    """Chat with a model in the terminal.

    With a MODEL a server of its own is started and ended, on loopback. What is piped in is one
    message: its answer is printed, nothing else. /help tells the commands of a chat.
    """
    from slotmux.server.terminal.chat import Looks
    from slotmux.server.terminal.conversation import Conversation

    named = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed,
        "max_tokens": max_tokens,
    }  # fmt: skip
    options = {name: value for name, value in named.items() if value is not None}
    conversation = Conversation(model, system, options)
    _set(conversation, set_ or [])
    text = _piped(" ".join(message or ()))
    with _server(target, api_key.partition(",")[0], settings) as address:
        _converse(address, conversation, Looks(markdown, thoughts, verbose), text, settings.caches)


def _set(conversation: Conversation, further: list[str]) -> None:
    for each in further:
        name, has_value, value = each.partition("=")
        if not has_value:
            raise CommandError(f"--set {each}: write NAME=VALUE")
        conversation.set(name, value)


def _converse(
    address: Address, conversation: Conversation, looks: Looks, text: str | None, caches: Path
) -> None:
    """One answer to ``text``, or a chat. Ctrl-C in the one answer is raised."""
    from slotmux.server.terminal.chat import Chat
    from slotmux.server.terminal.client import Server

    with Server(address, lambda why: print(f"{why}; waiting ...", file=sys.stderr)) as server:
        conversation.model = conversation.model or _first_model(server)
        chat = Chat(server, conversation, looks, caches / "chats")
        if text is None:
            _interact(chat, caches / "chat-history")
        elif not chat.say(text):
            raise KeyboardInterrupt


def _interact(chat: Chat, history: Path) -> None:
    from slotmux.server.terminal.commands import WORDS, run_command
    from slotmux.server.terminal.typed import TerminalLines

    chat.tell(f"{chat.conversation.model} at {chat.server.address.url}; /help tells the commands.")
    chat.run(TerminalLines(history, WORDS), run_command)


def _first_model(server: Server) -> str:
    models = server.models()
    if not models:
        raise CommandError(f"{server.address.url} serves no model")
    return models[0]


def _piped(message: str) -> str | None:
    """The one message of a chat without a person at its keyboard; None: there is one."""
    if sys.stdin.isatty():
        if not (message or sys.stdout.isatty()):
            raise CommandError("standard output is no terminal: name a MESSAGE, or pipe one in")
        return message or None
    piped = sys.stdin.read().strip()
    text = "\n\n".join(part for part in (message, piped) if part)
    if not text:
        raise CommandError("nothing was piped in, and no MESSAGE was named")
    return text


@contextlib.contextmanager
def _server(target: str | None, key: str, settings: Settings) -> Iterator[Address]:
    """The server that is talked to; one of our own for a model."""
    from slotmux.server.terminal.client import Address, address_of, is_address

    if target is None:
        found = local_server(settings, key)
        if found is not None:
            yield found
            return
    elif not Path(target).exists() and is_address(target):
        yield address_of(target, key)
        return
    with _own(target, settings) as (url, own_key):
        yield Address(url, own_key)


def local_server(settings: Settings, key: str) -> Address | None:
    """The server that listens where `slotmux serve` does; None if none answers there."""
    from slotmux.server.terminal.client import RefusedError, Server, address_here

    address = address_here(settings.host, settings.port, key)
    with Server(address) as server:
        try:
            server.look("v1/models")
        except RefusedError as error:
            return address if error.status in (401, 403, 503) else None
    return address


@contextlib.contextmanager
def _own(target: str | None, settings: Settings) -> Iterator[tuple[str, str]]:
    """A server in this process: its address and its key."""
    from slotmux.server.files.names import pullable
    from slotmux.server.loading.assemble import assemble
    from slotmux.server.loading.locate import model_folders
    from slotmux.server.process.inside import serving_inside
    from slotmux.server.process.logs import set_up_logging

    set_up_logging("warning", "text")
    spec = pullable(target or settings.model, model_folders(settings))
    own = settings.model_copy(update={"model": spec, "parallel": 1, "slot_save_path": None})
    with serving_inside(own, assemble(own)) as door:
        yield door.url, door.api_key
