"""What a model will take in memory, before any of it is taken."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.gguf import GGUFFile
from slotmux.runtime.lowered import ModelConfig
from slotmux.runtime.lowered_encoder import lower_file
from slotmux.runtime.ubatch import BLOCK_CELLS


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Bytes of a model's parts."""

    weights: int  # as kernels read them
    cell: float  # one token in the KV cells of all layers; 0 without attention
    row: int  # one sequence's recurrent state; 0 without recurrent layers
    buffers: int  # of one forward
    has_drafts: bool = False  # the block for multi-token prediction was asked for and can be used


def model_sizes(file: GGUFFile, config: ModelConfig) -> ModelSizes:
    """Lowered for real, into nothing: raises what load_model would, before anything is loaded."""
    small = replace(config, n_ctx=BLOCK_CELLS, n_threads=1, n_checkpoints=0)
    lowered = lower_file(file, small, KernelCache(detect_cpu(config.isa), None))
    n_threads = config.n_threads or len(os.sched_getaffinity(0))
    return ModelSizes(
        weights=lowered.weights.n_bytes,
        cell=lowered.kv.n_bytes / BLOCK_CELLS,
        row=lowered.rows.row_bytes,
        buffers=lowered.buffer_bytes + (n_threads - 1) * lowered.scratch_bytes,
        has_drafts=lowered.drafts is not None,
    )
