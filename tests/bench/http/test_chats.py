"""Traces, what is told of a load, and clients against a server that answers at known times."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.http.chats import parse, requests_of, table, words_of
from tests.bench.http.latency import Bounds, capacity, served, summary
from tests.bench.http.load import send_all, send_together, told
from tests.bench.http.trace import DISTRIBUTIONS, Lengths, arrivals, chats
from tests.conftest import ROOT

N_CTX = 2048
DEMO_PATH = ROOT / "server" / "assets" / "demo.gguf"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_trace_is_the_same_every_time_and_fits(name: str) -> None:
    trace = chats(name, 500, N_CTX, seed=1)
    assert trace == chats(name, 500, N_CTX, seed=1) != chats(name, 500, N_CTX, seed=2)
    assert len(trace) == 500
    assert all(c.n_prompt >= 4 and c.n_gen >= 4 and c.n_prompt + c.n_gen <= N_CTX for c in trace)


def test_distributions_have_the_published_numbers() -> None:
    rng = np.random.default_rng(3)
    drawn = {name: [x.draw(rng, 400_000) for x in both] for name, both in DISTRIBUTIONS.items()}
    for values, mean in zip(drawn["sharegpt"], (161.31, 337.99), strict=True):
        assert values.mean() == pytest.approx(mean, rel=0.02)
    for values, median in zip(drawn["azure"], (1020, 129), strict=True):
        assert np.median(values) == pytest.approx(median, rel=0.02)


def test_a_file_of_requests_is_drawn_from(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nx,100,10\nx,3000,5\nx,50,60\n")
    trace = chats(str(path), 200, N_CTX, seed=1)
    assert {(c.n_prompt, c.n_gen) for c in trace} == {(100, 10), (50, 60)}
    with pytest.raises(ValueError, match="fits into 20"):
        chats(str(path), 1, 20, seed=1)


def test_lengths_of_a_mean() -> None:
    assert Lengths.of_mean(100.0, 0.0) == Lengths(100.0, 0.0)


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    times = arrivals(20_000, 4.0, seed=1)
    gaps = np.diff(times)
    assert times[0] == 0.0
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() == pytest.approx(0.25, rel=0.05)  # exponential gaps
    assert arrivals(100, 8.0, seed=1) == pytest.approx([t / 2 for t in times[:100]])


def answer(sent: float, *times: float, n: int = 0, error: str = "") -> dict[str, Any]:
    return {"sent": sent, "times": list(times), "n_tokens": n or len(times), "error": error}


def test_what_one_client_sees() -> None:
    # Two tokens came in one piece of text.
    seen = served(answer(1.0, 1.5, 1.6, 2.1, n=4))
    assert seen["ttft"] == pytest.approx(500.0)
    assert seen["tpot"] == pytest.approx(200.0)
    assert seen["pause"] == pytest.approx(500.0)
    assert served(answer(0.0, 2.0))["tpot"] == served(answer(0.0, 2.0))["pause"] == 0.0


def test_a_load_in_numbers() -> None:
    answers = [
        answer(0.0, 0.1, 0.2, 0.3),
        answer(1.0, 3.0, 3.1, 3.2),  # waited too long
        answer(2.0, 2.1, 3.1, 4.0),  # too slow after that
        answer(3.0, error="503"),
    ]
    found = summary(answers, Bounds(ttft_ms=500, tpot_ms=200))
    assert (found["n"], found["n_errors"], found["share_good"]) == (4, 1, 0.25)
    assert found["seconds"] == 4.0
    assert found["goodput"] == 0.25
    assert found["tokens_per_second"] == 9 / 4
    assert found["ttft_ms_p50"] == pytest.approx(100.0)
    assert found["longest_pause_ms"] == pytest.approx(1000.0)
    assert summary(answers[3:], Bounds(1, 1)) == {"n": 1.0, "n_errors": 1.0}


def test_capacity_counts_while_others_wait() -> None:
    answers = [answer(0.0, 2.0), answer(0.0, 1.0), answer(1.0, 4.0), answer(2.0, 9.0)]
    assert capacity(answers) == 2 / 2.0
    with pytest.raises(ValueError, match="too few"):
        capacity(answers[:2])
    with pytest.raises(ValueError, match="broken"):
        capacity([*answers, answer(0.0, error="broken")])


def test_a_table_has_a_line_for_each_load() -> None:
    result = {
        "server": "slotmux", "capacity": 2.0, "share": 30.0, "rate": 0.6,
        "summary": summary([answer(0.0, 0.1, 0.2)], Bounds(500, 200)),
    }  # fmt: skip
    failed = {**result, "summary": summary([answer(0.0, error="x")], Bounds(1, 1))}
    lines = table([result, failed]).splitlines()
    assert "| slotmux | 2.00 | 30 % | 0.60 | 100 | 5.00 | 10 | 100 |" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3].endswith("| 1 |")


def test_prompts_are_words_and_share_no_beginning() -> None:
    words = words_of(DEMO_PATH)
    trace = chats("sharegpt", 50, N_CTX, seed=1)
    requests = requests_of(trace, words, seed=1)
    assert [len(r["prompt"]) for r in requests] == [c.n_prompt for c in trace]
    assert len({tuple(r["prompt"][:4]) for r in requests}) == 50
    assert requests == requests_of(trace, words, seed=1)


@pytest.mark.parametrize("arguments", [["--shares", "x"], ["--shares", "0"], ["--requests", "1"]])
def test_odd_choices_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["m.gguf", *arguments])
    assert parse(["m.gguf", "--shares", "50,80"]).shares == [50.0, 80.0]


class FakeServer:
    """Answers each request with its number of tokens, and notes how many were open at once."""

    def __init__(self) -> None:
        self.n_open = self.n_most = 0
        self.seen: list[list[int]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        body = json.loads(await reader.readexactly(length))
        self.seen.append(body["prompt"])
        self.n_open += 1
        self.n_most = max(self.n_most, self.n_open)
        await asyncio.sleep(0.02)
        if body["prompt"] == [0]:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        else:
            events = [{"choices": [{"text": "x"}]} for _ in range(body["max_tokens"])]
            usage = {"choices": [], "usage": {"completion_tokens": body["max_tokens"]}}
            lines = [f"data: {json.dumps(event)}\n\n" for event in [*events, usage]]
            writer.write(f"HTTP/1.1 200 OK\r\n\r\n{''.join(lines)}data: [DONE]\n\n".encode())
        self.n_open -= 1
        await writer.drain()
        writer.close()


def exchanged(requests: list[dict[str, Any]], n_together: int = 0) -> tuple[FakeServer, Any]:
    server = FakeServer()

    async def main() -> Any:
        listener = await asyncio.start_server(server, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            if n_together:
                return await send_together("127.0.0.1", port, requests, n_together)
            return await send_all("127.0.0.1", port, requests)

    return server, asyncio.run(main())


def test_requests_are_sent_at_their_times() -> None:
    requests = [{"at": at, "prompt": [1 + i], "n_gen": 2 + i} for i, at in enumerate((0.1, 0.0))]
    server, streams = exchanged(requests)
    assert server.seen == [[2], [1]]
    answers = [told(stream, 0.0) for stream in streams]
    assert [a["n_tokens"] for a in answers] == [2, 3]
    assert answers[0]["sent"] - answers[1]["sent"] >= 0.09
    assert not any(a["error"] for a in answers)


def test_so_many_together_in_the_order_asked_for() -> None:
    requests = [{"at": 0.0, "prompt": [1 + i], "n_gen": 1 + i} for i in range(7)]
    server, streams = exchanged(requests, n_together=3)
    assert server.n_most == 3
    assert [told(stream, 0.0)["n_tokens"] for stream in streams] == list(range(1, 8))


def test_a_refusal_is_an_error_of_that_request_alone() -> None:
    requests = [{"at": 0.0, "prompt": [i], "n_gen": 1} for i in range(2)]
    _, streams = exchanged(requests)
    first, second = (told(stream, 0.0) for stream in streams)
    assert "503" in first["error"]
    assert second["error"] == ""
