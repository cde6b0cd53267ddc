"""Many streams at once, and what each of them saw."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from slotmux.deploy.ray.asked import REPLICA_HEADER


@dataclass
class Seen:
    """Of one stream."""

    status: int = 0
    replica: str = ""
    text: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)
    is_done: bool = False  # [DONE] came
    is_cut: bool = False  # the connection broke
    begun: asyncio.Event = field(default_factory=asyncio.Event)


async def follow(client: httpx.AsyncClient, body: dict[str, Any], seen: Seen) -> None:
    """Reads one stream to its end, whatever that is."""
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            seen.status = response.status_code
            seen.replica = response.headers.get(REPLICA_HEADER, "")
            async for line in response.aiter_lines():
                seen.begun.set()
                if line.startswith("data: "):
                    note(line.removeprefix("data: "), seen)
    except httpx.HTTPError:
        seen.is_cut = True
    finally:
        seen.begun.set()


def note(data: str, seen: Seen) -> None:
    """What one event says."""
    if data == "[DONE]":
        seen.is_done = True
        return
    event = json.loads(data)
    if "error" in event:
        seen.errors.append(event["error"])
        return
    for choice in event["choices"]:
        seen.text += choice["delta"].get("content") or ""


def long_story(seed: int, n_tokens: int = 1200) -> dict[str, Any]:
    """A request whose answer takes a while and is its own."""
    return {
        "messages": [{"role": "user", "content": f"Tell me story number {seed}."}],
        "max_tokens": n_tokens,
        "ignore_eos": True,
        "seed": seed,
        "stream": True,
    }
