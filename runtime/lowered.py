"""A model file lowered: its ops, and places for its weights and memory. Nothing is loaded here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.activations import TILE_ROWS
from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.operands import STEP
from slotmux.kernels.ops.attention.cells import CELL_TYPES
from slotmux.kernels.team import TEAM_KERNELS
from slotmux.runtime.errors import ConfigError
from slotmux.runtime.gguf import GGUFFile, ModelFileError
from slotmux.runtime.lowering.buffers import Buffers, Rows, round_up, step_count
from slotmux.runtime.lowering.builder import Builder
from slotmux.runtime.lowering.cells import KVCells
from slotmux.runtime.lowering.drafts import DraftLowering, draft_ubatch, load_hidden
from slotmux.runtime.lowering.panel_cache import PanelCache
from slotmux.runtime.lowering.rows import StateRows
from slotmux.runtime.lowering.scores import ScoreLowering
from slotmux.runtime.lowering.vectors import VECTORS, VectorLowering, scores_of_rows
from slotmux.runtime.lowering.weights import Weights
from slotmux.runtime.models import family, has_mtp
from slotmux.runtime.models.hparams import read_hparams
from slotmux.runtime.pooling import Pooling, stored_pooling
from slotmux.runtime.sampling.table import SamplingTable
from slotmux.runtime.ubatch import BLOCK_CELLS, Ubatch

log = logging.getLogger(__name__)
DEFAULT_N_CTX = 32768
MAX_DRAFTS = 16
PAGE = 4096
HEAD, DRAWS = "head", "draws"  # parts of the program behind the layers
MAX_SCRATCH_BYTES = 1 << 26  # of a thread; a published shape needs 1 or 2 MB


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the operator decides about a model; 0 and "auto" are resolved by load_model."""

    n_threads: int = 0  # 0 = the CPUs that this process may use
    n_ctx: int = 0  # cells of the unified KV cache; 0 = the trained context, at most 32768
    n_slots: int = 1
    n_ubatch: int = 512  # tokens computed in one forward
    n_outputs: int = 0  # rows of logits at a time; 0 = what the slots may verify, in whole tiles
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    isa: str = "auto"
    n_checkpoints: int = 0  # kept copies of recurrent state
    n_ready_checkpoints: int = 0  # of them those whose pages are taken at once, where it is elastic
    n_cache_blocks: int = 0  # blocks of cells beside those of n_ctx, for the prefix cache
    # Pages of cells and rows are taken and given back with use: their number is bounded elsewhere.
    is_elastic: bool = False
    max_drafts: int = 0  # tokens of one sequence that one forward may verify; 0 = no speculation
    use_mtp: bool = False  # lower the block for multi-token prediction too, if the file has one
    pin_threads: bool = False  # tie each kernel thread but the leading one to a CPU
    numa: str = ""  # see runtime/numa.py; "" = nothing is placed
    kernel_cache: Path | None = None  # directory of compiled kernels; None = keep none
    panel_cache: Path | None = None  # directory of repacked weights; None = repack at every start
    pooling: int = -1  # what a text's vector is, see Pooling; -1 = what the file says


def resolved(config: ModelConfig, n_ctx_train: int) -> ModelConfig:
    for name in ("n_threads", "n_ctx", "n_outputs", "n_checkpoints", "n_cache_blocks"):
        if getattr(config, name) < 0:
            raise ConfigError(name, "must not be negative")
    if not 0 <= config.max_drafts <= MAX_DRAFTS:
        raise ConfigError("max_drafts", f"must be 0 to {MAX_DRAFTS}")
    for name in ("n_slots", "n_ubatch"):
        if not 1 <= getattr(config, name) <= 65536:
            raise ConfigError(name, "must be 1 to 65536")
    for name in ("cache_type_k", "cache_type_v"):
        if getattr(config, name) not in CELL_TYPES:
            raise ConfigError(name, f"must be one of {', '.join(CELL_TYPES)}")
    return replace(
        config,
        n_threads=config.n_threads or len(os.sched_getaffinity(0)),
        n_ctx=config.n_ctx or min(n_ctx_train, DEFAULT_N_CTX),
        n_outputs=config.n_outputs or round_up(config.n_slots * (1 + config.max_drafts), TILE_ROWS),
    )


