"""Each program of this folder against the servers that it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.webui.conftest import PACKAGES, Node


@pytest.mark.parametrize("name", ["text.test.mjs", "conversation.test.mjs"])
def test_what_needs_no_browser(node: Node, pure: Path, name: str) -> None:
    node(name, PURE=str(pure))


def test_the_bundle_is_what_the_source_builds(pure: Path) -> None:
    for built in (pure.parent / "page").iterdir():
        kept = ROOT / "server" / "assets" / "page" / built.name
        assert kept.read_bytes() == built.read_bytes(), f"{built.name}: make webui"


def test_types(pure: Path) -> None:
    """The source is right as TypeScript sees it."""
    command = [str(PACKAGES / ".bin" / "tsc"), "-p", str(ROOT / "server/webui")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_chat(node: Node, chromium: str, echo_url: str, slow_url: str) -> None:
    node("chat.test.mjs", CHROMIUM=chromium, ECHO=echo_url, SLOW=slow_url)


def test_what_goes_wrong(node: Node, chromium: str, echo_url: str) -> None:
    node("failure.test.mjs", CHROMIUM=chromium, ECHO=echo_url)


def test_several_models(node: Node, chromium: str, echo_url: str) -> None:
    node("models.test.mjs", CHROMIUM=chromium, ECHO=echo_url)


def test_hostile_answers(node: Node, chromium: str, echo_url: str) -> None:
    node("hostile.test.mjs", CHROMIUM=chromium, ECHO=echo_url)


def test_the_key(node: Node, chromium: str, keyed_url: str) -> None:
    node("key.test.mjs", CHROMIUM=chromium, KEYED=keyed_url)


def test_the_board_and_a_real_model(node: Node, chromium: str, demo_url: str) -> None:
    node("board.test.mjs", CHROMIUM=chromium, DEMO=demo_url)


def test_everybody_can_use_it(node: Node, chromium: str, echo_url: str, demo_url: str) -> None:
    node("access.test.mjs", CHROMIUM=chromium, ECHO=echo_url, DEMO=demo_url)


def test_frames(node: Node, chromium: str, slow_url: str) -> None:
    node("frames.test.mjs", CHROMIUM=chromium, SLOW=slow_url)
