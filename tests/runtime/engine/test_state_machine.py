"""Random operations over slots, memory, prefix tree, forks, aborts, eviction and parking against
the naive oracle, with every invariant checked after each rule and freed memory poisoned."""

import time
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from slotmux.runtime.engine.config import MTP, SpecConfig
from slotmux.runtime.engine.request import FinishReason, InvalidRequestError, SamplingParams
from tests.runtime.engine.fake_model import EOG, EagerCosts, oracle
from tests.runtime.engine.test_core import Bench
from tests.runtime.engine.test_scoring import check_scores

# Few distinct beginnings, so that prompts share prefixes of every length.
STEMS = [[(7 * i + k) % EOG for i in range(110)] for k in (0, 0, 3)]
STEMS[1] = STEMS[0][:37] + STEMS[2][37:]


class EngineMachine(RuleBasedStateMachine):
    kind = "attention"
    sizes: ClassVar[dict[str, Any]] = {}

    def __init__(self):
        super().__init__()
        self.bench = self.new_bench()
        self.jobs = {}
        self.aborted = set()
        self.failed = set()

    def new_bench(self):
        return Bench(self.kind, n_slots=3, n_ctx=112, n_ubatch=11, **self.sizes)

    @rule(
        stem=st.sampled_from(STEMS),
        n=st.one_of(st.integers(1, 90), st.integers(96, 110)),  # in the last block of all, too
        tail=st.lists(st.integers(0, EOG - 1), max_size=3),
        n_choices=st.sampled_from([1, 1, 1, 2, 3]),
        max_tokens=st.integers(0, 40),
        n_prompt_logprobs=st.sampled_from([-1, -1, 0, 2]),
        temperature=st.sampled_from([0.0, 1.0]),
        salt=st.sampled_from(["", "", "x"]),
        cache=st.sampled_from([True, True, True, False]),
        ignore_eos=st.booleans(),
        slot_id=st.sampled_from([-1, -1, -1, 0, 2]),
        client=st.sampled_from(["", "", "a", "b"]),
        priority=st.sampled_from([0, 0, 0, -1, 3]),
        session=st.sampled_from(["", "", "a", "b"]),
        boundaries=st.lists(st.integers(0, 90), max_size=2),
    )
    def submit(self, stem, n, tail, n_choices, temperature, salt, cache, boundaries, **options):
        prompt = stem[:n] + tail
        options |= {
            "n": n_choices,
            "sampling": SamplingParams(temperature=temperature, seed=n),
            "cache_salt": salt,
            "cache_prompt": cache,
            "boundaries": tuple(boundaries),
        }
        if len(prompt) + (options["max_tokens"] > 0) > self.bench.core.memory.n_ctx:
            with pytest.raises(InvalidRequestError, match="context"):
                self.bench.add(prompt, **options)
            return
        request, receiver = self.bench.add(prompt, **options)
        self.jobs[request.id] = (request, receiver)

    @rule(data=st.data(), n_turns=st.integers(0, 3))
    def continue_a_chat(self, data, n_turns):
        over = [j for j in self.jobs.values() if 0 in j[1].last]
        if over:
            request, receiver = data.draw(st.sampled_from(over))
            tokens = request.prompt + receiver.tokens.get(0, []) + [n_turns, 2, 3]
            tokens = [t % EOG for t in tokens]
            if len(tokens) < self.bench.core.memory.n_ctx:
                new = self.bench.add(tokens, max_tokens=9, cache_salt=request.cache_salt)
                self.jobs[new[0].id] = new

    @rule(n=st.integers(1, 12))
    def steps(self, n):
        for _ in range(n):
            self.bench.step()

    @rule(data=st.data())
    def abort(self, data):
        if self.jobs:
            victim = data.draw(st.sampled_from(sorted(self.jobs)))
            self.bench.core.abort(victim, time.monotonic())
            self.bench.core.emit()
            self.aborted.add(victim)

    @rule(data=st.data())
    def park_one(self, data):
        active = self.bench.core.scheduler.active
        if active:
            slot = data.draw(st.sampled_from(active))
            self.bench.core._park(slot)

    @rule(data=st.data())
    def park_a_fork(self, data):
        """One of two choices that go on from the same prompt."""
        active = self.bench.core.scheduler.active
        forks = [
            s for s in active if any(o is not s and o.choice.job is s.choice.job for o in active)
        ]
        if forks:
            self.bench.core._park(data.draw(st.sampled_from(forks)))

    @rule()
    def drop_cache(self):
        self.bench.core.memory.drop_cache()

    @invariant()
    def what_may_not_fit_does_not(self):
        memory = self.bench.core.memory
        seq = next((s for s in memory.sequences if not s.is_open), None)
        for choice in self.bench.core.admission.waiting() if seq is not None else ():
            if not memory.may_fit(choice.tokens, choice.salt):
                seq.history[: len(choice.tokens)] = choice.tokens
                assert memory.open(seq, len(choice.tokens), choice.salt) is None

    @invariant()
    def sound(self):
        self.bench.core.memory.check_integrity()
        self.bench.check_pages()
        for request, receiver in self.jobs.values():
            for index, tokens in receiver.tokens.items():
                if index in receiver.last:
                    self._check(request, receiver, index, tokens)

    def _check(self, request, receiver, index, tokens):
        expected = oracle(request, self.bench.core.memory.n_ctx, self.bench.model, index)
        if receiver.last[index].finish_reason == FinishReason.ABORT:
            assert request.id in self.aborted
            assert tokens == expected[: len(tokens)]
        else:
            assert tokens == expected
            if index == 0 and request.n_prompt_logprobs >= 0:
                check_scores(self.bench, request, receiver)

    def teardown(self):
        self.bench.run()
        self.sound()
        for request, receiver in self.jobs.values():
            assert len(receiver.last) == request.n
        core = self.bench.core
        core.memory.drop_cache()
        core.memory.check_integrity()
        assert core.memory.n_blocks_free == core.memory.n_blocks
        assert core.memory.n_rows_free == core.memory.n_rows
        assert not core.memory.pools.tree.roots
        assert not len(core.admission.fairness), "a client was not forgotten"


