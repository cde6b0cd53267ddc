"""Compiling where it can do no harm: time, memory, crashes, and who gets what of what was kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterator

import pytest

from slotmux.server.grammars import compiler
from slotmux.server.grammars.child import EXTRA_BYTES
from slotmux.server.grammars.compiler import Grammars
from slotmux.server.grammars.guard import TOO_MUCH, Guard
from slotmux.server.grammars.matcher import begin_library_tokenizer
from slotmux.server.grammars.spec import GrammarError, GrammarSpec
from tests.server.grammars.vocabulary import WordTokenizer, takes

DEEP = "(" * 60_000 + "a" + ")" * 60_000


@pytest.fixture
def grammars() -> Iterator[Grammars]:
    made = Grammars()
    yield made
    made.close()


def compile(grammars: Grammars, kind, text: str, tenant: str = "t"):
    async def run():
        return await grammars.compile(WordTokenizer(), GrammarSpec(kind, text), tenant)

    return asyncio.run(run())


def refused(grammars: Grammars, kind, text: str) -> GrammarError:
    with pytest.raises(GrammarError) as info:
        compile(grammars, kind, text)
    return info.value


def test_every_kind(grammars: Grammars) -> None:
    assert takes(compile(grammars, "json_object", ""), '{"a": 1}')
    assert takes(compile(grammars, "json_schema", '{"type": "integer"}'), "12")
    assert takes(compile(grammars, "regex", "a[b/]+"), "ab/")
    choices = compile(grammars, "choice", json.dumps(["a", 'a"b\n', "a/", "é"]))
    for text in ("a", 'a"b\n', "a/", "é"):
        assert takes(choices, text)
    assert not takes(choices, "b")
    assert takes(compile(grammars, "gbnf", 'root ::= "x"+'), "xx")
    lark = 'start: <|begin|> "x" %json {"type": "integer"}'
    begin = 256 + 11
    assert compile(grammars, "lark", lark)().n_valid([begin, ord("x"), ord("7")]) == 3


def test_a_draft_that_is_no_token_harms_nothing(grammars: Grammars) -> None:
    """Logits may have more rows than there are tokens, and a guess may be any of them."""
    matcher = compile(grammars, "regex", "a+")()
    assert matcher.n_valid([ord("a"), WordTokenizer.n_vocab + 40, ord("a")]) == 1
    matcher.consume(ord("a"))
    assert not matcher.is_stopped


def test_the_same_is_compiled_once_and_kept_for_its_tenant(grammars: Grammars) -> None:
    first = compile(grammars, "regex", "a")
    assert compile(grammars, "regex", "a") is first
    assert compile(grammars, "regex", "a", "another") is not first
    assert grammars.n_kept == 2


def test_a_vocabulary_that_is_being_made_is_waited_for(grammars: Grammars, monkeypatch) -> None:
    """At start, so that the first grammar does not hold everybody up."""
    known = WordTokenizer()
    grammars.know(known, begin_library_tokenizer(known))
    monkeypatch.delattr(compiler, "begin_library_tokenizer")

    async def run():
        return await grammars.compile(known, GrammarSpec("regex", "ab"), "t")

    assert takes(asyncio.run(run()), "ab")


def test_a_vocabulary_that_cannot_be_made_is_no_endless_wait() -> None:
    class Broken(WordTokenizer):
        def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
            raise RuntimeError("no bytes")

    with pytest.raises(RuntimeError, match="no bytes"):
        begin_library_tokenizer(Broken()).result(10)


def test_all_that_ask_at_once_get_one(grammars: Grammars) -> None:
    async def run():
        spec = GrammarSpec("json_object")
        return await asyncio.gather(
            *(grammars.compile(WordTokenizer(), spec, "t") for _ in range(20))
        )

    assert len({id(made) for made in asyncio.run(run())}) == 1


def test_what_is_kept_is_bounded(grammars: Grammars, monkeypatch) -> None:
    monkeypatch.setattr(compiler, "MAX_ENTRIES", 5)
    for i in range(12):
        compile(grammars, "regex", f"a{i}")
    assert grammars.n_kept == 5
    monkeypatch.setattr(compiler, "MAX_KEPT_BYTES", 100)
    compile(grammars, "choice", json.dumps(["x" * 60]))
    compile(grammars, "choice", json.dumps(["y" * 60]))
    assert grammars.n_kept == 1


def test_what_is_wrong_is_remembered_too(grammars: Grammars) -> None:
    assert "look-around" in str(refused(grammars, "regex", "(?=a)b"))
    assert grammars.n_kept == 1
    assert "look-around" in str(refused(grammars, "regex", "(?=a)b"))


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        ({"properties": {"a": {"pattern": "(?=a)b", "type": "string"}}},
         ("properties", "a"), "look"),
        ({"anyOf": [{}, {"format": "zork", "type": "string"}]}, ("anyOf", 1), "format"),
        ({"items": {"$ref": "#/$defs/none"}}, ("items",), "leads nowhere"),
        ({"$defs": {"b": {"enum": []}}, "properties": {"a": {"$ref": "#/$defs/b"}},
          "required": ["a"]}, ("properties", "a"), "nothing satisfies"),
        (False, (), "nothing satisfies"),
        ({"$ref": "#"}, (), "nothing satisfies"),
    ],
)  # fmt: skip
def test_a_fault_in_a_schema_is_found(grammars, schema, path, words) -> None:
    error = refused(grammars, "json_schema", json.dumps(schema))
    assert words in str(error)
    assert error.path == path


WRONG = {
    "back reference": ("regex", r"(a)\1"),
    "look-behind": ("regex", "(?<=a)b"),
    "empty class": ("regex", "[^]"),
    "start (llama.cpp #13390)": ("regex", "^?"),
    "groups (llama.cpp #26600)": ("regex", DEEP),
    "a terminal of itself": ("lark", "start: A\nA: A"),
    "no such rule": ("lark", "start: foo"),
    "no such token": ("lark", "start: <|nowhere|>"),
    "nothing": ("lark", " "),
    "endless": ("lark", "start: a\na: a"),
    "not JSON": ("json_schema", '{"type":'),
    "not a schema": ("json_schema", "3"),
    "no choices": ("choice", "[]"),
    "deep": ("json_schema", '{"items":' * 3000 + "{}" + "}" * 3000),
    "long": ("regex", "a" * 300_000),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_followed_is_refused_and_the_next_is_served(grammars, name) -> None:
    refused(grammars, *WRONG[name])
    assert takes(compile(grammars, "regex", "ok"), "ok")


def test_what_takes_too_long_ends_its_process_and_nothing_else() -> None:
    """A stopped process answers to nothing, however fast the machine is."""
    guard = Guard(seconds=0.2)
    try:
        while guard.pid == 0:  # on a busy machine even this may take too long
            with contextlib.suppress(GrammarError):
                guard.first_fault(['start: "a"'])
        stopped = guard.pid
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(GrammarError, match=TOO_MUCH) as info:
            guard.first_fault(['start: "a"'])
        assert not info.value.is_final
        assert guard.pid == 0
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)
    finally:
        guard.close()


def test_what_took_too_long_may_be_tried_again(grammars, monkeypatch) -> None:
    def too_slow(self, sources):
        raise GrammarError(TOO_MUCH, is_final=False)

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "first_fault", too_slow)
        assert str(refused(grammars, "regex", "ok")) == TOO_MUCH
    assert grammars.n_kept == 0  # another time there may be more room
    assert takes(compile(grammars, "regex", "ok"), "ok")


@pytest.mark.parametrize("text", ["a{1000}{1000}{1000}", "(a{1,1000}){1,1000}", "(a|aa)+" * 500])
def test_published_bombs_end_soon_and_the_next_is_served(grammars: Grammars, text: str) -> None:
    """Taken or refused: within the limits either way."""
    with contextlib.suppress(GrammarError):
        compile(grammars, "regex", text)
    assert takes(compile(grammars, "regex", "ok"), "ok")


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_process_that_dies_is_replaced(is_gone: bool) -> None:
    """Before it is asked, or while it is: the pipe then takes the question or does not."""
    guard = Guard()
    try:
        assert guard.first_fault(["start: foo", 'start: "a"'])[0] == 0
        os.kill(guard.pid, signal.SIGKILL)
        if is_gone:
            os.waitid(os.P_PID, guard.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(GrammarError):
            guard.first_fault(['start: "a"'])
        assert guard.first_fault(['start: "a"']) is None
        before = guard.pid
        assert guard.first_fault(['start: "a"', "start: foo"])[0] == 1
        assert guard.pid == before
    finally:
        guard.close()
    assert guard.pid == 0


def test_memory_of_the_process_is_bounded() -> None:
    guard = Guard()
    try:
        assert guard.first_fault(['start: "a"']) is None
        soft, _ = resource.prlimit(guard.pid, resource.RLIMIT_AS)
        with open(f"/proc/{guard.pid}/statm", "rb") as file:
            n_bytes = int(file.read().split()[0]) * resource.getpagesize()
        assert n_bytes < soft < n_bytes + EXTRA_BYTES + (64 << 20)
    finally:
        guard.close()
