"""What cached things are worth, kept states and blocks in one order: which is given up first.

A conversation comes back to its end. What a deeper state on the same path has overtaken is hardly
wanted again, unless several paths go on from it (a common system prompt), or the template does not
repeat answers as they were generated (thoughts are cut): how often ends of answers are found again
is counted. So there are ranks; what was left behind goes first, the oldest of it. Among ends and
forks in the road the tokens that a state saves for each byte count, how often it was found, and its
age as in GreedyDual-Size-Frequency (Cherkasova, HPL-98-69R1): what is kept or found again counts
from the worth of what was last given up. Age counts most: a state that saves much outlasts four
times as much as one that saves hardly anything.

Where more conversations go round than fit, age alone would give up each just before it comes back,
and nothing would ever be found. That shows in what is missed after it was given up: when such
regrets are many times the hits, conversations that never came back make way for those that are
kept, all but a few of them (Qureshi et al., Adaptive Insertion Policies, ISCA 2007).

A state is of no use without the blocks of its path, and they are of none without it. Where a
state is dear (it weighs more than some blocks) states lead: a block is *needed* by those at or
below it and goes after them; one that none needs goes first of all. Where states weigh little, or
there are none, blocks lead, by hits and age, the last of a path first, and take their states along.
"""

from __future__ import annotations

from slotmux.runtime.memory.eviction import Entry, FairOrder
from slotmux.runtime.memory.prefix_tree import Checkpoint, Kind
from slotmux.runtime.ubatch import BLOCK_CELLS

MOST = 8.0  # a thing is worth 2 to 8 more than what was last given up
LEAST = 2.0
REGRET_WEIGHT = 1 / 32
MANY_REGRETS, FEW_REGRETS = 0.75, 0.3  # of regrets and hits together
ONE_IN = 16  # of the newcomers, that is kept all the same
RATE_WEIGHT = 1 / 16  # of one more conversation that came back
# Values are far below the distance of two ranks.
LEFT_BEHIND, OVERTAKEN, END = 0.0, 2.0**40, 2.0**41
DEAR_BLOCKS = 4
HALF_TOKENS = 4096  # saved by a row that is half as good as one can be, where there are no cells


