"""The delta rule with one decay a row of the state, beside one decay a token."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.address import load_i64
from slotmux.kernels.compiler import as_callable
from slotmux.kernels.operands import fill, words
from slotmux.kernels.ops.recurrent.delta_block import make_blocks
from slotmux.kernels.ops.recurrent.delta_rule import (
    S_DECAY,
    S_DOWN,
    S_RATE,
    S_SCALE,
    S_STATE,
    S_VECTORS,
    Tokens,
    block_vectors,
    scan,
    scan_again,
)
from tests.kernels.conftest import source_digest
from tests.kernels.recurrent.harness import aligned

RULE = words(
    "Rule",
    "state again q k v stride out out_stride seen seen_stride decay decay_stride n d scratch",
)
N_TOKENS = 5


def build_rule(n_vectors, decay_per_row):
    """Tokens through one block, and once more through another without outputs."""
    blocks = make_blocks(n_vectors, decay_per_row)
    layout = RULE

    def rule(op, step, thread):
        from_op = Tokens(
            load_i64(op + layout.q), load_i64(op + layout.k), load_i64(op + layout.v),
            load_i64(op + layout.stride), load_i64(op + layout.out),
            load_i64(op + layout.out_stride), load_i64(op + layout.seen),
            load_i64(op + layout.seen_stride), load_i64(op + layout.decay),
            load_i64(op + layout.decay_stride), load_i64(op + layout.scratch),
        )  # fmt: skip
        n, d = load_i64(op + layout.n), load_i64(op + layout.d)
        u = load_i64(op + layout.scratch) + S_VECTORS
        scan(blocks, load_i64(op + layout.state), False, u, d, from_op, n)
        scan_again(blocks, load_i64(op + layout.again), u, d, from_op, n)

    return rule


class Head:
    """A head of one block, with a decay for every token and row."""

    def __init__(self, d: int) -> None:
        rng = np.random.default_rng(d)
        self.d, self.width = d, 16 * block_vectors(d)

        def normal(*shape):
            return rng.normal(size=shape).astype(np.float32)

        self.state = normal(d, self.width)
        self.q, self.k, self.v = (normal(N_TOKENS, n) for n in (d, d, self.width))
        self.k /= np.float32(np.sqrt(d))
        self.rate = rng.uniform(0.1, 0.9, N_TOKENS).astype(np.float32)

    def run(self, team, decay, per_row):
        """Outputs and the states of both ways."""
        seen = self.k if not per_row else self.k * decay
        down = decay[:, 0] if not per_row else np.ones(N_TOKENS, np.float32)
        scratch = np.zeros(S_STATE // 4 + 16, np.float32)
        for at, values in ((S_SCALE, np.ones(N_TOKENS)), (S_DECAY, decay[:, 0]), (S_DOWN, down),
                           (S_RATE, self.rate)):  # fmt: skip
            scratch[at // 4 : at // 4 + N_TOKENS] = values
        state, again, out = self.state.copy(), self.state.copy(), np.zeros_like(self.v)
        rows = [aligned(x) for x in (self.q, self.k, self.v, seen, decay)]
        stride = 4 * self.d
        assert self.width <= self.d
        v = np.zeros((N_TOKENS, self.d), np.float32)
        v[:, : self.width] = self.v
        op = fill(
            RULE, state=state, again=again, q=rows[0], k=rows[1], v=v, stride=stride, out=out,
            out_stride=4 * self.width, seen=rows[3], seen_stride=stride,
            decay=rows[4] if per_row else scratch.ctypes.data + S_DECAY,
            decay_stride=stride if per_row else 4, n=N_TOKENS, d=self.d, scratch=scratch,
        )  # fmt: skip
        n_vectors = block_vectors(self.d)
        name = f"test.rule.{n_vectors}.{per_row}.{source_digest(__file__)}"
        address = team.kernels.address(name, lambda: build_rule(n_vectors, per_row))
        as_callable(address, 3)(op.ctypes.data, 0, 0)
        return out, state, again

    def expected(self, decay):
        state, out = self.state.astype(np.float64), []
        for t in range(N_TOKENS):
            state = state * decay[t][:, None]
            u = self.rate[t] * (self.v[t] - self.k[t] @ state)
            state += np.outer(self.k[t], u)
            out.append(self.q[t] @ state)
        return np.array(out), state


@pytest.mark.parametrize("d", [16, 64])
def test_a_decay_for_every_row(team_of, d):
    head = Head(d)
    decay = np.random.default_rng(3).uniform(0.2, 1.0, (N_TOKENS, d)).astype(np.float32)
    out, state, again = head.run(team_of(), decay, per_row=True)
    expected, expected_state = head.expected(decay)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(state, expected_state, rtol=1e-5, atol=1e-5 * scale)
    assert np.array_equal(state, again)


@pytest.mark.parametrize("d", [16, 64])
def test_equal_decays_are_one_decay(team_of, d):
    """Bit for bit where the decay is a power of two, whose products are exact."""
    head, decay = Head(d), np.full((N_TOKENS, d), 0.5, np.float32)
    for per_row, one in zip(
        head.run(team_of(), decay, True), head.run(team_of(), decay, False), strict=True
    ):
        assert np.array_equal(per_row, one)
