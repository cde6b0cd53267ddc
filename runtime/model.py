"""A loaded model: its memory, its program, and one forward of an ubatch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.kernels.team import Team
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.interfaces import Meanwhile, nothing
from slotmux.runtime.lowered import DRAWS, HEAD, Lowered, ModelConfig
from slotmux.runtime.lowering.drafts import Drafter
from slotmux.runtime.lowering.scores import Scorer
from slotmux.runtime.lowering.vectors import Vectoriser
from slotmux.runtime.numa import Placement, chosen_nodes
from slotmux.runtime.precompile import compile_all
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.ubatch import I32

__all__ = ["Lowered", "Model", "ModelConfig", "Progress", "load_model"]
log = logging.getLogger(__name__)
Progress = Callable[[str, float], None]


class Model:
    """Implements slotmux.runtime.interfaces.ModelLike. One thread at a time may use it."""

    def __init__(
        self, lowered: Lowered, kernels: KernelCache, n_compiled: int, progress: Progress
    ) -> None:
        self.hparams, self.config = lowered.hparams, lowered.config
        self.n_ctx, self.n_ctx_train = lowered.n_ctx, lowered.hparams.n_ctx_train
        self.n_vocab = lowered.hparams.n_vocab
        self.ubatch, self.logits, self.sampling = lowered.ubatch, lowered.logits, lowered.sampling
        self.kv, self.rows = lowered.kv, lowered.rows
        self.pooling = lowered.pooling
        self.n_vector = lowered.vectors.rows.shape[1]
        self._weights, self._step = lowered.weights, lowered.step
        self._buffers, self._buffer_bytes = lowered.buffers, lowered.buffer_bytes
        self._n_compiled_before = n_compiled
        placement = placement_of(self.config)
        self.team = team_of(kernels, self.config, lowered.scratch_bytes, placement)
        try:
            if placement is not None:
                self._weights.place(placement)
                self.kv.place(placement)
                self.rows.place(placement)
            self._weights.load(self.team, lambda done: progress("load", done))
            self.team.untie_caller()  # who loads a model is seldom who runs it
            self.kv.touch()
            builder = lowered.builder
            self._program = builder.program(self.team, builder.ops_of("", HEAD, DRAWS))
            # The same in two parts: what a draw may choose from can be found out meanwhile.
            self._computing = builder.program(self.team, builder.ops_of("", HEAD))
            self._drawing = builder.program(self.team, builder.ops_of(DRAWS))
            self._scorer = Scorer(lowered.scores, self.ubatch, self._step, self.team)
            self._vectoriser = Vectoriser(lowered.vectors, self.ubatch, self._step, self.team)
            drafts = lowered.drafts
            self.drafter = Drafter(drafts, lowered.draft_step, self.team) if drafts else None
        except BaseException:
            self.team.close()
            raise
        progress("ready", 1.0)

    def forward(self, meanwhile: Meanwhile = nothing) -> None:
        """Compute everything the ubatch describes. Releases the GIL. ``meanwhile``: for this thread
        to do while the others have begun."""
        self._set_step()
        self.team.run(self._program, meanwhile)

    def compute(self, meanwhile: Meanwhile = nothing) -> None:
        """The forward up to its draws, which ``draw`` must follow. Releases the GIL."""
        self._set_step()
        self.team.run(self._computing, meanwhile)

    def draw(self) -> None:
        """The draws of what ``compute`` has computed. Releases the GIL."""
        self.team.run(self._drawing)

    def _set_step(self) -> None:
        ub = self.ubatch
        self._step[:4] = ub.n_tokens, ub.n_seqs, ub.n_outputs, ub.n_samples

    def score(self, rows: I32, targets: I32, n_top: I32, out: PromptLogprobs) -> None:
        """How likely tokens are after others of the last forward. Releases the GIL."""
        self._scorer.run(rows, targets, n_top, out)

    def vectors(self, tokens: I32) -> NDArray[np.float32]:
        """Rows of tokens of the last forward, normed, or their scores. Releases the GIL."""
        return self._vectoriser.run(tokens)

    @property
    def progress(self) -> int:
        """Changes while a forward gets ahead. Any thread."""
        return self.team.progress

    @property
    def n_compiled(self) -> int:
        """Kernels that had to be compiled; the others came from the cache."""
        return self._n_compiled_before + self.team.kernels.n_compiled

    @property
    def memory_bytes(self) -> dict[str, int]:
        """What was allocated, by purpose."""
        return {
            "weights": self._weights.n_bytes,
            "kv": self.kv.n_bytes,
            "state": self.rows.n_bytes,
            "buffers": self._buffer_bytes,
        }

    def close(self) -> None:
        """End the thread team. The model must not be used afterwards."""
        self.team.close()


def placement_of(config: ModelConfig) -> Placement | None:
    """Where ``numa`` has memory and threads; None: nothing is placed."""
    nodes = chosen_nodes(config.numa)
    if not nodes:
        return None
    placement = Placement.over(nodes, config.n_threads)
    for node, n in zip(placement.nodes, placement.groups, strict=True):
        log.info("NUMA node %d: %d threads, and their part of the weights", node.id, n)
    return placement


def team_of(
    kernels: KernelCache, config: ModelConfig, scratch_bytes: int, placement: Placement | None
) -> Team:
    """The threads that run a model."""
    n = config.n_threads
    if placement is not None:
        cpus = placement.cpus(pinned=config.pin_threads)
        return Team(kernels, n, scratch_bytes, cpus, placement.groups, ties_caller=True)
    if not config.pin_threads:
        return Team(kernels, n, scratch_bytes)
    allowed = sorted(os.sched_getaffinity(0))
    return Team(kernels, n, scratch_bytes, [{allowed[i % len(allowed)]} for i in range(n)])


def load_model(path: Path, config: ModelConfig, progress: Progress = lambda *_: None) -> Model:
    """Read a GGUF file into memory and compile what it needs.

    Raises ModelFileError (bad or unsupported file) and ConfigError (bad config field).
    """
    kernels = KernelCache(detect_cpu(config.isa), config.kernel_cache)
    lowered = Lowered(open_gguf(path), config, kernels)
    n_compiled = compile_all(path, config, kernels, lowered.builds, progress)
    return Model(lowered, kernels, n_compiled, progress)
