"""BF16 products vdpbf16ps and the two FMAs in its place agree on the worst values."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.conftest import usable_isas
from tests.kernels.dense.panels import pack, product
from tests.reference.linear import bf16_values

N_IN, N_OUT, N_ROWS = 64, 48, 37
LEAST, LARGEST = 127 - 56, 254  # of a float's exponent


def words(rng, shape, low, high):
    """BF16 of any sign and fraction, exponents from low to high."""
    exponents = rng.integers(low, high + 1, shape)
    bits = rng.integers(0, 2, shape) << 15 | exponents << 7 | rng.integers(0, 128, shape)
    return bits.astype(np.uint16)


def floats(values):
    return (values.astype(np.uint32) << 16).view(np.float32)


def cancelling(rng, shape):
    """Pairs whose products cancel to the last bits, the smallest that are not zero among them."""
    values = words(rng, shape, LEAST, LEAST + 3)
    values[..., 1::4] = values[..., ::4] ^ 0x8000
    values[..., 3::4] = values[..., 2::4] ^ 0x8000
    return values


CASES = {
    "usual": lambda rng, shape: words(rng, shape, 110, 130),
    "all exponents": lambda rng, shape: words(rng, shape, 0, LARGEST),
    "denormals and what is near": lambda rng, shape: words(rng, shape, 0, 2),
    "about the bound": lambda rng, shape: words(rng, shape, LEAST - 2, LEAST + 2),
    "cancelling": cancelling,
    "huge": lambda rng, shape: words(rng, shape, 180, 190),  # sums overflow in places
    "infinite and NaN": lambda rng, shape: words(rng, shape, LARGEST - 1, 255),
}


@pytest.mark.parametrize("case", CASES)
def test_all_paths_agree(team_of, case):
    """Every bit, but for which NaN it is."""
    rng = np.random.default_rng(sorted(CASES).index(case))
    results = []
    for _ in range(20):
        weights, x = CASES[case](rng, (N_OUT, N_IN)), floats(CASES[case](rng, (N_ROWS, N_IN)))
        got = []
        for isa in usable_isas():
            panels = pack(team_of(isa), "bf16", weights.view(np.uint8), N_IN)
            got.append(product(team_of(isa), "bf16", panels, x, N_OUT))
        for other in got[1:]:
            same = (other.view(np.int32) == got[0].view(np.int32)) | (
                np.isnan(other) & np.isnan(got[0])
            )
            assert same.all()
        results.append(got[0])
    assert case != "infinite and NaN" or np.isnan(results).any()
    assert case != "huge" or np.isinf(results).any()


def test_sums_are_the_odd_input_first_then_the_even_one(team_of):
    """Against exact arithmetic rounded after each product, as two FMAs do."""
    rng = np.random.default_rng(7)
    weights, x = words(rng, (16, N_IN), 120, 130), floats(words(rng, (3, N_IN), 120, 130))
    panels = pack(team_of(), "bf16", weights.view(np.uint8), N_IN)
    got = product(team_of(), "bf16", panels, x, 16)
    for row, values in enumerate(x):
        total = np.zeros(16, np.float32)
        for k in range(0, N_IN, 2):
            for i in (k + 1, k):
                exact = floats(weights)[:, i].astype(np.longdouble) * np.longdouble(values[i])
                total = (exact + total).astype(np.float32)  # 16 + 24 bits fit into 64
        assert got[row].tobytes() == total.tobytes()


def test_no_sum_of_what_is_kept_is_a_denormal():
    """Twice the least that is kept: its products are whole multiples of the least normal number."""
    least = bf16_values(np.array([2.0**-56], np.float32))[0]
    step = float(least) * 2.0**-7  # of numbers near the bound
    assert least == 2.0**-56
    assert step * step == float(np.finfo(np.float32).smallest_normal)
    assert not bf16_values(np.array([2.0**-57, -(2.0**-126), 1e-45], np.float32)).any()
