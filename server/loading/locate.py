"""From what was typed as MODEL to a file."""

from __future__ import annotations

from pathlib import Path

from slotmux.server.files.download import ConsoleProgress
from slotmux.server.files.hub import Hub, resolve_model
from slotmux.server.settings import Settings


def locate(spec: str | None, settings: Settings) -> Path:
    """The file of a model, downloaded first if need be, with a progress display. Raises
    ModelSourceError."""
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    # Downloads from the hub are shared with whatever else uses its cache, unless told otherwise.
    hub_dir = settings.cache_dir / "hub" if settings.cache_dir else None
    hub = Hub(settings.hf_endpoint, token, hub_dir)
    with ConsoleProgress() as progress:
        return resolve_model(spec, progress, models_dir=settings.caches / "models", hub=hub)
