"""Every weight format: exact in panels, right in products, the same bits on every path."""

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf.quants import dequantize

from slotmux.kernels.float_tile import rounds_rows
from slotmux.kernels.formats import FORMATS
from slotmux.kernels.ops.dense.linear import BUSY_TILES
from tests.kernels.conftest import usable_isas
from tests.kernels.dense.panels import (
    ggml_type,
    look_up,
    look_up_ids,
    pack,
    product,
    random_file,
    read_rows,
)
from tests.reference.linear import bf16_values, rounded_rows

NAMES = list(FORMATS)
MANY = 8 * BUSY_TILES + 5  # rows of which every format computes two panels together


@pytest.fixture
def team(team_of):
    return team_of()


def widths(name):
    """The narrowest input and one of several blocks (no multiple of 256 where files allow it)."""
    n_block = GGML_QUANT_SIZES[ggml_type(name)][0]
    return {1: (32, 96), 32: (32, 224), 64: (64, 192), 256: (256, 768)}[n_block]


@pytest.mark.parametrize("extreme", [False, True], ids=["usual", "extreme"])
@pytest.mark.parametrize("name", NAMES)
def test_panels_hold_exactly_the_files_weights(team, name, extreme):
    rng = np.random.default_rng(7)
    for n_in, n_rows in zip(widths(name), (37, 16), strict=True):
        rows = random_file(name, n_rows, n_in, rng, extreme=extreme)
        with np.errstate(all="ignore"):
            expected = dequantize(rows, ggml_type(name)).reshape(n_rows, n_in)
        panels = pack(team, name, rows, n_in)
        np.testing.assert_array_equal(
            read_rows(team, name, panels, np.arange(n_rows), n_in), expected
        )
        padding = np.arange(n_rows, -(-n_rows // 16) * 16)
        assert not read_rows(team, name, panels, padding, n_in).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_the_file_can_be_read_as_it_stands(team, name):
    rng = np.random.default_rng(8)
    n_in = widths(name)[1]
    rows = random_file(name, 37, n_in, rng)
    ids = np.array([36, 0, 17, 17, 5])
    expected = dequantize(rows, ggml_type(name)).reshape(37, n_in)[ids]
    np.testing.assert_array_equal(look_up(team, name, rows, ids, n_in), expected)


@pytest.mark.parametrize("name", ["f32", "bf16", "q8_0", "q4_k"])
def test_rows_of_the_file_are_read_side_by_side(team, name):
    rng = np.random.default_rng(9)
    n_in = widths(name)[0]
    rows = random_file(name, 37, n_in, rng)
    ids = rng.integers(0, 37, (5, 3))
    expected = dequantize(rows, ggml_type(name)).reshape(37, n_in)[ids].reshape(5, -1)
    np.testing.assert_array_equal(look_up_ids(team, name, rows, ids, n_in), expected)


@pytest.mark.parametrize("name", NAMES)
def test_panels_are_as_small_as_the_file(name):
    f = FORMATS[name]
    file_bytes = 16 * f.file_block_bytes * (f.block_inputs // f.file_block)
    assert (f.file_block, f.file_block_bytes) == tuple(GGML_QUANT_SIZES[ggml_type(name)])
    assert f.block_bytes <= 1.05 * file_bytes


@pytest.mark.parametrize("name", NAMES)
def test_products_are_right(team, name):
    rng = np.random.default_rng(3)
    n_in, n_out = widths(name)[1], 40
    rows = random_file(name, n_out, n_in, rng)
    weight = dequantize(rows, ggml_type(name)).reshape(n_out, n_in).astype(np.float64)
    x = rng.normal(size=(5, n_in)).astype(np.float32)
    x[:, 1::32] *= 20  # outliers: blocks differ in scale
    got = product(team, name, pack(team, name, rows, n_in), x, n_out)
    taken = x.astype(np.float64)
    if FORMATS[name].is_quantised:
        taken = rounded_rows(x)
    elif rounds_rows(FORMATS[name]):
        taken = bf16_values(x).astype(np.float64)
    size = np.abs(taken) @ np.abs(weight).T
    assert (np.abs(got - taken @ weight.T) <= 3e-6 * size).all()
    if FORMATS[name].is_quantised:  # and near the exact product: half a step of 127 a value
        steps = np.abs(x).reshape(5, -1, 16).max(axis=2).repeat(16, axis=1) / 254
        assert (np.abs(got - x @ weight.T) <= steps @ np.abs(weight).T + 1e-5 * size).all()


@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_rows_or_threads(team, team_of, name):
    rng = np.random.default_rng(5)
    n_in, n_out = widths(name)[1], 200
    panels = pack(team, name, random_file(name, n_out, n_in, rng), n_in)
    x = rng.normal(size=(MANY, n_in)).astype(np.float32)
    alone = np.concatenate([product(team, name, panels, row[None], n_out) for row in x])
    for n in (2, 3, 4, 5, 8, 13, 21, 36, 45, MANY):
        np.testing.assert_array_equal(product(team, name, panels, x[:n], n_out), alone[:n])
    np.testing.assert_array_equal(product(team_of("auto", 3), name, panels, x, n_out), alone)


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("name", NAMES)
def test_every_path_gives_the_same_bits(team, team_of, name, isa):
    """With one row, a few, one tile, and so many that two panels are computed together."""
    rng = np.random.default_rng(9)
    n_in, n_out = widths(name)[0], 40
    panels = pack(team, name, random_file(name, n_out, n_in, rng), n_in)
    x = rng.normal(size=(MANY, n_in)).astype(np.float32)
    for n in (1, 3, 8, 37, MANY):
        got, want = (product(t, name, panels, x[:n], n_out) for t in (team_of(isa), team))
        assert got.tobytes() == want.tobytes(), n