class _DraftsRefused(Exception):
    """The trunk is sound, the block for multi-token prediction behind it is not."""

    def __init__(self, error: ModelFileError) -> None:
        super().__init__(str(error))
        self.error = error


class Lowered:
    """A file's ops, and places for its weights and memory; nothing compiled, nothing loaded.

    Takes address space but hardly any memory.
    """

    def __init__(self, file: GGUFFile, config: ModelConfig, kernels: KernelCache) -> None:
        self.hparams = hp = read_hparams(file)
        self.config = config = resolved(config, hp.n_ctx_train)
        self._n_blocks = -(-config.n_ctx // BLOCK_CELLS)
        self.n_ctx = min(self._n_blocks * BLOCK_CELLS, hp.n_ctx_train)  # of one sequence
        self.file, self._family = file, family(file)
        with_drafts = config.use_mtp and config.max_drafts > 0 and has_mtp(file)
        try:
            self._lower(kernels, with_drafts)
        except _DraftsRefused as refused:
            error = refused.error
            file.metadata.warn(error.field, f"{error.reason}; served without drafts")
            self._lower(kernels, with_drafts=False)

    def _lower(self, kernels: KernelCache, with_drafts: bool) -> None:
        """Everything from nothing: a block for multi-token prediction that turns out bad leaves
        ops behind."""
        file, config, hp = self.file, self.config, self.hparams
        self.ubatch = Ubatch(
            config.n_ubatch, config.n_slots, -(-self.n_ctx // BLOCK_CELLS), config.n_outputs
        )
        self.step = step_words(self.ubatch)
        cache = PanelCache(config.panel_cache, file) if config.panel_cache else None
        self.weights = Weights(file, cache)
        self.buffers = Buffers(step_count(self.step, "n_tokens", config.n_ubatch))
        self.kv = KVCells(
            self._n_blocks,
            config.cache_type_k,
            config.cache_type_v,
            config.n_cache_blocks,
            is_elastic=config.is_elastic,
        )
        self.rows = StateRows(
            config.n_slots + config.n_ready_checkpoints,
            config.max_drafts,
            config.n_checkpoints - config.n_ready_checkpoints,
            is_elastic=config.is_elastic,
        )
        self.builder = Builder(
            kernels,
            config.n_threads,
            self.weights,
            self.buffers,
            self.kv,
            self.rows,
            self.step,
            self.n_ctx,
            config.n_slots,
        )
        self.sampling = SamplingTable(config.n_slots, hp.n_vocab, self.n_ctx)
        x = self._family.lower(self.builder, hp)
        self.drafts = self._lower_mtp(x) if with_drafts else None
        if self.drafts is None:
            self._skip_draft_blocks()
        with self.builder.part(HEAD):
            logits = self._family.head(self.builder, hp, x, config.n_outputs)
        self.vectors = self._lower_vectors(x)
        self.weights.check_all_used()
        self.weights.check_alike()
        memory = self.buffers.array(logits.buffer).view(np.float32)
        rows = memory[: round_up(config.n_outputs, TILE_ROWS) * logits.stride // 4]
        self.logits: NDArray[np.float32] = rows.reshape(-1, logits.stride // 4)[:, : hp.n_vocab]
        with self.builder.part(DRAWS):
            draws = self.sampling.draws(logits, config.n_threads, self.ubatch.sample_masks)
            self.builder.append(draws)
        self.scores = ScoreLowering(self.builder, self.ubatch, HEAD, draws)
        self.builder.finish()
        check_scratch(self.builder, file)

    def _lower_vectors(self, x: Rows) -> VectorLowering:
        """What gives a text's vector, or its score."""
        normed, hp, n = self._family.normed, self.hparams, self.config.n_outputs
        pooling = self.config.pooling
        self.pooling = Pooling(pooling) if pooling >= 0 else stored_pooling(self.file, Pooling.LAST)
        if self.pooling is not Pooling.RANK:
            self.weights.skip("cls.*")
        b, ranks = self.builder, self.pooling is Pooling.RANK
        with b.part(VECTORS):
            out = normed(b, hp, x, n)
            out = scores_of_rows(b, out) if ranks else out
        return VectorLowering(b, self.ubatch, out)

    def _skip_draft_blocks(self) -> None:
        for block in range(self.hparams.n_layers, self.hparams.n_blocks):
            skipped = self.weights.skip(f"blk.{block}.*")
            log.info("blk.%d predicts further tokens: %d tensors not used", block, len(skipped))

    def _lower_mtp(self, x: Rows) -> DraftLowering:
        """The block for multi-token prediction, behind the trunk whose residual stream is x."""
        trunk, hp, mtp = self.builder, self.hparams, self._family.mtp
        assert mtp is not None  # has_mtp
        ubatch = draft_ubatch(self.ubatch)
        self.draft_step = step_words(ubatch)
        tokens = step_count(self.draft_step, "n_tokens", self.config.n_slots)
        b = trunk.beside(Buffers(tokens), self.draft_step)
        try:
            last = mtp.keep_past(trunk, hp, x)
            hidden = load_hidden(b, last, hp.n_embd)
            drafts = DraftLowering(
                b,
                ubatch,
                self.sampling,
                self.config.max_drafts,
                hidden,
                mtp.head(b, hp),
                lambda: mtp.guess(b, hp, hidden),
            )
            self.weights.check_alike()
            unknown = self.weights.unused(f"blk.{hp.n_layers}.")
            if unknown:
                self.weights.refuse(unknown[0], "this tensor has no use in a block for drafts")
        except ModelFileError as error:
            raise _DraftsRefused(error) from error
        return drafts

    @property
    def builds(self) -> dict[str, Callable[[], Callable[..., None]]]:
        """Every kernel that the model needs, by name."""
        drafts = self.drafts.builds if self.drafts is not None else {}
        isa = self.builder.kernels.cpu.isa
        scores = {op.kernel: op.builder(isa) for op in self.scores.ops}
        own = {**self.weights.builds, **self.builder.builds}
        return {**TEAM_KERNELS, **own, **scores, **drafts}

    @property
    def scratch_bytes(self) -> int:
        """A thread's working memory, in whole pages: as much as its most demanding op needs."""
        drafts = self.drafts.scratch_bytes if self.drafts is not None else 0
        return round_up(max(self.builder.scratch_bytes, drafts), PAGE)

    @property
    def buffer_bytes(self) -> int:
        """Working memory of a forward, of guessing, and of all threads."""
        drafts = self.drafts.n_bytes if self.drafts is not None else 0
        return self.buffers.n_bytes + drafts + self.config.n_threads * self.scratch_bytes


def check_scratch(b: Builder, file: GGUFFile) -> None:
    """Raise ModelFileError where an op needs more working memory than a thread may have."""
    if b.scratch_bytes > MAX_SCRATCH_BYTES:
        isa = b.kernels.cpu.isa
        op = max(b.ops, key=lambda op: op.scratch_bytes(isa))
        n_bytes = op.scratch_bytes(isa)
        reason = f"{op.kernel} of this shape would need {n_bytes} bytes for each thread"
        raise ModelFileError("hyper-parameters", None, reason, file.paths[0])


def step_words(ubatch: Ubatch) -> NDArray[np.int64]:
    """The words of STEP, with the addresses of the ubatch's tables filled in."""
    step = np.zeros(len(STEP._fields), np.int64)
    for name in STEP._fields:
        table = getattr(ubatch, name, None)
        if isinstance(table, np.ndarray):
            step[getattr(STEP, name) // 8] = table.ctypes.data
    step[STEP.max_blocks // 8] = ubatch.block_tables.shape[1]
    return step
