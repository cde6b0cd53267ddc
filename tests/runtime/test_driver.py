"""The driver: however prompts are cut and packed, the same logits."""

import numpy as np
import pytest

from slotmux.runtime import driver
from slotmux.runtime.driver import Driver, logits_of, run_pattern
from slotmux.runtime.engine.slots import checkpoint_positions
from tests.runtime.engine.fake_model import FakeModel

PROMPTS = [[(i * 7 + k * 11) % 60 for i in range(n)] for k, n in enumerate([37, 5, 16, 1])]
LENGTHS = [len(p) for p in PROMPTS]
KINDS = {"attention": (32, 0), "hybrid": (32, 4), "recurrent": (0, 4)}


def model_of(kind, **options):
    n_blocks, n_rows = KINDS[kind]
    return FakeModel(4, 128, n_blocks, n_rows, n_ubatch=64, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_gives_the_same_logits(kind):
    model = model_of(kind)
    alone = [logits_of(model, p) for p in PROMPTS]
    assert not np.isnan(alone[0]).any()
    assert not np.array_equal(alone[0][:1], alone[1][:1])
    patterns = {
        "whole": driver.whole(LENGTHS),
        "pieces of 1": driver.pieces(LENGTHS, 1),
        "pieces of 7": driver.pieces(LENGTHS, 7),
        "packed": driver.packed(LENGTHS, [16, 1, 7, 1]),
        "staggered": driver.staggered(LENGTHS, 3, 4),
    }
    for name, steps in patterns.items():
        packed = run_pattern(model, PROMPTS, steps, slots=[2, 0, 3, 1], poison=True)
        for a, b in zip(alone, packed, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_logits_of_respects_small_output_buffers():
    small = logits_of(model_of("hybrid", n_outputs=4), PROMPTS[0])
    np.testing.assert_array_equal(small, logits_of(model_of("hybrid"), PROMPTS[0], 5))


def test_what_does_not_fit_is_refused():
    model = FakeModel(2, 32, n_blocks=2, n_ubatch=64)
    with pytest.raises(ValueError, match="no room"):
        logits_of(model, [1] * 33)
    with pytest.raises(ValueError, match="ubatch"):
        run_pattern(model, [[1] * 70], [[(0, 70)]])
    desk = Driver(model)
    desk.open(0)
    assert desk.feed([(0, [1, 2])], outputs="none").shape[0] == 0
    assert desk.feed([(0, [1, 2])], outputs="last").shape[0] == 1
    desk.close(0)


@pytest.mark.parametrize(
    ("n_cached", "n_known", "boundaries", "spacing", "n_max", "expected"),
    [
        (0, 100, (), 32, 4, [96]),
        (0, 97, (), 32, 4, [96]),
        (0, 96, (), 32, 4, [80]),
        (0, 20, (), 32, 4, []),
        (80, 100, (), 32, 4, []),
        (0, 100, (40, 70), 32, 4, [32, 64, 96]),
        (0, 100, (40, 90), 32, 4, [32, 80, 96]),
        (0, 100, (40, 98), 32, 4, [32, 96]),
        (0, 100, (40, 70), 32, 1, [96]),
        (0, 100, (40, 70), 32, 0, []),
        (0, 200, (40, 70, 110, 150), 32, 3, [32, 144, 192]),
        (0, 100, (-5, 0, 500), 16, 4, [96]),
    ],
)
def test_checkpoint_positions(n_cached, n_known, boundaries, spacing, n_max, expected):
    assert checkpoint_positions(n_cached, n_known, boundaries, spacing, n_max) == expected
