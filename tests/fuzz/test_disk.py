"""What comes from disk equals what is computed, bit for bit: every architecture and type of cells,
with drafts, forks, parking, aborts, evictions and restarts in random order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.architectures import ARCHITECTURES, Architecture
from tests.fuzz.crowd import play
from tests.fuzz.disk import DiskCrowd
from tests.fuzz.scene import scene

N_STEPS, N_RESTORED, MAX_SCENES = 150, 20, 10
# Where cells are read again, of each type that they may have: heads of a multiple of 32.
CELLS = ("llama-rope3", "qwen35", "qwen3next")


def restored(architecture: Architecture, cells: str, seed: int, cache: Path, folder: Path) -> int:
    """Play a scene; how much came from disk."""
    chosen = scene(seed, folder, architecture)
    types = {"cache_type_k": cells, "cache_type_v": cells} if cells else {}
    # Room for states, or there would be few to come back to.
    sizes = {"n_checkpoints": 8} if architecture.has_state else {}
    engine = chosen.engine | {"max_prompt_checkpoints": 4, "checkpoint_spacing": 16}
    chosen = replace(chosen, model=chosen.model | types | sizes, engine=engine)
    crowds = []

    def new_crowd(*args):
        crowds.append(DiskCrowd(*args, folder / f"tier {seed}"))
        return crowds[0]

    play(chosen, N_STEPS, cache, new_crowd)
    assert crowds[0].n_restarts
    return crowds[0].n_restored


def check(architecture: Architecture, cells: str, seed: int, cache: Path, folder: Path) -> None:
    """Scenes until enough came from disk; each compares every answer with itself alone."""
    n = 0
    for further in range(MAX_SCENES):
        n += restored(architecture, cells, seed + 100 * further, cache, folder)
        if n >= N_RESTORED:
            return
    pytest.fail(f"only {n} blocks and states came from disk")


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_architecture(architecture, kernel_cache_dir, tmp_path):
    check(architecture, "", 1, kernel_cache_dir, tmp_path)


@pytest.mark.parametrize("cells", ["f32", "q8_0", "i16"])
@pytest.mark.parametrize("name", CELLS)
def test_every_type_of_cells(name, cells, kernel_cache_dir, tmp_path):
    (architecture,) = (a for a in ARCHITECTURES if a.name == name)
    check(architecture, cells, 2, kernel_cache_dir, tmp_path)
