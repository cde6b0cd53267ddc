"""The settings of a model's process: the operator's, but for what is the router's own."""

from __future__ import annotations

from typing import Any

from slotmux.server.process.logs import is_text
from slotmux.server.router.known.catalog import ModelSpec
from slotmux.server.settings import Settings

_MORE_CONNECTIONS = 64  # beside those of clients: the router's own questions


def child_settings(spec: ModelSpec, router: Settings, mem_limit: int) -> dict[str, Any]:
    """Fields of Settings, as JSON. ``mem_limit``: bytes that all models may take together."""
    values = spec.settings.model_dump(mode="json")
    token = spec.settings.hf_token
    return values | {
        "model": spec.model,
        "alias": list(spec.names),
        "models_dir": None,
        "models_config": None,
        "mem_limit": mem_limit,
        "hf_token": token.get_secret_value() if token else None,
        # Whoever comes by its socket is the router, which has looked at keys and origins.
        "host": "127.0.0.1",
        "port": 0,
        "api_key": [],
        "api_key_file": None,
        "insecure_no_key": False,
        "cors_origins": [],
        "allowed_hosts": [],
        "metrics": "public",
        "slots": "public",
        "props": "public",
        "max_connections": min(router.max_connections + _MORE_CONNECTIONS, 100_000),
        "log_format": "text" if is_text(router.log_format) else "json",
    }
