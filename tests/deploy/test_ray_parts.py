"""What of Ray's application needs no Ray: options, cores, leases, ends of streams, metrics."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from starlette.responses import PlainTextResponse

from slotmux.deploy.ray import leases as leases_module
from slotmux.deploy.ray.cores import OwnCores, core_groups
from slotmux.deploy.ray.inside import call
from slotmux.deploy.ray.leases import Leases
from slotmux.deploy.ray.options import ModelOptions, Options
from slotmux.runtime.numa import parse_list
from slotmux.server.answers.stream_end import StreamEnd
from slotmux.server.http.errors import unavailable
from slotmux.server.http.shapes import Shape, anthropic_body, llama_body, ollama_body, openai_body
from slotmux.server.process.exposition import merged
from slotmux.server.settings import SettingsError
from tests.conftest import ROOT

LOST = unavailable("Gone.", "replica_lost")


def test_a_replica_takes_what_it_can_run_and_hold_back() -> None:
    chosen = ModelOptions(settings={"parallel": 6, "max_queue": 10})
    assert (chosen.n_slots, chosen.n_ongoing) == (6, 16)
    settings = chosen.settings_at("127.0.0.1", "small")
    assert (settings.alias, settings.threads, settings.host) == (("small",), 1, "127.0.0.1")


def test_what_cannot_be_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValidationError, match="replica's own choice"):
        ModelOptions(settings={"port": 3})
    with pytest.raises(ValidationError, match="serves one model"):
        Options(models={"a": ModelOptions(), "b": ModelOptions()}, path="ingress")
    with pytest.raises(SettingsError, match="parallel"):
        _ = ModelOptions(settings={"parallel": 0}).n_slots
    with pytest.raises(SettingsError, match="api-key"):
        ModelOptions().settings_at("10.0.0.1")
    assert ModelOptions(settings={"api_key": "k"}).settings_at("10.0.0.1").api_keys == ("k",)


# -- cores


def machine(folder: Path, siblings: dict[int, str], nodes: dict[int, str]) -> tuple[Path, Path]:
    for cpu, told in siblings.items():
        topology = folder / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{told}\n")
    for node, told in nodes.items():
        (folder / "node" / f"node{node}").mkdir(parents=True)
        (folder / "node" / f"node{node}" / "cpulist").write_text(f"{told}\n")
    return folder / "cpu", folder / "node"


def test_groups_have_whole_cores_and_stay_on_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two nodes of three cores with two threads each: 0-2 and 6-8, 3-5 and 9-11.
    siblings = {cpu: f"{cpu % 6},{cpu % 6 + 6}" for cpu in range(12)}
    cpus, nodes = machine(tmp_path, siblings, {0: "0-2,6-8", 1: "3-5,9-11"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    assert core_groups(1, cpus, nodes) == [frozenset({i, i + 6}) for i in range(6)]
    assert core_groups(2, cpus, nodes) == [frozenset({0, 1, 6, 7}), frozenset({3, 4, 9, 10})]
    assert core_groups(4, cpus, nodes) == []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 9})
    assert core_groups(1, cpus, nodes) == [frozenset({1}), frozenset({2}), frozenset({9})]


def test_the_kernels_notation_is_read() -> None:
    assert parse_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert parse_list("\n") == []


HOLDER = """
import os, sys, time
from pathlib import Path
from slotmux.deploy.ray import cores
cores._WAIT_S = 0.2
own = cores.OwnCores(Path(sys.argv[1]), 1)
print(sorted(own.cpus), sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.readline()
"""


def test_no_two_processes_have_the_same_cores_and_the_dead_hold_none(tmp_path: Path) -> None:
    n_groups = len(core_groups(1))

    def hold() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    holders = [hold() for _ in range(n_groups)]
    try:
        told = [holder.stdout.readline().strip() for holder in holders if holder.stdout]
        assert len(set(told)) == n_groups
        for line in told:
            cpus, tied = line.replace("] [", "]\n[").splitlines()
            assert cpus == tied
        late = hold()
        holders.append(late)
        assert late.stdout is not None
        assert late.stdout.readline().startswith("[] [")  # all are taken: it shares
        holders[0].kill()
        holders[0].wait()
        next_one = hold()
        holders.append(next_one)
        assert next_one.stdout is not None
        assert next_one.stdout.readline().strip() == told[0]
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_a_process_may_let_its_cores_go(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        first = OwnCores(tmp_path, 1)
        first.close()
        again = OwnCores(tmp_path, 1)
        assert again.cpus == first.cpus
        again.close()
    finally:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), before)


# -- leases


async def test_a_lease_ends_with_the_request_that_names_it() -> None:
    leases = Leases(PlainTextResponse("done"))
    place = leases.open()
    waiting = asyncio.create_task(place.until_over())
    await asyncio.sleep(0)
    assert not waiting.done()
    headers = ((b"x-slotmux-lease", place.id.encode()),)
    assert await call(leases, "GET", "/", headers) == (200, b"done")
    await asyncio.wait_for(waiting, 1)
    leases.drop(place)
    status, body = await call(leases, "GET", "/", headers)
    assert (status, json.loads(body)["error"]["code"]) == (503, "lease_over")
    assert (await call(leases, "GET", "/", ()))[0] == 200  # without one: who asks is no front


async def test_a_lease_that_nobody_takes_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "CLAIM_WITHIN_S", 0.01)
    await asyncio.wait_for(Leases(PlainTextResponse("")).open().until_over(), 5)


# -- streams that break off


def test_a_broken_stream_ends_in_the_words_of_its_api() -> None:
    def events(end: bytes) -> list[str]:
        return [part for part in end.decode().split("\n\n") if part]

    def broken_off(shape: Shape, path: str, *sent: bytes, is_lines: bool = False) -> bytes:
        end = StreamEnd(shape, path, is_lines=is_lines)
        for data in sent:
            end.follow(data)
        return end.error(LOST)

    (told,) = events(broken_off(openai_body, "/v1/chat/completions", b"x"))
    assert json.loads(told.removeprefix("data: "))["error"]["code"] == "replica_lost"
    (told,) = events(broken_off(llama_body, "/completion", b"\n\n"))
    assert json.loads(told.removeprefix("data: "))["error"]["code"] == 503
    (told,) = events(broken_off(anthropic_body, "/v1/messages", b"\n"))
    name, data = told.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["type"] == "overloaded_error"
    (told,) = events(broken_off(openai_body, "/v1/responses", *[b"event: e\ndata: {}\n\n"] * 7))
    name, data = told.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["sequence_number"] == 7
    whole = broken_off(ollama_body, "/api/chat", b"{}\n", is_lines=True)
    assert json.loads(whole) == {"error": "Gone."}
    cut = broken_off(ollama_body, "/api/chat", b"{", is_lines=True)
    assert cut.count(b"\n") == 2


# -- metrics

PAGE = """# HELP a_total First.
# TYPE a_total counter
a_total 1.0
# HELP b Second.
# TYPE b gauge
b{slot="0"} 2.0
b{slot="1",word="x,y} z"} 3.0
"""


def test_metrics_of_replicas_are_merged_by_family() -> None:
    page = PAGE.encode()
    text = merged("replica", {"one": page, "two": page}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {"a", "b"}
    told = [(s.labels["replica"], s.labels["slot"], s.value) for s in families["b"].samples]
    assert told == [("one", "0", 2), ("one", "1", 3), ("two", "0", 2), ("two", "1", 3)]
    assert families["b"].samples[1].labels["word"] == "x,y} z"
    assert text.count("# TYPE b gauge") == 1
