"""Every recurrent op with drafts: right ones are as if they had been known, wrong ones were never
there. Bit for bit against the op without drafts, at odd sizes, one thread and several."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from slotmux.kernels.ops.recurrent.token_shift import TOKEN_SHIFT, build_token_shift, state_floats
from tests.kernels.recurrent.harness import MAX_DRAFTS, Bench, float_rows
from tests.kernels.recurrent.test_conv import Conv
from tests.kernels.recurrent.test_delta_net import Layer
from tests.kernels.recurrent.test_mamba1 import Scan as Mamba1
from tests.kernels.recurrent.test_mamba2 import Scan as Mamba2
from tests.kernels.recurrent.test_rwkv import Wkv

SLOTS = (3, 0, 5, 1)
N_TOKENS = 20


class Shift:
    """The shift by one token, with the operands of the other cases."""

    def __init__(self, team, n, is_difference) -> None:
        rng = np.random.default_rng(n)
        self.n, self.is_difference = n, is_difference
        self.bench = Bench(team, state_floats(n), state_floats(n))
        self.inputs = {
            slot: [rng.normal(size=(N_TOKENS, n)).astype(np.float32)] for slot in range(8)
        }

    def run(self, parts):
        x, stride = float_rows(
            np.concatenate([self.inputs[slot][0][i : i + n] for slot, i, n in parts])
        )
        n_tokens = sum(n for _, _, n in parts)
        out, out_stride = float_rows(np.full((n_tokens, self.n), np.nan, np.float32))
        self.bench.run(
            f"token_shift.{self.is_difference}", lambda: build_token_shift(self.is_difference),
            TOKEN_SHIFT, [(slot, n) for slot, _, n in parts],
            x=x, x_stride=stride, n=self.n, out=out, out_stride=out_stride,
        )  # fmt: skip
        return out[: n_tokens * out_stride // 4].reshape(n_tokens, -1)[:, : self.n].copy()

    def state(self, slot):
        return self.bench.state(slot)[: self.n]


CASES = {
    "conv": lambda team: Conv(team, 70, 4, silu=True, bias=True, products=False),
    "conv of products": lambda team: Conv(team, 160, 3, silu=False, bias=False, products=True),
    "delta net, one block": lambda team: Layer(team, 16, [0, 1, 0, 1]),
    "delta net, shared keys": lambda team: Layer(team, 48, [0, 0, 1, 1]),
    "delta net, published size": lambda team: Layer(team, 128, [0, 1]),
    "mamba": lambda team: Mamba1(team, 70, 16),
    "mamba, odd": lambda team: Mamba1(team, 48, 5),
    "mamba2": lambda team: Mamba2(team, 4, 64, 2, 128),
    "mamba2, odd": lambda team: Mamba2(team, 3, 20, 1, 17),
    "rwkv6": lambda team: Wkv(team, 6, 2, 64),
    "rwkv6, odd": lambda team: Wkv(team, 6, 2, 20),
    "rwkv7": lambda team: Wkv(team, 7, 2, 64),
    "rwkv7, odd": lambda team: Wkv(team, 7, 3, 5),
    "difference to the token before": lambda team: Shift(team, 300, True),
    "token before": lambda team: Shift(team, 33, False),
}


@contextmanager
def wrong_from(case, firsts, rng):
    """Inputs from a token on are anything; ``firsts``: [(slot, token)]."""
    kept = {}
    for slot, first in firsts:
        rows = case.inputs[slot]
        for key in rows if isinstance(rows, dict) else range(len(rows)):
            kept[slot, key] = rows[key].copy()
            spoiled = rng.uniform(0.1, 0.9, rows[key][first:].shape)
            rows[key][first:] = spoiled.astype(np.float32)
    yield
    for (slot, key), value in kept.items():
        case.inputs[slot][key] = value


def plan(rng, done, is_last):
    """Tokens of a run: certain ones, right drafts, wrong drafts."""
    left = N_TOKENS - done
    if is_last or not done:
        return (left if is_last else min(left, 1 + int(rng.integers(0, 3))), 0, 0)
    n_certain = int(rng.integers(1, 1 + min(left, 2)))
    n_drafts = int(rng.integers(0, 1 + min(MAX_DRAFTS, left - n_certain)))
    n_right = int(rng.integers(0, 1 + min(n_drafts, max(0, left - n_certain - 1))))
    n_wrong = n_drafts - n_right
    return n_certain, n_right, n_wrong


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_drafts_leave_what_was_right_and_nothing_else(name, n_threads, team_of):
    team = team_of("auto", n_threads)
    plain, case = CASES[name](team), CASES[name](team)
    expected = {}
    for slot in SLOTS:
        expected[slot] = plain.run([(slot, 0, N_TOKENS)])
    rng = np.random.default_rng(len(name))
    done = dict.fromkeys(SLOTS, 0)
    for i in range(60):
        running = [slot for slot in SLOTS if done[slot] < N_TOKENS]
        if not running:
            break
        plans = {slot: plan(rng, done[slot], i > 8) for slot in running}
        parts = [(slot, done[slot], sum(plans[slot])) for slot in running]
        case.bench.drafts = {slot: right + wrong for slot, (_, right, wrong) in plans.items()}
        firsts = [(slot, done[slot] + sum(plans[slot][:2])) for slot in running]
        with wrong_from(case, firsts, rng):
            out, row = case.run(parts), 0
        for slot, first, n in parts:
            n_good = sum(plans[slot][:2])
            good = out[row : row + n_good].view(np.int32)
            assert np.array_equal(good, expected[slot][first : first + n_good].view(np.int32))
            row += n
            case.bench.pending[slot] = plans[slot][1]
            done[slot] += n_good
    assert all(n == N_TOKENS for n in done.values())
    for slot in SLOTS:  # the last token is always a certain one
        assert not case.bench.pending[slot]
        name = "window" if isinstance(case, Conv) else "state"
        assert np.array_equal(getattr(case, name)(slot), getattr(plain, name)(slot))
