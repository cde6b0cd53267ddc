"""Log-probabilities of prompts, for requests that ask for them: computed behind each forward.

The output matrix is read once for every few rows, so this may cost more than the forward. How many
prompt tokens of such requests a step takes is bounded by what their rows cost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.engine.pace import ALONE_S, mixed
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.interfaces import ModelLike
from slotmux.runtime.prompt_logprobs import PromptLogprobs


class Scoring:
    """Fills the prompt log-probabilities of choices that want them. Engine thread only.

    ``max_step_s``: the bound on a step beside generating requests, half of which scoring may take;
    0 = none.
    """

    def __init__(self, model: ModelLike, max_step_s: float) -> None:
        self._model = model
        self._max_step_s = max_step_s
        self._row_s = 0.0  # 0 = not known yet

    def bound(self, prompts: Sequence[Slot], *, is_alone: bool) -> None:
        """Set how many tokens of each prompt the step may have. ``is_alone``: nobody generates."""
        n_scored = sum(_is_scored(slot) for slot in prompts)
        share = max(1, self._most(is_alone=is_alone) // n_scored) if n_scored else 0
        for slot in prompts:
            slot.n_most = share if _is_scored(slot) else slot.n_known

    def run(self, active: Sequence[Slot]) -> None:
        """Score what the forward has computed of prompts, before it is committed."""
        asked = [(slot, *part) for slot in active if (part := _part(slot)) is not None]
        if not asked:
            return
        starts = self._starts()
        rows, targets, tops = [], [], []
        for slot, begin, end in asked:
            first = starts[slot.id] + begin - slot.seq.n_computed
            rows.append(np.arange(first, first + end - begin, dtype=np.int32))
            targets.append(slot.history[begin + 1 : end + 1])
            tops.append(np.full(end - begin, _scores(slot).top_ids.shape[1], np.int32))
        n = sum(map(len, rows))
        out = PromptLogprobs.empty(n, max(int(top[0]) for top in tops))
        started = time.monotonic()
        self._model.score(np.concatenate(rows), np.concatenate(targets), np.concatenate(tops), out)
        self._row_s = mixed(self._row_s, (time.monotonic() - started) / n)
        at = 0
        for slot, begin, end in asked:
            _keep(slot, out.part(at, at + end - begin), begin, end)
            at += end - begin

    def _most(self, *, is_alone: bool) -> int:
        """Rows that a step may score: one reading of the output matrix at least."""
        least = self._model.ubatch.max_outputs
        budget = ALONE_S if is_alone else self._max_step_s
        if not self._max_step_s:
            return self._model.ubatch.n_ubatch
        return max(least, int(budget / 2 / self._row_s)) if self._row_s else least

    def _starts(self) -> dict[int, int]:
        """Where in the ubatch each slot's run begins."""
        ub = self._model.ubatch
        slots = ub.seq_slot[: ub.n_seqs].tolist()
        return dict(zip(slots, ub.seq_start[: ub.n_seqs].tolist(), strict=True))


def _is_scored(slot: Slot) -> bool:
    choice = slot.choice
    assert choice is not None
    return choice.is_scored


def _part(slot: Slot) -> tuple[int, int] | None:
    """Positions of the planned run whose next tokens are still to be scored, if there are any."""
    choice = slot.choice
    if not slot.n_planned or choice is None or choice.scores is None:
        return None
    end = min(slot.seq.n_computed + slot.n_planned, len(choice.scores.logprobs))
    return (choice.n_scored, end) if choice.n_scored < end else None


def _scores(slot: Slot) -> PromptLogprobs:
    assert slot.choice is not None
    assert slot.choice.scores is not None
    return slot.choice.scores


def _keep(slot: Slot, found: PromptLogprobs, begin: int, end: int) -> None:
    choice: Choice | None = slot.choice
    assert choice is not None
    own = _scores(slot).part(begin, end)
    k = own.top_ids.shape[1]
    own.logprobs[:], own.ranks[:] = found.logprobs, found.ranks
    own.top_ids[:], own.top_logprobs[:] = found.top_ids[:, :k], found.top_logprobs[:, :k]
    choice.n_scored = end
