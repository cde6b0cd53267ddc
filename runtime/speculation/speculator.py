"""Before a step: which generating slots get drafts, how many, from where. After it: what to learn.

Drafts stand in a slot's history behind its known tokens until the step has verified them. Nothing
here changes what a request gets, only how many steps that takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import takewhile

from runtime.config import MTP, NGRAM, SpecConfig
from runtime.protocols import Drafter
from runtime.request import SpecParams
from runtime.slots import Slot
from runtime.speculation.acceptance import Acceptance
from runtime.speculation.budget import choose
from runtime.speculation.costs import Costs
from runtime.speculation.ngram import lookup
from runtime.speculation.slot_spec import SlotSpec
from runtime.ubatch import I32, Ubatch

# Where no draft pays, that is looked at again after some steps, then after twice as many: a
# decision costs some microseconds, which small models notice. Now and then one draft is tried.
LAST_REST, LAST_PROBE = 16, 16  # steps between decisions, decisions between tries
GLOBAL_WEIGHT = 0.02  # of an observation in what new requests begin with
RARE = 0.2  # with more tokens than this outside the short vocabulary, drafts come from all of it
RARE_WEIGHT = 0.02


class Speculator:
    """Drafts for the slots of one engine. Engine thread only."""

    def __init__(
        self,
        config: SpecConfig,
        drafter: Drafter | None,
        ubatch: Ubatch,
        costs: Costs | None = None,
    ) -> None:
        if MTP in config.types and drafter is None:
            raise ValueError("the model has no block for multi-token prediction")
        self._config = config
        self._drafter = drafter if MTP in config.types else None
        self._uses_ngrams = NGRAM in config.types
        self._ubatch = ubatch
        self.costs = costs or Costs()
        self._n_rest = self._n_resting = 0
        self._n_drafts = 0  # of the step under way
        self._overall = {kind: Acceptance(config.n_max) for kind in config.types}
        self._n_steps = 0

    def begin(self, slot: Slot, wishes: SpecParams) -> None:
        """A request has come into a slot."""
        self._n_rest = self._n_resting = 0
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
        self._n_drafts = 0
        if self._n_resting:
            self._n_resting -= 1
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
        found = [self._look_up(slot) for slot in wanting]
        counts = self._budget(wanting, found, len(generating), max_rows)
        if self._drafter is not None and not any(counts):
            self._n_resting = self._n_rest = min(LAST_REST, 2 * self._n_rest + 1)
            return
        guessing: list[tuple[int, Slot]] = []
        for slot, n, tokens in zip(wanting, counts, found, strict=True):
            if n <= 0:
                continue
            if len(tokens):
                self._take(slot, NGRAM, tokens[:n].tolist())
            elif slot.seq.reserve(1 + n, n):
                guessing.append((n, slot))
        if guessing:
            self._guess(guessing)

    def _look_up(self, slot: Slot) -> I32:
        spec = slot.spec
        assert spec is not None
        if not self._uses_ngrams:
            return slot.history[:0]
        tokens = lookup(slot.history, slot.n_known, min(spec.n_max, _room(slot)))
        if self._drafter is not None and len(tokens):
            rates = spec.acceptance
            if rates[NGRAM].rates[0] < rates[MTP].rates[0]:
                return tokens[:0]
        return tokens

    def _budget(
        self, wanting: list[Slot], found: list[I32], n_seqs: int, max_rows: int
    ) -> list[int]:
        chains, is_free = [], []
        for slot, tokens in zip(wanting, found, strict=True):
            spec = slot.spec
            assert spec is not None
            n = min(spec.n_max, _room(slot))
            if len(tokens):
                chains.append(spec.acceptance[NGRAM].chain(min(n, len(tokens))))
            else:
                chains.append(spec.acceptance[MTP].chain(n) if self._drafter is not None else [])
            is_free.append(len(tokens) > 0 or self._drafter is None)
        counts = choose(
            chains, is_free, n_seqs, self.costs, is_short=self._is_short(wanting), max_rows=max_rows
        )
        n_left = max_rows - n_seqs - sum(counts)
        for i, slot in enumerate(wanting):
            if not counts[i] and chains[i] and n_left > 0 and self._is_probed(slot):
                counts[i] = 1
                n_left -= 1
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
        begin = time.perf_counter()
        tokens, logprobs = drafter.run(
            [
                (slot.id, n, slot.history.item(slot.n_known - 1), slot.seq.n_computed)
                for n, slot in guessing
            ],
            is_short=is_short,
        )
        seconds = time.perf_counter() - begin
        self.costs.on_draft(len(slots), guessing[0][0], is_short, seconds)
        for (n, slot), guessed, sure in zip(
            guessing, tokens.T.tolist(), logprobs.T.tolist(), strict=True
        ):
            spec = slot.spec
            assert spec is not None
            least = math.log(spec.p_min) if spec.p_min > 0.0 else -math.inf
            good = takewhile(lambda g, least=least: g[0] >= 0 and not g[1] < least,  # type: ignore[misc]
                             zip(guessed[:n], sure, strict=False))  # fmt: skip
            self._take(slot, MTP, [token for token, _ in good])

    def _take(self, slot: Slot, source: str, tokens: list[int]) -> None:
        spec, n = slot.spec, len(tokens)
        assert spec is not None
        if n < max(1, spec.n_min) or not slot.seq.reserve(1 + n, n):
            slot.seq.rollback()
            return
        slot.history[slot.n_known : slot.n_known + n] = tokens
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
        self._overall[spec.source].observe(n, n_accepted, GLOBAL_WEIGHT)
        if self._drafter is not None and self._drafter.has_short:
            is_rare = slot.history.item(slot.n_known - 1) >= self._drafter.short_vocab
            spec.rare += RARE_WEIGHT * (is_rare - spec.rare)

    def on_step(self, seconds: float) -> None:
        """The step took so long."""
        ub = self._ubatch
        if ub.n_tokens == ub.n_seqs + self._n_drafts:
            self.costs.on_step(ub.n_seqs, ub.n_tokens, seconds)


def _room(slot: Slot) -> int:
    """Drafts that could still be used: the step gives one token more."""
    choice = slot.choice
    assert choice is not None
    return choice.n_limit - slot.n_known - 1
