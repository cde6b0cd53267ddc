"""What gateways read of a server's memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slotmux.server.process.metrics import memory_usage
from tests.server.fake_engine import FakeEngine

NOTHING = dict.fromkeys(
    ("n_blocks", "n_blocks_free", "n_blocks_cached", "n_rows", "n_rows_free", "n_checkpoints"), 0
)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"n_blocks": 100, "n_blocks_free": 40, "n_blocks_cached": 30}, 0.3),
        ({"n_rows": 10, "n_rows_free": 2, "n_checkpoints": 4}, 0.4),
        ({"n_blocks": 10, "n_blocks_free": 1, "n_rows": 10, "n_rows_free": 5}, 0.9),
        ({}, 0.0),
    ],
)
def test_usage_is_of_what_is_scarcer_and_not_of_what_is_kept(
    counts: dict[str, int], usage: float
) -> None:
    stats = replace(FakeEngine().stats(), **(NOTHING | counts))
    assert memory_usage(stats) == pytest.approx(usage)
