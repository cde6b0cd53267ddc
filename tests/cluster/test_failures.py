"""Replicas that die, and replicas that are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import httpx

from tests.cluster.deployed import Deployed
from tests.cluster.streams import Seen, follow, long_story

N_STREAMS = 20


async def _twenty_streams(deployed: Deployed, pid: int) -> list[Seen]:
    """Streams of which each has begun when the process ``pid`` is killed."""
    seen = [Seen() for _ in range(N_STREAMS)]
    async with httpx.AsyncClient(base_url=deployed.url, timeout=120) as client:
        following = [
            asyncio.create_task(follow(client, long_story(i), each)) for i, each in enumerate(seen)
        ]
        await asyncio.gather(*(each.begun.wait() for each in seen))
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*following)
    return seen


def test_a_killed_replica_ends_its_own_streams_with_an_error_and_no_others(
    deployed: Deployed,
) -> None:
    deployed.run(replicas=2, parallel=16)
    victim = deployed.replicas()[0]
    seen = asyncio.run(_twenty_streams(deployed, victim.pid))
    lost = [each for each in seen if each.replica == victim.replica]
    kept = [each for each in seen if each.replica != victim.replica]
    assert len(lost) >= 5
    assert len(kept) >= 5
    for each in lost:
        assert not each.is_cut
        assert not each.is_done
        assert [error["code"] for error in each.errors] == ["replica_lost"]
    for each in kept:
        assert (each.status, each.errors, each.is_done, each.is_cut) == (200, [], True, False)
    # All later ones are served, by the other replica or by the new one; and say the same.
    for i in range(N_STREAMS):
        if seen[i] in kept:
            again = deployed.client.post(
                "/v1/chat/completions", json=long_story(i) | {"stream": False}
            )
            assert again.status_code == 200
            assert again.json()["choices"][0]["message"]["content"] == seen[i].text


def test_a_rolling_upgrade_loses_nothing(deployed: Deployed) -> None:
    deployed.run(replicas=2)
    before = {each.replica for each in deployed.replicas()}
    over, answers = threading.Event(), list[tuple[int, str, str]]()

    def ask(number: int) -> None:
        with httpx.Client(base_url=deployed.url, timeout=120) as client:
            while not over.is_set():
                body = long_story(number, 150) | {"stream": False}
                answer = client.post("/v1/chat/completions", json=body)
                choice = answer.json()["choices"][0] if answer.status_code == 200 else {}
                replica = answer.headers.get("x-slotmux-replica", "")
                answers.append((answer.status_code, choice.get("finish_reason", ""), replica))

    askers = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for asker in askers:
        asker.start()
    try:
        deployed.run(replicas=2, ctx_size=1024)
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert len(answers) > 20
    assert {(status, finish) for status, finish, _ in answers} == {(200, "length")}
    after = {each.replica for each in deployed.replicas()}
    assert not before & after
    served = {replica for _, _, replica in answers}
    assert served & before
    assert served & after


def test_a_replica_whose_engine_died_is_replaced(deployed: Deployed) -> None:
    deployed.run(replicas=1)
    (first,) = deployed.replicas()
    os.kill(first.pid, signal.SIGKILL)
    # Asked at once: waits for the new one, and is served by it.
    answer = deployed.chat("hello", max_tokens=4)
    assert answer.status_code == 200
    assert answer.headers["x-slotmux-replica"] != first.replica
