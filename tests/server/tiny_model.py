"""A server around a tiny real model: real kernels, tokenizer, template, engine; poisoned memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.thread import Engine, EngineConfig
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.model import ModelConfig, load_model
from slotmux.runtime.tokenizer import Tokenizer
from slotmux.server.process.state import Loaded, ModelInfo
from slotmux.server.templates.chat_template import ChatTemplate
from tests.runtime.engine.fake_model import EagerCosts
from tests.server.fake_model import RunningServer, running

N_SLOTS = 4
N_CTX = 256


@contextlib.contextmanager
def serving_model(
    path: Path,
    kernel_cache: Path,
    *,
    n_cells: int = 1024,
    n_ctx: int = N_CTX,
    engine: dict[str, Any] | None = None,
    spec: SpecConfig | None = None,
    disk: Path | None = None,
    **settings: Any,
) -> Iterator[RunningServer]:
    """``engine``: fields of EngineConfig. At the end nothing may be leaked.

    ``spec``: speculation, as much of it as possible. ``disk``: where the prefix cache has a tier.
    """
    spec = spec or SpecConfig()
    file = open_gguf(path)
    tokenizer = Tokenizer.from_metadata(file.metadata)
    model = load_model(
        path,
        ModelConfig(
            n_threads=2, n_ctx=n_cells, n_slots=N_SLOTS, n_ubatch=64, n_checkpoints=4,
            kernel_cache=kernel_cache, max_drafts=spec.n_max, use_mtp=MTP in spec.types,
        ),
    )  # fmt: skip
    config = EngineConfig(N_SLOTS, n_ctx, poison_freed=True, spec=spec, **(engine or {}))
    store = Store(disk, 1 << 26, "0" * 64) if disk is not None else None
    runs = Engine(model, tokenizer, config, costs=EagerCosts(), store=store)
    loaded = Loaded(
        engine=runs,
        tokenizer=tokenizer,
        template=ChatTemplate.from_metadata(file.metadata, tokenizer),
        info=ModelInfo("tiny", n_ctx, model.n_ctx_train, N_SLOTS),
        n_max_token_bytes=tokenizer.max_token_bytes,
        spec=spec,
        keeps_states=model.rows.n_rows > 0,
        n_compiled=lambda: model.n_compiled,
    )
    try:
        with running(loaded, **settings) as server:
            yield server
        assert runs.failure is None
        runs._core.memory.check_integrity()
    finally:
        model.close()
