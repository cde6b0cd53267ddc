"""Durations, merged metrics, and connections to a process."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slotmux.server.process.exposition import merged
from slotmux.server.router.relay.upstream import (
    MAX_BUFFERED,
    Pool,
    UpstreamLostError,
    request_bytes,
    whole,
)
from slotmux.server.schemas.durations import seconds_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("90s", 90), ("100ms", 0.1)),
        *(("250us", 2.5e-4), ("2m0.5s", 120.5), (".5s", 0.5), ("0", 0), (0, 0), (90, 90)),
        *((0.5, 0.5), ("90", 90), (-1, math.inf), ("-1", math.inf), ("-1m", math.inf)),
        *((-0.5, math.inf), ("-0s", 0), ("+1s", 1)),
    ],
)
def test_durations(value, seconds):
    assert seconds_of(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "m", "5 m", "5x", "1h-1m", "m5", "--1", "5m!", "1" * 100, True, math.nan, "٥m"]
)
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match="should be"):
        seconds_of(value)


def test_metrics_are_merged_by_family():
    ours = b'# HELP a_total x\n# TYPE a_total counter\na_total{k="v"} 1.0\n'
    one = b'# HELP a_total x\n# TYPE a_total counter\na_total{k="{ }"} 2.0\n'
    one += b"# HELP b y\n# TYPE b gauge\nb 3.0\n"
    text = merged("model", {'m "1"\\': one, "n": one}, ours).decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert set(families) == {"a", "b"}
    assert [(s.labels, s.value) for s in families["a"].samples] == [
        ({"k": "v"}, 1.0),
        ({"model": 'm "1"\\', "k": "{ }"}, 2.0),
        ({"model": "n", "k": "{ }"}, 2.0),
    ]
    assert [s.labels for s in families["b"].samples] == [{"model": 'm "1"\\'}, {"model": "n"}]


@contextlib.asynccontextmanager
async def listening(path: Path, answer) -> AsyncIterator[Pool]:
    server = await asyncio.start_unix_server(answer, str(path))
    pool = Pool(str(path))
    try:
        yield pool
    finally:
        pool.close()
        server.close()


async def answer_plainly(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 2\r\n\r\nok")


async def test_connections_are_used_again(tmp_path):
    async with listening(tmp_path / "s", answer_plainly) as pool:
        used = set()
        for _ in range(3):
            connection = await pool.ask(request_bytes("GET", "/", (), b""))
            assert (connection.status, await whole(connection)) == (200, b"ok")
            assert (b"x-a", b"1") in connection.headers
            pool.keep(connection)
            used.add(connection)
        assert len(used) == 1


async def test_a_connection_whose_answer_was_not_read_is_not_used_again(tmp_path):
    async with listening(tmp_path / "s", answer_plainly) as pool:
        first = await pool.ask(request_bytes("GET", "/", (), b""))
        pool.keep(first)
        assert await pool.ask(request_bytes("GET", "/", (), b"")) is not first


async def test_an_answer_that_came_but_was_not_read_is_nobody_elses(tmp_path):
    async with listening(tmp_path / "s", answer_plainly) as pool:
        first = await pool.ask(request_bytes("GET", "/", (), b""))
        await asyncio.sleep(0.05)  # all of it is there
        pool.keep(first)
        second = await pool.ask(request_bytes("GET", "/", (), b""))
        assert second is not first
        assert await whole(second) == b"ok"


async def test_nobody_there(tmp_path):
    with pytest.raises(UpstreamLostError):
        await Pool(str(tmp_path / "none")).ask(b"x")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"nonsense\r\n\r\n"])
async def test_no_answer(tmp_path, said):
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with listening(tmp_path / "s", hang_up) as pool:
        with pytest.raises(UpstreamLostError):
            await pool.ask(request_bytes("GET", "/", (), b""))


async def test_an_answer_that_breaks_off(tmp_path):
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    async with listening(tmp_path / "s", half) as pool:
        connection = await pool.ask(request_bytes("GET", "/", (), b""))
        assert await connection.read() == b"abc"
        with pytest.raises(UpstreamLostError):
            await connection.read()


async def test_no_more_is_read_than_a_reader_takes(tmp_path):
    n_sent = 0

    async def flood(reader, writer):
        nonlocal n_sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while n_sent < 100_000_000:
                writer.write(bytes(100_000))
                n_sent += 100_000
                await writer.drain()

    async with listening(tmp_path / "s", flood) as pool:
        connection = await pool.ask(request_bytes("GET", "/", (), b""))
        before = -1
        while n_sent > before:  # until it is held back
            before = n_sent
            await asyncio.sleep(0.1)
        assert n_sent < 20 * MAX_BUFFERED
        assert len(await connection.read() or b"") > MAX_BUFFERED
        await connection.read()
        connection.abort()


async def test_a_nudge_wakes_a_reader(tmp_path):
    async def silent(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await reader.read()
        writer.close()

    async with listening(tmp_path / "s", silent) as pool:
        connection = await pool.ask(request_bytes("GET", "/", (), b""))
        asyncio.get_running_loop().call_later(0.01, connection.nudge)
        assert await connection.read() == b""
        connection.abort()
