"""An encoder's file lowered: its ops, and places for its weights and a step's texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.team import TEAM_KERNELS
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowered import Lowered, ModelConfig, check_scratch, resolved, step_words
from slotmux.runtime.lowering.both_ways import text_tables
from slotmux.runtime.lowering.buffers import Buffers, Rows, round_up, step_count
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.cells import KVCells
from slotmux.runtime.lowering.panel_cache import PanelCache
from slotmux.runtime.lowering.pooling import (
    RankHead,
    dense_modules,
    pool,
    rank,
    rank_head,
)
from slotmux.runtime.lowering.rows import StateRows
from slotmux.runtime.lowering.weights import Weights
from slotmux.runtime.models import family, is_encoder
from slotmux.runtime.models.hparams import read_hparams
from slotmux.runtime.pooling import Pooling, stored_pooling
from slotmux.runtime.ubatch import Ubatch

MAX_TEXTS = 512  # of a step
PAGE = 4096


class LoweredEncoder:
    """As Lowered, of a model that reads whole texts: no cells, no rows, no logits, no drafts.

    A text stands in the ubatch from end to end, so ``n_ubatch`` bounds its length, as the file's
    context does.
    """

    drafts = None

    def __init__(self, file: GGUFFile, config: ModelConfig, kernels: KernelCache) -> None:
        self.file, self.hparams = file, read_hparams(file)
        hp = self.hparams
        n_texts = min(MAX_TEXTS, config.n_ubatch)
        self.config = config = replace(resolved(config, hp.n_ctx_train), n_slots=n_texts)
        self.n_ctx = min(config.n_ubatch, hp.n_ctx_train)  # of one text
        self.pooling = Pooling(config.pooling) if config.pooling >= 0 else stored_pooling(file)
        self.ubatch = Ubatch(config.n_ubatch, n_texts, 1, 1)
        self.step = step_words(self.ubatch)
        cache = PanelCache(config.panel_cache, file) if config.panel_cache else None
        self.weights, self.buffers = (
            Weights(file, cache),
            Buffers(step_count(self.step, "n_tokens", config.n_ubatch)),
        )
        self.kv, self.rows = KVCells(1, "f32", "f32"), StateRows(1)  # of no layer
        self.builder = Builder(
            kernels, config.n_threads, self.weights, self.buffers, self.kv, self.rows, self.step,
            self.n_ctx, n_texts,
        )  # fmt: skip
        out = family(file).lower(self.builder, hp)
        self.tables = text_tables(self.buffers, n_texts)
        if self.pooling is Pooling.RANK:
            head = rank_head(file, family(file).rank or RankHead())
            out = pool(self.builder, out, head.pooling, n_texts)
            out = rank(self.builder, out, hp.eps, head.activation)
        elif self.pooling is not Pooling.NONE:
            out = pool(self.builder, out, self.pooling, n_texts)
            out = dense_modules(self.builder, out)
        for unused in ("cls.*", "dense_*", "output.weight"):
            self.weights.skip(unused)
        self.weights.check_all_used()
        self.weights.check_alike()
        self.out = self._memory_of(self.builder.keep(out))
        self.builder.finish()
        check_scratch(self.builder, file)

    def _memory_of(self, rows: Rows) -> NDArray[np.float32]:
        """What a step leaves: [rows, width]."""
        memory = self.buffers.array(rows.buffer).view(np.float32)
        width = rows.stride // 4
        return memory[: memory.size // width * width].reshape(-1, width)[:, : rows.width]

    @property
    def builds(self) -> dict[str, Callable[[], Callable[..., None]]]:
        """Every kernel that the model needs, by name."""
        return {**TEAM_KERNELS, **self.weights.builds, **self.builder.builds}

    @property
    def scratch_bytes(self) -> int:
        """A thread's working memory, in whole pages: as much as its most demanding op needs."""
        return round_up(self.builder.scratch_bytes, PAGE)

    @property
    def buffer_bytes(self) -> int:
        """Working memory of a step and of all threads."""
        return self.buffers.n_bytes + self.config.n_threads * self.scratch_bytes


def lower_file(
    file: GGUFFile, config: ModelConfig, kernels: KernelCache
) -> Lowered | LoweredEncoder:
    """A file's ops, of whichever kind its architecture is."""
    return (LoweredEncoder if is_encoder(file) else Lowered)(file, config, kernels)
