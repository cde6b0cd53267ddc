"""One look at a running server: what its slots do and what it has counted, from /slots and
/metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from slotmux.server.terminal.client import RefusedError, Server


@dataclass(frozen=True, slots=True)
class SlotLook:
    """A slot and the choice in it. ``client``, ``n_states``: None where a server does not tell."""

    id: int
    state: str
    request: int
    choice: int
    n_prompt: int
    n_cached: int
    n_computed: int
    n_generated: int
    n_blocks: int
    n_drafted: int
    n_accepted: int
    n_ctx: int
    model: str = ""
    client: str | None = None
    n_states: int | None = None

    @property
    def is_busy(self) -> bool:
        return self.state != "idle"

    @property
    def run(self) -> tuple[str, int, int]:
        """What tells one choice from the next in the same slot."""
        return self.model, self.request, self.choice


@dataclass(frozen=True, slots=True)
class Look:
    """``at``: seconds of a monotonic clock. ``metrics``: sums over labels, by name."""

    at: float
    slots: tuple[SlotLook, ...]
    metrics: dict[str, float]

    def metric(self, name: str) -> float:
        """0 where the server does not tell."""
        return self.metrics.get(name, 0.0)


def look_at(server: Server) -> Look:
    """Raises RefusedError."""
    text = server.look("metrics").text
    try:
        metrics = _sums(text)
    except ValueError as error:
        raise RefusedError(0, f"{server.address.url}/metrics is no Prometheus text") from error
    listed = server.look_json("slots")
    if not isinstance(listed, list):
        raise RefusedError(0, f"{server.address.url}/slots is no list")
    return Look(time.monotonic(), tuple(map(_slot, listed)), metrics)


def _sums(text: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def _slot(told: dict[str, Any]) -> SlotLook:
    """llama-server's slots have fewer members: what is missing counts as nothing."""
    is_busy = bool(told.get("is_processing"))
    return SlotLook(
        id=int(told.get("id", 0)),
        state=str(told.get("state") or ("busy" if is_busy else "idle")),
        request=int(told.get("id_task") or 0),
        choice=int(told.get("choice") or 0),
        n_prompt=int(told.get("n_prompt_tokens") or 0),
        n_cached=int(told.get("n_prompt_tokens_cache") or 0),
        n_computed=int(told.get("n_computed") or 0),
        n_generated=int(told.get("n_decoded") or 0),
        n_blocks=int(told.get("n_kv_blocks") or 0),
        n_drafted=int(told.get("n_draft_total") or 0),
        n_accepted=int(told.get("n_draft_accepted_total") or 0),
        n_ctx=int(told.get("n_ctx") or 0),
        model=str(told.get("model") or ""),
        client=told.get("client"),
        n_states=told.get("n_states"),
    )
