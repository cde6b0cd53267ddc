"""Rejected drafts leave no trace: logits and recurrent state are those of a run without them.

Bit for bit, on every recurrent architecture, several sequences rejecting in the same step.
"""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.runtime.driver import Driver
from tests.architectures import WITH_STATE
from tests.runtime.models.isolation import golden, loaded

MAX_DRAFTS = 5


def history_of(model, prompt):
    """Logits and state after each token, computed token by token without drafts."""
    driver = Driver(model, poison=True)
    driver.open(0)
    logits, states = [], []
    for token in prompt:
        logits.append(driver.feed([(0, [token])])[0])
        states.append(model.rows.state(driver.memory.sequences[0].row))
    driver.close(0)
    return np.array(logits), np.array(states)


class Verifying:
    """One sequence that moves on by verified steps, right tokens followed by wrong ones."""

    def __init__(self, slot, prompt, logits, states, rng) -> None:
        self.slot, self.prompt, self.logits, self.states = slot, prompt, logits, states
        self.rng, self.done = rng, 0

    def plan(self):
        """The next run, how many of its tokens are drafts, and how many of those stay."""
        left = len(self.prompt) - self.done
        n_certain = 1 if self.done else min(left, 4)
        n_right = int(self.rng.integers(0, min(MAX_DRAFTS, left - n_certain) + 1))
        n_wrong = int(self.rng.integers(0, MAX_DRAFTS - n_right + 1)) if self.done else 0
        n_right = n_right if self.done else 0
        right = self.prompt[self.done : self.done + n_certain + n_right]
        wrong = [int(t) for t in self.rng.integers(0, 200, n_wrong)]
        self.n_right = len(right)
        self.n_seen = n_certain
        return (self.slot, right + wrong), (n_right + n_wrong, n_right)

    def check(self, rows, state) -> None:
        """What the step gave for the right tokens, and what it left in the row."""
        want = self.logits[self.done : self.done + self.n_right]
        assert np.array_equal(rows[: self.n_right].view(np.int32), want.view(np.int32))
        after = self.states[self.done + self.n_seen - 1]
        assert np.array_equal(state.view(np.int32), after.view(np.int32))
        self.done += self.n_right


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", WITH_STATE)
def test_rejected_drafts_leave_no_trace(name, n_threads, kernel_cache_dir):
    reference = golden(name)
    prompts = [reference.prompts[1], reference.prompts[2][:40], reference.prompts[0]]
    with loaded(
        reference.path, kernel_cache_dir, n_threads=n_threads, max_drafts=MAX_DRAFTS
    ) as model:
        sequences = [
            Verifying(slot, prompt, *history_of(model, prompt), np.random.default_rng(slot))
            for slot, prompt in zip((2, 0, 5), prompts, strict=True)
        ]
        driver = Driver(model, poison=True)
        for sequence in sequences:
            driver.open(sequence.slot)
        while running := [s for s in sequences if s.done < len(s.prompt)]:
            plans = [s.plan() for s in running]
            logits = driver.feed([run for run, _ in plans], drafts=[n for _, n in plans])
            driver.memory.check_integrity()
            first = 0
            for sequence, ((slot, tokens), _) in zip(running, plans, strict=True):
                rows = logits[first : first + len(tokens)]
                first += len(tokens)
                sequence.check(rows, model.rows.state(driver.memory.sequences[slot].row))
