"""Vector operations against NumPy, bit for bit, on every path this CPU can run."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels import bits, simd
from slotmux.kernels.address import load_i64, store_i64
from slotmux.kernels.claims import claim
from slotmux.kernels.operands import fill, words
from slotmux.kernels.team import Program
from tests.kernels.conftest import source_digest, usable_isas

LANES = 16
MAP = words("Map", "x y z n out bits")
RNG = np.random.default_rng(17)
SPECIAL = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -3e-39, 3.4e38], np.float32)


def build_map(expression):
    """A kernel over vectors x, y, z (and an int64 ``bits`` each), storing what it evaluates to.

    Vectors are stored at 64 bytes a step, scalars at 8.
    """
    scope = {
        "simd": simd, "bits": bits, "MAP": MAP, "claim": claim,
        "load_i64": load_i64, "store_i64": store_i64,
    }  # fmt: skip
    code = f"""
def apply(op, step, thread):
    while claim(thread, 1) >= 0:
        out = load_i64(op + MAP.out)
        for i in range(load_i64(op + MAP.n)):
            x_at = load_i64(op + MAP.x) + 64 * i
            x = simd.load(x_at)
            y = simd.load(load_i64(op + MAP.y) + 64 * i)
            z = simd.load(load_i64(op + MAP.z) + 64 * i)
            b = load_i64(load_i64(op + MAP.bits) + 8 * i)
            {expression}
