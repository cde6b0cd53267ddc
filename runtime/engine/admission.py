"""Who may come in: checks of a request, the line of waiting choices, and the way into a slot."""

from __future__ import annotations

from bisect import insort

import numpy as np

from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.engine.config import EngineConfig, SpecConfig
from slotmux.runtime.engine.request import InvalidRequestError, Request, SpecParams
from slotmux.runtime.engine.scheduler import Scheduler
from slotmux.runtime.engine.slots import Slot, checkpoint_positions
from slotmux.runtime.engine.stats import Counters
from slotmux.runtime.memory import Memory
from slotmux.runtime.ubatch import I32, MAX_TOP_LOGPROBS


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
    if not 1 <= request.n <= n_slots:
        raise InvalidRequestError("n", f"n must be between 1 and {n_slots}, the number of slots")
    if request.max_tokens < 1 and request.max_tokens != -1:
        raise InvalidRequestError("max_tokens", "max_tokens must be at least 1")
    if request.min_tokens < 0 or -1 < request.max_tokens < request.min_tokens:
        raise InvalidRequestError("min_tokens", "min_tokens must be between 0 and max_tokens")
    if not -1 <= request.slot_id < n_slots:
        raise InvalidRequestError("slot_id", f"there are slots 0 to {n_slots - 1}")
    if not all(request.stop):
        raise InvalidRequestError("stop", "a stop string is empty")
    if not -1 <= request.sampling.n_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequestError("top_logprobs", f"at most {MAX_TOP_LOGPROBS} top logprobs")
    n = len(request.prompt)
    if n >= n_ctx:
        raise InvalidRequestError(
            "prompt",
            f"the prompt has {n} tokens; with room for one more to generate, "
            f"{n_ctx - 1} fit into the context of {n_ctx}",
            code="context_length_exceeded",
        )
    prompt = np.asarray(request.prompt, np.int64)
    if prompt.ndim != 1 or prompt.min() < 0 or prompt.max() >= n_vocab:
        raise InvalidRequestError("prompt", "the prompt holds a token id outside the vocabulary")
    return prompt.astype(np.int32)


class Admission:
    """The line of waiting choices in arrival order; parked ones keep their old place in it.

    Engine thread only, but for ``n_waiting``.
    """

    def __init__(
        self,
        slots: list[Slot],
        memory: Memory,
        scheduler: Scheduler,
        config: EngineConfig,
        counters: Counters,
    ) -> None:
        self._slots = slots
        self._memory = memory
        self._scheduler = scheduler
        self._config = config
        self._counters = counters
        self._line: list[Choice] = []
        # The first in line did not fit; nothing changes until memory or the line does.
        self._is_blocked = False

    def __bool__(self) -> bool:
        return bool(self._line)

    @property
    def n_waiting(self) -> int:
        """Choices without a slot, parked ones included."""
        return len(self._line)

    def add(self, choice: Choice) -> None:
        """Put a choice into the line at its place."""
        insort(self._line, choice, key=lambda c: c.serial)
        self._is_blocked = False

    def remove(self, choice: Choice) -> None:
        self._line.remove(choice)
        self._is_blocked = False

    def on_release(self) -> None:
        """A slot or memory has become free."""
        self._is_blocked = False

    def waiting(self) -> list[Choice]:
        """A copy of the line."""
        return list(self._line)

    def oldest_new(self) -> Choice | None:
        """The first in line whose request has not begun."""
        return next((choice for choice in self._line if choice.is_new), None)

    def admit(self, now: float) -> list[Slot]:
        """Fill free slots from the line, first come first served; returns those just filled."""
        filled: list[Slot] = []
        while self._line and not self._is_blocked:
            found = self._next_pair()
            if found is None:
                break
            choice, slot = found
            if self._place(choice, slot, now):
                filled.append(slot)
            else:
                self._is_blocked = True
        return filled

    def _next_pair(self) -> tuple[Choice, Slot] | None:
        """The first choice that has a free slot; one that wants a busy slot lets others pass."""
        free = [slot for slot in self._slots if slot.choice is None]
        if not free:
            return None
        for choice in self._line:
            wanted = choice.job.request.slot_id if choice.index == 0 else -1
            if wanted < 0:
                return choice, free[0]
            if self._slots[wanted].choice is None:
                return choice, self._slots[wanted]
        return None

    def _place(self, choice: Choice, slot: Slot, now: float) -> bool:
        leader = self._leader_for(choice)
        slot.occupy(choice)
        if leader is not None:
            slot.seq.open(choice.salt, slot.n_known)
            slot.leader = leader
            leader.followers.append(slot)
            n_cached = choice.n_prompt
        else:
            n_reused = self._memory.open(slot.seq, slot.n_known, choice.salt)
            if n_reused is None:
                slot.clear()
                return False
            self._scheduler.add(slot)
            self._set_splits(slot, choice)
            n_cached = min(n_reused, choice.n_prompt)
        self._line.remove(choice)
        if not choice.was_admitted:
            self._on_first_admission(choice, n_cached, now)
        return True

    def _on_first_admission(self, choice: Choice, n_cached: int, now: float) -> None:
        choice.was_admitted = True
        choice.t_admitted = now
        choice.n_cached = n_cached
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
            )
        )
