"""From what was typed as MODEL to a file."""

from __future__ import annotations

from pathlib import Path

from slotmux.server.files.download import ConsoleProgress
from slotmux.server.files.hub import Hub, resolve_model
from slotmux.server.files.names import spec_of
from slotmux.server.settings import Settings

LOCAL_FOLDER = Path("models")  # below the working directory, as `make test-real` has it


def locate(spec: str | None, settings: Settings) -> Path:
    """The file of a model, downloaded first if need be, with a progress display. Raises
    ModelSourceError."""
    spec = spec_of(spec, model_folders(settings))
    with ConsoleProgress() as progress:
        return resolve_model(
            spec, progress, models_dir=settings.caches / "models", hub=hub_of(settings)
        )


def model_folders(settings: Settings) -> tuple[Path, ...]:
    """Where a model is looked for by its bare name."""
    return (LOCAL_FOLDER, settings.caches / "models")


def hub_of(settings: Settings) -> Hub:
    """The hub that the operator chose, and the cache of its downloads: shared with whatever else
    uses it, unless they chose a folder for all caches."""
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    hub_dir = settings.cache_dir / "hub" if settings.cache_dir else None
    return Hub(settings.hf_endpoint, token, hub_dir)
