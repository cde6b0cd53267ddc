"""A loaded model: its memory, its program, and one forward of an ubatch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import KernelCache
from kernels.cpu import detect_cpu
from kernels.operands import STEP
from kernels.ops.cells import CELL_TYPES
from kernels.team import Team
from runtime.gguf import GGUFFile, open_gguf
from runtime.lowering.buffers import Buffers
from runtime.lowering.builder import Builder
from runtime.lowering.cells import KVCells
from runtime.lowering.draws import append_draws
from runtime.lowering.rows import StateRows
from runtime.lowering.weights import Weights
from runtime.models import Family, family
from runtime.models.hparams import Hparams, read_hparams
from runtime.request import InvalidRequestError
from runtime.sampling import SamplingTable
from runtime.ubatch import BLOCK_CELLS, Ubatch

Progress = Callable[[str, float], None]
DEFAULT_N_CTX = 32768
SCRATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the operator decides about a model; 0 and "auto" are resolved by load_model."""

    n_threads: int = 0  # 0 = the CPUs that this process may use
    n_ctx: int = 0  # cells of the unified KV cache; 0 = the trained context, at most 32768
    n_slots: int = 1
    n_ubatch: int = 512  # tokens computed in one forward
    n_outputs: int = 0  # rows of logits in one forward; 0 = one a slot
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    isa: str = "auto"
    n_checkpoints: int = 0  # kept copies of recurrent state
    kernel_cache: Path | None = None  # directory of compiled kernels; None = keep none


def _resolved(config: ModelConfig, n_ctx_train: int) -> ModelConfig:
    for name in ("n_threads", "n_ctx", "n_outputs", "n_checkpoints"):
        if getattr(config, name) < 0:
            raise InvalidRequestError(name, f"{name} must not be negative")
    for name in ("n_slots", "n_ubatch"):
        if not 1 <= getattr(config, name) <= 65536:
            raise InvalidRequestError(name, f"{name} must be 1 to 65536")
    for name in ("cache_type_k", "cache_type_v"):
        if getattr(config, name) not in CELL_TYPES:
            raise InvalidRequestError(name, f"{name} must be one of {', '.join(CELL_TYPES)}")
    return replace(
        config,
        n_threads=config.n_threads or len(os.sched_getaffinity(0)),
        n_ctx=config.n_ctx or min(n_ctx_train, DEFAULT_N_CTX),
        n_outputs=config.n_outputs or config.n_slots,
    )


class Model:
    """Implements runtime.protocols.Model. One thread at a time may use it."""

    def __init__(self, file: GGUFFile, config: ModelConfig, progress: Progress) -> None:
        self.hparams: Hparams = read_hparams(file)
        self.config = config = _resolved(config, self.hparams.n_ctx_train)
        self.n_ctx_train = self.hparams.n_ctx_train
        self.n_vocab = self.hparams.n_vocab
        architecture = family(file)
        kernels = KernelCache(detect_cpu(config.isa), config.kernel_cache)
        self.team = Team(kernels, config.n_threads, SCRATCH_BYTES)
        try:
            self._build(file, architecture, progress)
        except BaseException:
            self.team.close()
            raise

    def _build(self, file: GGUFFile, architecture: Family, progress: Progress) -> None:
        config, hp = self.config, self.hparams
        n_blocks = -(-config.n_ctx // BLOCK_CELLS)
        self.n_ctx = min(n_blocks * BLOCK_CELLS, self.n_ctx_train)  # of one sequence
        self.ubatch = Ubatch(
            config.n_ubatch, config.n_slots, -(-self.n_ctx // BLOCK_CELLS), config.n_outputs
        )
        self._step = self._step_words()
        n_bytes, taken = sum(t.n_bytes for t in file.tensors.values()), [0]

        def on_bytes(n: int) -> None:
            taken[0] += n
            progress("load", taken[0] / max(n_bytes, 1))

        self.weights = Weights(file, self.team, on_bytes)
        self.buffers = Buffers(config.n_ubatch)
        self.kv = KVCells(n_blocks, config.cache_type_k, config.cache_type_v)
        self.rows = StateRows(config.n_slots + config.n_checkpoints)
        builder = Builder(
            self.team,
            self.weights,
            self.buffers,
            self.kv,
            self.rows,
            self._step,
            self.n_ctx,
            config.n_slots,
        )
        x = architecture.lower(builder, hp)
        logits = architecture.head(builder, hp, x, config.n_outputs)
        self.weights.check_all_used()
        memory = self.buffers.array(logits.buffer).view(np.float32)
        rows = memory[: self.buffers.padded_rows(config.n_outputs) * logits.stride // 4]
        self.logits: NDArray[np.float32] = rows.reshape(-1, logits.stride // 4)[:, : hp.n_vocab]
        self.sampling = SamplingTable(config.n_slots, hp.n_vocab, self.n_ctx)
        append_draws(builder, self.sampling, logits, self.logits)
        progress("compile", 0.0)
        self._program = builder.program(lambda done: progress("compile", done))
        progress("ready", 1.0)

    def _step_words(self) -> NDArray[np.int64]:
        """The words of STEP, with the addresses of the ubatch's tables filled in."""
        step = np.zeros(len(STEP._fields), np.int64)
        for name in STEP._fields:
            table = getattr(self.ubatch, name, None)
            if isinstance(table, np.ndarray):
                step[getattr(STEP, name) // 8] = table.ctypes.data
        step[STEP.max_blocks // 8] = self.ubatch.block_tables.shape[1]
        return step

    def forward(self) -> None:
        """Compute everything the ubatch describes. Releases the GIL."""
        ub = self.ubatch
        self._step[:4] = ub.n_tokens, ub.n_seqs, ub.n_outputs, ub.n_samples
        self.team.run(self._program)

    @property
    def n_compiled(self) -> int:
        """Kernels that had to be compiled; the others came from the cache."""
        return self.team.kernels.n_compiled

    @property
    def memory_bytes(self) -> dict[str, int]:
        """What was allocated, by purpose."""
        return {
            "weights": self.weights.n_bytes,
            "kv": self.kv.n_bytes,
            "state": self.rows.n_bytes,
            "buffers": self.buffers.n_bytes,
        }

    def close(self) -> None:
        """End the thread team. The model must not be used afterwards."""
        self.team.close()


def load_model(path: Path, config: ModelConfig, progress: Progress = lambda *_: None) -> Model:
    """Read a GGUF file into memory and compile what it needs.

    Raises ModelFileError (bad or unsupported file) and InvalidRequestError (bad config field).
    """
    return Model(open_gguf(path), config, progress)
