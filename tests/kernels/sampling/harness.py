"""A harness around the sampling kernel: rows of logits, slots, and draws from them."""

from __future__ import annotations

import numpy as np

from slotmux.kernels.operands import STEP, Count, Rows
from slotmux.kernels.team import Program
from slotmux.runtime.engine.request import SamplingParams
from slotmux.runtime.sampling.table import SamplingTable
from slotmux.runtime.ubatch import Ubatch

N_CTX = 96
TABLES = "sample_output sample_slot sample_pos sampled logprob top_ids top_logprobs"


class Sampler:
    """Rows of logits with NaN behind their end, and slots that draw from them."""

    def __init__(self, team, logits, n_slots=1, n_draws=64, padding=3, masks=None):
        n_rows, n_vocab = logits.shape
        self.buffer = np.full((n_rows, n_vocab + padding), np.nan, np.float32)
        self.buffer[:, :n_vocab] = logits
        self.team = team
        self.masks = masks
        self.table = SamplingTable(n_slots, n_vocab, N_CTX)
        self.history = np.zeros((n_slots, N_CTX), np.int32)
        self.ub = Ubatch(n_draws, n_slots, 1, n_draws)
        self.step = np.zeros(len(STEP), np.int64)
        for name in TABLES.split():
            self.step[getattr(STEP, name) // 8] = getattr(self.ub, name).ctypes.data
        # The op says n_vocab; rows are longer.
        address, stride = self.buffer.ctypes.data, self.buffer.strides[0]
        rows = Rows("logits", address, n_vocab, stride, Count(0, n_rows))
        op = self.table.draws(rows, team.n_threads, masks)
        kernel = team.kernels.address(op.kernel, op.builder(team.kernels.cpu.isa))
        self.program = Program(team, self.step, [(kernel, op.words(), -1)])

    def set(self, slot=0, history=(), banned=(), min_pos=0, **params):
        """Give a slot its parameters; returns them."""
        given = SamplingParams(**params)
        self.history[slot, : len(history)] = history
        self.table.set(slot, given, self.history[slot], frozenset(banned), min_pos)
        return given

    def draw(self, positions, slots=0, rows=0):
        """The tokens drawn at the positions; arrays of slots and rows, or one for all."""
        ub, n = self.ub, len(positions)
        ub.sample_pos[:n] = positions
        ub.sample_slot[:n] = slots
        ub.sample_output[:n] = rows
        ub.sampled[:] = -7
        self.step[STEP.n_samples // 8] = n
        self.team.run(self.program)
        assert (ub.sampled[n:] == -7).all()
        return ub.sampled[:n].copy()
