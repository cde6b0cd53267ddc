"""`slotmux top` and `slotmux ps`: what a live server does, in a table and at a terminal."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from slotmux.server.cli import app
from slotmux.server.commands.ps import until
from slotmux.server.terminal.board import Board
from slotmux.server.terminal.client import RefusedError
from slotmux.server.terminal.look import Look, SlotLook
from tests.server.fake_engine import FakeEngine
from tests.server.fake_model import RunningServer, running
from tests.server.terminal.pseudo import at_terminal, wait_until

BUSY = {"step_s": 0.02, "script": b"word " * 2000, "n_ctx": 20_000}


@pytest.fixture(scope="module")
def busy() -> Iterator[RunningServer]:
    """Two of four slots answer for a long time."""
    with running(FakeEngine(**BUSY)) as server:
        hang_up = threading.Event()

        def ask() -> None:
            body = {"prompt": "x", "max_tokens": 9000, "stream": True}
            with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as answer:
                for _ in answer.iter_raw():
                    if hang_up.is_set():
                        return

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.engine.stats().n_slots_busy == 2)
        yield server
        hang_up.set()
        for thread in threads:
            thread.join()


def run(*args: str) -> Any:
    return CliRunner().invoke(app, args)


def test_ps(busy: RunningServer) -> None:
    result = run("ps", busy.url)
    assert result.exit_code == 0, result.output
    heading, row = result.output.splitlines()
    assert heading.split("   ")[0] == "NAME"
    assert row.split()[0] == "fake"
    assert "2 of 4" in row
    assert row.endswith("forever")
    [told] = json.loads(run("ps", busy.url, "--json").output)
    assert (told["slots"], told["slots_busy"], told["context_length"]) == (4, 2, 20_000)


def test_ps_where_slots_are_nobodys_business() -> None:
    with running(FakeEngine(), slots="off") as server:
        row = run("ps", server.url).output.splitlines()[1]
        assert row.split() == ["fake", "0", "B", "?", "512", "forever"]


def test_until() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert until("2026-01-01T00:04:30Z", now) == "4 minutes from now"
    assert until("2026-01-01T02:04:30+02:00", now) == "4 minutes from now"
    assert until("2025-12-31T23:59:59Z", now) == "stopping"
    assert until("2318-01-01T00:00:00Z", now) == "forever"
    assert until("soon", now) == "?"


def test_top_in_a_pipe_is_one_board(busy: RunningServer) -> None:
    result = run("top", busy.url, "--interval", "0.2")
    assert result.exit_code == 0, result.output
    assert "2 of 4 slots busy, 0 waiting" in result.output
    generating = [line for line in result.output.splitlines() if "generating" in line]
    assert len(generating) == 2
    for line in generating:
        assert float(line.split()[3]) > 1  # tokens a second


def test_top_at_a_terminal_until_q(busy: RunningServer, tmp_path: Path) -> None:
    with at_terminal("top", busy.url, "--interval", "0.1", cache=tmp_path) as terminal:
        terminal.wait_for("2 of 4 slots busy")
        terminal.wait_for("tokens/s")
        terminal.wait_for("generating")
        terminal.type("q")
        assert terminal.exit_code() == 0
    with at_terminal("top", busy.url, "--interval", "5", cache=tmp_path) as terminal:
        terminal.wait_for("2 of 4 slots busy")
        terminal.type("\x03")
        assert terminal.exit_code() == 0


def test_top_waits_for_a_server_that_goes_away(tmp_path: Path) -> None:
    with (
        running(FakeEngine()) as server,
        at_terminal("top", server.url, "--interval", "0.1", cache=tmp_path) as terminal,
    ):
        terminal.wait_for("0 of 4 slots busy")
        server.stop()
        terminal.wait_for("trying again")
        terminal.type("q")
        assert terminal.exit_code() == 0


@pytest.mark.parametrize("command", ["top", "ps"])
def test_a_key_is_needed_and_sent(command: str) -> None:
    with running(FakeEngine(), api_key=("secret",)) as server:
        refused = run(command, server.url)
        assert isinstance(refused.exception, RefusedError)
        assert "--api-key" in str(refused.exception)
        assert run(command, server.url, "--api-key", "secret").exit_code == 0


@pytest.mark.parametrize("command", ["top", "ps"])
def test_nobody_there(command: str) -> None:
    refused = run(command, "127.0.0.1:9")
    assert "cannot ask http://127.0.0.1:9" in str(refused.exception)


def _slot(**of: Any) -> SlotLook:
    facts = dict.fromkeys(
        ("id", "request", "choice", "n_prompt", "n_cached", "n_computed", "n_generated",
         "n_blocks", "n_drafted", "n_accepted", "n_ctx"), 0,
    )  # fmt: skip
    return SlotLook(**(facts | {"state": "idle"} | of))


def _drawn(*looks: Look, width: int = 100, height: int = 40) -> str:
    board = Board("title")
    for look in looks:
        board.take(look)
    out = io.StringIO()
    Console(file=out, width=width).print(board.draw(width, height))
    return out.getvalue()


METRICS = {
    "slotmux_kv_blocks": 100.0, "slotmux_kv_blocks_free": 25.0, "slotmux_kv_blocks_cached": 25.0,
    "slotmux_state_rows": 10.0, "slotmux_state_rows_free": 4.0, "slotmux_checkpoints": 4.0,
    "slotmux_queue_length": 3.0,
    "vllm:prefix_cache_queries_total": 200.0, "vllm:prefix_cache_hits_total": 150.0,
    "vllm:spec_decode_num_draft_tokens_total": 40.0,
    "vllm:spec_decode_num_accepted_tokens_total": 30.0,
    "process_resident_memory_bytes": 2.5e9,
    "llamacpp:tokens_predicted_total": 1000.0, "llamacpp:prompt_tokens_total": 0.0,
    "slotmux_time_to_first_token_seconds_sum": 4.0,
    "slotmux_time_to_first_token_seconds_count": 2.0,
}  # fmt: skip


def test_rates_are_of_the_time_between_two_looks() -> None:
    before = Look(
        10.0,
        (
            _slot(id=0, state="generating", request=1, n_generated=10),
            _slot(id=1, state="generating", request=2, n_generated=500),
            _slot(id=2, state="prompt", request=3, n_computed=100),
        ),
        METRICS,
    )
    later = METRICS | {
        "llamacpp:tokens_predicted_total": 1080.0,
        "llamacpp:prompt_tokens_total": 600.0,
        "slotmux_time_to_first_token_seconds_sum": 5.0,
        "slotmux_time_to_first_token_seconds_count": 4.0,
    }
    now = Look(
        12.0,
        (
            _slot(id=0, state="generating", request=1, n_generated=50, n_drafted=8, n_accepted=6),
            _slot(id=1, state="generating", request=4, n_generated=1),  # another one
            _slot(id=2, state="prompt", request=3, n_computed=700),
        ),
        later,
    )
    text = _drawn(before, now)
    assert "3 of 3 slots busy, 3 waiting" in text
    assert "40 tokens/s" in text
    assert "300 tokens/s" in text
    assert "800 of 1600 used, 400 kept as prefixes" in text
    assert "6 of 10 used, 4 of them kept copies" in text
    assert "75 % of prompts in memory" in text
    assert "75 % of 40 accepted" in text
    assert "2.5 GB resident" in text
    assert "first token 500 ms" in text
    rows = [line.split() for line in text.splitlines() if line.strip()[:1] in "012"]
    assert rows[-3][:4] == ["0", "generating", "1", "20.0"]
    assert rows[-3][-2:] == ["75", "%"]
    assert rows[-2][:4] == ["1", "generating", "4", "0"]  # no rate yet
    assert rows[-1][:4] == ["2", "prompt", "3", "300.0"]


def test_clients_states_and_models_where_they_are_told() -> None:
    slots = (
        _slot(id=0, state="generating", model="a", client="c1", n_states=1),
        _slot(id=0, state="generating", model="b\x1b", client="c2", n_states=1),
    )
    text = _drawn(Look(1.0, slots, {}))
    for heading in ("STATES", "CLIENT", "MODEL"):
        assert heading in text
    assert "b?" in text
    plain = _drawn(Look(1.0, (_slot(id=0),), {}))
    for heading in ("STATES", "CLIENT", "MODEL"):
        assert heading not in plain


def test_a_restarted_server_begins_at_zero() -> None:
    text = _drawn(
        Look(1.0, (), {"llamacpp:tokens_predicted_total": 500.0}),
        Look(2.0, (), {"llamacpp:tokens_predicted_total": 5.0}),
    )
    assert "0 tokens/s" in text
    assert "-" not in text


def test_no_line_is_longer_than_the_terminal() -> None:
    text = _drawn(Look(1.0, (_slot(id=0, state="generating"),), METRICS), width=80)
    assert max(map(len, text.splitlines())) <= 80


def test_busy_slots_are_shown_where_all_do_not_fit() -> None:
    slots = [_slot(id=i, state="generating" if i == 60 else "idle") for i in range(64)]
    look = Look(1.0, tuple(slots), METRICS)
    assert _drawn(look, height=40).count("idle") == 0
    assert "  60  generating" in _drawn(look, height=40)
    assert _drawn(look, height=90).count("idle") == 63
