"""Requests go where their prefix is: measured in tokens that needed no work."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.cluster.deployed import Deployed

N_CHATS, N_TURNS = 12, 4
# Each conversation begins with what it is about; nothing is shared among them.
ABOUT = "This is conversation {n} about {n} different things. " * 12


def cached_share(deployed: Deployed) -> float:
    """Of the prompt tokens of conversations, side by side, the share that was in memory."""
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda n: _converse(deployed, n), range(N_CHATS)))
    return sum(cached for cached, _ in counts) / sum(prompt for _, prompt in counts)


def _converse(deployed: Deployed, number: int) -> tuple[int, int]:
    messages = [{"role": "system", "content": ABOUT.format(n=number)}]
    n_cached = n_prompt = 0
    for turn in range(N_TURNS):
        messages.append({"role": "user", "content": f"What about thing {turn}?"})
        answer = deployed.client.post(
            "/v1/chat/completions", json={"messages": messages, "max_tokens": 24, "seed": number}
        )
        assert answer.status_code == 200, answer.text
        told = answer.json()
        messages.append(told["choices"][0]["message"] | {"refusal": None})
        usage = told["usage"]
        n_cached += usage["prompt_tokens_details"]["cached_tokens"]
        n_prompt += usage["prompt_tokens"]
    return n_cached, n_prompt


def test_two_replicas_with_affinity_reuse_nearly_as_much_as_one_server(deployed: Deployed) -> None:
    deployed.run(replicas=1)
    alone = cached_share(deployed)
    deployed.run(replicas=2, routing="prefix")
    assert len(deployed.replicas()) == 2
    prefix = cached_share(deployed)
    deployed.run(replicas=2, routing="load", ctx_size=1024)  # another version: empty caches
    load = cached_share(deployed)
    print(
        f"share of prompt tokens from memory: one {alone:.3f}, prefix {prefix:.3f}, load {load:.3f}"
    )
    assert prefix >= 0.9 * alone
    assert load < prefix


def test_a_session_stays_with_consistent_hashing(deployed: Deployed) -> None:
    deployed.run(replicas=2, routing="session")
    for session in "abcdef":
        found = {
            deployed.chat("hi", max_tokens=2, headers={"X-Session-Id": session}).headers[
                "x-slotmux-replica"
            ]
            for _ in range(4)
        }
        assert len(found) == 1


def test_both_replicas_are_used(deployed: Deployed) -> None:
    deployed.run(replicas=2)
    found = {
        deployed.chat(f"{n} " + "word " * 200, max_tokens=1).headers["x-slotmux-replica"]
        for n in range(24)
    }
    assert len(found) == 2


def test_replicas_are_asked_for_what_they_have(deployed: Deployed) -> None:
    """However a request is written: spaces before it change all that could be hashed of it."""
    deployed.run(replicas=2)
    for n in range(6):
        text = f"Prompt {n}. " + "Something to say, and then some more of it. " * 20
        body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": 1})
        first = _post(deployed, body)
        for spaces in (1, 200, 1100, 3000):
            again = _post(deployed, " " * spaces + body)
            assert again.headers["x-slotmux-replica"] == first.headers["x-slotmux-replica"]
            usage = again.json()["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] > 0.8 * usage["prompt_tokens"]


def _post(deployed: Deployed, body: str) -> httpx.Response:
    answer = deployed.client.post(
        "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    return answer
