"""`slotmux serve` at a terminal: bars while it loads, then where it is; plain lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from slotmux.server.loading.progress import ProgressDisplay
from slotmux.server.process.logs import LOGGER, set_up_logging
from slotmux.server.process.welcome import welcome
from slotmux.server.settings import Settings
from tests.server.terminal.pseudo import at_terminal


def test_serve_shows_what_it_does_then_where_it_is(
    tiny_model_path: Callable[..., Path], kernel_cache_dir: Path
) -> None:
    model = str(tiny_model_path("llama"))
    args = ("serve", model, "--port", "0", "--ctx-size", "64")
    with at_terminal(*args, cache=kernel_cache_dir.parent) as terminal:
        terminal.wait_for("listening")
        terminal.wait_for("Loading weights")
        terminal.wait_for("100%")
        terminal.wait_for("  curl http://127.0.0.1:")
        line = terminal.wait_for("talks to it")
        url = line.split("slotmux chat ")[1].split()[0]
        assert httpx.get(f"{url}/health").status_code == 200
        terminal.type("\x03")
        assert terminal.exit_code() == 0
    assert '"event"' not in terminal.seen


def test_a_line_that_is_logged_while_bars_are_drawn_stands_above_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    before = logging.getLogger(LOGGER).handlers, logging.getLogger().handlers
    log = set_up_logging("info", "text")
    with ProgressDisplay(Console(file=out, force_terminal=True, width=80)) as progress:
        progress("load", 0.5)
        assert sys.stderr is not out
        log.warning("look out")
    logging.getLogger(LOGGER).handlers, logging.getLogger().handlers = before
    [line] = [line for line in out.getvalue().splitlines() if "look out" in line]
    assert "Loading" not in line


def test_the_address_is_one_that_can_be_gone_to() -> None:
    settings = Settings(host="0.0.0.0", api_key=("secret",))
    text = welcome("http://0.0.0.0:8080", settings)
    assert "0.0.0.0" not in text
    assert "secret" not in text
    assert "-H 'Authorization: Bearer KEY'" in text
    assert "slotmux chat http://127.0.0.1:8080 --api-key KEY" in text
    assert "KEY" not in welcome("http://127.0.0.1:8080", Settings())
