"""Reading of streams whose bytes were only stamped, and what is told of them."""

from __future__ import annotations

import json

import pytest

from tests.bench.busy import Steps, table
from tests.bench.http.bench import table as http_table
from tests.bench.http.client import Answer, read_answer, request_bytes, summarize


def stream(*texts: str) -> bytes:
    events: list[dict[str, object]] = [{"choices": [{"text": text}]} for text in texts]
    events += [{"choices": [], "usage": {"completion_tokens": len(texts)}}]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return ("HTTP/1.1 200 OK\r\n\r\n" + "".join(lines) + "data: [DONE]\n\n").encode()


@pytest.mark.parametrize("n_bytes", [1, 7, 60, 10_000])
def test_an_event_has_the_time_of_its_last_byte(n_bytes: int) -> None:
    whole = stream("a", "b", "", "c")
    pieces = [(float(i // n_bytes), whole[i : i + n_bytes]) for i in range(0, len(whole), n_bytes)]
    answer = read_answer(0.0, pieces)
    assert answer.n_tokens == 4
    assert len(answer.times) == 3
    for text, time in zip("abc", answer.times, strict=True):
        end = whole.index(b"\n", whole.index(b'"%s"' % text.encode()))
        assert time == end // n_bytes


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 503 no\r\n\r\n", stream("a")[:-8]])
def test_a_broken_stream_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="the server answered"):
        read_answer(0.0, [(1.0, data)])


def test_the_steady_speed_is_of_the_time_all_were_running() -> None:
    slow = Answer(0.0, [2.0, 3.0, 4.0, 5.0], 8)  # two tokens an event
    fast = Answer(0.0, [1.0, 2.0, 3.0, 4.0], 4)
    summary = summarize([slow, fast])
    # Between 2.0, when the slow one begins, and 4.0, when the fast one ends.
    assert summary["steady_tokens_per_second"] == pytest.approx((2 * 2 + 2 * 1) / 2.0)
    assert summary["total_tokens_per_second"] == pytest.approx(12 / 5.0)
    assert summary["ttft_ms_p50"] == pytest.approx(1500.0)
    assert summary["itl_ms_p99"] == pytest.approx(1000.0)


def test_a_request_is_whole_http() -> None:
    head, _, body = request_bytes("host", 5, 16).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["max_tokens"] == 16
    assert json.loads(body)["ignore_eos"] is True


def test_shares_are_of_the_same_rounds_bench() -> None:
    http = {f"{key}_p{p}": 1.0 for key in ("ttft_ms", "itl_ms") for p in (50, 90, 99)}
    runs = [
        http | {"steady_tokens_per_second": s, "total_tokens_per_second": s / 2}
        for s in (90.0, 180.0, 100.0)
    ]
    text = http_table([100.0, 200.0, 200.0], runs, 8)
    assert "| HTTP, all streams running | 100.0 | 90 |" in text
    assert "| HTTP, with prompts | 50.0 | 45 |" in text


def test_busy_speeds_are_compared_with_alone() -> None:
    measured = {
        "alone": {"slotmux": Steps([0.01] * 4)},
        "1 busy process": {"slotmux": Steps([0.02, 0.02, 0.02, 0.04])},
    }
    lines = table(measured).splitlines()
    assert lines[2] == "| alone | slotmux | 100.0 | 100 | 10.00 | 10.00 | 1.0 |"
    assert lines[3].startswith("| 1 busy process | slotmux | 40.0 | 40 | 20.00 | 39.40 | 2.0 |")
