"""From what was typed as MODEL to a file, and from the file to a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.commands.progress import ProgressDisplay
from server.download import ConsoleProgress
from server.hub import Hub, resolve_model
from server.settings import Settings, load_settings

if TYPE_CHECKING:
    from runtime.model import Model


def command_settings() -> Settings:
    """Caches and hub access of a command that serves nobody, from the environment."""
    return load_settings(insecure_no_key=True)


def locate(spec: str | None, settings: Settings | None = None) -> Path:
    """The file of a model, downloaded first if need be, with a progress display. Raises
    ModelSourceError."""
    settings = settings or command_settings()
    cache_dir = settings.cache_dir
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    hub = Hub(settings.hf_endpoint, token, cache_dir / "hub" if cache_dir else None)
    models_dir = cache_dir / "models" if cache_dir else None
    with ConsoleProgress() as progress:
        return resolve_model(spec, progress, models_dir=models_dir, hub=hub)


def load(path: Path, settings: Settings | None = None, **config: Any) -> Model:
    """Load a model file with a progress display; ``config`` are fields of ModelConfig. Raises
    ModelFileError and what else load_model raises."""
    from runtime.model import ModelConfig, load_model

    with ProgressDisplay() as progress:
        return load_model(path, ModelConfig(**config), progress)
