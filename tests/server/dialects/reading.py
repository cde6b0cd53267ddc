"""Streams as tests want them."""

from __future__ import annotations

import json
from typing import Any


def events(text: str) -> list[tuple[str, Any]]:
    """(event name, data) of each server-sent event; comments are skipped."""
    found = []
    for block in text.split("\n\n"):
        name, data = "", None
        for line in block.splitlines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = line[6:] if line == "data: [DONE]" else json.loads(line[6:])
        if data is not None:
            found.append((name, data))
    return found


def lines(text: str) -> list[Any]:
    """Each line of NDJSON."""
    return [json.loads(line) for line in text.splitlines()]
