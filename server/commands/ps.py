"""`slotmux ps`: the models that a running server has in memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import JsonOpt, argument, option
from slotmux.server.loading.errors import CommandError
from slotmux.server.settings import Settings
from slotmux.server.terminal.words import columns, size, span

if TYPE_CHECKING:
    from slotmux.server.terminal.client import Server

UrlArg = Annotated[
    str | None,
    argument("URL", "Server to ask; default: the one on this machine (SLOTMUX_HOST, _PORT)."),
]
KeyOpt = Annotated[str, option("--api-key", help="Key sent as bearer token.")]
_A_YEAR_S = 365 * 86_400


@takes_settings()
def ps(
    settings: Settings, url: UrlArg = None, api_key: KeyOpt = "", as_json: JsonOpt = False
) -> None:
    """Print what a running server has in memory: its models, their sizes, how many slots are busy,
    and until when each stays."""
    from slotmux.server.terminal.client import Server, address_here, address_of

    key = api_key.partition(",")[0]
    address = address_of(url, key) if url else address_here(settings.host, settings.port, key)
    with Server(address) as server:
        models = _models(server)
    if as_json:
        print(json.dumps(models))
        return
    rows = [
        (
            model["name"],
            size(model["size"]),
            "?" if model["slots"] is None else f"{model['slots_busy']} of {model['slots']}",
            str(model["context_length"] or "?"),
            until(model["expires_at"], datetime.now(UTC)),
        )
        for model in models
    ]
    print(columns(("NAME", "SIZE", "SLOTS BUSY", "CONTEXT", "UNTIL"), rows))


def until(expires_at: str, now: datetime) -> str:
    """How long a model stays in memory, as Ollama tells it."""
    try:
        left = (datetime.fromisoformat(expires_at) - now).total_seconds()
    except (ValueError, TypeError):
        return "?"
    if left > 10 * _A_YEAR_S:
        return "forever"
    return f"{span(left)} from now" if left > 0 else "stopping"


def _models(server: Server) -> list[dict[str, Any]]:
    """Ollama's list, with the slots of each where the server tells of them."""
    from slotmux.server.terminal.client import RefusedError

    told = server.look_json("api/ps")
    listed = told.get("models") if isinstance(told, dict) else None
    if listed is None:
        raise CommandError(f"{server.address.url} does not tell what it has in memory")
    try:
        slots = server.look_json("slots") if listed else []
    except RefusedError as error:
        if error.status == 0:
            raise
        slots = None  # another server's, or told to nobody (--slots off)
    return [_model(model, slots) for model in listed]


def _model(model: dict[str, Any], slots: list[dict[str, Any]] | None) -> dict[str, Any]:
    name = str(model.get("name", ""))
    # Where several models are served, each slot says whose it is.
    own = None if slots is None else [s for s in slots if s.get("model", name) == name]
    return {
        "name": name,
        "size": int(model.get("size") or 0),
        "context_length": model.get("context_length"),
        "expires_at": str(model.get("expires_at", "")),
        "slots": None if own is None else len(own),
        "slots_busy": None if own is None else sum(bool(s.get("is_processing")) for s in own),
    }
