"""Before a step: which generating slots get drafts, how many, from where. After it: what to learn.

Drafts stand in a slot's history behind its known tokens until the step has verified them. Nothing
here changes what a request gets, only how many steps that takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slotmux.runtime.engine.config import MTP, NGRAM, SpecConfig
from slotmux.runtime.engine.masks import Masks, live_constraint
from slotmux.runtime.engine.request import SpecParams
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.interfaces import DrafterLike
from slotmux.runtime.speculation.acceptance import Acceptance
from slotmux.runtime.speculation.budget import choose
from slotmux.runtime.speculation.costs import Costs
from slotmux.runtime.speculation.guide import Guide
from slotmux.runtime.speculation.ngram import lookup
from slotmux.runtime.speculation.slot_spec import SlotSpec
from slotmux.runtime.ubatch import Ubatch

# Where no draft pays, that is looked at again after some steps, then after twice as many: a
# decision costs some microseconds, which small models notice. Now and then one draft is tried.
LAST_REST, LAST_PROBE = 16, 16  # steps between decisions, decisions between tries
HELD = 7  # further steps for which a decision to draft holds
# Where nothing is tried one in so many steps without drafts is looked at: Python's part of a small
# model's step is 10 %.
PLAIN_SEEN = 16
# New requests begin with what was seen of all others: one in so many steps, with little weight.
OVERALL_SEEN, GLOBAL_WEIGHT = 4, 0.05
RARE = 0.2  # with more tokens than this outside the short vocabulary, drafts come from all of it
RARE_WEIGHT = 0.02
# A grammar is asked before each pass where it would cut more of the guesses than this: that takes
# two changes of threads a pass, which only a small model notices.
GUIDED, CUT_WEIGHT, CUT_FADE = 0.1, 0.15, 0.97


class Speculator:
    """Drafts for the slots of one engine. Engine thread only."""

    def __init__(
        self,
        config: SpecConfig,
        drafter: DrafterLike | None,
        ubatch: Ubatch,
        masks: Masks,
        costs: Costs | None = None,
    ) -> None:
        if MTP in config.types and drafter is None:
            raise ValueError("the model has no block for multi-token prediction")
        self._config = config
        self._drafter = drafter if MTP in config.types else None
        self._uses_ngrams = NGRAM in config.types
        self._ubatch, self._masks = ubatch, masks
        self.costs = costs or Costs()
        self._n_rest = self._n_resting = 0
        self._n_drafts = 0  # of the step under way
        self._guess_s = 0.0  # what the passes for them took
        self._n_unseen = 1  # steps until one is looked at
        self._n_generated = 0  # tokens since the start, when the step before was over
        self._ended = 0.0  # when the step before was over; 0: there was none just before
        self._held: list[int] = []  # the last decision, for whom, and for how many steps more
        self._held_slots: list[Slot] = []
        self._is_trying = False  # a slot was given a draft only to see whether it is right
        self._n_held = 0
        self._overall = {kind: Acceptance(config.n_max) for kind in config.types}
        self._n_steps = 0

    def begin(self, slot: Slot, wishes: SpecParams) -> None:
        """A request has come into a slot."""
        self._n_rest = self._n_resting = self._n_held = 0
        config = self._config
        limits = (
            config.n_max if wishes.n_max is None else min(wishes.n_max, config.n_max),
            config.n_min if wishes.n_min is None else wishes.n_min,
            config.p_min if wishes.p_min is None else wishes.p_min,
        )
        known = {kind: Acceptance(config.n_max, rates) for kind, rates in self._overall.items()}
        slot.spec = SlotSpec(limits, known) if limits[0] else None

    # -- before a step

    def draft(self, active: Sequence[Slot]) -> None:
        """Put drafts behind the known tokens of slots that generate; sets their ``drafts``."""
        self._n_drafts, self._guess_s = 0, 0.0
        if self._n_resting:
            self._n_resting -= 1
            return
        if not active or not self.costs.may_draft(len(active)):
            return
        generating = [slot for slot in active if slot.is_generating]
        wanting = [slot for slot in generating if slot.spec is not None and _room(slot) > 0]
        # Where prompts wait for their part of the ubatch, drafts take at most half of it.
        max_rows = self._ubatch.n_ubatch
        if len(generating) < len(active):
            max_rows //= 2
        if not wanting or max_rows <= len(active):
            return
        self._n_steps += 1
        found = [self._look_up(slot) if self._uses_ngrams else [] for slot in wanting]
        counts = self._decide(wanting, found, len(generating), max_rows)
        if self._drafter is not None and not any(counts):
            self._n_resting = self._n_rest = min(LAST_REST, 2 * self._n_rest + 1)
            return
        guessing: list[tuple[int, Slot]] = []
        for slot, n, tokens in zip(wanting, counts, found, strict=True):
            if n <= 0:
                continue
            if tokens:
                slot.history[slot.n_known : slot.n_known + n] = tokens[:n]
                self._take(slot, NGRAM, _followed(slot, tokens[:n]))
            elif slot.seq.reserve(1 + n, n):
                guessing.append((n, slot))
        if guessing:
            self._guess(guessing)

    def _look_up(self, slot: Slot) -> list[int]:
        spec = slot.spec
        assert spec is not None
        tokens: list[int] = lookup(
            slot.history, slot.n_known, min(spec.n_max, _room(slot))
        ).tolist()
        if self._drafter is not None and tokens:
            rates = spec.acceptance
            if rates[NGRAM].rates[0] < rates[MTP].rates[0]:
                return []
        return tokens

    def _decide(
        self, wanting: list[Slot], found: list[list[int]], n_seqs: int, max_rows: int
    ) -> list[int]:
        """Drafts of each slot; a decision holds for some steps of the same slots."""
        if self._n_held and wanting == self._held_slots:
            self._n_held -= 1
            rooms = [min(n, _room(slot)) for n, slot in zip(self._held, wanting, strict=True)]
            return rooms if n_seqs + sum(rooms) <= max_rows else [0] * len(rooms)
        counts = self._budget(wanting, found, n_seqs, max_rows)
        # Not a try, and not what was found in the text, which changes from step to step.
        is_firm = any(counts) and not self._uses_ngrams and not self._is_trying
        self._held, self._held_slots, self._n_held = counts, wanting, HELD if is_firm else 0
        return counts

    def _budget(
        self, wanting: list[Slot], found: list[list[int]], n_seqs: int, max_rows: int
    ) -> list[int]:
        chains, is_free = [], []
        for slot, tokens in zip(wanting, found, strict=True):
            spec = slot.spec
            assert spec is not None
            n = min(spec.n_max, _room(slot))
            if tokens:
                chains.append(spec.acceptance[NGRAM].chain(min(n, len(tokens))))
            else:
                chains.append(spec.acceptance[MTP].chain(n) if self._drafter is not None else [])
            is_free.append(bool(tokens) or self._drafter is None)
        counts = choose(
            chains, is_free, n_seqs, self.costs, is_short=self._is_short(wanting), max_rows=max_rows
        )
        n_left = max_rows - n_seqs - sum(counts)
        self._is_trying = False
        for i, slot in enumerate(wanting):
            if not counts[i] and chains[i] and n_left > 0 and self._is_probed(slot):
                counts[i] = 1
                n_left -= 1
                self._is_trying = True
        return counts

    def _is_probed(self, slot: Slot) -> bool:
        """Whether to try one draft where none would pay; slots are probed in the same step."""
        spec = slot.spec
        assert spec is not None
        if self._n_steps % spec.probe_every:
            return False
        spec.probe_every = min(LAST_PROBE, 2 * spec.probe_every)
        return True

    def _is_short(self, slots: Sequence[Slot]) -> bool:
        if self._drafter is None or not self._drafter.has_short:
            return False
        return sum(slot.spec.rare for slot in slots if slot.spec) < RARE * len(slots)

    def _guess(self, guessing: list[tuple[int, Slot]]) -> None:
        """Drafts of the model's own block, for all slots together."""
        drafter = self._drafter
        assert drafter is not None
        guessing.sort(key=lambda pair: -pair[0])
        slots = [slot for _, slot in guessing]
        is_short = self._is_short(slots)
        is_guided = any(slot.spec.cut > GUIDED for slot in slots if slot.spec)
        guide = Guide(self._masks, slots) if is_guided else None
        begin = time.perf_counter()
        tokens, logprobs = drafter.run(
            [
                (slot.id, n, slot.history.item(slot.n_known - 1), slot.seq.n_computed)
                for n, slot in guessing
            ],
            is_short=is_short,
            guide=guide,
        )
        self._guess_s = time.perf_counter() - begin
        self.costs.on_draft(len(slots), guessing[0][0], is_short, self._guess_s)
        for i, (n, slot) in enumerate(guessing):
            guessed = _good(tokens[:n, i].tolist(), logprobs[:n, i], slot)
            if guide is not None:
                followed = guessed[: guide.n_followed(i, guessed)]
            else:
                followed = _followed(slot, guessed)
            if live_constraint(slot) is not None:
                _note_cut(slot, guide is not None, len(followed) < len(guessed))
            self._take(slot, MTP, followed)

    def _take(self, slot: Slot, source: str, tokens: list[int]) -> None:
        """Drafts that stand in the slot's history, if they are enough."""
        spec = slot.spec
        assert spec is not None
        n = len(tokens)
        seq = slot.seq
        is_reserved = seq.n_reserved == 1 + n or (n > 0 and seq.reserve(1 + n, n))
        if n < max(1, spec.n_min) or not is_reserved:
            seq.rollback()
            return
        slot.drafts, slot.n_draft, spec.source = tokens, n, source
        self._n_drafts += n

    # -- after a step

    def on_verified(self, slot: Slot, n_accepted: int) -> None:
        """The step has verified all of a slot's drafts and ended none of its choices early."""
        spec, n = slot.spec, slot.n_draft
        assert spec is not None
        spec.acceptance[spec.source].observe(n, n_accepted)
        if n_accepted:  # if that was a probe, look at once whether it was luck
            spec.probe_every, self._n_rest, self._n_resting = 1, 0, 0
        if slot.n_known % OVERALL_SEEN == 0:
            self._overall[spec.source].observe(n, n_accepted, GLOBAL_WEIGHT)
        if self._drafter is not None and self._drafter.has_short:
            is_rare = slot.history.item(slot.n_known - 1) >= self._drafter.short_vocab
            spec.rare += RARE_WEIGHT * (is_rare - spec.rare)

    def on_end(self, forward_s: float, n_generated: int, *, is_idle: bool) -> None:
        """The step is over: its forward took ``forward_s``, its tokens are handed out, with which
        there were ``n_generated`` since the start. ``is_idle``: no step follows."""
        n_unseen = self._n_unseen = self._n_unseen - 1
        if n_unseen > 1 and not self._n_drafts:
            self._ended = 0.0  # nobody looked at the clock
            return
        now = time.monotonic()
        if n_unseen <= 0 or self._n_drafts:
            self._look(forward_s, n_generated - self._n_generated, now)
        self._ended = 0.0 if is_idle else now
        self._n_generated = n_generated

    def _look(self, forward_s: float, n_taken: int, now: float) -> None:
        """Learn from the step that has ended ``now``, unless there were prompts in it."""
        ub, costs = self._ubatch, self.costs
        self._n_unseen = 1 if costs.is_trying(ub.n_seqs) else PLAIN_SEEN
        if ub.n_tokens != ub.n_seqs + self._n_drafts:
            return
        costs.on_step(ub.n_seqs, ub.n_tokens, forward_s)
        if self._ended:
            computing, has_drafts = forward_s + self._guess_s, self._n_drafts > 0
            costs.on_cycle(ub.n_seqs, has_drafts, n_taken, now - self._ended, computing)


