"""Which tokens of which slots are computed next. Decides and fills the ubatch; computes nothing.

There is no prefill phase: every slot's computed count catches up with its known tokens. Slots that
need one token come first, prompts share the rest, so a long prompt never stalls the others.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.ubatch import Ubatch


def _serial(slot: Slot) -> int:
    assert slot.choice is not None
    return slot.choice.serial


class Scheduler:
    """Plans steps over the active slots, oldest request first. Engine thread only.

    ``park`` takes a slot's choice out of it, back to the waiting; it is called with the youngest
    when blocks run out. ``give_up`` ends the choice of a slot that has no memory even alone.
    """

    __slots__ = ("_give_up", "_n_prompt_beside", "_park", "_turn", "_ubatch", "active", "draws")

    def __init__(
        self,
        ubatch: Ubatch,
        park: Callable[[Slot], None],
        give_up: Callable[[Slot], None],
        *,
        n_prompt_beside: int = 0,
    ) -> None:
        self._ubatch = ubatch
        self._park = park
        self._give_up = give_up
        self._n_prompt_beside = n_prompt_beside
        self._turn = 0
        self.active: list[Slot] = []  # slots with memory of their own, by arrival
        # Of the planned step: who draws, and its first draw; it has one more than drafts.
        self.draws: list[tuple[Slot, int]] = []

    def add(self, slot: Slot) -> None:
        """A slot has tokens to compute."""
        insort(self.active, slot, key=_serial)

    def remove(self, slot: Slot) -> None:
        """A slot of ``active`` has ended."""
        self.active.remove(slot)

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
        self._fill()
        return self._ubatch.n_tokens > 0

    def _share_tokens(self) -> None:
        """One token and its drafts for each slot that needs one; then prompts in fair shares."""
        n_left = self._ubatch.n_ubatch
        prompts = []
        for slot in self.active:
            n = slot.n_known - slot.seq.n_computed
            if n == 1:
                slot.n_planned = n + slot.n_draft
                n_left -= slot.n_planned
            else:
                slot.n_planned = 0
                prompts.append(slot)
        if not prompts:
            return
        if self._n_prompt_beside and len(prompts) < len(self.active):
            n_left = min(n_left, max(self._n_prompt_beside, len(prompts)))
        while prompts and n_left > 0:
            n_left, prompts = _deal(prompts, n_left)

    def _share_turns(self) -> None:
        """More slots than tokens in a ubatch: one token each, in turns."""
        active = self.active
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
                victim = self.active[-1]
                self.remove(victim)
                self._park(victim)

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


def _deal(prompts: list[Slot], n_left: int) -> tuple[int, list[Slot]]:
    """One round of equal shares, oldest first; returns what is left, and who wants more."""
    share = max(1, n_left // len(prompts))
    hungry = []
    for slot in prompts:
        end = slot.split_at or slot.n_known
        n_wanted = end - slot.seq.n_computed - slot.n_planned
        n = min(share, n_wanted, n_left)
        slot.n_planned += n
        n_left -= n
        if n < n_wanted:
            hungry.append(slot)
    return n_left, hungry
