"""Responses that can be asked for again: the last ones, in memory, each for its own API key."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from slotmux.server.dialects.responses.background import BackgroundRun
from slotmux.server.http.errors import ApiError, invalid, queue_full

MAX_RESPONSES = 1024
MAX_BYTES = 64 * 1024 * 1024
MAX_RUNNING = 64  # in the background; as many of those that have ended can still be followed


@dataclass(frozen=True, slots=True)
class Kept:
    """An ended response with the items that led to it, as JSON: bodies are shared with nobody."""

    key: str  # whose it is
    response: bytes
    history: bytes  # the items before this response's own input
    items: bytes  # its own input
    item_ids: tuple[str, ...] = ()  # of its output

    @property
    def n_bytes(self) -> int:
        """Of memory, roughly."""
        return len(self.response) + len(self.history) + len(self.items)

    def item(self, item_id: str) -> dict[str, Any]:
        """One item of the output."""
        output: list[dict[str, Any]] = orjson.loads(self.response)["output"]
        return next(item for item in output if item["id"] == item_id)

    def conversation(self) -> list[dict[str, Any]]:
        """All items up to and with the response's output."""
        output = orjson.loads(self.response)["output"]
        items: list[dict[str, Any]] = orjson.loads(self.history) + orjson.loads(self.items)
        return [*items, *output]


class ResponseStore:
    """Belongs to the event loop. The oldest go first, when there are too many or they are too
    large."""

    def __init__(self, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._of_item: dict[str, str] = {}  # ids of output items: of their responses
        self._runs: dict[str, BackgroundRun] = {}  # running ones, and the last ended ones

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, run: BackgroundRun) -> None:
        """Starts one in the background. Raises ApiError 429 if there are too many."""
        ended = [one.id for one in self._runs.values() if one.is_over]
        if len(self._runs) - len(ended) >= MAX_RUNNING:
            run.drop()
            raise queue_full(5)
        for response_id in ended[: max(0, len(self._runs) + 1 - MAX_RUNNING)]:
            del self._runs[response_id]
        self._runs[run.id] = run
        run.start()

    def run(self, response_id: str, key: str) -> BackgroundRun | None:
        """One of a key's own that runs in the background, or did."""
        run = self._runs.get(response_id)
        return run if run is not None and run.key == key else None

    def put(self, response_id: str, kept: Kept) -> None:
        """Keeps one; one larger than the whole store is not kept."""
        if kept.n_bytes > self._max_bytes:
            return
        self._kept[response_id] = kept
        self._n_bytes += kept.n_bytes
        self._of_item |= dict.fromkeys(kept.item_ids, response_id)
        while len(self._kept) > self._max_responses or self._n_bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def get(self, response_id: str, key: str, param: str = "response_id") -> Kept:
        """One of a key's own. Raises ApiError 404; 400 where a parameter named it."""
        kept = self._kept.get(response_id)
        if kept is None or kept.key != key:
            status = 404 if param == "response_id" else 400
            raise ApiError(
                status,
                f"Invalid '{param}': there is no such response (any more).",
                code="response_not_found" if status == 404 else "previous_response_not_found",
                param=param,
            )
        return kept

    def delete(self, response_id: str, key: str) -> None:
        """Forgets one of a key's own. Raises ApiError 404."""
        self.get(response_id, key)
        self._runs.pop(response_id, None)
        self._forget(response_id)

    def item(self, item_id: str, key: str, param: str) -> dict[str, Any]:
        """An output item of one of a key's own. Raises ApiError 400 that names ``param``."""
        kept = self._kept.get(self._of_item.get(item_id, ""))
        if kept is None or kept.key != key:
            raise invalid(param, f"Invalid '{param}': there is no such item (any more).")
        return kept.item(item_id)

    def _forget(self, response_id: str) -> None:
        kept = self._kept.pop(response_id)
        self._n_bytes -= kept.n_bytes
        for item_id in kept.item_ids:
            del self._of_item[item_id]
