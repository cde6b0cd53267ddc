"""A refused choice, in the operator's words: the flag or variable, not the runtime's own field."""

from __future__ import annotations

from slotmux.runtime.errors import ConfigError
from slotmux.server.settings import told_as

# Fields of the runtime's configuration that the operator knows by another name.
_SETTINGS = {
    "n_threads": "threads",
    "n_ctx": "kv_size",
    "n_slots": "parallel",
    "n_ubatch": "ubatch_size",
    "n_checkpoints": "ctx_checkpoints",
    "n_cache_blocks": "prefix_cache_bytes",
    "max_drafts": "spec_draft_n_max",
}


def in_words(error: Exception) -> str:
    """The message of an error that ends a command."""
    if not isinstance(error, ConfigError):
        return str(error)
    return f"{told_as(_SETTINGS.get(error.field, error.field))} {error.reason}"
