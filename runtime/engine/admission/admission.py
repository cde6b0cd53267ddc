"""Who may come in: checks of a request, and the way from the line of waiting choices to a slot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slotmux.runtime.engine.admission.fairness import Fairness
from slotmux.runtime.engine.admission.line import Line, cost, expected_tokens
from slotmux.runtime.engine.admission.sessions import Sessions
from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.engine.config import EngineConfig, SpecConfig
from slotmux.runtime.engine.misses import missed_by
from slotmux.runtime.engine.request import InvalidRequestError, Request, SpecParams
from slotmux.runtime.engine.scheduler import Scheduler
from slotmux.runtime.engine.slots import Slot, checkpoint_positions
from slotmux.runtime.engine.stats import Counters
from slotmux.runtime.memory import Memory, n_blocks_for
from slotmux.runtime.memory.disk.tier import Tier
from slotmux.runtime.ubatch import I32, MAX_TOP_LOGPROBS

# Choices whose memory is asked for, at most, before a release changes anything: finding a prefix
# of a long prompt takes up to a millisecond.
MAX_TRIES = 8


def check_speculative(wishes: SpecParams, config: SpecConfig) -> None:
    """Raise InvalidRequestError for wishes that the server cannot or may not fulfil. Any thread."""
    n_max = config.n_max if wishes.n_max is None else wishes.n_max
    if not 0 <= n_max <= config.n_max:
        raise InvalidRequestError(
            "speculative.n_max", f"this server verifies at most {config.n_max} drafts a step"
        )
    if wishes.n_min is not None and not 0 <= wishes.n_min <= n_max:
        raise InvalidRequestError(
            "speculative.n_min", f"speculative.n_min should be from 0 to n_max, here {n_max}"
        )
    if wishes.p_min is not None and not 0.0 <= wishes.p_min <= 1.0:
        raise InvalidRequestError("speculative.p_min", "speculative.p_min should be from 0 to 1")


def check_request(request: Request, n_slots: int, n_ctx: int, n_vocab: int) -> I32:
    """Raise InvalidRequestError unless the request can be served; returns its prompt as an array.

    Any thread.
    """
    if not request.prompt:
        raise InvalidRequestError("prompt", "the prompt is empty")
    if request.n < 1:
        raise InvalidRequestError("n", "n must be at least 1")
    if request.max_tokens < -1:
        raise InvalidRequestError("max_tokens", "max_tokens must be at least 0, or -1")
    if request.min_tokens < 0 or -1 < request.max_tokens < request.min_tokens:
        raise InvalidRequestError("min_tokens", "min_tokens must be between 0 and max_tokens")
    if not -1 <= request.slot_id < n_slots:
        raise InvalidRequestError("slot_id", f"there are slots 0 to {n_slots - 1}")
    if not all(request.stop):
        raise InvalidRequestError("stop", "a stop string is empty")
    if not -1 <= request.sampling.n_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequestError("top_logprobs", f"at most {MAX_TOP_LOGPROBS} top logprobs")
    if not -1 <= request.n_prompt_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequestError("prompt_logprobs", f"at most {MAX_TOP_LOGPROBS} top logprobs")
    n, most = len(request.prompt), n_ctx - (request.max_tokens != 0)
    if n > most:
        raise InvalidRequestError(
            "prompt",
            f"the prompt has {n} tokens; with room for what is to be generated, "
            f"{most} fit into the context of {n_ctx}",
            code="context_length_exceeded",
        )
    prompt = np.asarray(request.prompt, np.int64)
    if prompt.ndim != 1 or prompt.min() < 0 or prompt.max() >= n_vocab:
        raise InvalidRequestError("prompt", "the prompt holds a token id outside the vocabulary")
    return prompt.astype(np.int32)


class Admission:
    """Fills free slots from the line of waiting choices.

    One that does not fit into memory now is *held*: it stays first, and others may pass it only if
    they leave so much of the pool alone that it fits as soon as those before it have ended. Those
    that passed and grew beyond what was expected of them are parked for it.

    Engine thread only, but for ``n_waiting``, ``waiting`` and ``n_passed``.
    """

    def __init__(
        self,
        slots: list[Slot],
        memory: Memory,
        scheduler: Scheduler,
        config: EngineConfig,
        counters: Counters,
        park: Callable[[Slot], None],
        tier: Tier | None = None,
    ) -> None:
        self._slots = slots
        self._memory = memory
        self._scheduler = scheduler
        self._config = config
        self._counters = counters
        self._park = park
        self._tier = tier
        self.fairness = Fairness()
        self._line = Line(self.fairness)
        self._sessions = Sessions()
        self._held: Choice | None = None
        # Nobody can come in; nothing changes until memory, a slot or the line does.
        self._is_blocked = False

    def __bool__(self) -> bool:
        return bool(self._line)

    @property
    def n_waiting(self) -> int:
        """Choices without a slot, parked ones included."""
        return len(self._line)

    def add(self, choice: Choice) -> None:
        """Put a choice into the line at its place."""
        choice.n_looks = 0
        self._line.add(choice)
        self._is_blocked = False

    def remove(self, choice: Choice) -> None:
        """Take a choice out of the line."""
        self._line.remove(choice)
        if self._tier is not None:
            self._tier.give_up(choice)
        if choice is self._held:
            self._let_go()
        self._is_blocked = False

    def on_release(self) -> None:
        """A slot or memory has become free."""
        self._is_blocked = False

    def waiting(self) -> list[Choice]:
        """A copy of the line."""
        return self._line.all()

    def oldest_new(self) -> Choice | None:
        """The first to arrive whose request has not begun."""
        return self._line.oldest_new()

    def admit(self, now: float) -> list[Slot]:
        """Fill free slots from the line; returns those just filled."""
        filled: list[Slot] = []
        if self._line and self._tier is not None:
            order = self._line.order()[: len(self._slots)]
            ahead = [choice for choice in order if not choice.index or choice.was_admitted]
            self._tier.look_ahead(ahead, now)
        if not self._is_blocked:
            self.settle()
        while self._line and not self._is_blocked:
            slot = self._admit_one(now)
            if slot is None:
                self._is_blocked = True
            else:
                filled.append(slot)
        return filled

    def _admit_one(self, now: float) -> Slot | None:
        """Fill one slot with the first choice that may begin, has a slot and fits."""
        free = [slot for slot in self._slots if slot.choice is None]
        if not free:
            return None
        held, n_tries = self._held, 0
        order = self._line.order()
        if held is not None:
            order = [held, *(choice for choice in order if choice is not held)]
        for choice in order:
            slot = self._slot_for(choice, free)
            if slot is None or n_tries > MAX_TRIES:
                continue
            if choice is not held and held is not None and not self._may_pass(choice, held):
                continue
            if self._may_fit(choice):  # what surely fails costs next to nothing
                if self._tier is not None and self._tier.is_waiting(choice, now):
                    continue
                n_tries += 1
                is_placed = self._place(choice, slot, now)
            else:
                is_placed = False
            if is_placed or self._place_by_parking(choice, slot, now):
                self._on_placed(choice, slot)
                return slot
            if held is None:
                held = self._held = choice
        return None

    def _slot_for(self, choice: Choice, free: list[Slot]) -> Slot | None:
        """A free slot for a choice whose turn it can be. One that wants a busy slot lets others
        pass; further choices of a request follow its first, whose prompt they take over."""
        first = choice.job.choices[0]
        if choice.index and not (first.was_admitted or first.is_finished):
            return None
        wanted = choice.job.request.slot_id if choice.index == 0 else -1
        if wanted < 0:
            return self._sessions.pick(choice.session, free)
        slot = self._slots[wanted]
        return slot if slot.choice is None else None

    def _may_fit(self, choice: Choice) -> bool:
        """False: there is surely no memory for it. A follower takes none yet."""
        follows = self._leader_for(choice) is not None
        return follows or self._memory.may_fit(choice.tokens, choice.salt)

    def _may_pass(self, choice: Choice, held: Choice) -> bool:
        """Whether ``held`` still fits beside all that passed it, this one too, at their ends."""
        passed = [s.choice for s in self._slots if s.choice is not None and s.has_passed]
        n_blocks = n_blocks_for(len(held.tokens) + 1) + 1
        for other in (*passed, choice):
            n_end = max(len(other.tokens), other.n_prompt + expected_tokens(other))
            n_blocks += n_blocks_for(n_end + 1) + 1
        return n_blocks <= self._memory.n_blocks

    def _place_by_parking(self, choice: Choice, slot: Slot, now: float) -> bool:
        """Place the held choice, parking those that passed it if only they are in its way."""
        if choice is not self._held:
            return False
        passed = [s for s in self._slots if s.has_passed and s.leader is None]
        others = any(s.choice is not None and not s.has_passed for s in self._slots)
        if others or not passed:
            return False
        for victim in reversed(passed):
            self._park(victim)
            if self._place(choice, slot, now):
                return True
        return False

    def _on_placed(self, choice: Choice, slot: Slot) -> None:
        if choice is self._held:
            self._let_go()
        elif self._held is not None:
            slot.has_passed = True
            self._counters.n_passed += 1

    def _let_go(self) -> None:
        """Nobody is held any more, and so nobody has passed anybody."""
        self._held = None
        for slot in self._slots:
            slot.has_passed = False

    def settle(self) -> None:
        """Charge running choices for what they generate beyond what was expected, as it comes."""
        for slot in self._slots:
            if slot.choice is not None:
                self.settle_one(slot.choice)

    def settle_one(self, choice: Choice, *, is_over: bool = False) -> None:
        """Charge one choice; at its end also give back what was expected and did not come."""
        n_tokens = choice.n_generated - choice.n_charged
        if n_tokens > 0 or is_over:
            self.fairness.charge(choice.client, n_tokens)
            choice.n_charged = choice.n_generated

    def _place(self, choice: Choice, slot: Slot, now: float) -> bool:
        leader = self._leader_for(choice)
        slot.occupy(choice)
        if leader is not None:
            slot.seq.open(choice.salt, slot.n_known)
            slot.leader = leader
            leader.followers.append(slot)
            n_cached = choice.n_prompt
        else:
            n_reused = self._memory.open(slot.seq, slot.n_known, choice.salt, choice.most_reused)
            if n_reused is None:
                slot.clear()
                return False
            self._set_splits(slot, choice)
            self._scheduler.sharing.begin(slot, self._scheduler.active)
            self._scheduler.add(slot)
            n_cached = min(n_reused, choice.n_prompt)
            if self._tier is not None and not choice.was_admitted:
                choice.n_disk = self._tier.from_disk(choice, n_cached)
                self._counters.n_prompt_tokens_disk += choice.n_disk
        self._line.remove(choice)
        if self._tier is not None:
            self._tier.give_up(choice)
        if choice.index == 0:
            progress = choice.job.request.progress
            progress.is_parked, progress.slot_id = False, slot.id
        self._sessions.note(choice.session, slot)
        if not choice.was_admitted:
            self._on_first_admission(choice, n_cached, now)
            if leader is None:
                choice.missed = missed_by(slot, choice)
        return True

    def _on_first_admission(self, choice: Choice, n_cached: int, now: float) -> None:
        self.fairness.begin(choice.client, cost(choice) - n_cached)
        choice.n_charged = expected_tokens(choice)
        choice.was_admitted = True
        choice.t_admitted = now
        choice.n_cached = n_cached
        if choice.index == 0:
            progress = choice.job.request.progress
            progress.n_computed, progress.t_admitted = n_cached, now
        self._counters.n_prompt_tokens_cached += n_cached
        self._counters.n_prompt_tokens_queried += choice.n_prompt

    def _leader_for(self, choice: Choice) -> Slot | None:
        """The slot that is still computing the prompt of the same request."""
        if choice.index == 0 or choice.n_generated:
            return None
        for slot in self._scheduler.active:
            other = slot.choice
            if other is not None and other.job is choice.job and other.n_generated == 0:
                return slot
        return None

    def _set_splits(self, slot: Slot, choice: Choice) -> None:
        if slot.seq.row < 0 or slot.seq.node is None:
            return
        config = self._config
        slot.set_splits(
            checkpoint_positions(
                slot.seq.n_computed,
                slot.n_known,
                choice.job.request.boundaries,
                max(1, config.checkpoint_spacing),
                config.max_prompt_checkpoints,
                slot.seq.n_path,
            )
        )
        slot.wanted_splits.add(slot.seq.n_path)  # the third to come this way gains
