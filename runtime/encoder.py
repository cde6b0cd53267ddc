"""A loaded encoder: its program, and the vectors of some texts in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotmux.kernels.compiler import KernelCache
from slotmux.kernels.cpu import detect_cpu
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.interfaces import Meanwhile, nothing
from slotmux.runtime.lowered_encoder import LoweredEncoder
from slotmux.runtime.model import ModelConfig, Progress, placement_of, team_of
from slotmux.runtime.pooling import Pooling
from slotmux.runtime.precompile import compile_all
from slotmux.runtime.ubatch import I32

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens to encode. ``n_first``: how many of them are of the first part, where a text has two
    (a query and a document) and the model tells them apart; -1: all."""

    tokens: I32
    n_first: int = -1


class Encoder:
    """Vectors of texts. One thread at a time may use it."""

    def __init__(
        self, lowered: LoweredEncoder, kernels: KernelCache, n_compiled: int, progress: Progress
    ) -> None:
        self.hparams, self.config = lowered.hparams, lowered.config
        self.n_ctx, self.pooling = lowered.n_ctx, lowered.pooling
        self.n_vocab = lowered.hparams.n_vocab
        self.n_texts, self.n_out = lowered.config.n_slots, lowered.out.shape[1]
        self._ubatch, self._tables, self._out = lowered.ubatch, lowered.tables, lowered.out
        self._step, self._weights = lowered.step, lowered.weights
        self._buffers, self._buffer_bytes = lowered.buffers, lowered.buffer_bytes
        self._n_compiled_before = n_compiled
        placement = placement_of(self.config)
        self.team = team_of(kernels, self.config, lowered.scratch_bytes, placement)
        try:
            if placement is not None:
                self._weights.place(placement)
            self._weights.load(self.team, lambda done: progress("load", done))
            self.team.untie_caller()  # who loads a model is seldom who runs it
            self._program = lowered.builder.program(self.team)
        except BaseException:
            self.team.close()
            raise
        progress("ready", 1.0)

    def encode(self, texts: Sequence[Text], meanwhile: Meanwhile = nothing) -> list[F32]:
        """The vector of each text, or (pooling none) the rows of its tokens; copies. Together no
        more than ``n_ubatch`` tokens of ``n_texts`` texts, none empty. Releases the GIL."""
        ub, lengths = self._ubatch, np.array([len(text.tokens) for text in texts], np.int64)
        n_tokens, n_texts = int(lengths.sum()), len(texts)
        if not (n_tokens <= ub.n_ubatch and 0 < n_texts <= self.n_texts and lengths.min() > 0):
            raise ValueError(f"{n_texts} texts of {n_tokens} tokens are no step")
        ends = np.cumsum(lengths)
        ub.tokens[:n_tokens] = np.concatenate([text.tokens for text in texts])
        ub.seq_start[1 : n_texts + 1] = ends
        ub.positions[:n_tokens] = np.arange(n_tokens) - np.repeat(ends - lengths, lengths)
        self._tables.fill(lengths)
        firsts = np.array([text.n_first for text in texts])
        ends_first = np.repeat(np.where(firsts < 0, lengths, firsts), lengths)
        self._tables.types[:n_tokens] = ub.positions[:n_tokens] >= ends_first
        self._step[:4] = n_tokens, n_texts, 0, 0
        self.team.run(self._program, meanwhile)
        if self.pooling is Pooling.NONE:
            return [self._out[end - n : end].copy() for n, end in zip(lengths, ends, strict=True)]
        return list(self._out[:n_texts].copy())

    def poison(self) -> None:
        """Fill working memory with NaN, so that a stale read shows."""
        self._buffers.fill_nan()

    @property
    def n_ubatch(self) -> int:
        """Most tokens of a step."""
        return self._ubatch.n_ubatch

    @property
    def progress(self) -> int:
        """Changes while a step gets ahead. Any thread."""
        return self.team.progress

    @property
    def n_compiled(self) -> int:
        """Kernels that had to be compiled; the others came from the cache."""
        return self._n_compiled_before + self.team.kernels.n_compiled

    @property
    def memory_bytes(self) -> dict[str, int]:
        """What was allocated, by purpose."""
        return {"weights": self._weights.n_bytes, "buffers": self._buffer_bytes}

    def close(self) -> None:
        """End the thread team. The encoder must not be used afterwards."""
        self.team.close()


def load_encoder(path: Path, config: ModelConfig, progress: Progress = lambda *_: None) -> Encoder:
    """As ``load_model``, of a file whose architecture is an encoder's."""
    kernels = KernelCache(detect_cpu(config.isa), config.kernel_cache)
    lowered = LoweredEncoder(open_gguf(path), config, kernels)
    n_compiled = compile_all(path, config, kernels, lowered.builds, progress)
    return Encoder(lowered, kernels, n_compiled, progress)