"""
    exec(code, scope)
    return scope["apply"]


def vectors(n, special=True):
    x = RNG.normal(size=(n, LANES)).astype(np.float32)
    x *= np.exp2(RNG.integers(-30, 30, (n, LANES))).astype(np.float32)
    if special:
        picks = RNG.random((n, LANES)) < 0.2
        x[picks] = RNG.choice(SPECIAL, picks.sum())
    return x


@pytest.fixture(scope="module", params=usable_isas())
def evaluate(request, team_of):
    """evaluate(expression, x, y, z, b, out_bytes=64): what the kernel wrote, as raw bytes."""
    team = team_of(request.param)

    def run(expression, x, y=None, z=None, b=None, out_bytes=64):
        n = len(x)
        y = np.zeros_like(x) if y is None else y
        z = np.zeros_like(x) if z is None else z
        b = np.zeros(n, np.int64) if b is None else np.asarray(b, np.int64)
        out = np.full(n * out_bytes + 64, 0xA5, np.uint8)
        name = f"test.simd.{source_digest(__file__)}.{expression}"
        address = team.kernels.address(name, lambda: build_map(expression))
        operands = fill(MAP, x=x, y=y, z=z, n=n, out=out, bits=b)
        team.run(Program(team, np.zeros(1, np.int64), [(address, operands, -1)]))
        assert (out[n * out_bytes :] == 0xA5).all(), "written past the end"
        return out[: n * out_bytes]

    return run


def same(found, expected):
    """Equal bits; any NaN equals any other."""
    expected = np.ascontiguousarray(expected)
    found = found.view(expected.dtype).reshape(expected.shape)
    if expected.dtype.kind == "f":
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        found, expected = np.nan_to_num(found, nan=0), np.nan_to_num(expected, nan=0)
    return found.tobytes() == expected.tobytes()


def store(value):
    return f"simd.store(out + 64 * i, {value})"


def test_arithmetic(evaluate):
    x, y = vectors(200), vectors(200)
    with np.errstate(all="ignore"):
        for sign, result in (("+", x + y), ("-", x - y), ("*", x * y), ("/", x / y)):
            assert same(evaluate(store(f"x {sign} y"), x, y), result), sign


def test_products_and_sums_are_not_contracted(evaluate):
    x, y, z = (vectors(300, special=False) for _ in range(3))
    z = (-(x * y) * (1 + RNG.normal(size=x.shape) * 1e-7)).astype(np.float32)
    assert same(evaluate(store("x * y + z"), x, y, z), x * y + z)


def test_fma_rounds_once(evaluate):
    # 12-bit whole numbers: float64 holds x * y + z exactly, so its rounding is the only one.
    x, y = (RNG.integers(-(2**23), 2**23, (300, LANES)).astype(np.float32) for _ in range(2))
    z = RNG.integers(-(2**23), 2**23, (300, LANES)).astype(np.float32)
    exact = x.astype(np.float64) * y + z
    assert same(evaluate(store("simd.fma(x, y, z)"), x, y, z), exact.astype(np.float32))
    assert (exact.astype(np.float32) != x * y + z).any()


def test_unary(evaluate):
    x = vectors(200)
    x[0] = [0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -127.5, 0.49999997, 8388607.5, *[3.0] * 7]
    with np.errstate(all="ignore"):
        assert same(evaluate(store("simd.absolute(x)"), x), np.abs(x))
        assert same(evaluate(store("simd.round_even(x)"), x), np.rint(x))


def test_maximum_and_minimum_take_the_second_where_the_first_is_nan(evaluate):
    x, y = vectors(300), vectors(300)
    with np.errstate(all="ignore"):
        assert same(evaluate(store("simd.maximum(x, y)"), x, y), np.where(x > y, x, y))
        assert same(evaluate(store("simd.minimum(x, y)"), x, y), np.where(x < y, x, y))
        selected = np.where(x < y, z := vectors(300), x)
    assert same(evaluate(store("simd.where_less(x, y, z, x)"), x, y, z), selected)


def test_first_lanes(evaluate):
    x, y, n = vectors(19), vectors(19), np.arange(19) - 1
    expected = np.where(np.arange(LANES) < n[:, None], x, y)
    assert same(evaluate(store("simd.first_lanes(x, b, y)"), x, y, b=n), expected)


def test_folds_have_a_fixed_order(evaluate):
    x = vectors(300, special=False)
    total = x
    while total.shape[1] > 1:
        total = total[:, : total.shape[1] // 2] + total[:, total.shape[1] // 2 :]
    spread = np.repeat(total, LANES, axis=1)
    assert same(evaluate(store("simd.splat(simd.sum_lanes(x))"), x), spread)
    largest = np.repeat(x.max(axis=1, keepdims=True), LANES, axis=1)
    assert same(evaluate(store("simd.splat(simd.max_lanes(x))"), x), largest)
    assert same(evaluate(store("simd.splat(simd.first(x))"), x), np.repeat(x[:, :1], LANES, 1))


def test_exp_is_accurate(evaluate):
    x = np.linspace(-104, 89, 1 << 16).astype(np.float32).reshape(-1, LANES)
    found = evaluate(store("simd.exp(x)"), x).view(np.float32).reshape(x.shape)
    exact = np.exp(x.astype(np.float64))
    with np.errstate(over="ignore"):
        unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    fits = exact < np.finfo(np.float32).max
    assert (np.abs(found - exact)[fits] <= 1.25 * unit[fits]).all()
    assert np.isinf(found[exact > 3.5e38]).all()


def test_exp_at_the_ends(evaluate):
    x = np.zeros((1, LANES), np.float32)
    x[0, :8] = [-np.inf, np.inf, np.nan, -1000, 1000, 0, -0.0, -103]
    found = evaluate(store("simd.exp(x)"), x).view(np.float32)[:8]
    assert found[[0, 3]].tolist() == [0, 0]
    assert np.isinf(found[[1, 4]]).all()
    assert np.isnan(found[2])
    assert found[5:7].tolist() == [1, 1]
    assert 0 < found[7] < 1e-44


def test_paths_agree_on_exp(team_of):
    """Not only near the truth, but the same bits whichever registers there are."""
    x = vectors(4000)
    results = set()
    for isa in usable_isas():
        out = np.zeros_like(x)
        team = team_of(isa)
        expression = store("simd.exp(x)")
        name = f"test.simd.{source_digest(__file__)}.{expression}"
        address = team.kernels.address(name, lambda: build_map(store("simd.exp(x)")))
        b = np.zeros(len(x), np.int64)
        operands = fill(MAP, x=x, y=x, z=x, n=len(x), out=out, bits=b)
        team.run(Program(team, b, [(address, operands, -1)]))
        results.add(np.nan_to_num(out, nan=7).tobytes())
    assert len(results) == 1


def test_lane_bits(evaluate):
    x, y = vectors(300), vectors(300)
    y[::3] = x[::3]
    found = evaluate("store_i64(out + 8 * i, bits.bits_at_least(x, y))", x, y, out_bytes=8)
    with np.errstate(invalid="ignore"):
        expected = ((x >= y) << np.arange(LANES)).sum(axis=1).astype(np.int64)
    assert same(found, expected)
    b = RNG.integers(-(2**62), 2**62, 300)
    selected = np.where((b[:, None] >> np.arange(LANES)) & 1 == 1, x, y)
    assert same(evaluate(store("bits.where_bits(b, x, y)"), x, y, b=b), selected)


def test_lowest_bit(evaluate):
    b = np.concatenate([1 << np.arange(63), RNG.integers(1, 2**62, 100), [-(2**63), 0]])
    b = b.astype(np.int64)
    x = np.zeros((len(b), LANES), np.float32)
    found = evaluate("store_i64(out + 8 * i, bits.lowest_bit(b))", x, b=b, out_bytes=8)
    expected = [(int(v) & -int(v)).bit_length() - 1 if v else 64 for v in b]
    assert found.view(np.int64).tolist() == expected
