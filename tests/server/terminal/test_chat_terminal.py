"""A person's chat: typed at a pseudo terminal, with a server that answers slowly or at once."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.terminal.pseudo import Terminal, at_terminal

GREETING = "Hello wörld."


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(FakeEngine(n_ctx=4096)) as server:
        yield server


@pytest.fixture
def chat(server: RunningServer, tmp_path: Path) -> Iterator[Terminal]:
    with at_terminal("chat", server.url, cache=tmp_path) as terminal:
        terminal.wait_for(">>>")
        yield terminal


def messages_of(server: RunningServer) -> str:
    """The prompt of the last request: '<role>content' of every message."""
    return bytes(server.engine.submitted[-1].prompt).decode()


def say(chat: Terminal, text: str) -> None:
    chat.type(f"{text}\r")
    chat.wait_for(GREETING)
    chat.wait_for(">>>")


def test_turns_are_told_to_the_server_and_ctrl_d_leaves(
    chat: Terminal, server: RunningServer
) -> None:
    say(chat, "one")
    say(chat, "two")
    assert messages_of(server) == f"<user>one<assistant>{GREETING}<user>two"
    chat.type("\x04")
    assert chat.exit_code() == 0


def test_messages_of_several_lines(chat: Terminal, server: RunningServer) -> None:
    chat.type('"""\r')
    chat.wait_for("...")
    chat.type("a\r")
    chat.wait_for("...")
    say(chat, 'b"""')
    assert messages_of(server) == "<user>a\nb"
    chat.type("c \\\r")
    chat.wait_for("...")
    say(chat, "d")
    assert messages_of(server).endswith("<user>c \nd")
    say(chat, "/etc/hosts holds names")
    assert messages_of(server).endswith("<user>/etc/hosts holds names")


def test_what_is_pasted_is_one_message(chat: Terminal, server: RunningServer) -> None:
    say(chat, "\x1b[200~x\ny\x1b[201~")
    assert messages_of(server) == "<user>x\ny"


def test_commands(chat: Terminal, server: RunningServer, tmp_path: Path) -> None:
    chat.type("/help\r")
    chat.wait_for("/regen")
    chat.type("/system Be terse.\r")
    chat.wait_for("Be terse.\n")
    chat.type("/set temperature 0.25\r")
    chat.wait_for("temperature=0.25")
    chat.wait_for(">>>")
    say(chat, "one")
    assert messages_of(server) == "<system>Be terse.<user>one"
    assert server.engine.submitted[-1].sampling.temperature == 0.25
    n_before = len(server.engine.submitted)
    say(chat, "/regen")
    assert len(server.engine.submitted) == n_before + 1
    assert messages_of(server) == "<system>Be terse.<user>one"
    chat.type("/save mine\r")
    chat.wait_for("saved: ")
    chat.type("/undo\r")
    chat.wait_for("taken back: one")
    chat.type("/clear\r")
    chat.wait_for("a new conversation")
    chat.type("/load mine\r")
    chat.wait_for("2 messages")
    chat.wait_for(">>>")
    say(chat, "two")
    assert messages_of(server) == f"<system>Be terse.<user>one<assistant>{GREETING}<user>two"
    chat.type("/bye\r")
    assert chat.exit_code() == 0
    saved = tmp_path / "chats" / "mine.json"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert json.loads(saved.read_text())["options"] == {"temperature": 0.25}


REFUSED = {
    "/nothing": "there is no command /nothing",
    "/set messages 1": "messages is no parameter that can be set",
    "/set temperature": "needs a value",
    "/set thoughts loud": "thoughts are folded, full, off",
    "/set verbose maybe": "on or off",
    "/load nobody": "No such file",
    "/model other": "the server has no model other",
    "/regen": "there is no message to answer again",
}


def test_what_cannot_be_done_is_told_and_the_chat_goes_on(
    chat: Terminal, server: RunningServer
) -> None:
    for typed, told in REFUSED.items():
        chat.type(f"{typed}\r")
        chat.wait_for(told)
        chat.wait_for(">>>")
    chat.type("/set temperature hot\r")
    chat.wait_for("temperature=hot")
    chat.type("the server judges\r")
    chat.wait_for("'temperature'")
    chat.type("/set temperature default\r")
    chat.wait_for("verbose=off")
    chat.wait_for(">>>")
    say(chat, "still there")
    assert messages_of(server) == "<user>still there"


def test_history_is_kept_for_the_next_chat(server: RunningServer, tmp_path: Path) -> None:
    with at_terminal("chat", server.url, cache=tmp_path) as first:
        first.wait_for(">>>")
        say(first, "remember me")
        first.type("\x04")
        assert first.exit_code() == 0
    assert stat.S_IMODE((tmp_path / "chat-history").stat().st_mode) == 0o600
    with at_terminal("chat", server.url, cache=tmp_path) as second:
        second.wait_for(">>>")
        second.type("\x1b[A")
        second.wait_for("remember me")
        say(second, "")
        assert messages_of(server) == "<user>remember me"


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    engine = FakeEngine(n_ctx=4096, step_s=0.05, script=b"first words and then " * 100)
    with (
        running(engine) as server,
        at_terminal("chat", server.url, "--no-markdown", cache=tmp_path) as chat,
    ):
        chat.wait_for(">>>")
        chat.type("go\r")
        chat.wait_for("first words")
        chat.type("\x03")
        chat.wait_for("[stopped]")
        chat.wait_for(">>>")
        engine.script, engine.step_s = b"Short.", 0.001
        chat.type("more\r")
        chat.wait_for("Short.")
        assert set(engine.aborted) == {1}
        said = messages_of(server)
        assert said.startswith("<user>go<assistant>first words")
        assert said.endswith("<user>more")
        chat.wait_for(">>>")
        chat.type("\x03")
        chat.wait_for("Ctrl-D or /bye leaves")
        chat.type("/bye\r")
        assert chat.exit_code() == 0


def test_thoughts_are_folded_or_shown(thinker: RunningServer, tmp_path: Path) -> None:
    with at_terminal("chat", thinker.url, cache=tmp_path) as chat:
        chat.wait_for(">>>")
        chat.type("so?\r")
        chat.wait_for("[thought for ")
        chat.wait_for("Hi.")
        chat.wait_for(">>>")
        chat.type("/set thoughts full\r")
        chat.wait_for("thoughts=full")
        chat.type("so?\r")
        chat.wait_for("Hm. 5")
        chat.wait_for("Hi.")


def test_a_model_does_not_move_the_cursor(tmp_path: Path) -> None:
    with running(FakeEngine(script=b"evil \x1b[2J\x1b]0;title\x07 text")) as server:
        for flag in ("--markdown", "--no-markdown"):
            with at_terminal("chat", server.url, flag, cache=tmp_path) as chat:
                chat.wait_for(">>>")
                chat.type("go\r")
                chat.wait_for("evil [2J]0;title text")


def test_a_server_that_goes_away_is_told(tmp_path: Path) -> None:
    with (
        running(FakeEngine()) as server,
        at_terminal("chat", server.url, cache=tmp_path) as chat,
    ):
        chat.wait_for(">>>")
        server.stop()
        chat.type("anybody?\r")
        chat.wait_for(f"cannot ask {server.url}")
        chat.wait_for(">>>")
        chat.type("\x04")
        assert chat.exit_code() == 0
