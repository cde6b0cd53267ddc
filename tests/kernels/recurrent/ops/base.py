"""What the tests of all recurrent ops ask of one op with random weights and inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from slotmux.kernels.team import Team
from tests.kernels.recurrent.harness import Bench, float_rows

Floats = np.ndarray[Any, np.dtype[np.float32]]
N_SLOTS = 8
Part = tuple[int, int, int]  # slot, first token, number


def outputs(rows: Floats, stride: int, n_tokens: int, width: int, lanes: int = 1) -> Floats:
    """A copy of an op's float rows; it wrote nothing behind them but to the end of a vector of
    ``lanes``."""
    columns = rows[: n_tokens * stride // 4].reshape(n_tokens, -1)
    written = -(-width // lanes) * lanes
    assert np.isnan(columns[:, written:]).all(), "written past the row's end"
    return columns[:, :width].copy()


class OpCase(ABC):
    """One op. ``inputs``: by slot its rows of all tokens, one array an operand.

    ``tiles``, where an op takes it, is where it writes its outputs as 8-bit activations too.
    """

    bench: Bench
    inputs: dict[int, list[Floats]]
    n_out: int

    def __init__(self, team: Team, n_tokens: int, seed: int) -> None:
        self.team, self.n_tokens = team, n_tokens
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Floats:
        return self.rng.normal(size=shape).astype(np.float32)

    def draw_inputs(self, *widths: int) -> None:
        """Normal inputs of some operands for every slot."""
        self.inputs = {
            slot: [self.normal(self.n_tokens, width) for width in widths] for slot in range(N_SLOTS)
        }

    def gather(self, j: int, parts: list[Part]) -> Floats:
        """Rows of one operand, of ``parts`` one after the other."""
        return np.concatenate([self.inputs[s][j][first : first + n] for s, first, n in parts])

    def rows_of(self, parts: list[Part]) -> list[tuple[Floats, int]]:
        """Every operand's rows with their stride, NaN between them."""
        n_inputs = len(next(iter(self.inputs.values())))
        return [float_rows(self.gather(j, parts)) for j in range(n_inputs)]

    def room(self, parts: list[Part]) -> tuple[Floats, int]:
        """Rows of NaN for the outputs, and their stride."""
        n_tokens = sum(n for _, _, n in parts)
        return float_rows(np.full((n_tokens, self.n_out), np.nan, np.float32), padding=32)

    @abstractmethod
    def run(self, parts: list[Part], tiles: Any = 0, floats: bool = True) -> Floats:
        """Outputs of the parts, one after the other: [n_tokens, n_out]."""

    @abstractmethod
    def expected(self, slot: int, first: int, n: int, state: Any) -> tuple[Any, Any]:
        """The twin's outputs [n, n_out] and its new state; a state of None is a fresh one."""

    @abstractmethod
    def state(self, slot: int) -> Floats:
        """A slot's state in the pool, in the shape of the twin's."""
