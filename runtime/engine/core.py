"""The engine without its thread: admit -> plan -> forward -> accept -> emit, one step at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from slotmux.runtime.engine.acceptor import INTERNAL, Acceptor
from slotmux.runtime.engine.admission.admission import Admission
from slotmux.runtime.engine.choice import Choice, Job
from slotmux.runtime.engine.config import EngineConfig
from slotmux.runtime.engine.constraint import Constraint
from slotmux.runtime.engine.delivery import Delivery
from slotmux.runtime.engine.emitter import Emitter
from slotmux.runtime.engine.masks import Masks
from slotmux.runtime.engine.pace import Pace
from slotmux.runtime.engine.request import FinishReason, Request
from slotmux.runtime.engine.scheduler import Scheduler
from slotmux.runtime.engine.scoring import Scoring
from slotmux.runtime.engine.sharing import Sharing
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.engine.stats import Meter
from slotmux.runtime.engine.texts.text_vector import TextVector
from slotmux.runtime.engine.texts.vectors import Pooler
from slotmux.runtime.interfaces import DetokenizerLike, ModelLike
from slotmux.runtime.memory import Memory
from slotmux.runtime.memory.disk.store import Store
from slotmux.runtime.memory.disk.tier import Tier
from slotmux.runtime.memory.events import BlockEvents, EventPort
from slotmux.runtime.speculation.costs import Costs
from slotmux.runtime.speculation.speculator import Speculator
from slotmux.runtime.ubatch import I32

log = logging.getLogger(__name__)


class Core:
    """Slots, memory and the line of waiting requests. One thread only; no locks.

    ``store``: of the tier on disk; ``notify`` is called on another thread when it has something.
    """

    def __init__(
        self,
        model: ModelLike,
        config: EngineConfig,
        eog_ids: frozenset[int],
        new_detokenizer: Callable[[], DetokenizerLike],
        costs: Costs | None = None,
        events: EventPort | None = None,
        *,
        store: Store | None = None,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        ubatch = model.ubatch
        n_outputs = config.n_slots * (1 + config.spec.n_max)
        if ubatch.seq_slot.size != config.n_slots or ubatch.max_outputs < n_outputs:
            raise ValueError("the model's ubatch does not fit the number of slots")
        self._model = model
        self._eog_ids = eog_ids
        self._new_detokenizer = new_detokenizer
        self.meter = Meter(config.spec.n_max)
        self.memory = Memory(
            model.kv,
            model.rows,
            ubatch,
            n_ctx=config.n_ctx,
            cache_bytes=config.prefix_cache_bytes,
            poison=config.poison_freed,
        )
        self._events: BlockEvents | None = None
        if events is not None:
            self._events = BlockEvents(self.memory.pools.tree, events)
            self.memory.pools.listen(self._events)
        self.tier = Tier(self.memory, store, notify) if store is not None else None
        self.slots = [Slot(seq.slot, seq) for seq in self.memory.sequences]
        self._scoring = Scoring(model, config.max_step_s)
        self._pooler = Pooler(model)
        self.scheduler = Scheduler(
            ubatch,
            self._park,
            self._give_up,
            pace=Pace(config.max_step_s),
            scoring=self._scoring,
            sharing=Sharing(self.memory, self.meter.counters),
            n_prompt_beside=config.n_prompt_beside,
        )
        self.admission = Admission(
            self.slots, self.memory, self.scheduler, config, self.meter.counters, self._park,
            self.tier,
        )  # fmt: skip
        self._masks = Masks(ubatch, model.logits)
        self._speculator = (
            Speculator(config.spec, model.drafter, ubatch, self._masks, costs)
            if config.spec.types and config.spec.n_max
            else None
        )
        self._delivery = Delivery()
        self._acceptor = Acceptor(
            ubatch, self.scheduler, self.meter, self._delivery, self._free, self._on_verified
        )
        self._queue_timeout_s = config.queue_timeout_s
        self._jobs: dict[int, Job] = {}
        self._n_serials = 0

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._jobs)

    @property
    def progress(self) -> int:
        """Changes while a forward gets ahead. Any thread."""
        return self._model.progress

    @property
    def n_queued(self) -> int:
        """Requests of which no choice has been admitted yet. Any thread."""
        return sum(choice.is_new for choice in self.admission.waiting())

    # -- requests come and go

    def add(self, request: Request, prompt: I32, now: float) -> None:
        """Put a checked request into the line."""
        job = Job(request, prompt, now, self._delivery.outbox)
        for index in range(request.n):
            detokenizer = self._new_detokenizer()
            if request.visible:
                detokenizer.show(request.visible)
            emitter = Emitter(detokenizer, request.stop, include_stop=request.include_stop)
            self._n_serials += 1
            choice = Choice(
                job,
                index,
                self._n_serials,
                emitter,
                self._eog_ids,
                self.memory.n_ctx,
                self._constraint(request),
            )
            if request.wants_vector:
                choice.vector = TextVector(self._model.pooling, len(prompt))
            job.choices.append(choice)
        self._jobs[request.id] = job
        self.meter.counters.n_requests += 1
        self.admission.settle()
        for choice in job.choices:
            self.admission.fairness.enter(choice.client)
            self.admission.add(choice)

    def _constraint(self, request: Request) -> Constraint | None:
        factory = request.constraint
        return None if factory is None else Constraint(factory, self._model.n_vocab)

    def abort(self, request_id: int, now: float) -> None:
        """End a request of the client's wish; nothing when it is unknown or has ended."""
        job = self._jobs.get(request_id)
        if job is not None:
            self._end(job, lambda choice: choice.finish(FinishReason.ABORT, now))

    def cut(self, request_id: int, now: float) -> None:
        """End a request with what it has, as if it had reached its length; nothing when it is
        unknown or has ended."""
        job = self._jobs.get(request_id)
        if job is not None:
            self._end(job, lambda choice: choice.finish(FinishReason.LENGTH, now))

    def shut_down(self, now: float) -> None:
        """End every request because the server goes."""
        for job in list(self._jobs.values()):
            self._end(
                job,
                lambda choice: choice.fail(
                    FinishReason.ABORT, now, "the server is shutting down", "server_shutdown"
                ),
            )

    def _end(self, job: Job, close: Callable[[Choice], None]) -> None:
        for choice in job.choices:
            if not choice.is_finished:
                self._end_choice(choice, close)

    def _end_choice(self, choice: Choice, close: Callable[[Choice], None]) -> None:
        """End a choice between two steps, in a slot or in the line."""
        close(choice)
        for slot in self.slots:
            if slot.choice is choice:
                self._free(slot, True)
                return
        self.admission.remove(choice)
        self._count(choice)

    def _expire(self, now: float) -> None:
        """Refuse those that have waited too long without any of their choices admitted."""
        limit = self._queue_timeout_s
        while limit and (choice := self.admission.oldest_new()) is not None:
            if now - choice.job.t_submitted <= limit:
                return
            self.meter.on_reject("queue_timeout")
            self._end(
                choice.job,
                lambda c: c.fail(
                    FinishReason.ERROR, now, "no slot became free in time", "queue_timeout"
                ),
            )

    # -- one step

    def step(self, now: float) -> None:
        """Admit, plan, compute, accept. Raises what is nobody's own fault.

        Outputs are delivered while the next step computes, or at once where none follows.
        """
        if self.tier is not None:
            self.tend(now)
        if self.admission:
            self.emit()  # whoever comes in may take a while
            self._expire(now)
            self._admit(now)
        if self._speculator is not None:
            self._speculator.draft(self.scheduler.active)
        forward_s = 0.0
        if self.scheduler.plan():
            begin = time.monotonic()
            self._forward()
            done = time.monotonic()
            forward_s = done - begin
            self.scheduler.pace.observe(
                self.scheduler.n_prompt_planned, self.scheduler.is_beside, forward_s
            )
            self._scoring.run(self.scheduler.active)
            self._pooler.run(self.scheduler.active)
            self._acceptor.accept(time.monotonic())
            self._end_failed()
            self.meter.on_step(self._model.ubatch.n_seqs, time.monotonic() - now)
        if not (forward_s and self.scheduler.active):
            self.emit()
        if self._speculator is not None and forward_s:
            n_generated = self.meter.counters.n_generated_tokens
            self._speculator.on_end(forward_s, n_generated, is_idle=not self._jobs)

    def _forward(self) -> None:
        """Compute and draw; masks are made while it computes."""
        draws = self.scheduler.draws
        if not self._masks.begin(draws):
            self._model.forward(self._deliver)
            return
        self._model.compute(self._deliver)
        self._masks.join(draws)
        self._model.draw()
        ub = self._model.ubatch
        self._masks.accept(draws, ub.sampled[: ub.n_samples].tolist())

    def _on_verified(self, slot: Slot, n_accepted: int) -> None:
        assert self._speculator is not None
        self._speculator.on_verified(slot, n_accepted)

    def _admit(self, now: float) -> None:
        for slot in self.admission.admit(now):
            choice = slot.choice
            if choice is None:
                continue  # it passed another and was parked for it, or its leader has failed
            try:
                self._model.sampling.set(
                    slot.id,
                    choice.sampling,
                    slot.history,
                    choice.banned_ids,
                    choice.min_pos,
                    choice.sampler_state,
                )
            except Exception:
                log.exception("request %d: its sampling was refused", choice.job.request.id)
                _fail(choice, now)
                self._free(slot, True)
                continue
            if self._speculator is not None:
                self._speculator.begin(slot, choice.job.request.speculative)

    def emit(self) -> None:
        """Deliver all outputs there are; end the requests that cannot take theirs."""
        self._deliver()
        self._end_failed()

    def _deliver(self) -> None:
        for job in self._delivery.deliver():
            self._jobs.pop(job.request.id, None)
        if self._events is not None:
            self._events.flush()

    def _end_failed(self) -> None:
        """End what failed while it was delivered: frees memory, so not while a step computes."""
        now = time.monotonic()
        while self._delivery.failed:
            job = self._delivery.failed.pop()
            self._end(job, lambda choice: choice.finish(FinishReason.ABORT, now))
            self._jobs.pop(job.request.id, None)
        while self._delivery.broken:
            choice = self._delivery.broken.pop()
            choice.unsent = ()  # of the step that was on the way
            if not choice.is_finished:
                self._end_choice(choice, lambda choice: _fail(choice, now))

    def tend(self, now: float) -> None:
        """Do what the tier on disk has to do between two steps."""
        tier, pace = self.tier, self.scheduler.pace
        if tier is None:
            return
        if pace.token_s:
            tier.token_s = pace.token_s
        if tier.is_reading:
            self.admission.on_release()
        tier.tend(now, is_idle=not self.scheduler.active)

    @property
    def is_reading(self) -> bool:
        """Whether a step would do nothing but wait for the disk."""
        return self.tier is not None and self.tier.is_reading and not self.scheduler.active

    def close(self, *, is_sound: bool = True) -> None:
        """Let helper threads end; nothing runs any more. Not ``is_sound``: memory is not to be
        trusted."""
        self._masks.close()
        if self.tier is not None:
            self.tier.close(is_sound=is_sound)

    def fail(self, now: float) -> None:
        """After a failure that is nobody's own: end everything, without touching memory."""
        self._delivery.deliver()
        for job in list(self._jobs.values()):
            for choice in job.choices:
                if not choice.is_finished:
                    _fail(choice, now)
        self._delivery.deliver()
        self._jobs.clear()

    # -- slots

    def _free(self, slot: Slot, keep: bool) -> None:
        """Empty a slot; its choice has finished. ``keep``: its prefix may be reused."""
        choice = slot.choice
        assert choice is not None
        self._count(choice)
        self._vacate(slot, keep=keep)

    def _count(self, choice: Choice) -> None:
        last = choice.last
        assert last is not None
        assert last.finish_reason is not None
        assert last.usage is not None
        self.meter.on_finish(last.finish_reason, last.usage)
        if choice.was_admitted:
            self.admission.settle_one(choice, is_over=True)
            if reason := choice.missed.reason:
                misses = self.meter.counters.cache_misses
                misses[reason] = misses.get(reason, 0) + 1
        self.admission.fairness.leave(choice.client, has_begun=choice.was_admitted)

    def _park(self, slot: Slot) -> None:
        """Take an unfinished choice out of memory and back into the line, with its tokens."""
        choice = slot.choice
        assert choice is not None
        choice.tokens = slot.known_tokens()
        choice.sampler_state = self._model.sampling.state(slot.id, slot.n_known)
        if choice.index == 0:
            choice.job.request.progress.is_parked = True
        self.meter.counters.n_parked += 1
        self._vacate(slot, keep=True, is_parked=True)
        self.admission.add(choice)

    def _give_up(self, slot: Slot) -> None:
        """End a choice for which there is no memory even when no other has any: its own fault or
        ours, but nobody else's."""
        choice = slot.choice
        assert choice is not None
        log.error("request %d: no memory for one sequence", choice.job.request.id)
        message = "there is no memory for this sequence"
        choice.fail(FinishReason.ERROR, time.monotonic(), message, "no_memory")
        self._free(slot, True)

    def _vacate(self, slot: Slot, *, keep: bool, is_parked: bool = False) -> None:
        for follower in list(slot.followers):
            waiting = follower.choice
            assert waiting is not None
            self._vacate(follower, keep=True)
            if not waiting.is_finished:
                self.admission.add(waiting)
        if slot.leader is not None:
            slot.leader.followers.remove(slot)
        elif slot in self.scheduler.active:
            self.scheduler.remove(slot)
        if keep and slot.seq.node is not None:
            slot.left = slot.seq.salt, slot.seq.n_computed
        slot.seq.release(keep=keep, is_parked=is_parked)
        slot.clear()
        self.admission.on_release()


def _fail(choice: Choice, now: float) -> None:
    choice.fail(FinishReason.ERROR, now, INTERNAL, "server_error")
