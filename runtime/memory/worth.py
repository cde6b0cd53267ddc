"""What a kept state is worth: in which order states are given up.

A conversation comes back to its end. What a deeper state on the same path has overtaken is hardly
wanted again, unless several paths go on from it (a common system prompt), or the template does not
repeat answers as they were generated (thoughts are cut): how often ends of answers are found again
is counted. So there are ranks; what was left behind goes first, the oldest of it. Among ends and
forks in the road the tokens that a state saves count, how often it was found, and its age as in
GreedyDual-Size-Frequency (Cherkasova, HPL-98-69R1): what is kept or found again counts from the
worth of what was last given up. Age counts most: a state of 4096 tokens outlasts four times as much
as one of 16.
"""

from __future__ import annotations

from slotmux.runtime.memory.eviction import ByWorth, FairOrder
from slotmux.runtime.memory.prefix_tree import Checkpoint, Kind

MAX_TOKENS = 4096  # a state that saves more counts no more
MIN_TOKENS = 16
RATE_WEIGHT = 1 / 16  # of one more conversation that came back
# Values are far below the distance of two ranks.
LEFT_BEHIND, OVERTAKEN, END = 0.0, 2.0**40, 2.0**41


class Worths:
    """Kept states in the order in which they are given up. Engine thread only."""

    __slots__ = ("_answer_rate", "_clock", "_level", "_order")

    def __init__(self) -> None:
        self._order = FairOrder(ByWorth)
        self._level = 0.0
        self._clock = 0
        self._answer_rate = 0.9  # of conversations that come back, those that do to their answer

    def __len__(self) -> int:
        return len(self._order)

    def add(self, checkpoint: Checkpoint) -> None:
        """A state is kept."""
        self._order.add(checkpoint.node.salt, checkpoint.row, self._value(checkpoint))

    def remove(self, checkpoint: Checkpoint) -> None:
        """A state is given up or used up."""
        self._order.remove(checkpoint.node.salt, checkpoint.row)

    def on_hit(self, checkpoint: Checkpoint) -> None:
        """Somebody came back to it."""
        checkpoint.n_hits += 1
        checkpoint.is_fork |= checkpoint.n_next > 0
        if checkpoint.kind is Kind.ANSWER:
            self._answer_rate += RATE_WEIGHT * (1.0 - self._answer_rate)
        elif checkpoint.is_before_answer:
            self._answer_rate -= RATE_WEIGHT * self._answer_rate
        self._revalue(checkpoint)

    def on_overtaken(self, checkpoint: Checkpoint, by: Checkpoint) -> None:
        """A sequence that went on from it has kept a deeper state."""
        checkpoint.is_fork |= checkpoint.n_next > 0
        checkpoint.n_next += 1
        checkpoint.is_before_answer = by.kind is Kind.ANSWER
        self._revalue(checkpoint)
        before = checkpoint.before
        if before is not None and before.is_kept and not before.is_left_behind:
            before.is_left_behind = True
            self._revalue(before)

    def give_up(self, besides: int = -1) -> int:
        """The row of the state to give up now, or -1; never ``besides``."""
        entry = self._order.first(besides)
        if entry is None:
            return -1
        self._level = max(self._level, entry[0] - END)
        return entry[1]

    def may_replace(self, kind: Kind, salt: str) -> bool:
        """Whether a state that a deeper one will overtake is worth more than what would be given up
        for it."""
        entry = self._order.first()
        if entry is None:
            return False
        if kind is Kind.ROLLING:
            return entry[0] < OVERTAKEN
        return entry[0] < END or entry[2] != salt or not self._answers_last

    def of(self, checkpoint: Checkpoint) -> float:
        """Its worth; only the order says something."""
        return self._order.value(checkpoint.node.salt, checkpoint.row)

    def keys(self) -> list[int]:
        """The rows of all states."""
        return self._order.keys()

    @property
    def _answers_last(self) -> bool:
        """Whether conversations come back to where their answer ended, as a rule."""
        return self._answer_rate > 0.5

    def _revalue(self, checkpoint: Checkpoint) -> None:
        self._order.change(checkpoint.node.salt, checkpoint.row, self._value(checkpoint))

    def _value(self, checkpoint: Checkpoint) -> float:
        self._clock += 1
        is_fork = checkpoint.is_fork
        if checkpoint.n_next and not is_fork:
            if checkpoint.is_left_behind:
                return LEFT_BEHIND + self._clock
            if self._answers_last or not checkpoint.is_before_answer:
                return OVERTAKEN + self._clock
        likelihood = 1.0
        if checkpoint.kind is Kind.ANSWER and not is_fork:
            likelihood = self._answer_rate
        elif checkpoint.kind is Kind.ROLLING:
            return OVERTAKEN + self._clock
        n = (1 + checkpoint.n_hits) * checkpoint.position
        saved: float = max(MIN_TOKENS, min(n, MAX_TOKENS)) ** 0.25
        return END + self._level + likelihood * saved
