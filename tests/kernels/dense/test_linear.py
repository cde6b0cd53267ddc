"""Panel products, packing and 8-bit activations against tests/reference/linear.py."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.activations import tile_bytes
from slotmux.kernels.float_tile import rounds_rows, takes_bf16
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.operands import fill
from slotmux.kernels.ops.dense.linear import LINEAR, build_linear
from slotmux.kernels.ops.dense.narrow import NARROW, build_narrow
from slotmux.kernels.ops.dense.quantize import QUANTIZE, build_quantize
from slotmux.kernels.ops.dense.repack import REPACK, build_repack
from slotmux.kernels.team import Program, aligned_zeros
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.harness import float_rows
from tests.reference import linear as twin

NAMES = tuple(twin.TYPES)
QUANTISED = tuple(name for name in NAMES if name in twin.OFFSETS)
COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 35, 45)


def run(team, name, build, operands):
    address = team.kernels.address(name, build)
    team.run(Program(team, np.zeros(1, np.int64), [(address, operands, -1)]))


def quantised(team, x):
    """Activation tiles made by the kernel from float32 rows."""
    n_tiles = -(-len(x) // twin.TILE_ROWS)
    out = aligned_zeros(n_tiles * tile_bytes(x.shape[1]))
    n_rows, (rows, stride) = np.array([len(x)], np.int64), float_rows(x)
    operands = fill(QUANTIZE, x=rows, x_stride=stride, n=x.shape[1], n_rows=n_rows, tiles=out)
    run(team, "quantize", build_quantize, operands)
    return out


def narrowed(team, rows):
    """float32 rows of a multiple of 16 rounded by the kernel, to words or still float32."""
    isa = team.kernels.cpu.isa
    kind = np.uint16 if takes_bf16(isa, FORMATS["bf16"]) else np.float32
    out = aligned_zeros(kind().nbytes * rows.size).view(kind).reshape(rows.shape)
    n_rows = np.array([len(rows)], np.int64)
    operands = fill(
        NARROW,
        x=rows,
        x_stride=rows.strides[0],
        n=rows.shape[1],
        n_rows=n_rows,
        out=out,
        out_stride=out.strides[0],
    )
    run(team, "narrow", lambda: build_narrow(isa), operands)
    return out


class Linear:
    """One weight in panels, multiplied by any number of rows."""

    def __init__(self, team, name, raw):
        self.team, self.name, self.format = team, name, FORMATS[name]
        self.n = len(raw)
        self.n_panels = -(-self.n // 16)
        self.panels = np.frombuffer(twin.packed(name, raw), np.uint8).copy()
        self.k = len(twin.packed(name, raw[:1])) // self.format.block_bytes
        self.k *= self.format.block_inputs

    def __call__(self, x, out=None):
        """[t, n] for float32 rows; with ``out`` [t, n] given, added to it."""
        n_rows, n_padded = len(x), -(-len(x) // 8) * 8
        target = np.full((n_padded + 1, 16 * self.n_panels + 16), 7.0, np.float32)
        if out is not None:
            target[:n_rows, : self.n] = out
        rows = np.zeros((n_padded, -(-self.k // 16) * 16 + 16), np.float32)
        rows[:n_rows, : self.k] = x
        isa, source = self.team.kernels.cpu.isa, rows
        if self.format.is_quantised:
            source = quantised(self.team, x)
        elif rounds_rows(self.format):
            source = narrowed(self.team, rows)
        count = np.array([n_rows], np.int64)
        operands = fill(
            LINEAR,
            w=self.panels,
            x=source,
            out=target,
            n_rows=count,
            n_panels=self.n_panels,
            n_blocks=self.k // self.format.block_inputs,
            x_stride=source.strides[0],
            out_stride=target.strides[0],
            add=int(out is not None),
            most_rows=n_rows,
        )
        run(
            self.team,
            f"linear.{self.name}",
            lambda: build_linear(isa, self.name),
            operands,
        )
        assert (target[n_padded:] == 7).all(), "written past the last tile"
        assert (target[:, 16 * self.n_panels :] == 7).all(), "written past the last panel"
        assert out is not None or not (target[:n_rows, : self.n] == 7).any(), "not computed"
        return target[:n_rows, : self.n].copy()


def make(team, name, n, k, seed=0):
    rng = np.random.default_rng(seed)
    raw, _ = twin.random_weight(name, n, k, rng)
    return raw, Linear(team, name, raw), rng


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("name", NAMES)
def test_products_match_the_twin(team_of, isa, name):
    ks = (32, 96, 160) if name in QUANTISED else (2, 34, 96) if name == "bf16" else (1, 33, 96)
    for n, k in zip((1, 40, 49), ks, strict=True):
        raw, linear, rng = make(team_of(isa), name, n, k)
        for n_rows in (1, 2, 3, 8, 11, 43):
            x = rng.normal(size=(n_rows, k)).astype(np.float32)
            expected = twin.product(name, raw, x)
            error = np.abs(linear(x) - expected) / (twin.magnitude(name, raw, x) + 1e-30)
            assert error.max() < 1e-6, (n, k, n_rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_same_bits_in_any_company_and_with_any_threads(team_of, name):
    raw, linear, rng = make(team_of(), name, 100, 96)
    x = rng.normal(size=(max(COUNTS), 96)).astype(np.float32)
    alone = np.concatenate([linear(row[None]) for row in x])
    for n_rows in COUNTS:
        assert linear(x[:n_rows]).tobytes() == alone[:n_rows].tobytes(), n_rows
    for n_threads in (2, 3, 8):
        crowd = Linear(team_of("auto", n_threads), name, raw)
        for n_rows in (1, 5, 17, 45):
            assert crowd(x[:n_rows]).tobytes() == alone[:n_rows].tobytes(), n_threads


@pytest.mark.parametrize("name", NAMES)
def test_all_paths_give_the_same_bits(team_of, name):
    raw, _, rng = make(team_of(), name, 48, 128)
    x = rng.normal(size=(33, 128)).astype(np.float32)
    results = {isa: Linear(team_of(isa), name, raw)(x).tobytes() for isa in usable_isas()}
    assert len(set(results.values())) == 1, sorted(results)


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("name", QUANTISED)
def test_extreme_codes_do_not_saturate(team_of, isa, name):
    """All codes at their ends against activations at theirs: sums beyond 16 bits."""
    k, n = 64, 16
    blocks = np.zeros((n, k // 32, FORMATS[name].file_block_bytes), np.uint8)
    blocks[..., :2] = np.array([1.0], np.float16).view(np.uint8)
    head = 4 if name == "q4_1" else 2
    for fill_byte in (0x00, 0xFF, 0x7F, 0x80):
        blocks[..., head:] = fill_byte
        raw = blocks.reshape(n, -1)
        linear = Linear(team_of(isa), name, raw)
        for sign in (1, -1):
            x = np.full((3, k), np.float32(127 * sign))
            expected = twin.product(name, raw, x)
            assert np.array_equal(linear(x), expected.astype(np.float32)), (fill_byte, sign)


@pytest.mark.parametrize("name", ["q4_1", "f16"])
def test_accumulate_adds_the_finished_sum(team_of, name):
    _, linear, rng = make(team_of(), name, 20, 64)
    x = rng.normal(size=(5, 64)).astype(np.float32)
    before = rng.normal(size=(5, 20)).astype(np.float32)
    assert linear(x, before).tobytes() == (linear(x) + before).tobytes()


def test_more_rows_and_panels_than_a_chunk_holds(team_of):
    raw, linear, rng = make(team_of("auto", 2), "q4_1", 600, 2048)
    x = rng.normal(size=(150, 2048)).astype(np.float32)
    found = linear(x)
    error = np.abs(found - twin.product("q4_1", raw, x)) / twin.magnitude("q4_1", raw, x)
    assert error.max() < 1e-6
    assert found[77].tobytes() == linear(x[77:78])[0].tobytes()


def test_no_rows_touch_nothing(team_of):
    _, linear, _ = make(team_of(), "f32", 20, 8)
    assert linear(np.zeros((0, 8), np.float32)).shape == (0, 20)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_8_bits_cannot_hold_is_nan_and_alone(team_of, bad):
    _, linear, rng = make(team_of(), "q4_0", 24, 96)
    x = rng.normal(size=(6, 96)).astype(np.float32)
    clean = linear(x)
    for at in (0, 15, 16, 40, 79, 95):  # in either half of a block, and either vector's ends
        y = x.copy()
        y[2, at] = bad
        found = linear(y)
        assert np.isnan(found[2]).all(), at
        assert np.delete(found, 2, 0).tobytes() == np.delete(clean, 2, 0).tobytes()


def test_blocks_too_small_to_scale_are_zeros(team_of):
    _, linear, rng = make(team_of(), "q8_0", 24, 64)
    x = rng.normal(size=(3, 64)).astype(np.float32)
    x[1, :32] = 0
    expected = linear(x)
    for tiny in (1e-45, 3e-39, 1e-37):
        x[1, 3:20] = tiny
        assert linear(x).tobytes() == expected.tobytes(), tiny


@pytest.mark.parametrize("isa", usable_isas())
def test_activations_are_rounded_to_bf16_as_the_twin_does(team_of, isa):
    rng = np.random.default_rng(4)
    for n_rows, k in ((1, 16), (7, 96)):
        x = rng.normal(size=(n_rows, k)) * np.exp2(rng.integers(-100, 100, (n_rows, k)))
        x = x.astype(np.float32)
        x[0, :4] = 0, np.inf, -np.inf, 1 + 2**-8  # the last one half way
        x[0, 4:8] = 1 + 3 * 2**-8, 3.4e38, 2**-56, -(2**-56) * (1 - 2**-9)
        x[0, 8:11] = 2**-57, -1e-45, -0.0
        got = narrowed(team_of(isa), x)
        if got.dtype == np.uint16:
            got = (got.astype(np.uint32) << 16).view(np.float32)
        assert got.tobytes() == twin.bf16_values(x).tobytes()
    for payload in (0x7FC00000, 0xFFFFFFFF, 0x7F800001):
        x.view(np.uint32)[:] = payload
        got = narrowed(team_of(isa), x)
        is_word = got.dtype == np.uint16
        assert np.isnan((got.astype(np.uint32) << 16).view(np.float32) if is_word else got).all()


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_repack_only_moves_codes_and_scales(team_of, name, n_threads):
    team = team_of("auto", n_threads)
    f = FORMATS[name]
    for n, k in ((1, 32), (16, 64), (49, 96)):
        raw, _ = twin.random_weight(name, n, k, np.random.default_rng(n))
        expected = twin.packed(name, raw)
        assert len(expected) == -(-n // 16) * f.panel_bytes(k)
        panels = aligned_zeros(len(expected) + 64)
        panels[:] = 0xEE
        operands = fill(
            REPACK,
            source=np.ascontiguousarray(raw),
            row_bytes=raw.shape[1],
            panels=panels,
            n_rows=n,
            n_panels=-(-n // 16),
            n_blocks=k // f.block_inputs,
        )
        run(team, f"repack.{name}", lambda: build_repack(name), operands)
        assert panels[: len(expected)].tobytes() == expected
        assert (panels[len(expected) :] == 0xEE).all()
