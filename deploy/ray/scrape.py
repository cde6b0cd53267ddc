"""What replicas answer to a scrape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scraped:
    """What one replica answered."""

    replica: str
    status: int
    text: str
