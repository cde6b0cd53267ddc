"""After a forward: memory catches up, the drawn tokens become output, some choices end."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from slotmux.runtime.engine.choice import Choice
from slotmux.runtime.engine.constraint import Constraint
from slotmux.runtime.engine.delivery import Delivery
from slotmux.runtime.engine.masks import NO_TOKEN
from slotmux.runtime.engine.request import FinishReason, Output, TokenLogprobs
from slotmux.runtime.engine.scheduler import Scheduler
from slotmux.runtime.engine.slots import Slot
from slotmux.runtime.engine.stats import Meter
from slotmux.runtime.memory import Kind
from slotmux.runtime.ubatch import BLOCK_CELLS, Ubatch

log = logging.getLogger(__name__)

INTERNAL = "internal error"
# Tokens between two states kept on the way, where sequences may soon be parked, and where not: a
# copy of a row takes as long as a good part of a step.
ROLLING_TOKENS, ROLLING_TOKENS_AT_EASE = 64, 512


class Acceptor:
    """Takes in what the forward of the scheduler's plan has drawn. Engine thread only.

    ``free(slot, keep)`` takes a slot's finished choice out of it; ``on_verified(slot, n_accepted)``
    hears of drafts.
    """

    def __init__(
        self,
        ubatch: Ubatch,
        scheduler: Scheduler,
        meter: Meter,
        delivery: Delivery,
        free: Callable[[Slot, bool], None],
        on_verified: Callable[[Slot, int], None],
    ) -> None:
        self._ubatch = ubatch
        self._scheduler = scheduler
        self._meter = meter
        self._delivery = delivery
        self._free = free
        self._on_verified = on_verified

    def accept(self, now: float) -> None:
        """Commit the step. What fails for one choice ends that choice only."""
        draws = self._scheduler.draws
        drawn = self._ubatch.sampled[: self._ubatch.n_samples].tolist()
        self._commit()
        for slot, _ in draws:
            if slot.leader is not None:
                self._follow(slot)
        for slot, first in self._take_ones(draws, drawn, now):
            choice = slot.choice
            assert choice is not None
            n_taken, n_before = 0, choice.n_draft_accepted
            try:
                if self._begins(slot, choice, now):
                    n_taken = self._take_run(slot, choice, drawn, first, now)
            except Exception:
                log.exception("request %d: its output failed", choice.job.request.id)
                if not choice.is_finished:
                    choice.fail(FinishReason.ERROR, now, INTERNAL, "server_error")
            # What was taken, and the draw that ended it where that was no number.
            seen = drawn[first : first + min(n_taken, slot.n_draft) + 1]
            if slot.n_draft:
                n_accepted = choice.n_draft_accepted - n_before
                self._settle(slot, choice, max(1, n_taken), n_accepted)
            if choice.is_finished and slot.choice is choice:
                self._free(slot, min(seen) >= 0)

    def _take_ones(
        self, draws: list[tuple[Slot, int]], drawn: list[int], now: float
    ) -> list[tuple[Slot, int]]:
        """Take in what is one more token of a choice that goes on, as most are; returns the rest.

        A step of many slots passes here for each of them: nothing is called that need not be.
        """
        meter, add = self._meter, self._delivery.add
        rest, n_ones, n_most = [], 0, 0
        t_last, n_same = 0.0, 0  # choices whose token before this one came at the same time
        for draw in draws:
            slot, first = draw
            choice, token, n_known = slot.choice, drawn[first], slot.n_known + 1
            assert choice is not None
            if (
                not choice.is_plain
                or slot.n_draft
                or not choice.t_first
                or token < 0
                or token in choice.end_ids
                or n_known >= choice.n_limit
            ):
                rest.append(draw)
                continue
            slot.history[n_known - 1] = token
            slot.n_known = n_known
            choice.n_generated += 1
            if choice.t_last != t_last:
                meter.itl.observe(now - t_last, n_same)
                t_last, n_same = choice.t_last, 0
            n_same += 1
            choice.t_last = now
            add(choice, (token,))
            n_ones += 1
            if n_known > n_most:
                n_most = n_known
        meter.itl.observe(now - t_last, n_same)
        counters = meter.counters
        counters.n_generated_tokens += n_ones
        counters.n_tokens_max = max(counters.n_tokens_max, n_most)
        return rest

    def _begins(self, slot: Slot, choice: Choice, now: float) -> bool:
        """Whether what was drawn is wanted. The first time, what was asked about the prompt is told
        before it."""
        if choice.scores is not None and not choice.n_generated:
            if np.isnan(choice.scores.logprobs).any():
                self._fail_no_numbers(choice, now)
                return False
            choice.job.send(Output(choice.index, prompt_logprobs=choice.scores))
        if choice.vector is not None:
            vector = choice.vector.vector()
            if not np.isfinite(vector).all():
                self._fail_no_numbers(choice, now)
                return False
            choice.job.send(Output(choice.index, vector=vector))
        if slot.n_known < choice.n_limit:
            return True
        choice.finish(FinishReason.LENGTH, now)
        return False

    def _fail_no_numbers(self, choice: Choice, now: float) -> None:
        log.error("request %d: the logits are not numbers", choice.job.request.id)
        message = "the model computed no valid logits"
        choice.fail(FinishReason.ERROR, now, message, "server_error")

    def _take_run(
        self, slot: Slot, choice: Choice, drawn: list[int], first: int, now: float
    ) -> int:
        """What a slot has drawn, as far as its drafts were right; returns how many tokens.

        A draft is right when it equals the token drawn at its position: what follows was then
        computed and drawn as if it had been known. All that is taken is one Output.
        """
        drafts = slot.drafts if slot.n_draft else []
        choice.n_draft += len(drafts)
        constraint = choice.constraint
        if constraint is not None and not self._is_followed(choice, constraint, now):
            return 0
        n_taken = self._take_plain(slot, choice, drafts, drawn, first, now)
        if n_taken:
            return n_taken
        text, logprobs, token = "", [], drawn[first]
        reason = stop = None
        for draft in (*drafts, -1):
            token = drawn[first + n_taken]
            if token < 0:
                break
            piece, reason, stop = self._take(slot, choice, token)
            text += piece
            if choice.sampling.n_logprobs >= 0:
                logprobs.append(self._logprobs(choice, token, first + n_taken))
            n_taken += 1
            choice.n_draft_accepted += token == draft
            if constraint is not None and constraint.over_at == n_taken:
                reason = FinishReason.STOP
            if token != draft or reason is not None:
                break
        if n_taken:
            tokens = tuple(drawn[first : first + n_taken])
            if constraint is not None and reason is None and constraint.jumps:
                piece, reason, stop = self._jump(slot, choice, constraint)
                text += piece
                tokens += tuple(constraint.jumps[: slot.n_forced])
                self._meter.counters.n_forced_tokens += slot.n_forced
            self._time(choice, slot.n_known, len(tokens), now)
            if reason is not None:
                choice.finish(reason, now, text=text, token_ids=tokens,
                              logprobs=tuple(logprobs), stop=stop)  # fmt: skip
                return n_taken
            choice.job.send(Output(choice.index, text, tokens, tuple(logprobs)))
        if token < 0:
            self._fail_undrawn(choice, now)
        return n_taken

    def _fail_undrawn(self, choice: Choice, now: float) -> None:
        """End a choice whose next token could not be drawn, unless it was known without that."""
        constraint = choice.constraint
        if constraint is None or not constraint.is_stuck:
            self._fail_no_numbers(choice, now)
        elif not constraint.jumps:
            choice.fail(FinishReason.ERROR, now, NO_TOKEN, "grammar_failed")

    def _is_followed(self, choice: Choice, constraint: Constraint, now: float) -> bool:
        """Whether a choice's grammar lets it go on; otherwise the choice ends here."""
        if constraint.fault is not None:
            choice.fail(FinishReason.ERROR, now, constraint.fault, "grammar_failed")
            return False
        if constraint.is_over and not (constraint.over_at or constraint.jumps):
            choice.finish(FinishReason.STOP, now)  # complete before it began
            return False
        return True

    def _jump(
        self, slot: Slot, choice: Choice, constraint: Constraint
    ) -> tuple[str, FinishReason | None, str | None]:
        """Make known what a choice's grammar forces; ``n_forced`` of the slot says how much."""
        text, n_left = "", len(constraint.jumps)
        for token in constraint.jumps:
            n_left -= 1
            slot.n_forced += 1
            piece, reason, stop = self._take(slot, choice, token)
            text += piece
            if constraint.is_over and not n_left:
                reason = FinishReason.STOP
            if reason is not None:
                break
        return text, reason, stop

    def _take_plain(
        self,
        slot: Slot,
        choice: Choice,
        drafts: list[int],
        drawn: list[int],
        first: int,
        now: float,
    ) -> int:
        """The same in one go, where nothing can end the choice and only text is wanted; else 0."""
        n = 0
        while n < len(drafts) and drawn[first + n] == drafts[n]:
            n += 1
        tokens = tuple(drawn[first : first + n + 1])
        n_known = slot.n_known + n + 1
        if (
            not choice.is_plain
            or n_known >= choice.n_limit
            or min(tokens) < 0
            or not choice.end_ids.isdisjoint(tokens)
        ):
            return 0
        slot.history[n_known - 1] = tokens[n]  # the others stand there, as drafts
        slot.n_known = n_known
        choice.n_generated += n + 1
        choice.n_draft_accepted += n
        self._time(choice, n_known, n + 1, now)
        self._delivery.add(choice, tokens)
        return n + 1

    def _settle(self, slot: Slot, choice: Choice, n_taken: int, n_accepted: int) -> None:
        """Commit a verified run: its first token and the drafts that others follow."""
        slot.seq.commit(n_taken)
        slot.n_drafts += slot.n_draft
        slot.n_drafts_accepted += n_accepted
        self._meter.on_drafts(slot.n_draft, n_accepted)
        if not choice.is_finished:
            self._on_verified(slot, n_accepted)
            if slot.seq.row >= 0:
                self._keep_rolling(slot)
        slot.n_draft = 0

    def _commit(self) -> None:
        counters = self._meter.counters
        for slot in self._scheduler.active:
            n = slot.n_planned
            if not n or slot.n_draft:
                continue
            seq, choice = slot.seq, slot.choice
            assert choice is not None
            seq.commit(n)
            if not choice.n_generated:
                counters.n_prompt_tokens += n
                choice.job.request.progress.n_computed = seq.n_computed
            elif slot.n_forced:
                slot.n_forced = max(0, slot.n_forced - n)
            elif n > 1 or seq.n_computed < slot.n_known:
                counters.n_recomputed_tokens += n
            if slot.split_at and seq.n_computed >= slot.split_at:
                seq.checkpoint(is_wanted=slot.split_at in slot.wanted_splits)
                slot.next_split()
            elif seq.row >= 0:
                self._keep_rolling(slot)

    def _keep_rolling(self, slot: Slot) -> None:
        """On a long way keep a state now and then: what is parked where memory is short loses its
        last blocks first, and goes on from the last state before them."""
        seq = slot.seq
        n_since = seq.n_computed - seq.last_checkpoint
        if n_since < ROLLING_TOKENS or seq.n_computed % BLOCK_CELLS:
            return
        if n_since >= ROLLING_TOKENS_AT_EASE or self._is_tight(slot):
            seq.checkpoint(Kind.ROLLING)

    def _is_tight(self, slot: Slot) -> bool:
        """Whether some sequence may soon have to give way."""
        pools = slot.seq.pools
        n_soon = len(self._scheduler.active) * (2 * ROLLING_TOKENS // BLOCK_CELLS)
        return pools.has_blocks and pools.n_available < n_soon

    def _follow(self, slot: Slot) -> None:
        """The prompt is computed: another choice of the request goes on from it by itself."""
        leader = slot.leader
        assert leader is not None
        leader.seq.fork(slot.seq)
        leader.followers.remove(slot)
        slot.leader = None
        self._scheduler.add(slot)

    def _take(
        self, slot: Slot, choice: Choice, token: int
    ) -> tuple[str, FinishReason | None, str | None]:
        """One more known token; returns its text, and why the choice ends with it if it does."""
        n_known = slot.n_known
        slot.history[n_known] = token
        slot.n_known = n_known = n_known + 1
        choice.n_generated = n = choice.n_generated + 1
        request = choice.job.request
        is_end = token in choice.end_ids and n > request.min_tokens
        text, stop = "", None
        if not is_end or (request.include_stop and token in request.stop_token_ids):
            text, stop = choice.emitter.push(token, may_stop=n >= request.min_tokens)
        if is_end or stop is not None:
            return text, FinishReason.STOP, stop
        return text, FinishReason.LENGTH if n_known >= choice.n_limit else None, None

    def _time(self, choice: Choice, n_known: int, n_taken: int, now: float) -> None:
        meter = self._meter
        if choice.t_first:
            meter.itl.observe((now - choice.t_last) / n_taken, n_taken)
        else:
            choice.t_first = now
        choice.t_last = now
        counters = meter.counters
        counters.n_generated_tokens += n_taken
        if n_known > counters.n_tokens_max:
            counters.n_tokens_max = n_known

    def _logprobs(self, choice: Choice, token: int, i: int) -> TokenLogprobs:
        ub = self._ubatch
        n = choice.sampling.n_logprobs
        # A grammar may leave fewer tokens than were asked for.
        n = n if choice.constraint is None else int((ub.top_ids[i, :n] >= 0).sum())
        ids = ub.top_ids[i, :n].tolist()
        values = ub.top_logprobs[i, :n].tolist()
        return TokenLogprobs(token, ub.logprob.item(i), tuple(zip(ids, values, strict=True)))