class Worths:
    """Kept states and cached blocks that no sequence holds. Engine thread only.

    ``block_bytes``, ``row_bytes``: 0 where the model has none. Below, ``is_shared``: the bytes of a
    block help whoever wants a row, and the other way round.
    """

    __slots__ = (
        "_answer_rate",
        "_block_bytes",
        "_blocks",
        "_clock",
        "_half_tokens",
        "_is_round",
        "_level",
        "_regrets",
        "_row_bytes",
        "_states",
        "states_lead",
    )

    def __init__(self, block_bytes: int = 0, row_bytes: int = 1) -> None:
        self._block_bytes, self._row_bytes = block_bytes, row_bytes
        self.states_lead = row_bytes > 0 and row_bytes >= DEAR_BLOCKS * block_bytes
        # A prefix of so many tokens has as many bytes in its cells as in its state.
        cell = block_bytes / BLOCK_CELLS
        self._half_tokens = min(row_bytes / cell, HALF_TOKENS) if cell else HALF_TOKENS
        self._states = FairOrder()  # by row
        self._blocks = FairOrder()  # by ~block
        self._level = 0.0
        self._clock = 0
        self._regrets = 0.0  # share of what is missed after it was given up, hits beside it
        self._is_round = False  # more conversations go round than fit
        self._answer_rate = 0.9  # of conversations that come back, those that do to their answer

    # -- states

    def add(self, checkpoint: Checkpoint) -> None:
        """A state is kept."""
        self._put(checkpoint, self._value(checkpoint))
        self._weigh(checkpoint.node.salt, self._row_bytes)

    def remove(self, checkpoint: Checkpoint) -> None:
        """A state is given up or used up."""
        self._states.remove(checkpoint.node.salt, checkpoint.row)
        self._weigh(checkpoint.node.salt, -self._row_bytes)

    def pin(self, checkpoint: Checkpoint) -> float:
        """Do not give it up until ``unpin`` with what this returns."""
        value = self.of(checkpoint)
        self._states.remove(checkpoint.node.salt, checkpoint.row)
        return value

    def unpin(self, checkpoint: Checkpoint, value: float) -> None:
        """It may be given up again."""
        self._put(checkpoint, value)

    def on_hit(self, checkpoint: Checkpoint) -> None:
        """Somebody came back to it."""
        checkpoint.n_hits += 1
        self._regrets -= REGRET_WEIGHT * self._regrets
        self._is_round &= self._regrets > FEW_REGRETS
        checkpoint.is_fork |= checkpoint.n_next > 0
        if checkpoint.kind is Kind.ANSWER:
            self._answer_rate += RATE_WEIGHT * (1.0 - self._answer_rate)
        elif checkpoint.is_before_answer:
            self._answer_rate -= RATE_WEIGHT * self._answer_rate
        self._revalue(checkpoint)

    def on_regret(self) -> None:
        """Somebody came back to a state that was given up."""
        self._regrets += REGRET_WEIGHT * (1.0 - self._regrets)
        self._is_round |= self._regrets > MANY_REGRETS

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

    def on_parked(self, last: Checkpoint | None) -> None:
        """A sequence that is surely coming back has left, ``last`` its deepest state: its states go
        from the end on, so that it loses as little as is needed."""
        while last is not None and last.is_kept:
            self._put(last, END + self._level + LEAST)
            last = last.before

    def may_replace(self, kind: Kind, salt: str, *, is_shared: bool = False) -> bool:
        """Whether a state that a deeper one will overtake is worth more than what would be given up
        for it."""
        if is_shared and not self.states_lead:
            return True  # hardly anything has to go
        entry = self._first_for_row(is_shared)
        if entry is None:
            return False
        if kind is Kind.ROLLING:
            return entry[0] < OVERTAKEN
        return entry[0] < END or entry[3] != salt or not self._answers_last

    def of(self, checkpoint: Checkpoint) -> float:
        """Its worth; only the order says something."""
        return self._states.value(checkpoint.node.salt, checkpoint.row)

    # -- blocks that no sequence holds

    def add_block(self, block: int, owner: str, n_hits: int, *, is_needed: bool) -> None:
        """The last sequence has left a cached block. ``is_needed``: by a kept state."""
        self._weigh(owner, self._block_bytes)
        if not (is_needed and self.states_lead):
            self.touch_block(block, owner, n_hits)

    def remove_block(self, block: int, owner: str, *, is_needed: bool) -> None:
        """A sequence takes a cached block up, or it is cached no more."""
        if not (is_needed and self.states_lead):
            self._blocks.remove(owner, ~block)
        self._weigh(owner, -self._block_bytes)

    def on_needed(self, block: int, owner: str, n_hits: int, *, is_needed: bool) -> None:
        """Whether a state needs it has changed."""
        if not self.states_lead:
            return
        if is_needed:
            self._blocks.remove(owner, ~block)
        else:
            self.touch_block(block, owner, n_hits)

    def touch_block(self, block: int, owner: str, n_hits: int) -> None:
        """A block was read from that may be given up."""
        self._clock += 1
        value = LEFT_BEHIND + self._clock
        if not self.states_lead:
            value = END + self._level + max(LEAST, min((BLOCK_CELLS * (1 + n_hits)) ** 0.25, MOST))
        self._blocks.put(owner, ~block, value)

    # -- the choice

    def __len__(self) -> int:
        """Things that can be given up."""
        return len(self._states) + len(self._blocks)

    def pop_for_block(self, *, is_shared: bool = False) -> int:
        """What to give up now for a block: ~block, or a state's row. There must be something."""
        entry = self._blocks.first()
        if entry is None or (is_shared and self.states_lead):
            entry = self._first_for_row(is_shared) or entry
        assert entry is not None, "memory that was promised is not there"
        return self._give_up(entry)

    def pop_for_row(self, *, is_shared: bool = False) -> int | None:
        """What to give up now for a row: ~block, or a state's row; None: nothing is left."""
        entry = self._first_for_row(is_shared)
        return self._give_up(entry) if entry is not None else None

    def _first_for_row(self, is_shared: bool) -> Entry | None:
        state = self._states.first()
        block = self._blocks.first() if is_shared else None
        if state is None or block is None:
            return state or block
        if not self.states_lead:
            return block
        return min(state, block)

    def _give_up(self, entry: Entry) -> int:
        self._level = max(self._level, entry[0] - END)
        return entry[2]

    def weight(self, owner: str) -> int:
        """Bytes that an owner holds: states, and blocks that no sequence holds."""
        return self._states.weight(owner)

    def rows(self) -> list[int]:
        """The rows of all states."""
        return self._states.all()

    def blocks(self) -> list[int]:
        """Every block that can be given up."""
        return [~key for key in self._blocks.all()]

    def _put(self, checkpoint: Checkpoint, value: float) -> None:
        self._states.put(checkpoint.node.salt, checkpoint.row, value)

    def _weigh(self, owner: str, n_bytes: int) -> None:
        self._states.weigh(owner, n_bytes)
        self._blocks.weigh(owner, n_bytes)

    @property
    def _answers_last(self) -> bool:
        """Whether conversations come back to where their answer ended, as a rule."""
        return self._answer_rate > 0.5

    def _revalue(self, checkpoint: Checkpoint) -> None:
        self._put(checkpoint, self._value(checkpoint))

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
        if self._makes_way(checkpoint):
            return END + self._level
        n = (1 + checkpoint.n_hits) * checkpoint.position
        saved: float = (n / (n + self._half_tokens)) ** 0.25
        return END + self._level + likelihood * max(LEAST, MOST * saved)

    def _makes_way(self, checkpoint: Checkpoint) -> bool:
        is_new = not (checkpoint.is_of_regular or checkpoint.is_fork or checkpoint.n_hits)
        return self._is_round and is_new and self._clock % ONE_IN > 0
