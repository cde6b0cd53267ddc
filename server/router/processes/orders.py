"""What passes between the router and a model's process, beside requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Whose key a request came with: a fingerprint. Never taken from a client.
KEY_HEADER = "x-slotmux-key"
OUR_HEADERS = b"x-slotmux-"


@dataclass(frozen=True, slots=True)
class Orders:
    """What the router wants. ``settings``: fields of Settings; ``n_keys``: API keys it takes."""

    model: str
    settings: dict[str, Any]
    socket: str
    n_keys: int
