"""The lanes of the server: what each slot runs and how far it has come."""

from __future__ import annotations

from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.memory import Sequence
from slotmux.runtime.speculation.slot_spec import SlotSpec
from slotmux.runtime.ubatch import BLOCK_CELLS, I32


class Slot:
    """A lane that holds one running choice. Engine thread only.

    Its sequence's ``n_computed`` has to catch up with ``n_known`` tokens of ``history``. A
    follower has no memory of its own yet: it is another choice of the request in slot ``leader``,
    whose prompt it takes over once that is computed.
    """

    __slots__ = (
        "ahead",
        "ahead_end",
        "ahead_turn",
        "choice",
        "drafts",
        "followers",
        "has_passed",
        "history",
        "id",
        "leader",
        "left",
        "n_draft",
        "n_drafts",
        "n_drafts_accepted",
        "n_forced",
        "n_known",
        "n_most",
        "n_planned",
        "seq",
        "spec",
        "split_at",
        "splits",
        "turn",
        "wanted_splits",
    )

    def __init__(self, slot_id: int, seq: Sequence) -> None:
        self.id = slot_id
        self.seq = seq
        self.history: I32 = seq.history
        self.n_drafts = self.n_drafts_accepted = 0  # since the start, of all its requests
        # What the last choice left in the cache: its salt, and how many tokens of history.
        self.left: tuple[str, int] | None = None
        self.clear()

    def clear(self) -> None:
        """Become free; memory has been released."""
        self.choice: Choice | None = None
        self.has_passed = False  # while one that came before it did not fit
        self.n_known = 0
        self.n_planned = 0  # tokens in the ubatch under way
        self.n_most = 0  # of its prompt in the step being planned
        # Of them drafts, which stand in history behind the known tokens, and what they are.
        self.n_draft = 0
        self.drafts: list[int] = []
        self.n_forced = 0  # tokens that a grammar made known and that are not computed
        self.spec: SlotSpec | None = None  # None: no drafts
        self.leader: Slot | None = None
        self.followers: list[Slot] = []
        self.splits: list[int] = []  # positions that want a checkpoint, descending
        self.split_at = 0  # the next of them; 0 = none
        self.wanted_splits: set[int] = set()  # those for which somebody waits
        # The slot that computes what this one needs next, as it was filled then, and how far both
        # are alike.
        self.ahead: Slot | None = None
        self.ahead_turn = self.ahead_end = 0
        self.turn = 0  # counts how often slots were filled: a choice that was parked is another one

    def occupy(self, choice: Choice) -> None:
        """Take a choice in with its known tokens; memory is opened by the caller."""
        assert self.choice is None
        self.choice = choice
        self.left = None
        n = len(choice.tokens)
        self.history[:n] = choice.tokens
        self.n_known = n

    def known_tokens(self) -> I32:
        """A copy of prompt and generated tokens."""
        return self.history[: self.n_known].copy()

    def set_splits(self, positions: list[int]) -> None:
        """Where prompt chunks must end, ascending."""
        self.splits = positions[::-1]
        self.next_split()

    def next_split(self) -> None:
        self.split_at = self.splits.pop() if self.splits else 0

    def skip_splits(self) -> None:
        """Forget those that are behind."""
        while self.split_at and self.split_at <= self.seq.n_computed:
            self.next_split()

    def want_split(self, position: int) -> None:
        """Another waits for the state at ``position``, which is still to come."""
        assert position > self.seq.n_computed
        self.wanted_splits.add(position)
        ahead = {position, *self.splits}
        if self.split_at:
            ahead.add(self.split_at)
        self.set_splits(sorted(ahead))

    @property
    def is_generating(self) -> bool:
        """Whether its last known token is all that is not computed, and nobody waits for that."""
        return 0 < self.seq.n_computed == self.n_known - 1 and not self.followers

    @property
    def state(self) -> str:
        """For /slots: idle, waiting (for another's prompt), prompt or generating."""
        choice = self.choice
        if choice is None:
            return "idle"
        if self.leader is not None or self.ahead is not None:
            return "waiting"
        return (
            "generating"
            if choice.t_first and self.n_known - self.seq.n_computed <= 1 + self.n_forced
            else "prompt"
        )


def checkpoint_positions(
    n_cached: int,
    n_known: int,
    boundaries: tuple[int, ...],
    spacing: int,
    n_max: int,
    n_path: int = 0,
) -> list[int]:
    """Where to keep the row of a prompt, on block boundaries: its end and its last message's
    beginning, whatever their distance (templates may write the prompt's end otherwise when it is
    history), the end of the path that others have gone (``n_path``), and other message beginnings.

    Each costs a split of the prompt (one more step) and a copy, so of the others none is nearer
    than ``spacing`` to the one before, and at most ``n_max`` less two are taken: the first, which
    other conversations begin with too, and the last ones.
    """
    floors = sorted({p // BLOCK_CELLS * BLOCK_CELLS for p in boundaries if 0 < p < n_known})
    end = (n_known - 1) // BLOCK_CELLS * BLOCK_CELLS
    needed = {p for p in (*floors[-1:], end)[-n_max:] if p > n_cached} if n_max else set()
    if end - n_cached < spacing:
        needed.discard(end)  # what is so little is as quickly computed again
    others, before = [], n_cached
    for position in floors[:-1]:
        if position - before >= spacing:
            others.append(position)
            before = position
    n_others = max(0, n_max - 2)
    if len(others) > n_others:
        others = [*others[:1], *others[len(others) - n_others + 1 :]] if n_others else []
    if n_max and n_cached < n_path < end:
        needed.add(n_path)
    return sorted(needed.union(others))