def drafts(n_max):
    """Speculation whose drafts are right now and then."""
    return {
        "spec": SpecConfig((MTP,), n_max),
        "costs": EagerCosts(),
        "is_right": lambda slot, pos, ahead: (slot + 3 * pos) % 7 > 2,
    }


def one_budget(n_ready, n_bytes):
    """So many blocks for the slots, and bytes that cells and states share."""
    return {"n_blocks": 40, "n_rows": 20, "n_ready": n_ready, "prefix_cache_bytes": n_bytes}


CASES = {
    "attention": ("attention", {"n_blocks": 40}),
    "attention, little memory": ("attention", {"n_blocks": 9}),
    "attention, one context": ("attention", {"n_blocks": 7}),
    "hybrid": ("hybrid", {"n_blocks": 40, "n_rows": 8}),
    "hybrid, little memory": ("hybrid", {"n_blocks": 9, "n_rows": 4}),
    "hybrid, one context": ("hybrid", {"n_blocks": 7, "n_rows": 4}),
    "hybrid, one budget": ("hybrid", one_budget(9, 20_000)),
    "hybrid, one budget, nothing more": ("hybrid", one_budget(7, 0)),
    "hybrid, one budget, segments": ("hybrid", {**one_budget(9, 30_000), "n_segment": 4}),
    "hybrid, one budget, blocks lead": ("hybrid", {**one_budget(9, 20_000), "block_bytes": 4096}),
    "hybrid, one budget, drafts": ("hybrid", {**one_budget(8, 15_000), **drafts(3)}),
    "attention, one budget": ("attention", {**one_budget(9, 4_000), "n_blocks": 10}),
    "recurrent, one budget": ("recurrent", {"n_rows": 9, "prefix_cache_bytes": 30_000}),
    "recurrent": ("recurrent", {"n_rows": 7}),
    "recurrent, no spare row": ("recurrent", {"n_rows": 3}),
    "attention, drafts": ("attention", {"n_blocks": 40, **drafts(5)}),
    "attention, little memory, drafts": ("attention", {"n_blocks": 9, **drafts(3)}),
    "attention, one context, drafts": ("attention", {"n_blocks": 7, **drafts(3)}),
    "hybrid, one context, drafts": ("hybrid", {"n_blocks": 7, "n_rows": 3, **drafts(5)}),
    "hybrid, drafts": ("hybrid", {"n_blocks": 40, "n_rows": 8, **drafts(2)}),
    "hybrid, little memory, drafts": ("hybrid", {"n_blocks": 9, "n_rows": 4, **drafts(5)}),
    "recurrent, no spare row, drafts": ("recurrent", {"n_rows": 3, **drafts(4)}),
}


@pytest.mark.parametrize("case", CASES)
def test_random_operations_equal_the_oracle(case):
    kind, sizes = CASES[case]
    machine = type("Machine", (EngineMachine,), {"kind": kind, "sizes": sizes})
    runner = machine.TestCase
    runner.settings = settings(
        max_examples=12,
        stateful_step_count=30,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    runner("runTest").runTest()
