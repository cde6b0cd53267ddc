"""Which tokens of which slots are computed next. Decides and fills the ubatch; computes nothing.

There is no prefill phase: every slot's computed count catches up with its known tokens. Slots that
need one token come first, prompts share the rest, so a long prompt never stalls the others.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from slotmux.runtime.engine.pace import Pace
from slotmux.runtime.engine.scoring import Scoring
from slotmux.runtime.engine.sharing import Sharing
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.ubatch import Ubatch


def _serial(slot: Slot) -> int:
    assert slot.choice is not None
    return slot.choice.serial


def _client(slot: Slot) -> str:
    assert slot.choice is not None
    return slot.choice.client


def _priority(slot: Slot) -> int:
    assert slot.choice is not None
    return slot.choice.priority


class Scheduler:
    """Plans steps over the active slots, oldest request first. Engine thread only.

    ``park`` takes a slot's choice out of it, back to the waiting, when blocks run out: the least
    urgent, of these one of the client that holds most, of its own the youngest. ``give_up`` ends
    the choice of a slot that has no memory even alone. ``pace`` bounds the prompt tokens of a step,
    ``scoring`` those of prompts whose log-probabilities are wanted; ``sharing`` says which prompts
    wait for another's tokens.
    """

    __slots__ = (
        "_filled",
        "_give_up",
        "_is_steady",
        "_n_changes",
        "_n_prompt_beside",
        "_park",
        "_scoring",
        "_turn",
        "_ubatch",
        "active",
        "draws",
        "n_prompt_planned",
        "pace",
        "sharing",
    )

    def __init__(
        self,
        ubatch: Ubatch,
        park: Callable[[Slot], None],
        give_up: Callable[[Slot], None],
        *,
        pace: Pace,
        scoring: Scoring,
        sharing: Sharing,
        n_prompt_beside: int = 0,
    ) -> None:
        self._ubatch = ubatch
        self.pace = pace
        self.sharing = sharing
        self.n_prompt_planned = 0  # tokens of prompts in the planned step
        self._park = park
        self._give_up = give_up
        self._scoring = scoring
        self._n_prompt_beside = n_prompt_beside
        self._turn = 0
        self._n_changes = 0  # of ``active``
        # Whether each active slot generates one token, without drafts, for itself alone; and of
        # what ``active`` the ubatch holds such a step (-1: it holds another).
        self._is_steady = False
        self._filled = -1
        self.active: list[Slot] = []  # slots with memory of their own, by arrival
        # Of the planned step: who draws, and its first draw; it has one more than drafts.
        self.draws: list[tuple[Slot, int]] = []

    def add(self, slot: Slot) -> None:
        """A slot has tokens to compute."""
        insort(self.active, slot, key=_serial)
        self._n_changes += 1

    def remove(self, slot: Slot) -> None:
        """A slot of ``active`` has ended."""
        self.active.remove(slot)
        self._n_changes += 1

    def plan(self) -> bool:
        """Reserve memory and fill the ubatch for the next forward; False if there is nothing.

        Sets ``n_planned`` of each active slot.
        """
        if not self.active:
            return False
        if len(self.active) > self._ubatch.n_ubatch:
            self._share_turns()
        else:
            self._share_tokens()
        self._reserve()
        if self._is_steady and self._filled == self._n_changes:
            self._fill_next()
        else:
            self._fill()
            self._filled = self._n_changes if self._is_steady else -1
        return self._ubatch.n_tokens > 0

    def _share_tokens(self) -> None:
        """One token and its drafts, or what a grammar forced behind it, for each slot that
        generates; then prompts in fair shares."""
        n_left = self._ubatch.n_ubatch
        forced: list[Slot] = []
        prompts: list[Slot] = []
        n_waiting = n_others = 0
        for slot in self.active:
            n = slot.n_known - slot.seq.n_computed
            if n == 1:
                slot.n_planned = n = 1 + slot.n_draft
                n_left -= n
                if n > 1 or slot.followers:
                    n_others += 1
            else:
                n_others += 1
                slot.n_planned = 0
                if n == 1 + slot.n_forced:
                    forced.append(slot)
                elif self.sharing.is_waiting(slot, self.active):
                    n_waiting += 1
                else:
                    prompts.append(slot)
        self._is_steady = not n_others
        for slot in forced:
            if n_left > slot.n_forced:
                slot.n_planned = 1 + slot.n_forced
                n_left -= slot.n_planned
            else:
                insort(prompts, slot, key=_serial)
        self.n_prompt_planned = 0
        if not prompts:
            return
        n_prompts = len(prompts) + n_waiting
        self._scoring.bound(prompts, is_alone=n_prompts == len(self.active))
        n_left = n_given = min(n_left, max(self._most_prompt(n_prompts), len(prompts)))
        while prompts and n_left > 0:
            n_left, prompts = _deal_by_client(prompts, n_left)
        self.n_prompt_planned = n_given - n_left

    @property
    def is_beside(self) -> bool:
        """Whether requests generate in the planned step, beside prompts or alone."""
        return self._ubatch.n_tokens > self.n_prompt_planned

    def _most_prompt(self, n_prompts: int) -> int:
        """Prompt tokens that the step may have; ``n_prompts``: slots that generate nothing yet."""
        if n_prompts == len(self.active):
            most = self.pace.most_alone()
            return self._ubatch.n_ubatch if most < 0 else most
        most = self.pace.most_beside()
        bounds = [n for n in (self._n_prompt_beside, most) if n > 0]
        return min(bounds, default=self._ubatch.n_ubatch)

    def _share_turns(self) -> None:
        """More slots than tokens in a ubatch: one token each, in turns."""
        active = self.active
        self._is_steady = False
        self.n_prompt_planned = 0
        for slot in active:
            slot.n_planned = slot.n_draft = 0
        for i in range(self._ubatch.n_ubatch):
            active[(self._turn + i) % len(active)].n_planned = 1
        self._turn = (self._turn + self._ubatch.n_ubatch) % len(active)

    def _reserve(self) -> None:
        """Memory for the plan, oldest first; the youngest slots give way where it is short."""
        short = None
        for slot in self.active:
            n = slot.n_planned
            if n and slot.seq.n_reserved != n and not slot.seq.reserve(n, slot.n_draft):
                short = slot
                break
        if short is not None:
            self._drop_drafts()
            self._reserve_by_parking()

    def _drop_drafts(self) -> None:
        """Nobody is parked for drafts: they go first."""
        for slot in self.active:
            if slot.n_draft:
                slot.n_planned, slot.n_draft = 1, 0
                slot.seq.rollback()

    def _reserve_by_parking(self) -> None:
        for slot in list(self.active):
            while slot.choice is not None and slot.n_planned and not slot.seq.n_reserved:
                if slot.seq.reserve(slot.n_planned):
                    break
                if len(self.active) == 1:
                    self._give_up(slot)
                    break
                victim = self._victim()
                self.remove(victim)
                self._park(victim)

    def _victim(self) -> Slot:
        """Who gives way; never the oldest, which so comes to its end whatever the others do."""
        held: dict[str, int] = {}
        for slot in self.active:
            client = _client(slot)
            held[client] = held.get(client, 0) + len(slot.seq.table)
        return max(self.active[1:], key=lambda s: (_priority(s), held[_client(s)], _serial(s)))

    def _fill_next(self) -> None:
        """The step that follows a steady one: every sequence is a token further."""
        ub, n = self._ubatch, len(self.active)
        ub.tokens[:n] = [slot.history.item(slot.seq.n_computed) for slot in self.active]
        ub.positions[:n] += 1
        ub.sample_pos[:n] += 1

    def _fill(self) -> None:
        ub = self._ubatch
        tokens: list[int] = []
        positions: list[int] = []
        starts = [0]
        seq_slots: list[int] = []
        seq_drafts: list[int] = []
        out_tokens: list[int] = []
        sample_outputs: list[int] = []
        sample_slots: list[int] = []
        sample_pos: list[int] = []
        draws: list[tuple[Slot, int]] = []
        for slot in self.active:
            n = slot.n_planned
            if not n:
                continue
            begin = slot.seq.n_computed
            end = begin + n
            if n == 1:
                tokens.append(slot.history.item(begin))
                positions.append(begin)
            else:
                tokens.extend(slot.history[begin:end].tolist())
                positions.extend(range(begin, end))
            starts.append(len(tokens))
            seq_slots.append(slot.id)
            n_draft = slot.n_draft
            seq_drafts.append(n_draft)
            if end == slot.n_known + n_draft:
                row = len(out_tokens)
                for drawer in (slot, *slot.followers) if slot.followers else (slot,):
                    draws.append((drawer, len(sample_pos)))
                    sample_outputs.extend(range(row, row + n_draft + 1))
                    sample_slots.extend([drawer.id] * (n_draft + 1))
                    sample_pos.extend(range(end - n_draft, end + 1))
                out_tokens.extend(range(len(tokens) - 1 - n_draft, len(tokens)))
        n_tokens, n_seqs, n_outputs = len(tokens), len(seq_slots), len(out_tokens)
        n_samples = len(sample_pos)
        ub.n_tokens, ub.n_seqs, ub.n_outputs, ub.n_samples = n_tokens, n_seqs, n_outputs, n_samples
        ub.tokens[:n_tokens] = tokens
        ub.positions[:n_tokens] = positions
        ub.seq_start[: n_seqs + 1] = starts
        ub.seq_slot[:n_seqs] = seq_slots
        ub.seq_drafts[:n_seqs] = seq_drafts
        ub.out_tokens[:n_outputs] = out_tokens
        ub.sample_output[:n_samples] = sample_outputs
        ub.sample_slot[:n_samples] = sample_slots
        ub.sample_pos[:n_samples] = sample_pos
        self.draws = draws


def _deal_by_client(prompts: list[Slot], n_left: int) -> tuple[int, list[Slot]]:
    """One round: each client an equal part, its own prompts equal parts of that."""
    by_client: dict[str, list[Slot]] = {}
    for slot in prompts:
        by_client.setdefault(_client(slot), []).append(slot)
    if len(by_client) == 1:
        return _deal(prompts, n_left)
    part, hungry = max(1, n_left // len(by_client)), []
    for own in by_client.values():
        n_own = min(part, n_left)
        if n_own <= 0:
            hungry += own
            continue
        rest, still = _deal(own, n_own)
        n_left -= n_own - rest
        hungry += still
    return n_left, sorted(hungry, key=_serial)


def _deal(prompts: list[Slot], n_left: int) -> tuple[int, list[Slot]]:
    """One round of equal shares, oldest first; returns what is left, and who wants more."""
    share = max(1, n_left // len(prompts))
    hungry = []
    for slot in prompts:
        end = slot.split_at or slot.n_known
        n_wanted = min(end - slot.seq.n_computed, slot.n_most) - slot.n_planned
        n = min(share, n_wanted, n_left)
        slot.n_planned += n
        n_left -= n
        if n < n_wanted:
            hungry.append(slot)
    return n_left, hungry
