"""How Anthropic's clients are told of models: GET /v1/models with an anthropic-version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from slotmux.server.process.state import ModelInfo


def speaks_anthropic(request: Request) -> bool:
    """Whether a client of Anthropic's API asks for what others ask for under the same path."""
    return "anthropic-version" in request.headers


def model_entry(info: ModelInfo, name: str, started: int) -> dict[str, Any]:
    """One model; ``started``: when the server did, in seconds."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(started, UTC).isoformat().replace("+00:00", "Z"),
        "max_input_tokens": info.n_ctx,
        "max_tokens": info.n_ctx,
    }


def model_list(info: ModelInfo, started: int) -> dict[str, Any]:
    """The served model under each of its names, on one page."""
    return model_page([model_entry(info, name, started) for name in info.names])


def model_page(data: list[dict[str, Any]]) -> dict[str, Any]:
    """Entries as a page of its own."""
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"data": data, "has_more": False} | ends
