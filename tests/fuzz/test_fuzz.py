"""A little of the fuzz with each test run; `make fuzz STEPS=` makes as much as is wanted."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.crowd import play
from tests.fuzz.scene import scene

N_STEPS = 2000


def test_random_crowds_get_what_each_gets_alone(kernel_cache_dir: Path, tmp_path: Path) -> None:
    n_steps = n_compared = n_parked = n_drafts = n_forced = seed = 0
    while n_steps < N_STEPS:
        steps, compared, counters = play(scene(seed, tmp_path), 120, kernel_cache_dir)
        n_steps, n_compared, seed = n_steps + steps, n_compared + compared, seed + 1
        n_forced += counters.n_forced_tokens
        n_parked, n_drafts = n_parked + counters.n_parked, n_drafts + counters.n_draft_tokens
    assert n_compared > N_STEPS // 20
    assert n_parked > 0
    assert n_drafts > 0
    assert n_forced > 0


def test_a_scene_is_a_function_of_its_seed(tmp_path: Path) -> None:
    assert scene(5, tmp_path) == scene(5, tmp_path)
    assert len({str(scene(seed, tmp_path)) for seed in range(20)}) == 20
