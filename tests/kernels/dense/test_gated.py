"""Gate, up, GLU and its 8-bit form in one op: the bits of the three ops, at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import TILE_ROWS, tile_bytes
from slotmux.kernels.cpu import Isa
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.operands import fill
from slotmux.kernels.ops.dense.gated import GATED, build_gated, can_gate
from slotmux.kernels.ops.dense.glu import GLU, build_glu
from slotmux.kernels.ops.dense.linear import ANY_ROWS, LINEAR, build_linear
from slotmux.kernels.team import aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.kernels.dense.panels import pack, quantise, random_file, run
from tests.kernels.recurrent.harness import equal_tiles

COUNTS = (*range(1, 18), 24, 29, 31, 32, 33, 40, 45)


class GatedPair:
    """Random gate and up weights [n, k] of a format, the gate's panels first."""

    def __init__(
        self, team, name: str, n: int, k: int, activation: str = "silu", capacity: int = 48
    ) -> None:
        self.team, self.name, self.n, self.k = team, name, n, k
        self.activation, self.capacity = activation, capacity
        rng = np.random.default_rng(n + k)
        self.panels = pack(team, name, random_file(name, 2 * n, k, rng), k)
        self.x = quantise(team, rng.normal(size=(capacity, k)).astype(np.float32))

    def tiles(self) -> np.ndarray:
        """Where a result goes."""
        out = aligned_zeros(self.capacity // TILE_ROWS * tile_bytes(self.n))
        out[:] = 0xA5
        return out

    def three_ops(self, n_rows: int, most_rows: int = ANY_ROWS) -> np.ndarray:
        """What the ops of their own make of the first rows."""
        f, isa, tiles = FORMATS[self.name], self.team.kernels.cpu.isa, self.tiles()
        rows, count = np.zeros((self.capacity, 2 * self.n), np.float32), np.array([n_rows])
        stride, address = 8 * self.n, rows.ctypes.data
        product = fill(
            LINEAR, w=self.panels, x=self.x, out=rows, n_rows=count, n_panels=self.n // 8,
            n_blocks=self.k // f.block_inputs, x_stride=0, out_stride=stride, add=0,
            most_rows=most_rows,
        )  # fmt: skip
        glu = fill(
            GLU, gate=address, up=address + 4 * self.n, up_stride=stride, n=self.n, n_rows=count,
            out=0, out_stride=0, tiles=tiles, most_rows=most_rows,
        )  # fmt: skip
        ops = [
            (f"linear.{self.name}", lambda: build_linear(isa, self.name), product),
            (f"glu.{self.activation}", lambda: build_glu(self.activation), glu),
        ]
        run(self.team, ops, self.panels, self.x, rows, count, tiles)
        return tiles

    def one_op(self, n_rows: int, most_rows: int = 0) -> np.ndarray:
        """The same by one op."""
        f, isa, tiles = FORMATS[self.name], self.team.kernels.cpu.isa, self.tiles()
        count, gate = np.array([n_rows]), self.panels.ctypes.data
        operands = fill(
            GATED, gate=gate, up=gate + self.n // 16 * f.panel_bytes(self.k), x=self.x,
            n_rows=count, n_panels=self.n // 16, n_blocks=self.k // f.block_inputs, tiles=tiles,
            most_rows=most_rows,
        )  # fmt: skip
        kernel = f"gated.{self.name}.{self.activation}"
        build = lambda: build_gated(isa, self.name, self.activation)  # noqa: E731
        run(self.team, [(kernel, build, operands)], self.panels, self.x, count, tiles)
        return tiles

    def assert_same_bits(self, n_rows: int) -> None:
        """Both give the same rows, and touch no tile behind them."""
        found, n_written = self.one_op(n_rows), -(-n_rows // TILE_ROWS) * tile_bytes(self.n)
        assert equal_tiles(found, self.three_ops(n_rows), self.n, n_rows), (self.name, n_rows)
        assert (found[n_written:] == 0xA5).all(), n_rows


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "activation"),
    [("q4_0", "silu"), ("q8_0", "gelu"), ("q5_1", "relu2"), ("q4_k", "silu"), ("q6_k", "gelu"),
     ("q2_k", "silu"), ("iq4_xs", "silu")],
)  # fmt: skip
def test_it_gives_the_bits_of_the_three_ops(team_of, name, activation, n_threads):
    pair = GatedPair(team_of("auto", n_threads), name, 96, 256, activation)
    for n_rows in COUNTS:
        pair.assert_same_bits(n_rows)


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("name", ["q4_0", "q5_k"])
def test_on_every_path(team_of, isa, name):
    for n in (32, 160):
        for n_rows in (1, 7, 33, 45):
            GatedPair(team_of(isa), name, n, 512).assert_same_bits(n_rows)


def test_more_tiles_of_rows_than_a_chunk_has(team_of):
    """2048 inputs: 16 tiles at most, so 19 are cut into 10 and 9."""
    pair = GatedPair(team_of("auto", 3), "q4_0", 64, 2048, capacity=152)
    for n_rows in (128, 129, 150):
        pair.assert_same_bits(n_rows)


def test_rows_are_many_or_few(team_of):
    pair = GatedPair(team_of(), "q4_0", 64, 64)
    for n_rows in (1, 31, 32, 45):
        by_one, by_three = pair.one_op(n_rows, 31), pair.three_ops(n_rows, 31)
        assert (by_one == 0xA5).all() == (n_rows <= 31)
        assert (by_three == 0xA5).all() == (n_rows > 31)


def test_no_rows_touch_nothing(team_of):
    assert (GatedPair(team_of(), "q4_0", 32, 32).one_op(0) == 0xA5).all()


def test_where_it_cannot_be():
    q4_0, q4_k = FORMATS["q4_0"], FORMATS["q4_k"]
    assert can_gate(Isa.AVX512_VNNI, q4_0, 1024, 96)
    assert not can_gate(Isa.AVX512_VNNI, q4_0, 1024, 48), "half a block of outputs"
    assert not can_gate(Isa.PORTABLE, q4_0, 1024, 96)
    assert not can_gate(Isa.AVX512_VNNI, FORMATS["bf16"], 1024, 96)
    assert can_gate(Isa.AVX512_VNNI, q4_k, 8192, 96)
    assert not can_gate(Isa.AVX512_VNNI, q4_k, 32768, 96), "no room for unpacked panels"
