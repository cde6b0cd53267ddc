"""How an encoder's file is run: no slots, no cells, and a ubatch that holds a whole text."""

from __future__ import annotations

import logging
from dataclasses import replace

from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowered import ModelConfig
from slotmux.runtime.models.hparams import read_hparams
from slotmux.runtime.sizes import model_sizes
from slotmux.server.loading.budget import Budget
from slotmux.server.loading.errors import CommandError
from slotmux.server.process.logs import LOGGER
from slotmux.server.settings import Settings

MAX_AUTO_TOKENS = 8192  # of a text: longer ones cost memory, and are had by asking
_log = logging.getLogger(LOGGER)


def text_length(settings: Settings, file: GGUFFile) -> int:
    """Most tokens of a text. Raises CommandError."""
    n_ctx_train = read_hparams(file).n_ctx_train
    if settings.ctx_size > n_ctx_train:
        raise CommandError(
            f"--ctx-size {settings.ctx_size}: the model was trained for {n_ctx_train} tokens"
        )
    return settings.ctx_size or min(n_ctx_train, MAX_AUTO_TOKENS)


def plan_encoder(
    settings: Settings, file: GGUFFile, config: ModelConfig
) -> tuple[ModelConfig, EngineConfig, Budget]:
    """``config`` with a ubatch of the longest text: an encoder reads a text in one forward."""
    n_ctx = text_length(settings, file)
    if n_ctx > config.n_ubatch:
        _log.info(
            "this model reads a text in one forward: --ubatch-size %d becomes %d",
            *(config.n_ubatch, n_ctx),
        )
    config = replace(config, n_ubatch=max(n_ctx, config.n_ubatch), n_ctx=n_ctx)
    sizes = model_sizes(file, config)
    engine = EngineConfig(
        n_slots=1,
        n_ctx=max(n_ctx, 2),
        max_queue=settings.max_queue,
        queue_timeout_s=settings.queue_timeout,
    )
    return config, engine, Budget(0, n_ctx, 0, 0, sizes)
