"""The tables of one forward: which tokens of which sequences, where their memory is, what to draw.

Allocated once; the scheduler fills them, kernels read them by address, nothing is rebuilt per step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
MAX_TOP_LOGPROBS = 20
BLOCK_CELLS = 16


class Ubatch:
    """Tokens computed in one forward. A sequence's tokens are contiguous, in position order.

    Sizes: ``n_ubatch`` tokens at most, ``n_slots`` sequences at most (one slot contributes at most
    one run of tokens), ``max_blocks`` blocks a sequence. Owned and written by the engine thread.
    """

    def __init__(self, n_ubatch: int, n_slots: int, max_blocks: int, n_outputs: int) -> None:
        self.n_ubatch = n_ubatch
        self.max_outputs = n_outputs
        self.n_tokens = 0
        self.n_seqs = 0
        self.n_outputs = 0
        self.n_samples = 0
        self.tokens: I32 = np.zeros(n_ubatch, np.int32)
        self.positions: I32 = np.zeros(n_ubatch, np.int32)
        # Run i of the ubatch: tokens seq_start[i] .. seq_start[i + 1] of slot seq_slot[i].
        self.seq_start: I32 = np.zeros(n_slots + 1, np.int32)
        self.seq_slot: I32 = np.zeros(n_slots, np.int32)
        # How many of a run's last tokens are drafts.
        self.seq_drafts: I32 = np.zeros(n_slots, np.int32)
        # A slot's row of this table is its sequence's block table (kept up to date by memory).
        self.block_tables: I32 = np.zeros((n_slots, max(max_blocks, 1)), np.int32)
        # A slot's recurrent state: row in the pool, and 1 where the row has no content yet.
        self.state_row: I32 = np.full(n_slots, -1, np.int32)
        self.state_fresh: NDArray[np.uint8] = np.ones(n_slots, np.uint8)
        # Accepted drafts that the row's state has not seen yet (kernels/ops/recurrent/frame.py).
        self.state_pending: I32 = np.zeros(n_slots, np.int32)
        # Which tokens (indices into ``tokens``) get logits: output row r is token out_tokens[r].
        self.out_tokens: I32 = np.zeros(n_outputs, np.int32)
        # Draws, done on the thread team after the logits (see runtime/sampling): draw s uses
        # output row sample_output[s], the parameters and history of slot sample_slot[s], and
        # draws the token at position sample_pos[s] of that slot's sequence: its history is the
        # first sample_pos[s] tokens.
        self.sample_output: I32 = np.zeros(n_outputs, np.int32)
        self.sample_slot: I32 = np.zeros(n_outputs, np.int32)
        self.sample_pos: I32 = np.zeros(n_outputs, np.int32)
        # Address of a draw's allowed-token bits (runtime/sampling/table.py), or 0.
        self.sample_masks: NDArray[np.int64] = np.zeros(n_outputs, np.int64)
        # Results of the draws.
        self.sampled: I32 = np.zeros(n_outputs, np.int32)  # -1: the logits held a NaN
        self.logprob: NDArray[np.float32] = np.zeros(n_outputs, np.float32)
        self.top_ids: I32 = np.zeros((n_outputs, MAX_TOP_LOGPROBS), np.int32)
        self.top_logprobs: NDArray[np.float32] = np.zeros((n_outputs, MAX_TOP_LOGPROBS), np.float32)

    def clear(self) -> None:
        """Start an empty ubatch."""
        self.n_tokens = self.n_seqs = self.n_outputs = self.n_samples = 0
