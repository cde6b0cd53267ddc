"""What the engine and the tools ask of a model and a tokenizer; the shapes, not the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.request import SamplerState, SamplingParams
from slotmux.runtime.pooling import Pooling
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.runtime.ubatch import I32, Ubatch

Bytes = NDArray[np.uint8]
Meanwhile = Callable[[], None]


def nothing() -> None:
    """What there is to do meanwhile, mostly."""


class KVStorage(Protocol):
    """The cells of every attention layer, in blocks of 16. Engine thread only, but for reads."""

    @property
    def n_blocks(self) -> int:
        """Blocks in the pool; 0 when no layer has attention."""

    @property
    def block_bytes(self) -> int:
        """Memory of one block, every layer."""

    @property
    def n_ready(self) -> int:
        """Blocks that slots were promised; the others are for the prefix cache, too."""

    @property
    def n_segment(self) -> int:
        """Neighbouring blocks whose memory comes and goes together; their first is a multiple."""

    def give_back_blocks(self, first: int, n: int) -> None:
        """Whole segments lose their memory and their content until they are written again."""

    def copy_block(self, src: int, dst: int) -> None:
        """Copy all cells of a block, every layer."""

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """All cells of some blocks, every layer: a copy [n, block_bytes]. Any thread; whoever is
        not the engine's must find out whether they were written meanwhile."""

    def write_blocks(self, blocks: Sequence[int], data: Bytes) -> None:
        """What ``read_blocks`` gave, into any blocks."""

    def fill_nan(self, block: int) -> None:
        """Poison a block, so that a stale read shows."""


class RowStorage(Protocol):
    """The recurrent state rows of every recurrent layer. Engine thread only, but for reads."""

    @property
    def n_rows(self) -> int:
        """Rows in the pool; 0 when no layer is recurrent."""

    @property
    def row_bytes(self) -> int:
        """Memory of one row."""

    @property
    def n_ready(self) -> int:
        """Rows whose memory is there from the start; others take it when they are first written."""

    def prepare_row(self, row: int) -> None:
        """Begin to have a row's memory come, which will be written soon; returns at once."""

    def give_back_row(self, row: int) -> None:
        """A row loses its memory and its content until it is written again."""

    def copy_row(self, src: int, dst: int) -> None:
        """Copy one sequence's whole recurrent state."""

    def read_row(self, row: int) -> Bytes:
        """One sequence's whole recurrent state, with what is kept of drafts: a copy [row_bytes].
        Any thread, as with blocks."""

    def write_row(self, row: int, data: Bytes) -> None:
        """What ``read_row`` gave, into any row."""

    def fill_nan(self, row: int) -> None:
        """Poison a row, so that a stale read shows."""


class SamplingTableLike(Protocol):
    """Each slot's sampling parameters, where the kernels read them."""

    def check(self, params: SamplingParams) -> None:
        """Raise InvalidRequestError for parameters that ``set`` would refuse. Any thread."""

    def set(
        self,
        slot: int,
        params: SamplingParams,
        history: I32,
        eog_ids: AbstractSet[int],
        min_pos: int,
        state: SamplerState | None = None,
    ) -> None:
        """Write a slot's parameters; ``eog_ids`` are not drawn at positions below ``min_pos``.

        ``history`` (capacity n_ctx) stays the caller's and is filled as tokens come. ``state``:
        what the sequence took along when it was parked.
        """

    def state(self, slot: int, pos: int) -> SamplerState | None:
        """What a sequence must take along, whose next draw is at ``pos``; None: nothing."""


class GuideLike(Protocol):
    """Tells a drafter before each of its draws what may be drawn. Engine thread."""

    def begin(self, n_seqs: int, drawn: Sequence[int]) -> None:
        """A pass over the first ``n_seqs`` sequences begins; the one before has ``drawn``."""

    def join(self) -> list[int]:
        """It comes to its draws: for each of its sequences the address of the allowed-token bits,
        or 0."""


class DrafterLike(Protocol):
    """The model's own block for multi-token prediction."""

    @property
    def short_vocab(self) -> int:
        """Tokens below this are all that a short pass looks at."""

    @property
    def has_short(self) -> bool:
        """Whether a short pass looks at fewer tokens than another."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """[n_slots, n_vocab]: of the last pass, in the order of the run's sequences."""

    def run(
        self,
        wanted: Sequence[tuple[int, int, int, int]],
        *,
        is_short: bool = False,
        guide: GuideLike | None = None,
    ) -> tuple[I32, NDArray[np.float32]]:
        """Guess for [(slot, n, token, position)] in descending order of n; ``token`` is the first
        that is not computed, and n positions from it on are reserved; ``guide``: what may be drawn.
        Returns tokens and logprobs [passes, sequences], overwritten by the next run; -1 where
        nothing could be drawn. The guesses also stand in the slots' histories, behind ``token``."""


class ModelLike(Protocol):
    """A loaded model: fill ``ubatch``, call ``forward``, read ``logits`` and the draws."""

    @property
    def n_vocab(self) -> int: ...
    @property
    def n_ctx_train(self) -> int: ...
    @property
    def ubatch(self) -> Ubatch: ...
    @property
    def kv(self) -> KVStorage: ...
    @property
    def rows(self) -> RowStorage: ...
    @property
    def sampling(self) -> SamplingTableLike: ...
    @property
    def drafter(self) -> DrafterLike | None: ...
    @property
    def logits(self) -> NDArray[np.float32]:
        """[max_outputs, n_vocab]: row r belongs to token ``ubatch.out_tokens[r]``; overwritten by
        the next forward."""

    @property
    def progress(self) -> int:
        """Changes while a forward gets ahead. Any thread."""

    def forward(self, meanwhile: Meanwhile = nothing) -> None:
        """Compute everything the ubatch describes. Releases the GIL. ``meanwhile`` is called by
        this thread while others have begun; it must leave the ubatch and all memory alone."""

    def compute(self, meanwhile: Meanwhile = nothing) -> None:
        """The part of ``forward`` before the draws; ``draw`` follows. Releases the GIL."""

    def draw(self) -> None:
        """The draws, by the masks of ``ubatch.sample_masks``. Releases the GIL."""

    @property
    def n_vector(self) -> int:
        """Numbers of a text's vector; 0: it gives none."""

    @property
    def pooling(self) -> Pooling:
        """What a text's vector is."""

    def vectors(self, tokens: I32) -> NDArray[np.float32]:
        """[n, n_vector]: the normed rows of tokens of the last forward's ubatch, or their scores, a
        copy. Overwrites the logits and the ubatch's output rows. Releases the GIL."""

    def score(self, rows: I32, targets: I32, n_top: I32, out: PromptLogprobs) -> None:
        """How likely ``targets[i]`` is after token ``rows[i]`` of the last forward's ubatch, and
        the ``n_top[i]`` likeliest tokens there, into row i of ``out`` (logprob NaN: the logits are
        no numbers). Overwrites the logits and the ubatch's output rows. Releases the GIL."""

    def close(self) -> None: ...


class TokenizerLike(Protocol):
    """The part of the tokenizer that the engine needs by itself."""

    @property
    def eog_ids(self) -> frozenset[int]: ...


class DetokenizerLike(Protocol):
    """Token ids in, whole characters out; one per generated sequence."""

    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...
    def show(self, token_ids: Iterable[int]) -> None:
        """From now on these control tokens have their text."""
