"""One vector of each text of a step, against NumPy and against the text alone."""

from __future__ import annotations

import numpy as np
import pytest

from slotmux.kernels.ops.dense.pool import FIRST, LAST, MEAN, POOL, build_pool
from tests.kernels.conftest import usable_isas
from tests.kernels.recurrent.harness import Bench, float_rows

LENGTHS = [1, 15, 16, 17, 2, 511, 3, 64]
KINDS = {"mean": MEAN, "first": FIRST, "last": LAST}


def texts_of(n):
    rng = np.random.default_rng(n)
    return [rng.normal(size=(length, n)).astype(np.float32) for length in LENGTHS]


def pool(team, texts, kind):
    """The vectors of texts in one step, [n_texts, n]; what is behind the rows is NaN."""
    n = texts[0].shape[1]
    x, stride = float_rows(np.concatenate(texts))
    out, out_stride = float_rows(np.full((len(texts), n), np.nan, np.float32))
    Bench(team, 0).run(
        "pool", build_pool, POOL, [(slot, len(text)) for slot, text in enumerate(texts)],
        x=x, x_stride=stride, n=n, kind=kind, out=out, out_stride=out_stride,
    )  # fmt: skip
    rows = out[: len(texts) * out_stride // 4].reshape(len(texts), -1)
    assert np.isnan(rows[:, -(-n // 16) * 16 :]).all(), "it wrote beyond the vectors"
    return rows[:, :n].copy()


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n", [16, 40, 384, 768])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_is_of_its_own_text(team_of, kind, n, n_threads):
    texts = texts_of(n)
    expected = {
        "mean": [text.astype(np.float64).mean(0) for text in texts],
        "first": [text[0] for text in texts],
        "last": [text[-1] for text in texts],
    }[kind]
    got = pool(team_of("auto", n_threads), texts, KINDS[kind])
    if kind == "mean":
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
    else:
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("n", [40, 384])
def test_in_company_as_alone_on_every_instruction_set(team_of, isa, n):
    texts = texts_of(n)
    alone = np.concatenate([pool(team_of("auto", 1), [text], MEAN) for text in texts])
    for order in (range(len(texts)), reversed(range(len(texts)))):
        chosen = list(order)
        packed = pool(team_of(isa, 2), [texts[i] for i in chosen], MEAN)
        assert np.array_equal(packed, alone[chosen])
