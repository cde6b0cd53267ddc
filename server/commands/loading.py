"""From what was typed as MODEL to a file, and from the file to a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slotmux.runtime.ubatch import BLOCK_CELLS
from slotmux.server.commands.options import CommandError
from slotmux.server.commands.progress import ProgressDisplay
from slotmux.server.files.download import ConsoleProgress
from slotmux.server.files.hub import Hub, resolve_model
from slotmux.server.settings import Settings, load_settings

if TYPE_CHECKING:
    from slotmux.runtime.model import Model


def command_settings() -> Settings:
    """Caches and hub access of a command that serves nobody, from the environment."""
    return load_settings(insecure_no_key=True)


def locate(spec: str | None, settings: Settings | None = None) -> Path:
    """The file of a model, downloaded first if need be, with a progress display. Raises
    ModelSourceError."""
    settings = settings or command_settings()
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    # Downloads from the hub are shared with whatever else uses its cache, unless told otherwise.
    hub_dir = settings.cache_dir / "hub" if settings.cache_dir else None
    hub = Hub(settings.hf_endpoint, token, hub_dir)
    with ConsoleProgress() as progress:
        return resolve_model(spec, progress, models_dir=settings.caches / "models", hub=hub)


def load(
    path: Path, settings: Settings | None = None, *, keep_panels: bool = False, **config: Any
) -> Model:
    """Load a model file with a progress display; ``config`` are fields of ModelConfig. Raises
    a SlotmuxError for a file or a choice that cannot be used."""
    from slotmux.kernels.cpu import detect_cpu
    from slotmux.runtime.model import ModelConfig, load_model

    settings = settings or command_settings()
    panels = settings.caches / "panels" if keep_panels else None
    kernels = settings.caches / "kernels"
    wanted = ModelConfig(**config, kernel_cache=kernels, panel_cache=panels)
    try:
        detect_cpu(wanted.isa)
    except ValueError as error:
        raise CommandError(str(error)) from error
    with ProgressDisplay() as progress:
        return load_model(path, wanted, progress)


def load_for_sequences(path: Path, n_seqs: int, n_tokens: int, **config: Any) -> Model:
    """Load a model with cells for ``n_seqs`` sequences of ``n_tokens`` each. Raises CommandError
    when the model was not trained for so many."""
    from slotmux.runtime.gguf import open_gguf
    from slotmux.runtime.models.hparams import read_hparams

    file = open_gguf(path)
    n_ctx_train = read_hparams(file).n_ctx_train
    if n_tokens > n_ctx_train:
        raise CommandError(
            f"{n_tokens} tokens in one sequence: the model was trained for {n_ctx_train}"
        )
    n_ctx = -(-n_tokens // BLOCK_CELLS) * BLOCK_CELLS
    return load(path, n_slots=n_seqs, n_ctx=n_seqs * n_ctx, **config)
