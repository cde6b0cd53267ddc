"""llama-server's command line: every option works, or is told what to use instead."""

from __future__ import annotations

import re

import pytest
import typer.main
from typer.testing import CliRunner

from slotmux.server import cli
from slotmux.server.commands.llama_options import (
    OPTIONS,
    VARIABLES,
    RefusedOptionError,
    translate,
    variable_notes,
)
from slotmux.server.commands.serve import ServeCommand
from slotmux.server.settings import Settings
from tools.llama_options_page import PAGE, page

SERVE = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
KNOWN = {name for param in SERVE.params for name in (*param.opts, *param.secondary_opts)}
FLAGS = re.compile(r"--[a-z][a-z-]+")


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("-m x.gguf", "x.gguf"),
        ("--model=x.gguf -np 2", "-np 2 x.gguf"),
        ("-hf a/b:Q4_K_M", "hf:a/b:Q4_K_M"),
        ("-hft token", "--hf-token token"),
        ("-c 4096 x.gguf", "-c 4096 x.gguf"),
        ("-m x -ngl 99 -fa on --jinja -cb --mlock --no-mmap", "x"),
        ("-fa -m x", "x"),
        ("-fa --jinja", ""),
        ("--flash-attn=auto", ""),
        ("--metrics --slots -ctk q8_0 -ctv q8_0", "-ctk q8_0 -ctv q8_0"),
        ("--metrics public --slots=off x", "--metrics public --slots off x"),
        ("--props", ""),
        ("--metrics x.gguf", "x.gguf"),
        ("--no-slots", "--slots off"),
        ("--no-ui x", "--no-webui x"),
        ("--ui --no-webui", "--webui --no-webui"),
        ("-a name --api-key k --host h --port 1", "-a name --api-key k --host h --port 1"),
        ("--log-jsonl -v", "--log-format json --log-level debug"),
        ("-to 600 --predict 7", "--request-timeout 600 --n-predict 7"),
        ("-n -1 -t 4 -b 512 -ub 256", "-n -1 -t 4 -b 512 -ub 256"),
        ("-cram 8192 -kvu --cache-reuse 256", ""),
        ("-- -m", "-- -m"),
        ("--no-such-flag", "--no-such-flag"),
    ],
)
def test_what_works(given, meant):
    assert translate(words(given), KNOWN).args == words(meant)


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("--no-jinja", "always"),
        ("-nocb", "always"),
        ("--chat-template chatml", "--chat-template-file"),
        ("-C ff", "--pin-threads"),
        ("--lora a.gguf", "adapters"),
        ("-md draft.gguf", "--spec-type"),
        ("--mmproj m.gguf", "text"),
        ("--embd-normalize 2", "embd_normalize"),
        ("--ssl-key-file k", "proxy"),
        ("-mu http://x", "hf:USER/REPO"),
        ("-ngl", "needs a value"),
        ("-m a -m b", "one model"),
    ],
)
def test_what_is_told(given, instead):
    with pytest.raises(RefusedOptionError, match=re.escape(instead)) as refused:
        translate(words(given), KNOWN)
    assert str(refused.value).startswith(words(given)[0])


def test_what_changes_nothing_is_said():
    notes = translate(words("-ngl 99 --jinja"), KNOWN).notes
    assert [note.split(" changes nothing: ")[0] for note in notes] == ["-ngl", "--jinja"]


def test_the_other_meaning_of_the_context_is_said_to_users_of_llama_server():
    for args, is_said in (("-m x -c 4096", True), ("-c 4096 --jinja", True), ("x -c 4096", False)):
        notes = translate(words(args), KNOWN).notes
        assert any("longest sequence" in note for note in notes) is is_said


def test_our_own_flags_are_left_alone():
    """What both have is no line of the table, but where llama-server gives it no value."""
    for name in OPTIONS.keys() & KNOWN:
        assert OPTIONS[name].value == "maybe"


@pytest.mark.parametrize("name", OPTIONS)
def test_every_line_speaks_of_flags_that_exist(name):
    option = OPTIONS[name]
    for flag in FLAGS.findall(option.text + " " + " ".join(option.becomes)):
        assert flag in KNOWN, flag
    assert option.text or option.becomes
    assert (option.rule == "renamed") == bool(option.becomes)


def test_variables_are_told_with_ours():
    assert set(VARIABLES.values()) <= set(Settings.model_fields)
    names = ["LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_UNHEARD_OF", "LLAMA_CLOUD_API_KEY", "LLAMA_CACHE"]
    told = list(variable_notes(names))
    assert told == [
        "LLAMA_ARG_CTX_SIZE is set, but not read here: SLOTMUX_CTX_SIZE is",
        "LLAMA_ARG_UNHEARD_OF is set, but not read here",
    ]


def test_the_command_takes_them(monkeypatch):
    assert isinstance(SERVE, ServeCommand)
    monkeypatch.setenv("LLAMA_ARG_N_PARALLEL", "4")
    given = ["serve", "-m", "/no/such.gguf", "-ngl", "99", "-c", "4096", "--metrics"]
    result = CliRunner().invoke(cli.app, given)
    assert "-ngl changes nothing" in result.stderr
    assert "longest sequence" in result.stderr
    assert "SLOTMUX_PARALLEL is" in result.stderr
    assert "/no/such.gguf" in str(result.exception)


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == page(), "run: python -m tools.llama_options_page"