def _good(tokens: list[int], logprobs: NDArray[np.float32], slot: Slot) -> list[int]:
    """Guesses up to the first that could not be drawn, or is less likely than the request wants."""
    spec = slot.spec
    assert spec is not None
    n = tokens.index(-1) if -1 in tokens else len(tokens)
    if spec.p_min > 0.0:
        unsure = logprobs[:n] < math.log(spec.p_min)
        n = int(unsure.argmax()) if unsure.any() else n
    return tokens[:n]


def _followed(slot: Slot, tokens: list[int]) -> list[int]:
    """Tokens up to the first that the grammar of a slot's choice does not allow."""
    constraint = live_constraint(slot)
    return tokens if constraint is None else tokens[: constraint.n_valid(tokens)]


def _note_cut(slot: Slot, is_guided: bool, is_cut: bool) -> None:
    """What the grammar of a slot's choice did to its guesses. While it is asked beforehand that is
    not seen: what is known fades, until it is not asked again."""
    spec = slot.spec
    assert spec is not None
    if is_guided:
        spec.cut *= CUT_FADE
    else:
        spec.cut += CUT_WEIGHT * (is_cut - spec.cut)


def _room(slot: Slot) -> int:
    """Drafts that could still be used: the step gives one token more."""
    choice = slot.choice
    assert choice is not None
    return choice.n_limit - slot.n_known - 1
